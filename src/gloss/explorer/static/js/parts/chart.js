// One small chart of training curves.
import { html, useEffect, useRef, useState } from "../../vendor/preact-htm.js";
import { fixed } from "../numbers.js";
import { Problem } from "./notice.js";

/** @typedef {typeof import("uplot")} UPlot */
/** @typedef {import("../types.js").Series} Series */

/** @type {Promise<UPlot> | null} */
let library = null;

/** uPlot with its style: fetched with the first chart, since no other view needs it. */
function loadUPlot() {
  const at = (/** @type {string} */ name) => new URL(`../../vendor/${name}`, import.meta.url).href;
  const style = { rel: "stylesheet", href: at("uPlot.css") };
  library ??= Promise.all([
    added(Object.assign(document.createElement("link"), style)),
    added(Object.assign(document.createElement("script"), { src: at("uPlot.iife.min.js") })),
  ]).then(() => /** @type {any} */ (globalThis).uPlot);
  library.catch(() => {
    library = null;
  });
  return library;
}

/** @param {HTMLElement} element @returns {Promise<void>} once it is loaded */
function added(element) {
  return new Promise((resolve, reject) => {
    element.onload = () => resolve();
    element.onerror = () => reject(new Error("The library that draws charts could not be loaded."));
    document.head.append(element);
  });
}

/**
 * @param {object} props
 * @param {string} props.name
 * @param {string} props.meaning
 * @param {Series[]} props.series at most three; the first is drawn in the
 * accent colour
 */
export function Chart({ name, meaning, series }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    let plot = /** @type {InstanceType<UPlot> | null} */ (null),
      gone = false,
      made = 0;
    const draw = async () => {
      const turn = ++made;
      const uPlot = await loadUPlot();
      if (gone || turn !== made) return;
      plot?.destroy();
      plot = new uPlot(options(series, element.clientWidth), aligned(series), element);
    };
    const resized = new ResizeObserver(
      () =>
        plot &&
        element.clientWidth !== plot.width &&
        plot.setSize({ width: element.clientWidth, height: HEIGHT }),
    );
    resized.observe(element);
    draw().catch(setProblem);
    const media = matchMedia("(prefers-color-scheme: dark)");
    addEventListener("gloss-theme", draw);
    media.addEventListener("change", draw);
    return () => {
      gone = true;
      resized.disconnect();
      removeEventListener("gloss-theme", draw);
      media.removeEventListener("change", draw);
      plot?.destroy();
    };
  }, [series]);
  const at = (/** @type {[number, number] | undefined} */ point) =>
    `${fixed(point?.[1], 3)} at step ${point?.[0] ?? 0}`;
  const said = series
    .map(({ name, points }) => `${name}: ${at(points[0])}, ${at(points.at(-1))}`)
    .join("; ");
  return html`
    <figure class="chart">
      <figcaption><b>${name}</b> ${meaning}</figcaption>
      <${Problem} error=${problem} />
      <div ref=${box} role="img" aria-label=${`${name}. ${said}`}></div>
    </figure>
  `;
}

const HEIGHT = 190;

/** @param {Series[]} series @param {number} width */
function options(series, width) {
  const style = getComputedStyle(document.documentElement);
  const colour = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  const colours = [colour("--accent"), colour("--muted"), colour("--faint")];
  const axis = {
    stroke: colour("--muted"),
    font: "11px system-ui, sans-serif",
    grid: { stroke: colour("--rule"), width: 1 },
    ticks: { show: false },
  };
  return {
    width,
    height: HEIGHT,
    cursor: { y: false, points: { size: 6 } },
    legend: { live: true },
    padding: /** @type {[number, number, number, number]} */ ([8, 8, 0, 0]),
    scales: { x: { time: false } },
    axes: [
      { ...axis, grid: { show: false }, size: 26 },
      {
        ...axis,
        size: 46,
        values: (/** @type {unknown} */ _, /** @type {number[]} */ ticks) =>
          ticks.map((tick) => String(Number(tick.toPrecision(4))).replace("-", "−")),
      },
    ],
    series: [
      { label: "step", value: (/** @type {unknown} */ _, /** @type {any} */ step) => step ?? "—" },
      ...series.map((one, i) => ({
        label: one.name,
        stroke: colours[i % 3],
        width: i ? 1.25 : 1.75,
        spanGaps: true,
        dash: i === 2 ? [4, 3] : undefined,
        points: { show: one.points.length < 12, size: 5, fill: colours[i % 3] },
        value: (/** @type {unknown} */ _, /** @type {number | null} */ value) => fixed(value, 3),
      })),
    ],
  };
}

/** Series over the steps that any of them has. @param {Series[]} series */
function aligned(series) {
  const steps = [...new Set(series.flatMap((one) => one.points.map(([step]) => step)))].sort(
    (a, b) => a - b,
  );
  const columns = series.map((one) => {
    const at = new Map(one.points);
    return steps.map((step) => at.get(step) ?? null);
  });
  return /** @type {any} */ ([steps, ...columns]);
}
