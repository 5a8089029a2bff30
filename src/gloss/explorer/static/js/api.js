// Every call of the page to its server, and what comes back as the page's own values.
import { call, stream } from "./connection.js";
import { Store } from "./store.js";
import { claimLines } from "./text.js";

/** @typedef {import("./types.js").NlaInfo} NlaInfo */
/** @typedef {import("./types.js").Source} Source */
/** @typedef {import("./types.js").Reading} Reading */

const CONTINUATION_TOKENS = 48;

/** @type {Store<NlaInfo[] | null>} */
export const nlas = new Store(/** @type {NlaInfo[] | null} */ (null));

/** Asks once which NLAs the server holds. */
export async function loadNlas() {
  const { nlas: found } = await call("/v1/nlas");
  nlas.set(found.map((/** @type {NlaInfo} */ one) => ({ ...one, target: folderName(one.target) })));
}

/** A target that was loaded from a folder goes by the folder's name. @param {string | null} name */
function folderName(name) {
  return name === null
    ? "unknown"
    : /^([/.~]|[A-Za-z]:)/.test(name)
      ? (name.split(/[/\\]/).filter(Boolean).at(-1) ?? name)
      : name;
}

/** @param {NlaInfo} nla @param {Source} source @returns {Promise<import("./types.js").Token[]>} */
export async function tokenize(nla, source) {
  return (await call("/v1/tokens", { nla: nla.name, ...source })).tokens;
}

/**
 * Explains positions of a source; what is written arrives piece by piece.
 * @param {NlaInfo} nla @param {Source} source @param {number[]} positions
 * @param {(position: number, change: Partial<Reading>) => void} onChange
 * @param {AbortSignal} [signal]
 */
export async function explainPositions(nla, source, positions, onChange, signal) {
  await stream(
    "/v1/explain",
    { nla: nla.name, ...source, positions, stream: true },
    (frame) => {
      if (frame.position === undefined) return;
      onChange(frame.position, frame.done === false ? { text: frame.text } : finished(frame));
    },
    signal,
  );
}

/** @param {any} frame @returns {Partial<Reading>} */
function finished(frame) {
  return {
    text: frame.text ?? frame.response ?? "",
    failed: frame.text === null,
    done: true,
    fve: frame.fve ?? null,
    baseline: frame.baseline ?? null,
    cosine: frame.cosine ?? null,
    mse: frame.direction_mse ?? null,
    norm: frame.norm ?? null,
    flags: frame.flags ?? [],
    ...(typeof frame.token === "string" ? { token: frame.token } : {}),
  };
}

/**
 * @param {NlaInfo} nla
 * @param {Source} source
 * @param {Reading} reading
 * @param {AbortSignal} [signal]
 * @returns {Promise<{lines: import("./types.js").Line[], percentile: number | null}>}
 */
export async function linesOf(nla, source, reading, signal) {
  const lines = claimLines(reading.text);
  const texts = [
    ...lines.map((_, i) => lines.slice(0, i + 1).join("\n")),
    ...lines.map((_, i) => lines.filter((_, j) => j !== i).join("\n")),
    "",
  ];
  const { scores } = await call(
    "/v1/score",
    { nla: nla.name, ...source, position: reading.position, explanations: texts },
    { signal },
  );
  const fve = scores.map((/** @type {any} */ score) => score.fve);
  const whole = fve[lines.length - 1],
    wordless = fve.at(-1);
  const known = fve.every((/** @type {unknown} */ one) => one !== null);
  const weighed = lines.map((text, i) => ({
    text,
    adds: known ? fve[i] - (i ? fve[i - 1] : wordless) : null,
    loses: known ? whole - fve[lines.length + i] : null,
  }));
  return { lines: weighed, percentile: scores[lines.length - 1].percentile ?? null };
}

/**
 * @param {NlaInfo} nla
 * @param {Source} source
 * @param {Reading} reading
 * @param {AbortSignal} [signal]
 * @returns {Promise<import("./types.js").Trust>}
 */
export async function trustOf(nla, source, reading, signal) {
  return call(
    "/v1/trust",
    { nla: nla.name, ...source, position: reading.position, explanation: reading.text },
    { signal },
  );
}

/**
 * @param {NlaInfo} nla
 * @param {Source} source
 * @param {{positions: number[], original: string, edited: string, alphas: number[]}} edit
 * @param {AbortSignal} [signal]
 * @returns {Promise<import("./types.js").Steered>}
 */
export async function steer(nla, source, edit, signal) {
  return call("/v1/steer", { nla: nla.name, ...source, ...edit }, { signal });
}

/**
 * @param {NlaInfo} nla
 * @param {{source: Source, position: number, nla: NlaInfo}[]} sides
 * @param {AbortSignal} [signal]
 * @returns {Promise<import("./types.js").Comparison>}
 */
export async function compare(nla, sides, signal) {
  return call(
    "/v1/compare",
    {
      nla: nla.name,
      sides: sides.map((side) => ({ nla: side.nla.name, position: side.position, ...side.source })),
    },
    { signal },
  );
}

/**
 * @param {NlaInfo} nla
 * @param {number[][]} activations
 * @param {(index: number, change: Partial<Reading>) => void} onChange
 * @param {AbortSignal} [signal]
 */
export async function describe(nla, activations, onChange, signal) {
  await stream(
    "/v1/explain",
    { nla: nla.name, activations, stream: true },
    (frame) => {
      if (frame.position !== undefined)
        onChange(frame.position, frame.done === false ? { text: frame.text } : finished(frame));
    },
    signal,
  );
}

/**
 * The NLA's target goes on.
 * @param {NlaInfo} nla
 * @param {Source} source
 * @param {(text: string) => void} onText
 * @param {AbortSignal} [signal]
 */
export async function continueSource(nla, source, onText, signal) {
  const answering = "messages" in source && source.messages.at(-1)?.role === "assistant";
  const options = {
    completion_tokens: CONTINUATION_TOKENS,
    temperature: 0,
    stream: true,
    continue_final_message: answering,
    add_generation_prompt: !answering,
  };
  let written = "";
  await stream(
    "/v1/continue",
    { nla: nla.name, ...source, ...options },
    (frame) => {
      if (frame.type !== "token" || frame.token.fragment_index > 0) return;
      written += frame.token.token;
      onText(written);
    },
    signal,
  );
}

/** @param {NlaInfo} nla @param {File} file @returns {Promise<import("./files.js").Vectors>} */
export async function parquetVectors(nla, file) {
  const { vectors } = await call(`/v1/vectors?nla=${encodeURIComponent(nla.name)}`, undefined, {
    raw: file,
  });
  return {
    name: file.name,
    rows: vectors.length,
    width: vectors[0]?.length ?? 0,
    at: (row) => vectors[row],
  };
}

/**
 * Texts whose truth is known; none for most NLAs.
 * @param {NlaInfo} nla
 * @returns {Promise<{doc_id: string, text: string}[]>}
 */
export async function examplesOf(nla) {
  return (await call(`/v1/examples?nla=${encodeURIComponent(nla.name)}`)).examples;
}

/** @param {AbortSignal} [signal] @returns {Promise<import("./types.js").RunEntry[]>} */
export async function runs(signal) {
  return (await call("/v1/runs", undefined, { signal })).runs;
}

/** @param {string} id @param {AbortSignal} [signal] */
export async function run(id, signal) {
  return call(`/v1/runs/${encodeURIComponent(id)}`, undefined, { signal });
}
