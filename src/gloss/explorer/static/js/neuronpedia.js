// Neuronpedia's cache JSON, in and out: {text, tokens, sortedPositions, resultJson: "{results,
// layer_index, prompt_length}"}.
import { FileProblem } from "./files.js";
import { ReadText, blank, keepText } from "./reading.js";

/** @typedef {import("./types.js").Reading} Reading */

/** @param {ReadText} text @param {Reading[]} readings */
export function toNeuronpedia(text, readings) {
  const { tokens, source, nla } = text;
  const results = readings.map((reading) => {
    const token = tokens[/** @type {number} */ (reading.position)];
    return {
      token: token.token,
      token_id: token.token_id,
      position: token.position,
      l2_norm: reading.norm,
      description: reading.failed ? "" : reading.text,
      mse: reading.mse,
      cosine_similarity: reading.cosine,
      generated: false,
      fragment_index: token.fragment_index,
      fragment_count: token.fragment_count,
      role: token.role ?? null,
      section: token.section ?? null,
      channel: null,
      message_index: token.message_index ?? null,
    };
  });
  const inside = {
    results,
    layer_index: nla.layer,
    prompt_length: tokens.length,
    ...("messages" in source ? { messages: source.messages } : {}),
  };
  return JSON.stringify(
    {
      text: "text" in source ? source.text : tokens.map((token) => token.token).join(""),
      tokens: tokens.map((token) => token.token),
      sortedPositions: readings.map((reading) => reading.position),
      modelId: nla.target,
      nlaSourceId: nla.name,
      resultJson: JSON.stringify(inside),
    },
    null,
    1,
  );
}

/**
 * The text of a cache document, with its explanations, kept for the views to open.
 * @param {import("./types.js").NlaInfo} nla @param {string} json
 * @returns {ReadText}
 */
export function fromNeuronpedia(nla, json) {
  let document, inside;
  try {
    document = JSON.parse(json);
    inside =
      typeof document.resultJson === "string"
        ? JSON.parse(document.resultJson)
        : document.resultJson;
  } catch {
    throw new FileProblem("This file is not JSON.");
  }
  if (
    !Array.isArray(document?.tokens) ||
    !Array.isArray(inside?.results) ||
    !document.tokens.every((/** @type {unknown} */ one) => typeof one === "string")
  ) {
    throw new FileProblem(
      "This is not a cache document of Neuronpedia: it has no tokens, or no results in its" +
        " resultJson.",
    );
  }
  const byPosition = new Map(inside.results.map((/** @type {any} */ one) => [one.position, one]));
  const tokens = document.tokens.map(
    (/** @type {string} */ token, /** @type {number} */ position) => {
      const {
        token_id = -1,
        fragment_index = 0,
        fragment_count = 1,
        role = null,
        section = null,
        message_index = null,
      } = byPosition.get(position) ?? {};
      return {
        position,
        token,
        token_id,
        fragment_index,
        fragment_count,
        role,
        section,
        message_index,
      };
    },
  );
  const source = Array.isArray(inside.messages)
    ? { messages: inside.messages }
    : { text: String(document.text ?? document.tokens.join("")) };
  const text = new ReadText(nla, source, tokens);
  for (const one of inside.results) {
    if (!Number.isInteger(one.position) || one.position < 0 || one.position >= tokens.length)
      throw new FileProblem(`A result names token ${one.position}; the text has ${tokens.length}.`);
    const said = String(one.description ?? "");
    text.now.set(one.position, {
      ...blank(one.position, tokens[one.position].token),
      text: said,
      failed: !said,
      done: true,
      norm: one.l2_norm ?? null,
      mse: one.mse ?? null,
      cosine: one.cosine_similarity ?? null,
    });
  }
  text.readings.set(new Map(text.now));
  keepText(text);
  return text;
}
