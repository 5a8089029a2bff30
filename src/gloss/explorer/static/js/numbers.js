// Numbers as they are shown, written by the rules of gloss.formatting, each with an honest reading.

const MINUS = "−";

/** @param {number | null | undefined} value @param {number} digits */
export function fixed(value, digits = 2) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "—";
  return value
    .toFixed(digits)
    .replace("-", MINUS)
    .replace(/^−(0(\.0*)?)$/, "$1");
}

/**
 * With its sign, also where it is positive.
 * @param {number | null | undefined} value
 * @param {number} digits
 */
export function signed(value, digits = 2) {
  const text = fixed(value, digits);
  return text === "—" || text.startsWith(MINUS) || Number(text) === 0 ? text : `+${text}`;
}

/**
 * A share: whole per cent from 2 %, one decimal below that, two below 1 %.
 * @param {number | null | undefined} value
 */
export function percent(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "—";
  const hundredths = value * 100,
    size = Math.abs(hundredths);
  const digits = size >= 1.95 || size === 0 ? 0 : size >= 0.995 ? 1 : 2;
  return `${fixed(hundredths, digits)}\u00a0%`;
}

/** A whole number with thin spaces between thousands. @param {number | null | undefined} value */
export function count(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "—";
  const digits = (Math.round(value) || 0).toLocaleString("en");
  return digits.replaceAll(",", "\u202f").replace("-", MINUS);
}

/** Norms run from hundredths to tens of thousands. @param {number | null | undefined} value */
export function norm(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "—";
  return value >= 1000 ? count(value) : value.toPrecision(3);
}

/** What an FVE says. @param {number | null | undefined} fve */
export function fveReading(fve) {
  if (fve === null || fve === undefined)
    return "No FVE: the checkpoint does not record the variance of its training activations.";
  const shown = fixed(fve);
  if (fve < 0)
    return (
      "Worse than 0, which guessing the mean gives on average; 1 is perfect. These words mislead" +
      " the reconstruction."
    );
  if (fve < 0.05) return "About 0, which guessing the mean gives on average; 1 is perfect.";
  return (
    `${shown} of the variance of directions is rebuilt from these words; guessing the mean gives` +
    " 0 on average. It does not say that they are true."
  );
}

/** @param {number | null | undefined} cosine */
export function cosineReading(cosine) {
  return cosine === null || cosine === undefined
    ? ""
    : "Cosine between the activation and its reconstruction; high values can be cheap, FVE" +
        " corrects for that.";
}

/** @param {number} number @param {string} one @param {string} [many] */
export function counted(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

export const STEPS = 7;

/**
 * The step of the token scale for a value, "under" below its lower end.
 * @param {number | null | undefined} value
 * @param {[number, number]} domain
 * @returns {string | undefined}
 */
export function scaleStep(value, [low, high]) {
  if (value === null || value === undefined || !Number.isFinite(value)) return undefined;
  if (value < low) return "under";
  const share = high > low ? (value - low) / (high - low) : 1;
  return String(Math.min(STEPS - 1, Math.floor(share * STEPS)));
}
