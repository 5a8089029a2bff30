// Results to keep or share.
import { html, useEffect, useRef, useState } from "../../vendor/preact-htm.js";
import { Problem } from "./notice.js";

/** @typedef {import("../types.js").Reading} Reading */
/** @typedef {import("../reading.js").ReadText} ReadText */

const forms = () => import("../export.js");

/**
 * What a kind of file is called, how its name ends, its type, and what makes one; loaded when one is
 * asked for.
 * @typedef {(text: ReadText, readings: Reading[]) => Promise<string | Blob>} Make
 * @type {[string, string, string, Make][]}
 */
const KINDS = [
  ["JSON", ".json", "application/json", async (...given) => (await forms()).asJson(...given)],
  [
    "Web page that works offline",
    ".html",
    "text/html",
    async (...given) => (await forms()).asPage(...given),
  ],
  [
    "Parquet",
    ".parquet",
    "application/vnd.apache.parquet",
    async (...given) => (await forms()).asParquet(...given),
  ],
  [
    "Neuronpedia cache (JSON)",
    "-neuronpedia.json",
    "application/json",
    async (...given) => (await import("../neuronpedia.js")).toNeuronpedia(...given),
  ],
];

/**
 * @param {ReadText} text
 * @param {number[]} positions those to keep; all explained ones without any
 */
export function exportMenu(text, positions) {
  const all = [...text.readings.value.values()]
    .filter((one) => one.done)
    .sort((a, b) => /** @type {number} */ (a.position) - /** @type {number} */ (b.position));
  const chosen = all.filter((one) => positions.includes(/** @type {number} */ (one.position)));
  return html`<${DownloadMenu} text=${text} readings=${chosen.length ? chosen : all} />`;
}

/** @param {{text: ReadText, readings: Reading[]}} props */
function DownloadMenu({ text, readings }) {
  const [open, setOpen] = useState(false);
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    if (!open) return undefined;
    const close = (/** @type {Event} */ event) => {
      if (!(event.target instanceof Node && box.current?.contains(event.target))) setOpen(false);
    };
    addEventListener("pointerdown", close);
    addEventListener("focusin", close);
    return () => {
      removeEventListener("pointerdown", close);
      removeEventListener("focusin", close);
    };
  }, [open]);
  const name = `gloss-${text.nla.name.replaceAll(/[^\w.-]+/g, "-")}`;
  /** @param {string} ending @param {string} type @param {Make} make */
  const save = async (ending, type, make) => {
    setOpen(false);
    try {
      download(name + ending, await make(text, readings), type);
    } catch (error) {
      setProblem(error);
    }
  };
  const key = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Escape") return;
    setOpen(false);
    box.current?.querySelector("button")?.focus();
  };
  return html`
    <span class="menu" ref=${box} onKeyDown=${key}>
      <button
        class="plain"
        disabled=${!readings.length}
        aria-expanded=${open ? "true" : "false"}
        onClick=${() => setOpen(!open)}
      >
        Download
      </button>
      ${
        open &&
        html`
          <div role="group" aria-label="Download as">
            ${KINDS.map(
              ([label, ...kind]) =>
                html`<button key=${label} onClick=${() => save(...kind)}>${label}</button>`,
            )}
          </div>
        `
      }
      <${Problem} error=${problem} onClose=${() => setProblem(null)} />
    </span>
  `;
}

/**
 * Hands the user a file.
 * @param {string} name
 * @param {Blob | string} content
 * @param {string} type
 */
export function download(name, content, type = "text/plain") {
  const url = URL.createObjectURL(
    content instanceof Blob ? content : new Blob([content], { type }),
  );
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
