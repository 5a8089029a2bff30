// Texts as they are shown: white space made visible, fragments of one glyph drawn as one, words
// compared.

const MARKS = { " ": "·", "\u00a0": "⍽", "\n": "⏎\n", "\t": "⇥\t", "\r": "␍" };

/**
 * A token in pieces: ordinary text, and marks that stand for white space or control characters.
 * @param {string} token
 * @returns {{text: string, mark: boolean}[]}
 */
export function visiblePieces(token) {
  /** @type {{text: string, mark: boolean}[]} */
  const pieces = [];
  for (const char of token) {
    const shown = MARKS[/** @type {keyof typeof MARKS} */ (char)] ?? controlPicture(char);
    const mark = shown !== null;
    const last = pieces.at(-1);
    if (last && last.mark === mark) last.text += shown ?? char;
    else pieces.push({ text: shown ?? char, mark });
  }
  return pieces;
}

/** @param {string} char @returns {string | null} */
function controlPicture(char) {
  const code = /** @type {number} */ (char.codePointAt(0));
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  return code === 0x7f ? "␡" : null;
}

/** A token in one line, for labels. @param {string} token */
export function visible(token) {
  return visiblePieces(token)
    .map((piece) => piece.text)
    .join("")
    .replaceAll("\n", "")
    .replaceAll("⇥\t", "⇥");
}

/**
 * Tokens that are drawn as one: the fragments of a glyph together, every other token alone.
 * @param {import("./types.js").Token[]} tokens
 * @returns {import("./types.js").Drawn[]}
 */
export function drawnTokens(tokens) {
  /** @type {import("./types.js").Drawn[]} */
  const drawn = [];
  for (const token of tokens) {
    const last = drawn.at(-1);
    if (last && token.fragment_count > 1 && token.fragment_index > 0)
      last.positions.push(token.position);
    else drawn.push({ token, positions: [token.position] });
  }
  return drawn;
}

/** The lines of an explanation that hold words. @param {string} text */
export function claimLines(text) {
  return text.split("\n").filter((line) => line.trim());
}

/**
 * The words of two texts, with what was taken out and what was put in (longest common subsequence).
 * @param {string} before
 * @param {string} after
 * @returns {{kind: "same" | "added" | "removed", text: string}[]}
 */
export function wordDiff(before, after) {
  const a = words(before),
    b = words(after);
  const common = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      common[i][j] =
        a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
  /** @type {{kind: "same" | "added" | "removed", text: string}[]} */
  const parts = [];
  /** @param {"same" | "added" | "removed"} kind @param {string} text */
  const push = (kind, text) => {
    const last = parts.at(-1);
    if (last && last.kind === kind) last.text += text;
    else parts.push({ kind, text });
  };
  let i = 0,
    j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) push("same", (j++, a[i++]));
    else if (i < a.length && (j === b.length || common[i + 1][j] >= common[i][j + 1]))
      push("removed", a[i++]);
    else push("added", b[j++]);
  }
  return joined(parts);
}

/**
 * Changes that only white space parts, as one change.
 * @param {{kind: "same" | "added" | "removed", text: string}[]} parts
 */
function joined(parts) {
  /** @type {typeof parts} */
  const out = [];
  for (let i = 0; i < parts.length;) {
    if (parts[i].kind === "same") {
      out.push(parts[i++]);
      continue;
    }
    let removed = "",
      added = "";
    for (; i < parts.length; i++) {
      const { kind, text } = parts[i];
      if (kind === "same" && !(/^[^\S\n]+$/.test(text) && i + 1 < parts.length)) break;
      if (kind !== "added") removed += text;
      if (kind !== "removed") added += text;
    }
    if (removed) out.push({ kind: "removed", text: removed });
    if (added) out.push({ kind: "added", text: added });
  }
  return out;
}

/** @param {string} text @returns {string[]} */
function words(text) {
  return text.match(/\s+|[\p{L}\p{N}\p{M}_'’]+|[^\s\p{L}\p{N}\p{M}_]/gu) ?? [];
}

const STOP_WORDS = new Set([
  ..."a an the of in on at to is it its and or with by for as that this then".split(" "),
  ..."next comes has was be are from his her there".split(" "),
]);

/**
 * Words that many explanations share, most frequent first; those that nearly all share say nothing
 * of the text.
 * @param {string[]} explanations
 * @param {number} most
 * @returns {{word: string, count: number}[]}
 */
export function commonWords(explanations, most = 16) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const text of explanations)
    for (const word of new Set(text.toLowerCase().match(/\p{L}[\p{L}\p{M}'’-]+/gu) ?? []))
      if (!STOP_WORDS.has(word)) counts.set(word, (counts.get(word) ?? 0) + 1);
  return [...counts]
    .filter(
      ([, count]) => count > 1 && (explanations.length < 8 || count < 0.7 * explanations.length),
    )
    .sort((x, y) => y[1] - x[1] || (x[0] < y[0] ? -1 : 1))
    .slice(0, most)
    .map(([word, count]) => ({ word, count }));
}

/** @param {string} text */
export function escapeHtml(text) {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")
    .replaceAll("'", "&#39;");
}
