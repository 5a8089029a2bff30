// Transcript: many tokens explained in one go, then searched, filtered, and read by theme.
import { html, useEffect, useMemo, useRef, useState } from "../../vendor/preact-htm.js";
import { isAbort } from "../connection.js";
import { counted, fixed } from "../numbers.js";
import { exportMenu } from "../parts/downloads.js";
import { Problem, Progress } from "../parts/notice.js";
import { sourceParams } from "../parts/source.js";
import { Identity, TextView } from "../parts/text-view.js";
import { Legend, Tokens } from "../parts/tokens.js";
import { formatHash, formatPositions, parsePositions, setParams } from "../route.js";
import { useSearch } from "../search.js";
import { useStore } from "../store.js";
import { commonWords, visible } from "../text.js";

/** @typedef {import("../types.js").Reading} Reading */
/** @typedef {import("../parts/text-view.js").Params} Params */

const BUDGET = 64;
const ROWS_AT_ONCE = 200;

/** @param {import("../parts/text-view.js").ViewProps} props */
export default function TranscriptView({ nla, params }) {
  return html`
    <h1>Transcript</h1>
    <p class="lead">
      Explain many tokens in one go, then search what was said.
    </p>
    <${Identity} nla=${nla} />
    <${TextView} nla=${nla} params=${params} clears=${["sel"]} body=${Transcript} />
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

/** @param {import("../parts/text-view.js").BodyProps} props */
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
    <${Results} text=${text} readings=${readings} params=${params} />
  `;
}

/**
 * @param {object} props
 * @param {import("../reading.js").ReadText} props.text
 * @param {ReadonlyMap<number, Reading>} props.readings
 * @param {Params} props.params
 */
function Results({ text, readings, params }) {
  const all = useMemo(
    () =>
      [...readings.values()]
        .filter((one) => one.done)
        .sort((a, b) => Number(a.position) - Number(b.position)),
    [readings],
  );
  const texts = useMemo(() => [...new Set(all.map((one) => one.text))], [all]);
  const { found, problem } = useSearch(texts, params.q ?? "", params.re === "1");
  const least = params.min ? Number(params.min) : null;
  const matching = useMemo(
    () =>
      all.filter(
        (one) =>
          (!found || found.has(one.text)) &&
          (least === null || (one.fve ?? -Infinity) >= least) &&
          (params.flags !== "none" || !one.flags.length),
      ),
    [all, found, least, params.flags],
  );
  const filtered = !!found || least !== null || params.flags === "none";
  const hits = filtered ? new Set(matching.map((one) => Number(one.position))) : undefined;
  const at = parsePositions(params.at);
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  const jump = (/** @type {number} */ position) => {
    setParams({ at: position });
    const index = text.drawn.findIndex((item) => item.positions.includes(position));
    document.querySelector(`.tokens [data-index="${index}"]`)?.scrollIntoView({ block: "center" });
  };
  const show = (/** @type {number[]} */ positions) => {
    setParams({ at: formatPositions(positions) });
    list.current
      ?.querySelector(`[data-position="${positions.at(-1)}"]`)
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
          hits=${hits}
          busy=${new Set(text.busy)}
          onSelect=${show}
          label="Tokens of the text; a chosen one is shown in the list."
        />
        <${Legend} name="FVE" low="0" high="1" under="below 0" />
      </section>
      <section class="pane-side" aria-label="Explanations">
        <${Filters} params=${params} />
        <${Problem} error=${problem} />
        <${Themes} matching=${matching} params=${params} />
        <p class="sr-only" role="status">${matching.length} explanations</p>
        ${!all.length && html`<p class="empty">${NOTHING_YET}</p>`}
        ${all.length > 0 && !matching.length && html`<p class="empty">No explanation matches.</p>`}
        <div ref=${list}>
          <${Rows}
            text=${text}
            matching=${matching}
            found=${found}
            params=${params}
            at=${at}
            onJump=${jump}
          />
        </div>
      </section>
    </div>
  `;
}

const NOTHING_YET =
  "Nothing is explained yet. Set a budget and start; it can be stopped at any time and keeps " +
  "what it has.";

/** @param {{params: Params}} props */
function Filters({ params }) {
  return html`
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
        FVE from
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
  `;
}

/** Words to search by. @param {{matching: Reading[], params: Params}} props */
function Themes({ matching, params }) {
  const themes = useMemo(() => commonWords(matching.map((one) => one.text)), [matching]);
  if (!themes.length) return null;
  return html`
    <div class="themes" role="group" aria-label="Words that many of these explanations share">
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
  `;
}

/**
 * @param {object} props
 * @param {import("../reading.js").ReadText} props.text
 * @param {Reading[]} props.matching
 * @param {import("../search.js").Found | null} props.found
 * @param {Params} props.params
 * @param {number[]} props.at
 * @param {(position: number) => void} props.onJump
 */
function Rows({ text, matching, found, params, at, onJump }) {
  const [more, setMore] = useState(1);
  const link = { ...sourceParams(text.source), nla: text.nla.name };
  const hidden = matching.length - more * ROWS_AT_ONCE;
  return html`
    <ul class="rows">
      ${matching.slice(0, more * ROWS_AT_ONCE).map(
        (one) => html`
          <li
            key=${one.position}
            data-position=${one.position}
            class=${at.includes(Number(one.position)) ? "current" : ""}
          >
            <button class="token-link" onClick=${() => onJump(Number(one.position))}>
              <span class="sr-only">Jump to </span>
              <span class="chip" dir="auto">${visible(one.token)}</span>${" "}
              <span><span class="sr-only">token </span>${one.position}</span>
            </button>
            <span class="text" dir="auto">
              <${Marked} text=${one.text} span=${found?.get(one.text)} />
              ${one.flags.length > 0 && html` <span class="flag">${one.flags.join(", ")}</span>`}
            </span>
            <span class="num">
              ${fixed(one.fve)}
              <a class="aside more" href=${formatHash("read", { ...link, sel: one.position })}>
                read
              </a>
            </span>
          </li>
        `,
      )}
    </ul>
    ${
      hidden > 0 &&
      html`
        <button onClick=${() => setMore(more + 1)}>
          Show ${Math.min(ROWS_AT_ONCE, hidden)} more
        </button>
      `
    }
  `;
}

/** @param {{text: string, span: import("../matching.js").Span | undefined}} props */
function Marked({ text, span }) {
  if (!span || span[0] === span[1]) return text;
  const [from, to] = span;
  return html`${text.slice(0, from)}<mark>${text.slice(from, to)}</mark>${text.slice(to)}`;
}
