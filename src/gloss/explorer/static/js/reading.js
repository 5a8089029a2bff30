// Texts that are being read: their tokens, and what has been explained of them so far. Shared by
// the views.
import { useEffect, useState } from "../vendor/preact-htm.js";
import { explainPositions, linesOf, tokenize } from "./api.js";
import { Broken, isAbort, returned } from "./connection.js";
import { Store } from "./store.js";
import { drawnTokens } from "./text.js";

/** @typedef {import("./types.js").Reading} Reading */

const KEPT_TEXTS = 8;
const BATCH = 64;
const RENEW_MS = 60;

/** One text, read by one NLA. */
export class ReadText {
  /**
   * @param {import("./types.js").NlaInfo} nla
   * @param {import("./types.js").Source} source
   * @param {import("./types.js").Token[]} tokens
   */
  constructor(nla, source, tokens) {
    this.nla = nla;
    this.source = source;
    this.tokens = tokens;
    this.drawn = drawnTokens(tokens);
    /** @type {Map<number, Reading>} */
    this.now = new Map();
    /**
     * What views watch: a copy of ``now``, renewed a few times a second while explanations stream
     * in.
     */
    this.readings = new Store(/** @type {ReadonlyMap<number, Reading>} */ (new Map()));
    this.renewing = 0;
    /** @type {Set<number>} */
    this.busy = new Set();
  }

  /** @param {number} position @param {Partial<Reading>} change */
  #change(position, change) {
    const before = this.now.get(position) ?? blank(position, this.tokens[position]?.token ?? "");
    this.now.set(position, { ...before, stopped: false, ...change });
    this.renewing ||= setTimeout(() => this.#renew(), RENEW_MS);
  }

  #renew() {
    clearTimeout(this.renewing);
    this.renewing = 0;
    this.readings.set(new Map(this.now));
  }

  /**
   * Keeps what was found out about an explanation.
   * @param {number} position
   * @param {Partial<Reading>} found
   */
  note(position, found) {
    if (this.now.has(position)) this.#change(position, found);
  }

  /**
   * Positions of these that have no finished explanation and none on its way.
   * @param {Iterable<number>} positions
   */
  missing(positions) {
    return [...positions].filter(
      (p) => p < this.tokens.length && !this.now.get(p)?.done && !this.busy.has(p),
    );
  }

  /**
   * Explains the positions that are not explained yet; goes on by itself after the server was away.
   * @param {Iterable<number>} positions
   * @param {AbortSignal} [signal]
   */
  async explain(positions, signal) {
    const wanted = this.missing(positions);
    for (const position of wanted) this.busy.add(position);
    this.#renew();
    try {
      for (let start = 0; start < wanted.length; start += BATCH)
        await this.#explainBatch(wanted.slice(start, start + BATCH), signal);
    } finally {
      for (const position of wanted) this.busy.delete(position);
      for (const [position, reading] of this.now)
        if (!reading.done && !this.busy.has(position)) {
          if (reading.text) this.now.set(position, { ...reading, stopped: true });
          else this.now.delete(position);
        }
      this.#renew();
    }
  }

  /** @param {number[]} positions @param {AbortSignal} [signal] */
  async #explainBatch(positions, signal) {
    for (let left = positions; left.length; left = left.filter((p) => !this.now.get(p)?.done)) {
      try {
        await explainPositions(
          this.nla,
          this.source,
          left,
          (position, change) => {
            if (change.done) this.busy.delete(position);
            this.#change(position, change);
          },
          signal,
        );
        return;
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
        await returned(signal);
      }
    }
  }

  /**
   * What each line of an explanation adds and loses.
   * @param {number} position
   * @param {AbortSignal} [signal]
   */
  async weigh(position, signal) {
    const reading = this.now.get(position);
    if (!reading?.done || reading.failed || reading.lines || !this.nla.has_ar) return;
    try {
      this.#change(position, await linesOf(this.nla, this.source, reading, signal));
    } catch (error) {
      if (!isAbort(error)) throw error;
    }
  }
}

/** @param {number | null} position @param {string} token @returns {Reading} */
export function blank(position, token) {
  return {
    position,
    token,
    text: "",
    done: false,
    stopped: false,
    failed: false,
    fve: null,
    baseline: null,
    cosine: null,
    mse: null,
    norm: null,
    flags: [],
    agreement: null,
    percentile: null,
    lines: null,
    trust: null,
  };
}

/** @type {Map<string, Promise<ReadText>>} */
const opened = new Map();

/**
 * @param {import("./types.js").NlaInfo} nla
 * @param {import("./types.js").Source} source
 * @returns {Promise<ReadText>}
 */
export function openText(nla, source) {
  const key = keyOf(nla, source);
  const found =
    opened.get(key) ?? tokenize(nla, source).then((tokens) => new ReadText(nla, source, tokens));
  keep(key, found);
  found.catch(() => opened.delete(key));
  return found;
}

/**
 * The tokens of a source, once they are there.
 * @param {import("./types.js").NlaInfo} nla @param {import("./types.js").Source | null} source
 */
export function useText(nla, source) {
  const [text, setText] = useState(/** @type {ReadText | null} */ (null));
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  useEffect(() => {
    let here = true;
    setText(null);
    setProblem(null);
    if (source)
      openText(nla, source).then(
        (found) => here && setText(found),
        (error) => here && setProblem(error),
      );
    return () => {
      here = false;
    };
  }, [nla, source]);
  return { text, problem, close: () => setProblem(null) };
}

/** A text that did not come from the server. @param {ReadText} text */
export function keepText(text) {
  keep(keyOf(text.nla, text.source), Promise.resolve(text));
}

/** @param {import("./types.js").NlaInfo} nla @param {import("./types.js").Source} source */
function keyOf(nla, source) {
  return JSON.stringify([nla.name, source]);
}

/** @param {string} key @param {Promise<ReadText>} text */
function keep(key, text) {
  opened.delete(key);
  opened.set(key, text);
  if (opened.size > KEPT_TEXTS) opened.delete(/** @type {string} */ (opened.keys().next().value));
}
