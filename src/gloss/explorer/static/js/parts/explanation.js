// One explanation with its numbers: what each line is worth, how well the whole rebuilds the
// activation.
import { html, useEffect, useState } from "../../vendor/preact-htm.js";
import { cosineReading, fixed, fveReading, norm, signed } from "../numbers.js";
import { claimLines, visible } from "../text.js";

/** @typedef {import("../types.js").Reading} Reading */

/**
 * @param {object} props
 * @param {Reading} props.reading
 * @param {import("../types.js").NlaInfo} props.nla
 * @param {() => void} [props.onWeigh] called once it is written, to weigh its lines
 * @param {any} [props.actions]
 * @param {any} [props.children]
 * @param {string} [props.unit] what is numbered
 */
export function ExplanationCard({ reading, nla, onWeigh, actions, children, unit = "token" }) {
  const { position, token, done, failed } = reading;
  useEffect(() => {
    if (done && !failed) onWeigh?.();
  }, [done, failed]);
  const id = `card-${position ?? "x"}`;
  return html`
    <article class="card" aria-labelledby=${id}>
      <header class="card-head">
        <h3 id=${id}>
          ${token !== "" && html`<span class="chip" dir="auto">${visible(token)}</span>`}
          <span class="sr-only"> explanation</span>
        </h3>
        <span class="where">
          ${position === null ? "" : `${unit} ${position}`}
          ${reading.norm === null ? "" : ` · norm ${norm(reading.norm)}`}
          ${reading.norm !== null && nla.median_norm ? ` (median ${norm(nla.median_norm)})` : ""}
        </span>
        ${reading.flags.map(
          (flag) => html`
            <span class="flag" key=${flag} title=${FLAG_MEANINGS[flag]}>${flag}</span>
          `,
        )}
      </header>
      <${Said} reading=${reading} />
      ${
        reading.stopped &&
        html`<p class="aside">Stopped here: not finished, and not scored. Choose it again to go on.</p>`
      }
      ${done && html`<${Measures} reading=${reading} />`}
      ${done && actions && html`<div class="actions">${actions}</div>`}
      ${children}
    </article>
  `;
}

/** @type {Record<string, string>} */
const FLAG_MEANINGS = {
  "early position":
    "The first tokens of a text have unusual activations; explanations of them are often wrong.",
  "special token":
    "Tokens of a template or markers of beginnings and ends: the NLA was not trained on them.",
  "norm outlier": "The activation is more than twice as long as almost all in training.",
  "extraction failed": "The AV did not close its explanation; what it wrote is shown as it is.",
};

/**
 * The words, line by line, with what each line adds and what is lost without it.
 * @param {{reading: Reading}} props
 */
function Said({ reading }) {
  const { text, lines, failed } = reading;
  const done = reading.done || reading.stopped;
  const rows = lines ?? claimLines(text).map((line) => ({ text: line, adds: null, loses: null }));
  const weighed = lines !== null && lines.length > 0;
  const widest = Math.max(
    0.01,
    ...rows.map((row) => Math.max(Math.abs(row.adds ?? 0), Math.abs(row.loses ?? 0))),
  );
  if (!rows.length)
    return html`<p class=${`text ${done ? "" : "writing"}`}>${done ? "(no text)" : ""}</p>`;
  return html`
    <table class="lines">
      <thead class=${weighed ? "" : "sr-only"}>
        <tr>
          <th scope="col"><span class="sr-only">line</span></th>
          ${
            weighed &&
            html`
              <th
                scope="col"
                class="num"
                title="FVE of the explanation up to and with this line, less that before it"
              >
                adds
              </th>
              <th
                scope="col"
                class="num"
                title="FVE of the whole explanation, less that without this line"
              >
                lost without it
              </th>
            `
          }
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          (row, i) => html`
            <tr key=${i}>
              <td
                class=${["said", !done && i === rows.length - 1 && "writing", failed && "absent"]
                  .filter(Boolean)
                  .join(" ")}
                dir="auto"
              >
                ${row.text}
              </td>
              ${
                weighed &&
                html`
                  <td class="num">
                    ${signed(row.adds)}
                    <${Spark} value=${row.adds} widest=${widest} />
                  </td>
                  <td class="num">
                    ${fixed(row.loses)}
                    <${Spark} value=${row.loses} widest=${widest} />
                  </td>
                `
              }
            </tr>
          `,
        )}
      </tbody>
    </table>
  `;
}

/**
 * A small bar to the right of zero or to the left of it.
 * @param {{value: number | null, widest: number}} props
 */
function Spark({ value, widest }) {
  const length = value === null ? 0 : Math.min(22, (Math.abs(value) / widest) * 22);
  return html`
    <svg class="spark" viewBox="0 0 44 9" aria-hidden="true">
      <line x1="22" x2="22" y1="0" y2="9" />
      ${
        length > 0 &&
        html`
          <rect
            class=${/** @type {number} */ (value) > 0 ? "up" : "down"}
            x=${/** @type {number} */ (value) > 0 ? 22 : 22 - length}
            y="1.5"
            width=${length}
            height="6"
          />
        `
      }
    </svg>
  `;
}

/** @param {{reading: Reading}} props */
export function Measures({ reading }) {
  const { fve, baseline, cosine, failed } = reading;
  if (failed)
    return html`
      <p class="reading">
        Nothing to score: no explanation could be extracted. It counts as orthogonal, never as
        missing.
      </p>
    `;
  if (fve === null && cosine === null) return null;
  return html`
    <dl class="measures">
      <div class="main"><dt>FVE</dt><dd>${fixed(fve)}</dd></div>
      ${
        baseline !== null &&
        html`<div><dt>mean direction, at this token</dt><dd>${fixed(baseline)}</dd></div>`
      }
      <div title=${cosineReading(cosine)}><dt>cosine</dt><dd>${fixed(cosine)}</dd></div>
      ${
        reading.percentile !== null &&
        html`
          <div><dt>better than</dt><dd>${fixed(reading.percentile, 0)} % of held-out ones</dd></div>
        `
      }
    </dl>
    <p class="reading">
      ${fveReading(fve)}
      ${
        reading.lines && reading.lines.length > 1
          ? " A line adds what it brings to those before it; the first is counted from a text" +
            " without words."
          : ""
      }
    </p>
  `;
}

/**
 * A part that is opened on demand.
 * @param {{label: string, open: boolean, onToggle: (open: boolean) => void}} props
 */
export function Toggle({ label, open, onToggle }) {
  return html`
    <button class="plain" aria-expanded=${open ? "true" : "false"} onClick=${() => onToggle(!open)}>
      ${label}
    </button>
  `;
}

/** @param {string} text */
export function useCopied(text) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return { copied, copy };
}
