// How far one explanation is to be trusted: controls, samples, neighbours, and known truth where
// there is one.
import { html, useEffect, useState } from "../../vendor/preact-htm.js";
import { trustOf } from "../api.js";
import { isAbort } from "../connection.js";
import { fixed, percent } from "../numbers.js";
import { visible } from "../text.js";
import { Problem } from "./notice.js";

/** @typedef {import("../types.js").Trust} Trust */

/** @param {{text: import("../reading.js").ReadText, position: number}} props */
export function TrustPanel({ text, position }) {
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const reading = text.readings.value.get(position);
  const trust = reading?.trust ?? null;
  useEffect(() => {
    if (!reading?.done || reading.trust) return undefined;
    const stop = new AbortController();
    trustOf(text.nla, text.source, reading, stop.signal).then(
      (found) => text.note(position, { trust: found, agreement: found.agreement }),
      (error) => {
        if (!isAbort(error)) setProblem(error);
      },
    );
    return () => stop.abort();
  }, [position, reading?.done]);
  return html`
    <section class="trust" aria-label="How far to trust it">
      <${Problem} error=${problem} />
      ${
        trust && reading
          ? html`<${Evidence} trust=${trust} fve=${reading.fve} />`
          : !problem &&
            html`<p class="aside writing" role="status">Drawing samples and controls </p>`
      }
    </section>
  `;
}

/** @param {{trust: Trust, fve: number | null}} props */
function Evidence({ trust, fve }) {
  return html`
    <h3>Against controls</h3>
    <p class="reading">0 is what guessing the mean gives on average; "mean direction" is what it gives here.</p>
    <${Dots}
      rows=${[
        ["this explanation", fve, true],
        ...trust.controls.map((one) => [one.name, one.fve, false]),
      ]}
    />
    <p class="reading">${controlReading(trust, fve)}</p>
    ${
      trust.samples.length > 0 &&
      html`
        <h3>${trust.samples.length} samples at temperature 1</h3>
        <p class="reading">
          ${trust.agreement !== null && `Agreement ${fixed(trust.agreement)} ${AGREEMENT} `}
        </p>
        <table>
          <thead><tr><th scope="col">sample</th><th scope="col" class="num">FVE</th></tr></thead>
          <tbody>
            ${trust.samples.map(
              (sample, i) => html`
                <tr key=${i}>
                  <td class="text small" dir="auto">${sample.text ?? "(extraction failed)"}</td>
                  <td class="num">${fixed(sample.fve)}</td>
                </tr>
              `,
            )}
          </tbody>
        </table>
      `
    }
    ${
      trust.claims.length > 0 &&
      html`
        <h3>The same claim elsewhere</h3>
        <table>
          <thead>
            <tr>
              <th scope="col">line</th>
              <th scope="col" class="num">in samples</th>
              <th scope="col" class="num">at neighbours</th>
              ${trust.score_quality && html`<th scope="col" class="num">likely true</th>`}
            </tr>
          </thead>
          <tbody>
            ${trust.claims.map(
              (claim, i) => html`
                <tr key=${i}>
                  <td class="text small" dir="auto">${claim.text}</td>
                  <td class="num">${percent(claim.in_samples)}</td>
                  <td class="num">${percent(claim.at_neighbours)}</td>
                  ${trust.score_quality && html`<td class="num">${percent(claim.likely_true)}</td>`}
                </tr>
              `,
            )}
          </tbody>
        </table>
        <p class="reading">${scoreReading(trust)}</p>
        ${
          trust.neighbours.length > 0 &&
          html`
            <details>
              <summary>What the neighbouring tokens say</summary>
              <table>
                <tbody>
                  ${trust.neighbours.map(
                    (one) => html`
                      <tr key=${one.position}>
                        <th scope="row">
                          <span class="chip" dir="auto">${visible(one.token)}</span>
                          <br />
                          <span class="aside">token ${one.position}</span>
                        </th>
                        <td class="text small" dir="auto">${one.text ?? "(extraction failed)"}</td>
                      </tr>
                    `,
                  )}
                </tbody>
              </table>
            </details>
          `
        }
      `
    }
    ${
      trust.truth &&
      html`
        <h3>Against known truth</h3>
        <ul class="verdicts">
          ${trust.truth.map(
            (claim, i) => html`
              <li key=${i}>
                <span class=${claim.verdict}>
                  ${MARKS[claim.verdict]}${" "}
                  ${claim.verdict === "absent" ? "nothing to judge by" : claim.verdict}
                </span>
                <span>${claim.kind}: <b>${claim.value}</b></span>
              </li>
            `,
          )}
        </ul>
      `
    }
  `;
}

const AGREEMENT = "(share of words that two samples have in common; 1: they say the same).";

/** The one control that has the explanation's words, so that it says what their order is worth. */
const SHUFFLED = "shuffled words";

/** @type {Record<string, string>} */
const MARKS = { right: "✓", wrong: "✗", absent: "○", "text only": "◐" };

/** @param {Trust} trust */
function scoreReading({ score_quality: score }) {
  if (!score) return "No trust score was fitted for this NLA: which lines are true is not known.";
  const chance = `a right claim scored above another with a chance of ${fixed(score.auroc)}`;
  const off = `the score was off by ${fixed(score.calibration_error)} on average`;
  return `Likely true is a trust score fitted on texts whose truth is known. On ${score.n_claims} claims ${chance}; ${off}.`;
}

/** @param {Trust} trust @param {number | null} fve */
function controlReading(trust, fve) {
  const known = trust.controls.filter((one) => one.fve !== null && one.name !== SHUFFLED);
  const shuffled = trust.controls.find((one) => one.name === SHUFFLED)?.fve ?? null;
  const order = shuffled === null ? "" : ` With its own words in random order: ${fixed(shuffled)}.`;
  if (fve === null || !known.length) return "No FVE to compare.";
  const best = known.reduce((a, b) =>
    /** @type {number} */ (b.fve) > /** @type {number} */ (a.fve) ? b : a,
  );
  const gap = fve - /** @type {number} */ (best.fve);
  const control = `${best.name} (${fixed(best.fve)}), which knows nothing of this token`;
  if (gap < 0.05) return `No better than ${control}: these words carry nothing.${order}`;
  return `${fixed(gap)} above the best control, ${control}.${order}`;
}

/** FVE on one axis. @param {{rows: [string, number | null, boolean][]}} props */
function Dots({ rows }) {
  const known = rows.map(([, value]) => value).filter((value) => value !== null);
  const low = Math.min(-0.2, ...known.map((value) => Math.max(-1.2, value))) - 0.1;
  const x = (/** @type {number} */ value) => 140 + ((Math.max(low, value) - low) / (1 - low)) * 178;
  const height = rows.length * 22 + 26,
    foot = rows.length * 22 + 4;
  const label = rows.map(([name, value]) => `${name} ${fixed(value)}`).join(", ");
  return html`
    <svg class="dots" viewBox=${`0 0 376 ${height}`} role="img" aria-label=${`FVE: ${label}`}>
      <line class="zero" x1=${x(0)} x2=${x(0)} y1="2" y2=${foot} />
      <line x1=${x(1)} x2=${x(1)} y1="2" y2=${foot} />
      ${rows.map(
        ([name, value, own], i) => html`
          <g key=${name}>
            <text class=${own ? "own" : ""} x="0" y=${i * 22 + 17}>${name}</text>
            ${
              value !== null &&
              html`
                <line
                  class=${`link ${own ? "own" : ""}`}
                  x1=${x(0)}
                  x2=${x(value)}
                  y1=${i * 22 + 13}
                  y2=${i * 22 + 13}
                />
                <circle class=${own ? "own" : ""} cx=${x(value)} cy=${i * 22 + 13} r="4" />
              `
            }
            <text class=${own ? "own" : ""} x="336" y=${i * 22 + 17}>${fixed(value)}</text>
          </g>
        `,
      )}
      <text x=${x(0)} y=${height - 5} text-anchor="middle">0</text>
      <text x=${x(1)} y=${height - 5} text-anchor="middle">1</text>
    </svg>
  `;
}
