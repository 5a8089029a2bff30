// Steer: an explanation is edited, and the target goes on with its activation moved along the edit.
import { html, useEffect, useRef, useState } from "../../vendor/preact-htm.js";
import { steer } from "../api.js";
import { isAbort } from "../connection.js";
import { fixed, percent } from "../numbers.js";
import { Diff } from "../parts/diff.js";
import { download } from "../parts/downloads.js";
import { Problem } from "../parts/notice.js";
import { Identity, TextView } from "../parts/text-view.js";
import { Tokens } from "../parts/tokens.js";
import { formatPositions, parsePositions, setParams } from "../route.js";
import { useStore } from "../store.js";
import { visible } from "../text.js";

/** @typedef {import("../types.js").Steered} Steered */

const SWEEP = [0.5, 1, 2, 4];

const UNABLE = "Steering needs an AR and the target; this NLA was loaded without one of them.";

/** @param {import("../parts/text-view.js").ViewProps} props */
export default function SteerView({ nla, params }) {
  return html`
    <h1>Steer</h1>
    <p class="lead">
      Edit what was said about a token. The activation moves by α times its own length towards
      AR(edited) − AR(original), and the target writes on.
    </p>
    <${Identity} nla=${nla} />
    ${
      nla.has_ar && nla.has_target
        ? html`<${TextView} nla=${nla} params=${params} clears=${["pos", "edit"]} body=${Bench} />`
        : html`<${Problem} error=${UNABLE} />`
    }
  `;
}

/** @param {import("../parts/text-view.js").BodyProps} props */
function Bench({ text, params, onEdit }) {
  const readings = useStore(text.readings);
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const [running, setRunning] = useState(/** @type {AbortController | null} */ (null));
  const [result, setResult] = useState(/** @type {Steered | null} */ (null));
  const last = /** @type {number} */ (text.drawn.at(-1)?.positions.at(-1));
  const chosen = parsePositions(params.pos).filter((p) => p < text.tokens.length);
  const positions = chosen.length ? chosen : [last];
  const site = /** @type {number} */ (positions.at(-1));
  const reading = readings.get(site);
  const original = reading?.done && !reading.failed ? reading.text : null;
  const edited = params.edit ?? original ?? "";
  const alphas = params.alphas === "one" ? [Number(params.alpha) || 1] : SWEEP;

  useEffect(() => {
    const stop = new AbortController();
    text.explain([site], stop.signal).catch((error) => {
      if (!isAbort(error)) setProblem(error);
    });
    return () => stop.abort();
  }, [text, site]);
  useEffect(() => () => running?.abort(), [running]);

  const run = async () => {
    if (original === null) return;
    const stop = new AbortController();
    setRunning(stop);
    setProblem(null);
    try {
      setResult(
        await steer(text.nla, text.source, { positions, original, edited, alphas }, stop.signal),
      );
      setParams({ run: 1 });
    } catch (error) {
      if (!isAbort(error)) setProblem(error);
    }
    setRunning(null);
  };
  useEffect(() => {
    if (params.run === "1" && original !== null && edited !== original && !result && !running)
      run();
  }, [original]);
  const choose = (/** @type {number[]} */ wanted) => {
    setResult(null);
    setParams({ pos: formatPositions(wanted), edit: null, run: null });
  };
  return html`
    <div class="two">
      <section class="pane-text" aria-label="Text">
        <div class="pane-head">
          <h2>Where</h2>
          <span class="aside">
            ${
              positions.length > 1
                ? `${positions.length} tokens; the explanation is that of token ${site}`
                : `token ${site}`
            }
          </span>
          <button class="plain end" onClick=${onEdit}>Edit text</button>
        </div>
        <${Tokens}
          drawn=${text.drawn}
          value=${() => null}
          domain=${[0, 1]}
          say=${() => ""}
          selected=${new Set(positions)}
          onSelect=${choose}
          label="Tokens of the text; choose where to steer."
        />
      </section>
      <section class="pane-side" aria-label="Edit">
        <div class="pane-head">
          <h2>
            What is said of${" "}
            <span class="chip" dir="auto">${visible(text.tokens[site]?.token ?? "")}</span>
          </h2>
          ${
            params.edit !== undefined &&
            html`
              <button class="plain end" onClick=${() => setParams({ edit: null, run: null })}>
                Undo the edit
              </button>
            `
          }
        </div>
        <${Problem} error=${problem} onClose=${() => setProblem(null)} />
        ${
          reading?.failed
            ? html`
              <p class="empty">No explanation could be extracted for this token. Choose another.</p>
            `
            : original === null
              ? html`<p class="text writing">${reading?.text ?? ""}</p>`
              : html`
                <div class="stack">
                  <${Editor}
                    value=${edited}
                    onChange=${(/** @type {string} */ next) =>
                      setParams({ edit: next === original ? null : next, run: null })}
                  />
                  ${
                    edited !== original &&
                    html`
                      <div>
                        <span class="aside">What changes</span>
                        <${Diff} before=${original} after=${edited} />
                      </div>
                    `
                  }
                  <${Strength} params=${params} />
                  <div class="bar">
                    ${
                      running
                        ? html`
                          <button onClick=${() => running.abort()}>Stop</button>
                          <span class="aside" role="status">The target is writing…</span>
                        `
                        : html`
                          <button
                            class="primary"
                            disabled=${edited === original || !edited.trim()}
                            onClick=${run}
                          >
                            Steer
                          </button>
                        `
                    }
                    ${edited === original && html`<span class="aside">Change a word first.</span>`}
                  </div>
                </div>
              `
        }
      </section>
    </div>
    ${result && html`<${Outcome} result=${result} />`}
  `;
}

/** @param {{value: string, onChange: (value: string) => void}} props */
function Editor({ value, onChange }) {
  const box = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  useEffect(() => {
    if (!box.current) return;
    box.current.style.height = "auto";
    box.current.style.height = `${box.current.scrollHeight + 2}px`;
  }, [value]);
  return html`
    <div>
      <label for="edited">Explanation, to be edited</label>
      <textarea
        id="edited"
        class="text"
        dir="auto"
        spellcheck="false"
        ref=${box}
        value=${value}
        onInput=${(/** @type {any} */ e) => onChange(e.target.value)}
      ></textarea>
    </div>
  `;
}

/** @param {{params: Record<string, string>}} props */
function Strength({ params }) {
  const one = params.alphas === "one",
    alpha = Number(params.alpha) || 1;
  return html`
    <div class="bar">
      <span class="segmented" role="group" aria-label="Strength">
        <button
          aria-pressed=${one ? "false" : "true"}
          onClick=${() => setParams({ alphas: null, alpha: null })}
        >
          Sweep
        </button>
        <button
          aria-pressed=${one ? "true" : "false"}
          onClick=${() => setParams({ alphas: "one", alpha })}
        >
          One α
        </button>
      </span>
      ${
        one
          ? html`
            <label>
              α${" "}
              <input
                type="range"
                min="0.1"
                max="8"
                step="0.1"
                value=${alpha}
                onInput=${(/** @type {any} */ e) => setParams({ alpha: e.target.value })}
              />
              <output>${fixed(alpha, 1)}</output>
            </label>
          `
          : html`<span class="aside">α = ${SWEEP.join(", ")} × the activation's length</span>`
      }
    </div>
  `;
}

const COLUMNS = [
  ["edit", "along the edit"],
  ["random", "random direction"],
  ["unrelated", "unrelated edit"],
  ["elsewhere", "edit elsewhere"],
];

/** @param {{result: Steered}} props */
function Outcome({ result }) {
  const plain = result.continuations.find((one) => one.edit === "none");
  const columns = COLUMNS.filter(([key]) => result.continuations.some((one) => one.edit === key));
  const alphas = [
    ...new Set(result.continuations.filter((one) => one.edit !== "none").map((one) => one.alpha)),
  ];
  const of = (/** @type {string} */ edit, /** @type {number} */ alpha) =>
    result.continuations.find((one) => one.edit === edit && one.alpha === alpha);
  const rate = (/** @type {string} */ edit, /** @type {number} */ alpha) => {
    const one = result.rates.find((r) => r.edit === edit && r.alpha === alpha);
    return one && html`<span class="rate">${one.written} of ${one.samples}</span>`;
  };
  return html`
    <section class="section" aria-label="What the target writes">
      <div class="pane-head">
        <h2>What the target writes</h2>
        <button
          class="plain end"
          onClick=${() =>
            download("gloss-steering.json", JSON.stringify(result, null, 1), "application/json")}
        >
          Download JSON
        </button>
      </div>
      ${result.verdict && html`<p class="verdict" role="status">${result.verdict}</p>`}
      <div class="scroll" tabindex="0" role="region" aria-label="Continuations">
        <table class="continuations">
          <thead>
            <tr>
              <th scope="col">α</th>
              ${columns.map(([key, name]) => html`<th scope="col" key=${key}>${name}</th>`)}
            </tr>
          </thead>
          <tbody>
            <tr>
              <th scope="row">no edit</th>
              <td colspan=${columns.length} class="text" dir="auto">
                ${plain?.text ?? ""} ${rate("none", 0)}
              </td>
            </tr>
            ${alphas.map(
              (alpha) => html`
                <tr key=${alpha}>
                  <th scope="row"><span class="only-narrow">α </span>${fixed(alpha, 1)}</th>
                  ${columns.map(
                    ([key, name]) => html`
                      <td
                        key=${key}
                        data-label=${name}
                        dir="auto"
                        class=${`text ${of(key, alpha)?.text === plain?.text ? "same" : ""}`}
                      >
                        ${of(key, alpha)?.text ?? ""} ${rate(key, alpha)}
                      </td>
                    `,
                  )}
                </tr>
              `,
            )}
          </tbody>
        </table>
      </div>
      <p class="reading">
        Grey: the same as without an edit.${" "}
        ${
          result.rates.length > 0 &&
          html`Small numbers: in how many of ${result.rates[0].samples} continuations drawn at
            temperature 1 the target writes <q dir="auto">${result.wanted}</q>.${" "}`
        }
        An edit that matters does what no control of the same strength does.
      </p>
      ${result.next.length > 0 && html`<${NextTokens} next=${result.next} />`}
    </section>
  `;
}

/** @param {{next: Steered["next"]}} props */
function NextTokens({ next }) {
  const [at, setAt] = useState(() =>
    Math.max(
      0,
      next.findIndex((entry) => entry.alpha >= 1),
    ),
  );
  const one = next[Math.min(at, next.length - 1)];
  const most = Math.max(...one.tokens.flatMap((token) => [token.before, token.after]), 1e-6);
  return html`
    <div class="section">
      <div class="bar">
        <h2>Next token, before and after</h2>
        ${
          next.length > 1 &&
          html`
            <label class="field">
              α${" "}
              <select
                value=${at}
                onChange=${(/** @type {any} */ e) => setAt(Number(e.target.value))}
              >
                ${next.map(
                  (entry, i) => html`<option key=${i} value=${i}>${fixed(entry.alpha, 1)}</option>`,
                )}
              </select>
            </label>
          `
        }
      </div>
      <table class="probs">
        <thead>
          <tr>
            <th scope="col">token</th>
            <th scope="col" class="num">before</th>
            <th scope="col" class="num">after</th>
            <th scope="col"><span class="sr-only">bars</span></th>
          </tr>
        </thead>
        <tbody>
          ${one.tokens.map(
            (token, i) => html`
              <tr key=${i}>
                <th scope="row"><span class="chip" dir="auto">${visible(token.token)}</span></th>
                <td class="num">${percent(token.before)}</td>
                <td class="num">${percent(token.after)}</td>
                <td class="prob">
                  <svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
                    <rect y="0" height="4.5" width=${(token.before / most) * 100} />
                    <rect class="after" y="5.5" height="4.5" width=${(token.after / most) * 100} />
                  </svg>
                </td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
  `;
}
