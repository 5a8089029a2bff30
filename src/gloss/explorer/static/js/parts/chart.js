// One small chart of training curves.
import { html, useEffect, useRef } from "../../vendor/preact-htm.js";
import { fixed } from "../numbers.js";

/**
 * @param {object} props
 * @param {string} props.name
 * @param {string} props.meaning
 * @param {import("../types.js").Series[]} props.series at most three; the first is drawn in the
 * accent colour
 */
export function Chart({ name, meaning, series }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    let plot = /** @type {any} */ (null),
      gone = false,
      made = 0;
    const draw = async () => {
      const turn = ++made;
      const { default: uPlot } = await import("../../vendor/uPlot.js");
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
    draw();
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
  const said = series
    .map(
      (one) =>
        `${one.name}: ${fixed(one.points[0]?.[1], 3)} at step ${one.points[0]?.[0] ?? 0}, ${fixed(one.points.at(-1)?.[1], 3)} at step ${one.points.at(-1)?.[0] ?? 0}`,
    )
    .join("; ");
  return html`
    <figure class="chart">
      <figcaption><b>${name}</b> ${meaning}</figcaption>
      <div ref=${box} role="img" aria-label=${`${name}. ${said}`}></div>
    </figure>
  `;
}

const HEIGHT = 190;

/** @param {import("../types.js").Series[]} series @param {number} width */
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
      { label: "step" },
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

/** Series over the steps that any of them has. @param {import("../types.js").Series[]} series */
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
