// What is looked for in explanations, and where it stands in them.

/** @typedef {[number, number]} Span from and up to which character a match goes */

/**
 * Words as they stand, or a regular expression; case does not count.
 * @param {string} query
 * @param {boolean} isRegex
 * @returns {{pattern: RegExp | null, problem: string | null}} no pattern where nothing is sought
 */
export function patternOf(query, isRegex) {
  if (!query.trim()) return { pattern: null, problem: null };
  const source = isRegex ? query : query.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
  try {
    return { pattern: new RegExp(source, "iu"), problem: null };
  } catch (error) {
    const reason = error instanceof Error ? error.message : error;
    return { pattern: null, problem: `This regular expression cannot be read: ${reason}` };
  }
}

/**
 * The first match in each text.
 * @param {RegExp} pattern
 * @param {string[]} texts
 * @returns {(Span | null)[]}
 */
export function spansOf(pattern, texts) {
  return texts.map((text) => {
    const match = pattern.exec(text);
    return match && [match.index, match.index + match[0].length];
  });
}
