// What is read: a text, or a chat with turns; continued by the target where it can.
import { html, useEffect, useRef, useState } from "../../vendor/preact-htm.js";
import { isAbort } from "../connection.js";
import { continueSource, examplesOf } from "../api.js";
import { Problem } from "./notice.js";

/** @typedef {import("../types.js").Source} Source */
/** @typedef {import("../types.js").Turn} Turn */

const ROLES = ["user", "assistant", "system"];

/** The source that a link names. @param {Record<string, string>} params @returns {Source | null} */
export function sourceOf(params) {
  if (params.chat) {
    try {
      const turns = /** @type {[string, string][]} */ (JSON.parse(params.chat));
      return {
        messages: turns.map(([role, content]) => ({
          role: String(role),
          content: String(content),
        })),
      };
    } catch {
      return null;
    }
  }
  return params.t ? { text: params.t } : null;
}

/**
 * The parameters that name a source in a link.
 * @param {Source | null} source
 * @returns {Record<string, string | null>}
 */
export function sourceParams(source) {
  if (source && "messages" in source)
    return {
      t: null,
      chat: JSON.stringify(source.messages.map((turn) => [turn.role, turn.content])),
    };
  return { chat: null, t: source ? source.text : null };
}

/** @param {Source} source */
export function isEmpty(source) {
  return "text" in source
    ? !source.text.trim()
    : source.messages.every((turn) => !turn.content.trim());
}

/**
 * @param {object} props
 * @param {import("../types.js").NlaInfo} props.nla
 * @param {Source | null} props.initial
 * @param {(source: Source) => void} props.onRead
 * @param {() => void} [props.onCancel]
 * @param {string} [props.action]
 */
export function SourceEditor({ nla, initial, onRead, onCancel, action = "Read" }) {
  const [source, setSource] = useState(initial ?? /** @type {Source} */ ({ text: "" }));
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const [writing, setWriting] = useState(/** @type {AbortController | null} */ (null));
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const isChat = "messages" in source;
  useEffect(() => {
    box.current?.querySelector("textarea")?.focus({ preventScroll: true });
  }, [isChat]);
  useEffect(() => () => writing?.abort(), [writing]);

  const read = () => {
    if (isEmpty(source)) setProblem("There is no text yet. Write or paste some, and read it then.");
    else onRead(source);
  };
  const continueText = async () => {
    const stop = new AbortController();
    setWriting(stop);
    setProblem(null);
    const base =
      isChat && source.messages.at(-1)?.role !== "assistant"
        ? { messages: [...source.messages, { role: "assistant", content: "" }] }
        : source;
    try {
      await continueSource(nla, source, (text) => setSource(extended(base, text)), stop.signal);
    } catch (error) {
      if (!isAbort(error)) setProblem(error);
    }
    setWriting(null);
  };
  /** @param {KeyboardEvent} event */
  const key = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) read();
    if (event.key === "Escape") onCancel?.();
  };

  return html`
    <div class="source stack" ref=${box} onKeyDown=${key}>
      ${
        nla.chat &&
        html`
          <div class="segmented" role="group" aria-label="Kind of source">
            <button
              aria-pressed=${!isChat}
              onClick=${() =>
                isChat &&
                setSource({ text: source.messages.map((turn) => turn.content).join("\n") })}
            >
              Text
            </button>
            <button
              aria-pressed=${isChat}
              onClick=${() =>
                !isChat && setSource({ messages: [{ role: "user", content: source.text }] })}
            >
              Chat
            </button>
          </div>
        `
      }
      ${
        isChat
          ? html`
            <${Turns}
              turns=${source.messages}
              onChange=${(/** @type {Turn[]} */ messages) => setSource({ messages })}
            />
          `
          : html`
            <label class="sr-only" for="source-text">Text to read</label>
            <textarea
              id="source-text"
              dir="auto"
              rows="6"
              spellcheck="false"
              placeholder="Paste or write a text that the target reads."
              value=${source.text}
              onInput=${(/** @type {any} */ e) => setSource({ text: e.target.value })}
            ></textarea>
          `
      }
      <${Problem} error=${problem} onClose=${() => setProblem(null)} />
      <div class="bar">
        <button class="primary" onClick=${read}>${action}</button>
        ${
          nla.has_target &&
          (writing
            ? html`<button onClick=${() => writing.abort()}>Stop writing</button>`
            : html`
              <button disabled=${isEmpty(source)} onClick=${continueText}>Continue with the target</button>
            `)
        }
        ${onCancel && html`<button class="plain" onClick=${onCancel}>Cancel</button>`}
        <${Examples} nla=${nla} onChoose=${(/** @type {string} */ text) => setSource({ text })} />
        <${OpenCache} nla=${nla} onRead=${onRead} onProblem=${setProblem} />
        <span class="aside end">Ctrl + Enter reads</span>
      </div>
    </div>
  `;
}

/**
 * Texts of the laboratory, whose claims the trust panel can judge.
 * @param {{nla: import("../types.js").NlaInfo, onChoose: (text: string) => void}} props
 */
function Examples({ nla, onChoose }) {
  const [known, setKnown] = useState(/** @type {{doc_id: string, text: string}[]} */ ([]));
  useEffect(() => {
    examplesOf(nla).then(setKnown, () => setKnown([]));
  }, [nla.name]);
  if (!known.length) return null;
  return html`
    <label class="field">
      A lab text${" "}
      <select
        value=""
        onChange=${(/** @type {any} */ e) => onChoose(known[Number(e.target.value)].text)}
      >
        <option value="" disabled>choose…</option>
        ${known.map(
          (one, i) => html`
            <option key=${one.doc_id} value=${i}>
              ${one.text.slice(0, 44).replaceAll("\n", " ")}…
            </option>
          `,
        )}
      </select>
    </label>
  `;
}

/**
 * Opens a file that Neuronpedia's page, or this one, has saved.
 * @param {object} props
 * @param {import("../types.js").NlaInfo} props.nla
 * @param {(source: Source) => void} props.onRead
 * @param {(error: unknown) => void} props.onProblem
 */
function OpenCache({ nla, onRead, onProblem }) {
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  const take = async (/** @type {any} */ event) => {
    try {
      const { fromNeuronpedia } = await import("../neuronpedia.js");
      onRead(fromNeuronpedia(nla, await event.target.files[0].text()).source);
    } catch (error) {
      onProblem(error);
    }
  };
  return html`
    <button class="plain" onClick=${() => input.current?.click()}>
      Open a Neuronpedia cache file
    </button>
    <input
      type="file"
      class="sr-only"
      tabindex="-1"
      aria-label="Neuronpedia cache file"
      accept=".json"
      ref=${input}
      onChange=${take}
    />
  `;
}

/** @param {Source} source @param {string} text @returns {Source} */
function extended(source, text) {
  if ("text" in source) return { text: source.text + text };
  const last = /** @type {Turn} */ (source.messages.at(-1));
  return { messages: [...source.messages.slice(0, -1), { ...last, content: last.content + text }] };
}

/** @param {{turns: Turn[], onChange: (turns: Turn[]) => void}} props */
function Turns({ turns, onChange }) {
  /** @param {number} at @param {Partial<Turn>} change */
  const edit = (at, change) =>
    onChange(turns.map((turn, i) => (i === at ? { ...turn, ...change } : turn)));
  const next = turns.at(-1)?.role === "user" ? "assistant" : "user";
  return html`
    <ol class="turns">
      ${turns.map(
        (turn, i) => html`
          <li key=${i}>
            <select
              aria-label=${`Role of turn ${i + 1}`}
              value=${turn.role}
              onChange=${(/** @type {any} */ e) => e.target.value && edit(i, { role: e.target.value })}
            >
              ${[...new Set([...ROLES, turn.role])].map(
                (role) => html`<option key=${role} value=${role}>${role}</option>`,
              )}
            </select>
            <textarea
              aria-label=${`Turn ${i + 1}`}
              dir="auto"
              rows="2"
              spellcheck="false"
              value=${turn.content}
              onInput=${(/** @type {any} */ e) => edit(i, { content: e.target.value })}
            ></textarea>
            <button
              class="plain"
              aria-label=${`Remove turn ${i + 1}`}
              disabled=${turns.length === 1}
              onClick=${() => onChange(turns.filter((_, j) => j !== i))}
            >
              Remove
            </button>
          </li>
        `,
      )}
    </ol>
    <button onClick=${() => onChange([...turns, { role: next, content: "" }])}>Add a turn</button>
  `;
}
