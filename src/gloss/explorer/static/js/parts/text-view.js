// What views of one text have in common: its editor until there is one, then the view's own body.
import { html, useMemo, useState } from "../../vendor/preact-htm.js";
import { fixed } from "../numbers.js";
import { useText } from "../reading.js";
import { setParams } from "../route.js";
import { Problem } from "./notice.js";
import { SourceEditor, sourceOf, sourceParams } from "./source.js";

/** @typedef {import("../types.js").NlaInfo} NlaInfo */
/** @typedef {Record<string, string>} Params */
/** @typedef {{nla: NlaInfo, params: Params}} ViewProps */
/**
 * @typedef {object} BodyProps
 * @property {import("../reading.js").ReadText} text
 * @property {Params} params
 * @property {() => void} onEdit
 */

/**
 * @param {object} props
 * @param {NlaInfo} props.nla
 * @param {Params} props.params
 * @param {string[]} props.clears parameters that belong to one text and go with it
 * @param {(props: BodyProps) => any} props.body
 */
export function TextView({ nla, params, clears, body }) {
  const source = useMemo(() => sourceOf(params), [params.t, params.chat]);
  const { text, problem, close } = useText(nla, source);
  const [editing, setEditing] = useState(false);
  const edit = () => setEditing(true);
  /** @param {import("../types.js").Source} next */
  const read = (next) => {
    setEditing(false);
    setParams({ ...sourceParams(next), ...Object.fromEntries(clears.map((name) => [name, null])) });
  };
  const cancel = source ? () => setEditing(false) : undefined;
  const editor = html`
    <div class="section">
      <${SourceEditor} nla=${nla} initial=${source} onCancel=${cancel} onRead=${read} />
    </div>
  `;
  const waiting = problem
    ? html`<button onClick=${edit}>Edit the text</button>`
    : html`<p class="lead" role="status">Reading the tokens…</p>`;
  const shown = text && html`<${body} text=${text} params=${params} onEdit=${edit} />`;
  return html`
    <${Problem} error=${problem} onClose=${close} />
    ${!source || editing ? editor : (shown ?? waiting)}
  `;
}

/** What is being read by which NLA, in one quiet line. @param {{nla: NlaInfo}} props */
export function Identity({ nla }) {
  const entries = [
    ["NLA", nla.name],
    ["target", nla.target],
    ["layer", nla.layer],
    ["width", nla.d_model],
  ];
  if (nla.fve !== null) entries.push(["FVE held out", fixed(nla.fve)]);
  return html`
    <dl class="identity">
      ${entries.map(
        ([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`,
      )}
    </dl>
  `;
}
