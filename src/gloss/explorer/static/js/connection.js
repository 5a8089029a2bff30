// Calls to the server that outlive its absence: they wait for a busy server, for one that has gone
// to come back, and for the
// secret of one that asks for one.
import { Store } from "./store.js";

/** @typedef {{kind: "ok"} | {kind: "lost"}} Reached */
/** @typedef {{kind: "busy", seconds: number} | {kind: "locked", wrong: boolean}} Waiting */
/** @typedef {Reached | Waiting} Status */

/** @type {Store<Status>} */
export const status = new Store(/** @type {Status} */ ({ kind: "ok" }));

const LOOK_AGAIN_MS = 1000;
const LONGEST_WAIT_S = 30;
const SECRET_HEADER = "X-SECRET-KEY",
  SECRET_KEY = "gloss-secret";

/** @type {(() => void)[]} */
const waitingForSecret = [];
let secret = storedSecret();

/** The server refused a call; the message is its own line. */
export class Refused extends Error {
  /** @param {number} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** The connection broke while an answer was coming. */
export class Broken extends Error {}

/** @param {unknown} error */
export function isAbort(error) {
  return error instanceof DOMException && error.name === "AbortError";
}

/**
 * @typedef {object} Options
 * @property {AbortSignal} [signal]
 * @property {BodyInit} [raw] a body that is not JSON
 */

/**
 * The server's answer, once there is one.
 * @param {string} path
 * @param {unknown} [body] sent as JSON by POST; a GET without one
 * @param {Options} [options]
 * @returns {Promise<Response>}
 */
async function answered(path, body, { signal, raw } = {}) {
  const init =
    raw !== undefined
      ? {
          method: "POST",
          body: raw,
          headers: { "Content-Type": "application/octet-stream" },
          signal,
        }
      : body === undefined
        ? { signal }
        : {
            method: "POST",
            body: JSON.stringify(body),
            headers: { "Content-Type": "application/json" },
            signal,
          };
  for (;;) {
    let response;
    const given = secret;
    try {
      response = await fetch(
        path,
        given ? { ...init, headers: { ...init.headers, [SECRET_HEADER]: given } } : init,
      );
    } catch (error) {
      if (isAbort(error)) throw error;
      await returned(signal);
      continue;
    }
    const again = response.headers.get("Retry-After");
    if (response.status === 429 || (response.status === 503 && again)) {
      await busy(Number(again) || 1, signal);
      continue;
    }
    const said = response.ok ? "" : await refusal(response);
    if (response.status === 401 || (response.status === 403 && said.startsWith(SECRET_HEADER))) {
      await unlocked(given, signal);
      continue;
    }
    if (status.value.kind === "lost" || status.value.kind === "busy") status.set({ kind: "ok" });
    if (!response.ok) throw new Refused(response.status, said);
    return response;
  }
}

/**
 * @param {string} path
 * @param {unknown} [body]
 * @param {Options} [options]
 * @returns {Promise<any>}
 */
export async function call(path, body, options) {
  return (await answered(path, body, options)).json();
}

/**
 * @param {string} path
 * @param {unknown} [body]
 * @param {Options} [options]
 * @returns {Promise<Blob>}
 */
export async function fetchFile(path, body, options) {
  return (await answered(path, body, options)).blob();
}

/**
 * Frames of an event stream, as they come.
 * @param {string} path
 * @param {unknown} body
 * @param {(frame: any) => void} onFrame
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>} when the server has said that it is done
 */
export async function stream(path, body, onFrame, signal) {
  const response = await answered(path, body, { signal });
  if (!response.body) throw new Broken();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let chunk;
    try {
      chunk = await reader.read();
    } catch (error) {
      if (isAbort(error) || signal?.aborted) throw new DOMException("stopped", "AbortError");
      throw new Broken();
    }
    if (chunk.done) throw new Broken();
    const parts = (rest + chunk.value.replaceAll("\r\n", "\n")).split("\n\n");
    rest = /** @type {string} */ (parts.pop());
    for (const part of parts) {
      const data = part
        .split("\n")
        .filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trimStart())
        .join("\n");
      if (data === "[DONE]") return;
      if (!data) continue;
      const frame = JSON.parse(data);
      if (frame.error && [429, 503].includes(frame.status)) throw new Broken();
      if (frame.error) throw new Refused(frame.status ?? 500, lineOf(frame.error));
      onFrame(frame);
    }
  }
}

/**
 * Sends the secret with everything from now on; this tab keeps it until it is closed.
 * @param {string} given
 */
export function unlock(given) {
  secret = given;
  try {
    sessionStorage.setItem(SECRET_KEY, given);
  } catch {
    // Storage may be forbidden; the secret then holds until the page is left.
  }
  status.set({ kind: "ok" });
  for (const resume of waitingForSecret.splice(0)) resume();
}

function storedSecret() {
  try {
    return sessionStorage.getItem(SECRET_KEY) ?? "";
  } catch {
    return "";
  }
}

/**
 * Waits for another secret than the one that was refused.
 * @param {string} refused
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
async function unlocked(refused, signal) {
  if (secret !== refused) return;
  status.set({ kind: "locked", wrong: refused !== "" });
  await new Promise((resolve, reject) => {
    waitingForSecret.push(() => resolve(undefined));
    signal?.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")), {
      once: true,
    });
  });
}

/** Waits until the server answers again. @param {AbortSignal} [signal] */
export async function returned(signal) {
  status.set({ kind: "lost" });
  for (;;) {
    await pause(LOOK_AGAIN_MS, signal);
    try {
      if ((await fetch("/healthz", { signal, cache: "no-store" })).ok) break;
    } catch (error) {
      if (isAbort(error)) throw error;
    }
  }
  status.set({ kind: "ok" });
}

/** @param {number} seconds @param {AbortSignal} [signal] */
async function busy(seconds, signal) {
  for (let left = Math.min(LONGEST_WAIT_S, Math.ceil(seconds)); left > 0; left--) {
    status.set({ kind: "busy", seconds: left });
    await pause(1000, signal);
  }
}

/** @param {number} ms @param {AbortSignal} [signal] @returns {Promise<void>} */
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      if (status.value.kind === "busy") status.set({ kind: "ok" });
      reject(new DOMException("stopped", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

/** @param {Response} response */
async function refusal(response) {
  try {
    return lineOf(await response.json());
  } catch {
    return `The server answered ${response.status}.`;
  }
}

/** The server's message in whichever form it comes. @param {any} body @returns {string} */
function lineOf(body) {
  const detail = body?.detail ?? body?.message ?? body?.error ?? body;
  if (typeof detail === "string") return detail;
  if (Array.isArray(detail))
    return detail
      .map((entry) => `${(entry.loc ?? []).slice(1).join(".")}: ${entry.msg ?? entry}`)
      .join("; ");
  return detail?.message ?? JSON.stringify(detail);
}
