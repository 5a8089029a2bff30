// The state of a view lives in the URL hash, #/view?name=value…, so that a link restores it.
import { useEffect, useState } from "../vendor/preact-htm.js";

/** @typedef {{view: string, params: Record<string, string>}} Route */

/** @param {string} hash @returns {Route} */
export function parseHash(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  return { view: path || "read", params: Object.fromEntries(new URLSearchParams(query)) };
}

/** @param {string} view @param {Record<string, string | number | null | undefined>} params */
export function formatHash(view, params) {
  const given = Object.entries(params).filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  const query = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return `#/${view}${query ? `?${query}` : ""}`;
}

/** @type {Set<() => void>} */
const listeners = new Set();

/**
 * Changes some parameters of the present view; null removes one. Does not make a history entry.
 * @param {Record<string, string | number | null | undefined>} changes
 */
export function setParams(changes) {
  const route = parseHash(location.hash);
  const hash = formatHash(route.view, { ...route.params, ...changes });
  if (hash === location.hash) return;
  history.replaceState(null, "", hash);
  for (const listener of listeners) listener();
}

/** @param {string} view @param {Record<string, string | number | null | undefined>} params */
export function go(view, params = {}) {
  location.hash = formatHash(view, params);
}

/** @returns {Route} */
export function useRoute() {
  const [route, setRoute] = useState(() => parseHash(location.hash));
  useEffect(() => {
    const update = () => setRoute(parseHash(location.hash));
    listeners.add(update);
    addEventListener("hashchange", update);
    return () => {
      listeners.delete(update);
      removeEventListener("hashchange", update);
    };
  }, []);
  return route;
}

/** Positions as they stand in a link: "3,7-9". @param {Iterable<number>} positions */
export function formatPositions(positions) {
  const sorted = [...positions].sort((a, b) => a - b);
  const parts = [];
  for (let i = 0; i < sorted.length;) {
    let j = i;
    while (sorted[j + 1] === sorted[j] + 1) j++;
    parts.push(j > i ? `${sorted[i]}-${sorted[j]}` : `${sorted[i]}`);
    i = j + 1;
  }
  return parts.join(",");
}

/** @param {string | undefined} text @returns {number[]} */
export function parsePositions(text) {
  const positions = [];
  for (const part of (text ?? "").split(",")) {
    const match = /^(\d{1,6})(?:-(\d{1,6}))?$/.exec(part.trim());
    if (!match) continue;
    for (let p = Number(match[1]); p <= Number(match[2] ?? match[1]); p++) positions.push(p);
  }
  return positions;
}
