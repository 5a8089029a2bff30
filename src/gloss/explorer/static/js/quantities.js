// What tokens can be coloured by, each with its scale and its meaning in one line.
import { patternOf } from "./matching.js";
import { fixed, norm } from "./numbers.js";

/**
 * @typedef {object} Colouring
 * @property {string} key
 * @property {string} name
 * @property {(position: number) => number | null | undefined} value
 * @property {[number, number]} domain
 * @property {string} low
 * @property {string} high
 * @property {string} [under]
 * @property {(value: number) => string} say
 * @property {string} meaning
 * @property {Set<number>} [hits]
 */

/**
 * @param {import("./reading.js").ReadText} text
 * @param {ReadonlyMap<number, import("./types.js").Reading>} readings
 * @param {Record<string, string>} params
 * @returns {Colouring[]}
 */
export function colourings(text, readings, params) {
  const norms = [...readings.values()].map((one) => one.norm).filter((value) => value !== null);
  const most = Math.max(...norms, text.nla.median_norm ?? 0, 1e-9),
    least = Math.min(...norms, most);
  const fve = (/** @type {number} */ p) => readings.get(p)?.fve;
  const hits = searchHits(text, readings, params.q ?? "");
  return [
    {
      key: "fve",
      name: "FVE",
      value: fve,
      domain: [0, 1],
      low: "0",
      high: "1",
      under: "below 0",
      say: (v) => `FVE ${fixed(v)}`,
      meaning:
        "FVE: the share of the variance of directions that an explanation rebuilds; guessing the" +
        " mean gives 0 on average. Tokens without colour are not explained yet.",
    },
    {
      key: "norm",
      name: "Norm",
      value: (p) => readings.get(p)?.norm,
      domain: [least, most],
      low: norm(least),
      high: norm(most),
      say: (v) => `norm ${norm(v)}`,
      meaning:
        "Length of the activation. Explanations use its direction only; very long ones are" +
        " outliers.",
    },
    {
      key: "agreement",
      name: "Agreement",
      value: (p) => readings.get(p)?.agreement,
      domain: [0, 1],
      low: "0",
      high: "1",
      say: (v) => `agreement ${fixed(v)}`,
      meaning:
        "How alike several sampled explanations of a token are. Known for tokens whose trust" +
        " panel was opened.",
    },
    {
      key: "search",
      name: "Search",
      value: () => null,
      domain: [0, 1],
      low: "",
      high: "",
      say: () => "",
      hits,
      meaning: params.q
        ? `${hits.size} tokens match, in their own text or in their explanation.`
        : "Write what to look for in tokens and explanations.",
    },
  ];
}

/**
 * @param {import("./reading.js").ReadText} text
 * @param {ReadonlyMap<number, import("./types.js").Reading>} readings
 * @param {string} query
 * @returns {Set<number>}
 */
function searchHits(text, readings, query) {
  const { pattern } = patternOf(query.trim(), false);
  if (!pattern) return new Set();
  const found = text.tokens.filter(
    ({ token, position }) =>
      pattern.test(token) || pattern.test(readings.get(position)?.text ?? ""),
  );
  return new Set(found.map((token) => token.position));
}
