// Search in the explanations that the page holds. Words are looked for at once. A regular
// expression can take time without end, so it is looked for in a worker, which is stopped then.
import { useEffect, useMemo, useRef, useState } from "../vendor/preact-htm.js";
import { patternOf, spansOf } from "./matching.js";

/** @typedef {import("./matching.js").Span} Span */
/** @typedef {Map<string, Span>} Found where the texts match that do */

const LIMIT_MS = 1500;
export const TOO_SLOW =
  "This regular expression takes too long on these explanations and was stopped.";

/** Asks a worker, one question at a time; of those asked meanwhile, the last one is next. */
export class Searcher {
  /** @param {(pattern: RegExp, found: Found | null) => void} onAnswer null: it took too long */
  constructor(onAnswer) {
    this.onAnswer = onAnswer;
    /** @type {Worker | null} */
    this.worker = null;
    /** @type {{pattern: RegExp, texts: string[]} | null} */
    this.running = null;
    /** @type {{pattern: RegExp, texts: string[]} | null} */
    this.next = null;
    this.timer = 0;
  }

  /**
   * A pattern other than the one looked for stops that one.
   * @param {RegExp} pattern
   * @param {string[]} texts
   */
  ask(pattern, texts) {
    this.next = { pattern, texts };
    if (this.running && this.running.pattern !== pattern) this.stop();
    if (!this.running) this.#start();
  }

  /** Stops whatever is looked for, however deep in it the worker is. */
  stop() {
    clearTimeout(this.timer);
    this.worker?.terminate();
    this.worker = this.running = null;
  }

  #start() {
    if (!this.next) return;
    const { pattern, texts } = (this.running = this.next);
    this.next = null;
    this.worker ??= new Worker(new URL("./search-worker.js", import.meta.url), { type: "module" });
    this.timer = setTimeout(() => {
      this.stop();
      this.next = null;
      this.onAnswer(pattern, null);
    }, LIMIT_MS);
    this.worker.onmessage = ({ data }) => {
      clearTimeout(this.timer);
      this.running = null;
      this.onAnswer(pattern, foundIn(texts, data));
      this.#start();
    };
    this.worker.postMessage({ pattern, texts });
  }
}

/** @param {string[]} texts @param {(Span | null)[]} spans @returns {Found} */
function foundIn(texts, spans) {
  const found = new Map();
  spans.forEach((span, i) => span && found.set(texts[i], span));
  return found;
}

/**
 * Where texts match what is looked for; null where nothing is, or nothing that can be found.
 * While a worker still looks, what it found before stays.
 * @param {string[]} texts
 * @param {string} query
 * @param {boolean} isRegex
 * @returns {{found: Found | null, problem: string | null}}
 */
export function useSearch(texts, query, isRegex) {
  const { pattern, problem } = useMemo(() => patternOf(query, isRegex), [query, isRegex]);
  const words = useMemo(
    () => (pattern && !isRegex ? foundIn(texts, spansOf(pattern, texts)) : null),
    [pattern, isRegex, texts],
  );
  const [answer, setAnswer] = useState(
    /** @type {{pattern: RegExp, found: Found | null} | null} */ (null),
  );
  const searcher = useRef(/** @type {Searcher | null} */ (null));
  const tooSlow = answer?.pattern === pattern && answer?.found === null;
  useEffect(() => () => searcher.current?.stop(), []);
  useEffect(() => {
    if (!pattern || !isRegex || tooSlow) return;
    searcher.current ??= new Searcher((asked, found) => setAnswer({ pattern: asked, found }));
    searcher.current.ask(pattern, texts);
  }, [pattern, isRegex, texts]);
  if (!pattern || !isRegex) return { found: words, problem };
  return { found: answer?.found ?? null, problem: tooSlow ? TOO_SLOW : null };
}
