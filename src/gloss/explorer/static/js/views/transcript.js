// Transcript: many tokens explained in one go, then searched, filtered, and read by theme.
import { html, useEffect, useMemo, useRef, useState } from "../../vendor/preact-htm.js";
import { isAbort } from "../connection.js";
import { counted, fixed } from "../numbers.js";
import { exportMenu } from "../parts/downloads.js";
import { Problem, Progress } from "../parts/notice.js";
import { SourceEditor, sourceOf, sourceParams } from "../parts/source.js";
import { Legend, Tokens } from "../parts/tokens.js";
import { formatHash, formatPositions, parsePositions, setParams } from "../route.js";
import { Identity } from "../shell.js";
import { useStore } from "../store.js";
import { commonWords, visible } from "../text.js";
import { useText } from "./read.js";

const BUDGET = 64;
const ROWS_AT_ONCE = 200;

/** @param {{nla: import("../types.js").NlaInfo, params: Record<string, string>}} props */
export default function TranscriptView({ nla, params }) {
  const source = useMemo(() => sourceOf(params), [params.t, params.chat]);
  const { text, problem, close } = useText(nla, source);
  const [editing, setEditing] = useState(false);
  return html`
    <h1>Transcript</h1>
    <p class="lead">
      Explain many tokens in one go, then search what was said. What is repeated over a text is more
      often true than what is said once.
    </p>
    <${Identity} nla=${nla} />
    <${Problem} error=${problem} onClose=${close} />
    ${
      !source || editing
        ? html`
          <div class="section">
            <${SourceEditor}
              nla=${nla}
              initial=${source}
              onCancel=${source ? () => setEditing(false) : undefined}
              onRead=${(/** @type {any} */ next) => {
                setEditing(false);
                setParams({ ...sourceParams(next), sel: null });
              }}
            />
          </div>
        `
        : text
          ? html`<${Transcript} text=${text} params=${params} onEdit=${() => setEditing(true)} />`
          : !problem && html`<p class="lead" role="status">Reading the tokens…</p>`
    }
  `;
}

/**
 * The tokens that a budget pays for: those chosen, else evenly spread over the text, its end
 * included.
 * @param {import("../reading.js").ReadText} text @param {number} budget @param {number[]} chosen
 */
export function budgeted(text, budget, chosen) {
  const last = text.drawn.map((item) => /** @type {number} */ (item.positions.at(-1)));
  const from = chosen.length ? last.filter((p) => chosen.includes(p)) : last;
  if (from.length <= budget) return from;
  return Array.from(
    { length: budget },
    (_, i) => from[Math.round(((i + 1) * from.length) / budget) - 1],
  );
}

/**
 * @param {{text: import("../reading.js").ReadText, params: Record<string, string>, onEdit: () =>
 * void}} props
 */
function Transcript({ text, params, onEdit }) {
  const readings = useStore(text.readings);
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const [running, setRunning] = useState(
    /** @type {{stop: AbortController, wanted: number[]} | null} */ (null),
  );
  const chosen = useMemo(() => parsePositions(params.sel), [params.sel]);
  const budget = Math.max(1, Math.min(5000, Number(params.budget) || BUDGET));
  const plan = useMemo(() => budgeted(text, budget, chosen), [text, budget, chosen]);
  const left = text.missing(plan).length;
  useEffect(() => () => running?.stop.abort(), [running, text]);

  const start = async () => {
    const stop = new AbortController();
    setRunning({ stop, wanted: text.missing(plan) });
    setParams({ go: 1 });
    setProblem(null);
    try {
      await text.explain(plan, stop.signal);
    } catch (error) {
      if (!isAbort(error)) setProblem(error);
    }
    setRunning(null);
  };
  useEffect(() => {
    if (params.go === "1" && left) start();
  }, [text]);
  const done = running ? running.wanted.filter((p) => readings.get(p)?.done).length : 0;
  return html`
    <div class="bar section">
      <label>
        Budget${" "}
        <input
          type="number"
          min="1"
          max="5000"
          value=${budget}
          onChange=${(/** @type {any} */ e) => setParams({ budget: e.target.value })}
        />
        ${" "}tokens
      </label>
      ${
        running
          ? html`
            <${Progress}
              done=${done}
              total=${running.wanted.length}
              unit="tokens"
              onStop=${() => {
                running.stop.abort();
                setParams({ go: null });
              }}
            />
          `
          : html`
            <button class="primary" disabled=${!left} onClick=${start}>
              ${left ? `Explain ${counted(left, "token")}` : "All explained"}
            </button>
          `
      }
      <span class="aside">
        ${
          chosen.length
            ? html`
              of ${counted(chosen.length, "chosen token")} ·${" "}
              <button class="plain" onClick=${() => setParams({ sel: null })}>
                the whole text
              </button>
            `
            : plan.length < text.drawn.length
              ? `spread evenly over ${counted(text.drawn.length, "token")}`
              : `the whole text, ${counted(text.drawn.length, "token")}`
        }
      </span>
      <span class="end bar">
        ${exportMenu(text, [])}
        <button class="plain" onClick=${onEdit}>Edit text</button>
      </span>
    </div>
    <${Problem} error=${problem} onClose=${() => setProblem(null)} />
    <${Found} text=${text} readings=${readings} params=${params} />
  `;
}

/**
 * @param {{text: import("../reading.js").ReadText, readings: ReadonlyMap<number,
 * import("../types.js").Reading>, params: Record<string, string>}} props
 */
function Found({ text, readings, params }) {
  const [more, setMore] = useState(1);
  const all = useMemo(
    () =>
      [...readings.values()]
        .filter((one) => one.done)
        .sort((a, b) => Number(a.position) - Number(b.position)),
    [readings],
  );
  const { pattern, problem } = useMemo(
    () => patternOf(params.q ?? "", params.re === "1"),
    [params.q, params.re],
  );
  const least = params.min ? Number(params.min) : null;
  const matching = useMemo(
    () =>
      all.filter(
        (one) =>
          (!pattern || one.text.search(pattern) >= 0) &&
          (least === null || (one.fve ?? -Infinity) >= least) &&
          (params.flags !== "none" || !one.flags.length),
      ),
    [all, pattern, least, params.flags],
  );
  const themes = useMemo(() => commonWords(matching.map((one) => one.text)), [matching]);
  const filtered = !!pattern || least !== null || params.flags === "none";
  const at = parsePositions(params.at);
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  const jump = (/** @type {number} */ position) => {
    setParams({ at: position });
    document
      .querySelector(
        `.tokens [data-index="${text.drawn.findIndex((item) => item.positions.includes(position))}"]`,
      )
      ?.scrollIntoView({ block: "center" });
  };
  const show = (/** @type {number[]} */ positions) => {
    const position = positions.at(-1);
    setParams({ at: formatPositions(positions) });
    list.current
      ?.querySelector(`[data-position="${position}"]`)
      ?.scrollIntoView({ block: "nearest" });
  };
  return html`
    <div class="two">
      <section class="pane-text" aria-label="Text">
        <div class="pane-head">
          <h2>Text</h2>
          <span class="aside">
            ${counted(all.length, "token")} explained${filtered ? `, ${matching.length} match` : ""}
          </span>
        </div>
        <${Tokens}
          drawn=${text.drawn}
          value=${(/** @type {number} */ p) => readings.get(p)?.fve}
          domain=${[0, 1]}
          say=${(/** @type {number} */ v) => `FVE ${fixed(v)}`}
          selected=${new Set(at)}
          hits=${
            filtered
              ? new Set(matching.map((one) => /** @type {number} */ (one.position)))
              : undefined
          }
          busy=${new Set(text.busy)}
          onSelect=${show}
          label="Tokens of the text; a chosen one is shown in the list."
        />
        <${Legend} name="FVE" low="0" high="1" under="below 0" />
      </section>
      <section class="pane-side" aria-label="Explanations">
        <div class="pane-head">
          <label class="field">
            Search
            <input
              type="search"
              dir="auto"
              value=${params.q ?? ""}
              onInput=${(/** @type {any} */ e) => setParams({ q: e.target.value })}
            />
          </label>
          <label class="field">
            <input
              type="checkbox"
              checked=${params.re === "1"}
              onChange=${(/** @type {any} */ e) => setParams({ re: e.target.checked ? "1" : null })}
            />
            regex
          </label>
          <label class="field">
            FVE from${" "}
            <input
              type="number"
              step="0.1"
              value=${params.min ?? ""}
              onInput=${(/** @type {any} */ e) => setParams({ min: e.target.value })}
            />
          </label>
          <label class="field">
            <input
              type="checkbox"
              checked=${params.flags === "none"}
              onChange=${(/** @type {any} */ e) =>
                setParams({ flags: e.target.checked ? "none" : null })}
            />
            unflagged only
          </label>
        </div>
        <${Problem} error=${problem} />
        ${
          themes.length > 0 &&
          html`
            <div
              class="themes"
              role="group"
              aria-label="Words that many of these explanations share"
            >
              ${themes.map(
                ({ word, count }) => html`
                  <button
                    key=${word}
                    aria-pressed=${params.q === word ? "true" : "false"}
                    onClick=${() => setParams({ q: params.q === word ? null : word, re: null })}
                  >
                    ${word} <span class="aside">${count}</span>
                  </button>
                `,
              )}
            </div>
          `
        }
        <p class="sr-only" role="status">${matching.length} explanations</p>
        ${
          !all.length &&
          html`
            <p class="empty">
              Nothing is explained yet. Set a budget and start; it can be stopped at any time and
              keeps what it has.
            </p>
          `
        }
        ${all.length > 0 && !matching.length && html`<p class="empty">No explanation matches.</p>`}
        <ul class="rows" ref=${list}>
          ${matching.slice(0, more * ROWS_AT_ONCE).map(
            (one) => html`
              <li
                key=${one.position}
                data-position=${one.position}
                class=${at.includes(Number(one.position)) ? "current" : ""}
              >
                <button class="token-link" onClick=${() => jump(Number(one.position))}>
                  <span class="sr-only">Jump to </span>
                  <span class="chip" dir="auto">${visible(one.token)}</span>${" "}
                  <span><span class="sr-only">token </span>${one.position}</span>
                </button>
                <span class="text" dir="auto">
                  <${Marked} text=${one.text} pattern=${pattern} />
                  ${
                    one.flags.length > 0 && html` <span class="flag">${one.flags.join(", ")}</span>`
                  }
                </span>
                <span class="num">
                  ${fixed(one.fve)}
                  <a
                    class="aside more"
                    href=${formatHash("read", {
                      ...sourceParams(text.source),
                      nla: params.nla,
                      sel: one.position,
                    })}
                  >
                    read
                  </a>
                </span>
              </li>
            `,
          )}
        </ul>
        ${
          matching.length > more * ROWS_AT_ONCE &&
          html`
            <button onClick=${() => setMore(more + 1)}>
              Show ${Math.min(ROWS_AT_ONCE, matching.length - more * ROWS_AT_ONCE)} more
            </button>
          `
        }
      </section>
    </div>
  `;
}

/**
 * @param {string} query
 * @param {boolean} regex
 * @returns {{pattern: RegExp | null, problem: string | null}}
 */
function patternOf(query, regex) {
  if (!query.trim()) return { pattern: null, problem: null };
  try {
    return {
      pattern: new RegExp(regex ? query : query.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"), "iu"),
      problem: null,
    };
  } catch (error) {
    return {
      pattern: null,
      problem: `This regular expression cannot be read: ${error instanceof Error ? error.message : error}`,
    };
  }
}

/** @param {{text: string, pattern: RegExp | null}} props */
function Marked({ text, pattern }) {
  const match = pattern?.exec(text);
  if (!match || !match[0]) return text;
  return html`
    ${text.slice(0, match.index)}
    <mark>${match[0]}</mark>
    ${text.slice(match.index + match[0].length)}
  `;
}
