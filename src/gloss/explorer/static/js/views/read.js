// Read: a text or a chat as its tokens; chosen tokens are explained beside it.
import { html, useEffect, useMemo, useRef, useState } from "../../vendor/preact-htm.js";
import { isAbort } from "../connection.js";
import { exportMenu } from "../parts/downloads.js";
import { ExplanationCard, Toggle } from "../parts/explanation.js";
import { Notice, Problem } from "../parts/notice.js";
import { sourceParams } from "../parts/source.js";
import { Identity, TextView } from "../parts/text-view.js";
import { Legend, Tokens } from "../parts/tokens.js";
import { TrustPanel } from "../parts/trust.js";
import { colourings } from "../quantities.js";
import { counted } from "../numbers.js";
import { formatHash, formatPositions, parsePositions, setParams } from "../route.js";
import { useStore } from "../store.js";

const AT_ONCE = 12;
const SETTLE_MS = 220;

/** @param {import("../parts/text-view.js").ViewProps} props */
export default function ReadView({ nla, params }) {
  return html`
    <h1>Read</h1>
    <p class="lead">
      Choose a token: the AV puts its activation into words, and the AR says how much of it the
      words carry.
    </p>
    <${Identity} nla=${nla} />
    <${TextView} nla=${nla} params=${params} clears=${["sel"]} body=${Reader} />
  `;
}

/** @param {import("../parts/text-view.js").BodyProps} props */
function Reader({ text, params, onEdit }) {
  const readings = useStore(text.readings);
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const stop = useRef(/** @type {AbortController | null} */ (null));
  const selected = useMemo(
    () => new Set(parsePositions(params.sel).filter((p) => p < text.tokens.length)),
    [params.sel, text],
  );
  const wanted = text.missing(selected);
  const [asked, setAsked] = useState(false);

  const explain = () => {
    stop.current ??= new AbortController();
    const mine = stop.current;
    text
      .explain(selected, mine.signal)
      .catch((error) => {
        if (!isAbort(error)) setProblem(error);
      })
      .finally(() => {
        if (stop.current === mine && !text.busy.size) stop.current = null;
      });
  };
  useEffect(() => {
    setAsked(false);
    if (!wanted.length || wanted.length > AT_ONCE) return undefined;
    const timer = setTimeout(explain, SETTLE_MS);
    return () => clearTimeout(timer);
  }, [params.sel, text]);
  useEffect(() => () => stop.current?.abort(), [text]);

  const by = colourings(text, readings, params);
  const colouring = by.find((one) => one.key === params.by) ?? by[0];
  const choose = (/** @type {number[]} */ positions) =>
    setParams({ sel: formatPositions(new Set(positions)) });
  const shown = [...selected].sort((a, b) => a - b);
  return html`
    <div class="two">
      <section class="pane-text" aria-label="Text">
        <div class="pane-head">
          <span class="aside">${counted(text.tokens.length, "token")}</span>
          <label class="field">
            Colour by${" "}
            <select
              value=${colouring.key}
              onChange=${(/** @type {any} */ e) => setParams({ by: e.target.value })}
            >
              ${by.map((one) => html`<option key=${one.key} value=${one.key}>${one.name}</option>`)}
            </select>
          </label>
          ${
            colouring.key === "search" &&
            html`
              <input
                type="search"
                aria-label="Search in tokens and explanations"
                placeholder="words"
                value=${params.q ?? ""}
                onInput=${(/** @type {any} */ e) => setParams({ q: e.target.value })}
              />
            `
          }
          <button class="plain end" onClick=${onEdit}>Edit text</button>
        </div>
        <${Tokens}
          drawn=${text.drawn}
          value=${colouring.value}
          domain=${colouring.domain}
          say=${colouring.say}
          selected=${selected}
          hits=${colouring.hits}
          busy=${new Set(text.busy)}
          onSelect=${choose}
          label="Tokens of the text. Arrow keys move, Shift extends the selection."
        />
        <${Legend}
          name=${colouring.name}
          low=${colouring.low}
          high=${colouring.high}
          under=${colouring.under}
        />
        <p class="aside">${colouring.meaning}</p>
      </section>
      <section
        class="pane-side"
        aria-label="Explanations"
        aria-live="polite"
        aria-busy=${text.busy.size ? "true" : "false"}
      >
        <div class="pane-head">
          <h2>${shown.length ? counted(shown.length, "token") + " chosen" : "Explanations"}</h2>
          ${
            text.busy.size > 0 &&
            html`
              <button
                class="plain"
                onClick=${() => {
                  stop.current?.abort();
                  stop.current = null;
                }}
              >
                Stop
              </button>
            `
          }
          <span class="end">${exportMenu(text, shown)}</span>
        </div>
        <${Problem} error=${problem} onClose=${() => setProblem(null)} />
        ${
          !shown.length &&
          html`
            <p class="empty">
              Click a token to have its activation explained. Shift-click or drag chooses several;
              with the keyboard, Tab to the text, then the arrow keys, with <kbd>Shift</kbd> to
              extend.
            </p>
          `
        }
        ${
          wanted.length > AT_ONCE &&
          !asked &&
          html`
            <${Notice}>
              <span>${counted(wanted.length, "token")} to explain.</span>
              <button
                class="primary"
                onClick=${() => {
                  setAsked(true);
                  explain();
                }}
              >
                Explain ${wanted.length}
              </button>
              <a
                href=${formatHash("transcript", {
                  ...sourceParams(text.source),
                  nla: text.nla.name,
                  sel: params.sel,
                })}
              >
                Open as transcript
              </a>
            <//>
          `
        }
        ${shown
          .filter((p) => readings.has(p) || text.busy.has(p))
          .map(
            (p) => html`
              <${OneToken}
                key=${p}
                text=${text}
                position=${p}
                params=${params}
                only=${shown.length === 1}
                onProblem=${setProblem}
              />
            `,
          )}
      </section>
    </div>
  `;
}

/**
 * @param {object} props
 * @param {import("../reading.js").ReadText} props.text
 * @param {number} props.position
 * @param {Record<string, string>} props.params
 * @param {boolean} props.only
 * @param {(error: unknown) => void} props.onProblem
 */
function OneToken({ text, position, params, only, onProblem }) {
  const reading = text.readings.value.get(position);
  const open = parsePositions(params.trust).includes(position);
  if (!reading)
    return html`
      <article class="card">
        <div class="card-head"><span class="where">token ${position}</span></div>
        <p class="text writing"><span class="sr-only">waiting for the AV</span></p>
      </article>
    `;
  const toggle = (/** @type {boolean} */ on) => {
    const others = parsePositions(params.trust).filter((p) => p !== position);
    setParams({ trust: formatPositions(on ? [...others, position] : others) });
  };
  const link = { ...sourceParams(text.source), nla: text.nla.name };
  return html`
    <${ExplanationCard}
      reading=${reading}
      nla=${text.nla}
      onWeigh=${only ? () => text.weigh(position).catch(onProblem) : undefined}
      actions=${html`
        ${
          !reading.lines &&
          !reading.failed &&
          text.nla.has_ar &&
          html`
            <button class="plain" onClick=${() => text.weigh(position).catch(onProblem)}>
              Weigh its lines
            </button>
          `
        }
        ${
          !reading.failed &&
          text.nla.has_ar &&
          html`<${Toggle} label="How far to trust it" open=${open} onToggle=${toggle} />`
        }
        ${
          !reading.failed &&
          text.nla.has_target &&
          text.nla.has_ar &&
          html`<a href=${formatHash("steer", { ...link, pos: position })}>Edit and steer</a>`
        }
        <a href=${formatHash("compare", { ...link, a: position })}>Compare</a>
      `}
    >
      ${open && html`<${TrustPanel} text=${text} position=${position} />`}
    <//>
  `;
}
