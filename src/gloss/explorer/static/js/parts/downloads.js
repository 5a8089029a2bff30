// Results to keep or share.
import { html, useEffect, useRef, useState } from "../../vendor/preact-htm.js";
import { parquet } from "../api.js";
import { asJson, asPage } from "../export.js";
import { download } from "../files.js";
import { toNeuronpedia } from "../neuronpedia.js";
import { Problem } from "./notice.js";

/** @typedef {import("../types.js").Reading} Reading */

/**
 * @param {import("../reading.js").ReadText} text
 * @param {number[]} positions those to keep; all explained ones without any
 */
export function exportMenu(text, positions) {
  const all = [...text.readings.value.values()]
    .filter((one) => one.done)
    .sort((a, b) => /** @type {number} */ (a.position) - /** @type {number} */ (b.position));
  const chosen = all.filter((one) => positions.includes(/** @type {number} */ (one.position)));
  return html`<${DownloadMenu} text=${text} readings=${chosen.length ? chosen : all} />`;
}

/** @param {{text: import("../reading.js").ReadText, readings: Reading[]}} props */
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
  const kinds = [
    ["JSON", async () => download(`${name}.json`, asJson(text, readings), "application/json")],
    [
      "Web page that works offline",
      async () => download(`${name}.html`, asPage(text, readings), "text/html"),
    ],
    ["Parquet", async () => download(`${name}.parquet`, await parquet(text, readings))],
    [
      "Neuronpedia cache (JSON)",
      async () =>
        download(`${name}-neuronpedia.json`, toNeuronpedia(text, readings), "application/json"),
    ],
  ];
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
            ${kinds.map(
              ([label, make]) => html`
                <button
                  key=${label}
                  onClick=${async () => {
                    setOpen(false);
                    try {
                      await /** @type {any} */ (make)();
                    } catch (error) {
                      setProblem(error);
                    }
                  }}
                >
                  ${label}
                </button>
              `,
            )}
          </div>
        `
      }
      <${Problem} error=${problem} onClose=${() => setProblem(null)} />
    </span>
  `;
}
