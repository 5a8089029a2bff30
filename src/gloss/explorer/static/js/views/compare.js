// Compare: two tokens, of one text or two, read by one NLA or two; and what the AV says of their
// difference.
import { html, useEffect, useMemo, useState } from "../../vendor/preact-htm.js";
import { compare, nlas } from "../api.js";
import { isAbort } from "../connection.js";
import { fixed, norm } from "../numbers.js";
import { Diff } from "../parts/diff.js";
import { ExplanationCard } from "../parts/explanation.js";
import { Problem } from "../parts/notice.js";
import { SourceEditor, sourceOf, sourceParams } from "../parts/source.js";
import { Identity } from "../parts/text-view.js";
import { Tokens } from "../parts/tokens.js";
import { useText } from "../reading.js";
import { setParams } from "../route.js";
import { useStore } from "../store.js";

/** @param {{nla: import("../types.js").NlaInfo, params: Record<string, string>}} props */
export default function CompareView({ nla, params }) {
  const known = useStore(nlas) ?? [];
  const first = useMemo(() => sourceOf(params), [params.t, params.chat]);
  const second = useMemo(
    () => sourceOf({ t: params.t2, chat: params.chat2 }),
    [params.t2, params.chat2],
  );
  const otherNla = known.find((one) => one.name === params.nla2) ?? nla;
  const a = useSide(nla, first, params.a),
    b = useSide(otherNla, second ?? first, params.b);
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const [result, setResult] = useState(
    /** @type {import("../types.js").Comparison | null} */ (null),
  );
  const ready = a.text && b.text && a.position !== null && b.position !== null;
  useEffect(() => {
    setResult(null);
    if (!ready || otherNla.d_model !== nla.d_model) return undefined;
    const stop = new AbortController();
    compare(
      nla,
      [a, b].map((side) => ({
        source: /** @type {any} */ (side.text).source,
        position: Number(side.position),
        nla: /** @type {any} */ (side.text).nla,
      })),
      stop.signal,
    ).then(setResult, (error) => {
      if (!isAbort(error)) setProblem(error);
    });
    return () => stop.abort();
  }, [a.text, b.text, a.position, b.position]);
  const saidA = a.reading?.done ? a.reading.text : null,
    saidB = b.reading?.done ? b.reading.text : null;
  return html`
    <h1>Compare</h1>
    <p class="lead">
      Two tokens beside each other: of one text or two, read by one NLA or two. Their difference is
      a vector too, and the AV can say what it holds.
    </p>
    <${Identity} nla=${nla} />
    <${Problem} error=${problem ?? a.problem ?? b.problem} onClose=${() => setProblem(null)} />
    <div class="sides">
      <${Side}
        letter="A"
        nla=${nla}
        side=${a}
        source=${first}
        onSource=${(/** @type {any} */ next) => setParams({ ...sourceParams(next), a: null })}
        onPosition=${(/** @type {number} */ p) => setParams({ a: p })}
      />
      <${Side}
        letter="B"
        nla=${otherNla}
        side=${b}
        source=${second ?? first}
        same=${!second}
        known=${known}
        onNla=${(/** @type {string} */ name) =>
          setParams({ nla2: name === nla.name ? null : name })}
        onSource=${(/** @type {any} */ next) =>
          setParams({ ...suffixed(sourceParams(next)), b: null })}
        onSame=${second ? () => setParams({ t2: null, chat2: null, b: null }) : undefined}
        onPosition=${(/** @type {number} */ p) => setParams({ b: p })}
      />
    </div>
    ${
      ready &&
      html`
        <section class="section" aria-label="Difference">
          <div class="pane-head"><h2>A − B</h2></div>
          ${
            otherNla.d_model !== nla.d_model
              ? html`
                <p class="empty">
                  These NLAs read activations of different widths; there is no difference vector.
                </p>
              `
              : result
                ? html`
                  <p class="text" dir="auto">
                    ${result.text ?? "(no explanation could be extracted)"}
                  </p>
                  <dl class="measures">
                    <div><dt>length of the difference</dt><dd>${norm(result.norm)}</dd></div>
                    <div><dt>cosine of A and B</dt><dd>${fixed(result.similarity)}</dd></div>
                    ${
                      result.fve !== null &&
                      html`
                        <div><dt>FVE of what is said of it</dt><dd>${fixed(result.fve)}</dd></div>
                      `
                    }
                  </dl>
                  <p class="reading">
                    Written by the AV from the difference alone. Differences are unlike what it was
                    trained on: read it as a hint.
                  </p>
                `
                : html`<p class="text writing"></p>`
          }
          ${
            saidA !== null &&
            saidB !== null &&
            saidA !== saidB &&
            html`
              <div class="section">
                <h2>From A's words to B's</h2>
                <${Diff} before=${saidA} after=${saidB} />
              </div>
            `
          }
          ${
            saidA !== null &&
            saidA === saidB &&
            html`<p class="aside">Both explanations are the same, word for word.</p>`
          }
        </section>
      `
    }
  `;
}

/** @param {Record<string, string | null>} params */
function suffixed(params) {
  return Object.fromEntries(Object.entries(params).map(([name, value]) => [`${name}2`, value]));
}

/**
 * One side: its text, its token, and the explanation of that.
 * @param {import("../types.js").NlaInfo} nla
 * @param {import("../types.js").Source | null} source
 * @param {string | undefined} wanted
 */
function useSide(nla, source, wanted) {
  const { text, problem } = useText(nla, source);
  const [failure, setFailure] = useState(/** @type {unknown} */ (null));
  const [, redraw] = useState(0);
  const position =
    text && wanted !== undefined && Number(wanted) < text.tokens.length ? Number(wanted) : null;
  useEffect(() => {
    if (!text || position === null) return undefined;
    const stop = new AbortController();
    const unwatch = text.readings.watch(() => redraw((n) => n + 1));
    text.explain([position], stop.signal).catch((error) => {
      if (!isAbort(error)) setFailure(error);
    });
    return () => {
      stop.abort();
      unwatch();
    };
  }, [text, position]);
  return {
    text,
    position,
    problem: problem ?? failure,
    reading: position === null ? undefined : text?.readings.value.get(position),
  };
}

/** @param {any} props */
function Side({
  letter,
  nla,
  side,
  source,
  same,
  known = [],
  onSource,
  onSame,
  onNla,
  onPosition,
}) {
  const [editing, setEditing] = useState(false);
  const { text, position, reading } = side;
  return html`
    <section aria-label=${`Side ${letter}`}>
      <div class="pane-head">
        <h2>${letter}</h2>
        ${
          known.length > 1 &&
          html`
            <label class="field">
              NLA${" "}
              <select value=${nla.name} onChange=${(/** @type {any} */ e) => onNla(e.target.value)}>
                ${known.map(
                  (/** @type {any} */ one) => html`
                    <option key=${one.name} value=${one.name}>${one.name}</option>
                  `,
                )}
              </select>
            </label>
          `
        }
        ${same && source && html`<span class="aside">the same text</span>`}
        ${
          source &&
          !editing &&
          html`
            <span class="end bar">
              ${onSame && html`<button class="plain" onClick=${onSame}>Same text as A</button>`}
              <button class="plain" onClick=${() => setEditing(true)}>
                ${same ? "Another text" : "Edit text"}
              </button>
            </span>
          `
        }
      </div>
      ${
        !source || editing
          ? html`
            <${SourceEditor}
              nla=${nla}
              initial=${source}
              onCancel=${source ? () => setEditing(false) : undefined}
              onRead=${(/** @type {any} */ next) => {
                setEditing(false);
                onSource(next);
              }}
            />
          `
          : text &&
            html`
              <${Tokens}
                drawn=${text.drawn}
                value=${() => null}
                domain=${[0, 1]}
                say=${() => ""}
                selected=${new Set(position === null ? [] : [position])}
                onSelect=${(/** @type {number[]} */ ps) => onPosition(ps.at(-1))}
                label=${`Tokens of side ${letter}`}
              />
            `
      }
      ${text && position === null && html`<p class="empty">Choose a token.</p>`}
      <div class="section" aria-live="polite">
        ${reading && html`<${ExplanationCard} reading=${reading} nla=${nla} />`}
      </div>
    </section>
  `;
}
