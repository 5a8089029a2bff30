// The values that views exchange, as JSDoc types.

/**
 * @typedef {object} Token
 * @property {number} position
 * @property {string} token
 * @property {number} token_id
 * @property {number} fragment_index
 * @property {number} fragment_count
 * @property {string | null} [role]
 * @property {string | null} [section]
 * @property {number | null} [message_index]
 */

/** @typedef {{token: Token, positions: number[]}} Drawn one drawn glyph or word piece */

/** @typedef {{role: string, content: string}} Turn */

/** @typedef {{text: string} | {messages: Turn[]}} Source what is read */

/**
 * @typedef {object} Line one line of an explanation and its worth in FVE
 * @property {string} text
 * @property {number | null} adds
 * @property {number | null} loses
 */

/**
 * @typedef {object} Reading one explanation of one token, perhaps still being written
 * @property {number | null} position
 * @property {string} token
 * @property {string} text
 * @property {boolean} done
 * @property {boolean} stopped whether it was given up while it was written
 * @property {boolean} failed
 * @property {number | null} fve
 * @property {number | null} baseline the FVE that the position's mean direction has
 * @property {number | null} cosine
 * @property {number | null} mse direction MSE, 0 to 4
 * @property {number | null} norm
 * @property {string[]} flags
 * @property {number | null} percentile among the checkpoint's held-out explanations, 0 to 100
 * @property {number | null} agreement of several samples, once they were drawn
 * @property {Line[] | null} lines
 * @property {Trust | null} trust
 */

/**
 * @typedef {object} NlaInfo
 * @property {string} name
 * @property {string} target
 * @property {number} layer
 * @property {number} d_model
 * @property {boolean} has_av
 * @property {boolean} has_ar
 * @property {boolean} has_target
 * @property {boolean} chat
 * @property {number | null} fve
 * @property {number | null} median_norm
 */

/**
 * @typedef {object} Trust
 * @property {{name: string, fve: number | null}[]} controls
 * @property {{text: string | null, fve: number | null}[]} samples
 * @property {number | null} percentile among the checkpoint's held-out explanations, 0 to 100
 * @property {number | null} agreement
 * @property {{text: string, in_samples: number | null, at_neighbours: number | null,
 *   likely_true: number | null}[]} claims
 * @property {{auroc: number, calibration_error: number, n_claims: number} | null} score_quality of
 *   the trust score behind likely_true; null where none was fitted for this NLA
 * @property {{position: number, token: string, text: string | null}[]} neighbours
 * @property {{kind: string, value: string, verdict: string}[] | null} [truth] where it is known
 */

/**
 * @typedef {object} Steered
 * @property {string} original
 * @property {string} edited
 * @property {number[]} positions
 * @property {{edit: string, alpha: number, text: string}[]} continuations none, edit, random,
 * unrelated or elsewhere
 * @property {string} wanted words that the edit should bring about
 * @property {{edit: string, alpha: number, written: number, samples: number}[]} rates
 * @property {string} verdict
 * @property {{alpha: number, tokens: {token: string, before: number, after: number}[]}[]} next
 */

/**
 * @typedef {object} Comparison
 * @property {string | null} text
 * @property {number} norm
 * @property {number | null} similarity
 * @property {number | null} fve
 */

/** @typedef {{name: string, points: [number, number][]}} Series */

/**
 * @typedef {object} RunEntry
 * @property {string} id
 * @property {string} state
 * @property {string | null} preset
 * @property {number | null} fve
 * @property {number | null} updated
 */

export {};
