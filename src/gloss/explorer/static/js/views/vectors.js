// Vectors: activations from a file, put into words.
import { html, useEffect, useMemo, useRef, useState } from "../../vendor/preact-htm.js";
import { describe, parquetVectors } from "../api.js";
import { isAbort } from "../connection.js";
import { FileProblem, readVectors } from "../files.js";
import { counted } from "../numbers.js";
import { download } from "../parts/downloads.js";
import { ExplanationCard } from "../parts/explanation.js";
import { Problem, Progress } from "../parts/notice.js";
import { Identity } from "../parts/text-view.js";
import { blank } from "../reading.js";
import { setParams } from "../route.js";

/** @typedef {import("../types.js").Reading} Reading */

/** As the server has it. */
export const LARGEST_MB = 64;
const ROWS = 16;

/** @param {{nla: import("../types.js").NlaInfo, params: Record<string, string>}} props */
export default function VectorsView({ nla, params }) {
  const [found, setFound] = useState(/** @type {import("../files.js").Vectors[]} */ ([]));
  const [file, setFile] = useState("");
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const [over, setOver] = useState(false);
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));

  const take = async (/** @type {File | undefined} */ dropped) => {
    if (!dropped) return;
    setProblem(null);
    setFound([]);
    setFile(dropped.name);
    try {
      if (dropped.size > LARGEST_MB * 2 ** 20)
        throw new FileProblem(
          `${dropped.name} is larger than ${LARGEST_MB} MB.` +
            " Drop a file with the vectors you want to read.",
        );
      const vectors = /\.parquet$/i.test(dropped.name)
        ? [await parquetVectors(nla, dropped)]
        : readVectors(dropped.name, await dropped.arrayBuffer());
      const fitting = vectors.filter((one) => one.width === nla.d_model);
      if (!fitting.length) {
        const widths = [...new Set(vectors.map((one) => one.width))].join(", ");
        throw new FileProblem(
          `${dropped.name} holds vectors of width ${widths}; this NLA reads width ${nla.d_model}.`,
        );
      }
      setFound(fitting);
      if (!fitting.some((one) => one.name === params.tensor))
        setParams({ tensor: null, rows: null });
    } catch (error) {
      setProblem(error);
    }
  };
  const drop = (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    setOver(false);
    take(event.dataTransfer?.files[0]);
  };
  return html`
    <h1>Vectors</h1>
    <p class="lead">
      Activations of your own, raw and of width ${nla.d_model}: the AV says what they hold. Files
      are read on this machine and go to your own server only.
    </p>
    <${Identity} nla=${nla} />
    <div
      class=${`drop section ${over ? "over" : ""}`}
      onDragOver=${(/** @type {DragEvent} */ e) => {
        e.preventDefault();
        setOver(true);
      }}
      onDragLeave=${() => setOver(false)}
      onDrop=${drop}
    >
      <p>
        Drop a <code>.npy</code>, <code>.safetensors</code> or <code>.parquet</code> file of at
        most ${LARGEST_MB} MB here, or${" "}
        <button class="plain" onClick=${() => input.current?.click()}>choose one</button>.
      </p>
      <input
        type="file"
        class="sr-only"
        tabindex="-1"
        aria-label="File of vectors"
        accept=".npy,.safetensors,.parquet"
        ref=${input}
        onChange=${(/** @type {any} */ e) => {
          take(e.target.files[0]);
          e.target.value = "";
        }}
      />
    </div>
    <${Problem} error=${problem} onClose=${() => setProblem(null)} />
    ${
      found.length > 0 &&
      html`<${Loaded} nla=${nla} params=${params} file=${file} found=${found} />`
    }
  `;
}

/**
 * @param {object} props
 * @param {import("../types.js").NlaInfo} props.nla
 * @param {Record<string, string>} props.params
 * @param {string} props.file
 * @param {import("../files.js").Vectors[]} props.found
 */
function Loaded({ nla, params, file, found }) {
  const vectors = found.find((one) => one.name === params.tensor) ?? found[0];
  const first = Math.max(
    0,
    Math.min(vectors.rows - 1, Number((params.rows ?? "0").split("-")[0]) || 0),
  );
  const count = Math.max(1, Math.min(512, vectors.rows - first, Number(params.count) || ROWS));
  const [readings, setReadings] = useState(/** @type {Reading[]} */ ([]));
  const [stop, setStop] = useState(/** @type {AbortController | null} */ (null));
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const rows = useMemo(() => Array.from({ length: count }, (_, i) => first + i), [first, count]);
  useEffect(() => setReadings([]), [vectors, first, count]);
  useEffect(() => () => stop?.abort(), [stop]);

  const start = async () => {
    const own = new AbortController();
    const now = rows.map((row) => blank(row, ""));
    setStop(own);
    setProblem(null);
    try {
      const activations = rows.map(vectors.at);
      const bad = activations.findIndex(
        (vector) => !vector.every(Number.isFinite) || vector.every((value) => value === 0),
      );
      if (bad >= 0)
        throw new FileProblem(`Row ${rows[bad]} is zero or holds values that are not finite.`);
      await describe(
        nla,
        activations,
        (index, change) => {
          now[index] = { ...now[index], ...change };
          setReadings([...now]);
        },
        own.signal,
      );
    } catch (error) {
      if (!isAbort(error)) setProblem(error);
      setReadings(now.map((one) => ({ ...one, stopped: !one.done && one.text !== "" })));
    }
    setStop(null);
  };
  const done = readings.filter((one) => one.done).length;
  return html`
    <section class="section" aria-label="Rows">
      <div class="bar">
        <span>
          ${file}:${" "}
          ${
            found.length > 1
              ? html`
                <select
                  aria-label="Tensor"
                  value=${vectors.name}
                  onChange=${(/** @type {any} */ e) => setParams({ tensor: e.target.value })}
                >
                  ${found.map(
                    (one) => html`<option key=${one.name} value=${one.name}>${one.name}</option>`,
                  )}
                </select>
                ${" "}
              `
              : ""
          }
          ${counted(vectors.rows, "vector")} of width ${vectors.width}
        </span>
        <label>
          from row${" "}
          <input
            type="number"
            min="0"
            max=${vectors.rows - 1}
            value=${first}
            onChange=${(/** @type {any} */ e) => setParams({ rows: e.target.value })}
          />
        </label>
        <label>
          rows${" "}
          <input
            type="number"
            min="1"
            max="512"
            value=${count}
            onChange=${(/** @type {any} */ e) => setParams({ count: e.target.value })}
          />
        </label>
        ${
          stop
            ? html`
              <${Progress}
                done=${done}
                total=${rows.length}
                unit="vectors"
                onStop=${() => stop.abort()}
              />
            `
            : html`
              <button class="primary" onClick=${start}>
                Explain ${counted(rows.length, "vector")}
              </button>
            `
        }
        ${
          done > 0 &&
          !stop &&
          html`
            <button
              class="plain end"
              onClick=${() =>
                download(
                  `${file}.explained.json`,
                  JSON.stringify(readings, null, 1),
                  "application/json",
                )}
            >
              Download JSON
            </button>
          `
        }
      </div>
      <${Problem} error=${problem} onClose=${() => setProblem(null)} />
      <div class="section narrow" aria-live="polite">
        ${readings
          .filter((one) => one.text || one.done)
          .map(
            (one) => html`
              <${ExplanationCard} key=${one.position} reading=${one} unit="row" nla=${nla} />
            `,
          )}
      </div>
    </section>
  `;
}
