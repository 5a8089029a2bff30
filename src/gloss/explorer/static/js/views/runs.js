// Runs: what training wrote down, live while it goes on.
import { html, useEffect, useMemo, useState } from "../../vendor/preact-htm.js";
import { run, runs } from "../api.js";
import { isAbort } from "../connection.js";
import { count, fixed, percent } from "../numbers.js";
import { Chart } from "../parts/chart.js";
import { Problem } from "../parts/notice.js";
import { formatHash, setParams } from "../route.js";

const LOOK_AGAIN_MS = 3000;
const SAMPLES_SHOWN = 6;

/** @typedef {Record<string, any>} Row */
/** @typedef {{id: string, metrics: Row[], samples: Row[], results: Row | null}} Detail */

/**
 * @typedef {object} ChartOf
 * @property {string} [stage]
 * @property {string} name
 * @property {string} meaning
 * @property {[string, string][]} keys what is drawn, and its name
 */

/** @type {{title: string, charts: ChartOf[]}[]} */
const STAGES = [
  {
    title: "Joint RL",
    charts: [
      {
        name: "FVE",
        meaning: "1 is perfect, 0 guesses the mean",
        keys: [
          ["fve_sampled", "sampled, batch"],
          ["fve_heldout", "greedy, held out"],
        ],
      },
      { name: "Reward", meaning: "of the batch", keys: [["reward_mean", "mean"]] },
      { name: "KL", meaning: "to the AV's start, nats per token", keys: [["kl", "KL"]] },
      {
        name: "Length",
        meaning: "tokens per explanation",
        keys: [["explanation_tokens", "tokens"]],
      },
      {
        name: "Failures",
        meaning: "share without an explanation",
        keys: [["failure_rate", "failures"]],
      },
      {
        name: "Gradient norms",
        meaning: "before clipping",
        keys: [
          ["grad_norm_av", "AV"],
          ["grad_norm_ar", "AR"],
        ],
      },
    ],
  },
  {
    title: "SFT",
    charts: [
      {
        stage: "av_sft",
        name: "AV loss",
        meaning: "nats per token",
        keys: [
          ["loss", "training"],
          ["loss_heldout", "held out"],
        ],
      },
      {
        stage: "ar_sft",
        name: "AR on labels",
        meaning: "FVE",
        keys: [
          ["fve_train", "batch"],
          ["fve_heldout", "held out"],
        ],
      },
    ],
  },
];

/** @param {{params: Record<string, string>}} props */
export default function RunsView({ params }) {
  const [known, setKnown] = useState(/** @type {import("../types.js").RunEntry[] | null} */ (null));
  const [detail, setDetail] = useState(
    /** @type {{id: string, metrics: Row[], samples: Row[], results: Row | null} | null} */ (null),
  );
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const id = params.run ?? known?.[0]?.id;
  useEffect(() => repeated(async (signal) => setKnown(await runs(signal)), setProblem), []);
  useEffect(() => {
    if (id === undefined) return undefined;
    let before = /** @type {any} */ (null);
    return repeated(async (signal) => {
      const next = await run(id, signal);
      if (JSON.stringify(next) !== before) setDetail(next);
      before = JSON.stringify(next);
    }, setProblem);
  }, [id]);
  return html`
    <h1>Runs</h1>
    <p class="lead">
      Training curves, samples over steps and evaluations of run folders; renewed every few seconds
      while a run goes on.
    </p>
    <${Problem} error=${problem} onClose=${() => setProblem(null)} />
    ${
      known &&
      !known.length &&
      html`
        <p class="empty section">
          No run folders are shown. Start the page with <code>gloss serve --open --runs DIR</code>, where
          DIR holds runs.
        </p>
      `
    }
    ${
      known &&
      known.length > 0 &&
      html`
        <div class="runs">
          <nav aria-label="Runs">
            <ul class="run-list">
              ${known.map(
                (one) => html`
                  <li key=${one.id}>
                    <a
                      href=${formatHash("runs", { ...params, run: one.id })}
                      aria-current=${one.id === id ? "true" : undefined}
                    >
                      <span>${one.id}</span>
                      <span class="aside">
                        ${one.fve === null ? one.state : `FVE ${fixed(one.fve)}`}
                      </span>
                    </a>
                  </li>
                `,
              )}
            </ul>
          </nav>
          ${
            detail && detail.id === id
              ? html`<${Run} key=${id} detail=${detail} params=${params} />`
              : html`<p class="lead" role="status">Reading the run…</p>`
          }
        </div>
      `
    }
  `;
}

/**
 * Does something now and every few seconds, while the page is looked at.
 * @param {(signal: AbortSignal) => Promise<void>} work
 * @param {(error: unknown) => void} onProblem
 */
function repeated(work, onProblem) {
  const stop = new AbortController();
  let timer = 0;
  const again = async () => {
    try {
      if (!document.hidden) await work(stop.signal);
    } catch (error) {
      if (isAbort(error)) return;
      onProblem(error);
    }
    if (!stop.signal.aborted) timer = setTimeout(again, LOOK_AGAIN_MS);
  };
  again();
  return () => {
    clearTimeout(timer);
    stop.abort();
  };
}

/** @param {{detail: Detail, params: Record<string, string>}} props */
function Run({ detail, params }) {
  const { metrics, results } = detail;
  const samples = useMemo(
    () => detail.samples.filter((row) => (row.stage ?? "joint") === "joint"),
    [detail],
  );
  const drawn = useMemo(
    () =>
      STAGES.map(({ title, charts }) => {
        const of = (/** @type {string} */ stage) =>
          metrics.filter((row) => (row.stage ?? "joint") === stage);
        return {
          title,
          charts: charts
            .map((chart) => ({
              ...chart,
              series: chart.keys
                .map(([key, name]) => ({ name, points: pointsOf(of(chart.stage ?? "joint"), key) }))
                .filter((one) => one.points.length),
            }))
            .filter((chart) => chart.series.length),
        };
      }).filter((stage) => stage.charts.length),
    [metrics],
  );
  return html`
    <div>
      <h2>${detail.id}</h2>
      ${results && html`<${Results} results=${results} />`}
      ${
        !metrics.length &&
        !results &&
        html`<p class="empty">This run has written no metrics yet.</p>`
      }
      ${drawn.map(
        ({ title, charts }) => html`
          <section class="section" key=${title} aria-label=${title}>
            <h2>${title}</h2>
            <div class="grid3">
              ${charts.map(
                (chart) => html`
                  <${Chart}
                    key=${chart.name}
                    name=${chart.name}
                    meaning=${chart.meaning}
                    series=${chart.series}
                  />
                `,
              )}
            </div>
          </section>
        `,
      )}
      ${samples.length > 0 && html`<${Samples} samples=${samples} params=${params} />`}
    </div>
  `;
}

/** @param {Row[]} rows @param {string} key @returns {[number, number][]} */
function pointsOf(rows, key) {
  return rows.filter((row) => typeof row[key] === "number").map((row) => [row.step, row[key]]);
}

/** @param {{results: Row}} props */
function Results({ results }) {
  const fve = results.fve ?? {},
    controls = results.controls ?? {};
  const interval = Array.isArray(fve.rl_ci95)
    ? ` (95\u00a0%: ${fixed(fve.rl_ci95[0], 3)} to ${fixed(fve.rl_ci95[1], 3)})`
    : "";
  const rows = [
    [
      "FVE, greedy, after RL",
      fixed(fve.rl, 3) + interval,
      "activation to words and back, held out; 0 guesses the mean",
    ],
    ["FVE, sampled", fixed(fve.rl_sampled, 3), "words drawn at temperature 1"],
    ["FVE before RL, greedy", fixed(fve.sft, 3), "after SFT"],
    ["AR on labels", fixed(fve.ar_on_labels, 3), "from the labeller's own text"],
    ...Object.entries(controls).map(([name, value]) => [
      `Control: ${name.replaceAll("_", " ")}`,
      fixed(/** @type {number} */ (value), 3),
      "FVE of what knows nothing of the activation",
    ]),
    ["Extraction failures", percent(results.extraction_failure_rate), "explanations without text"],
    ["Held-out activations", count(results.n_heldout), "what these numbers rest on"],
  ];
  const claims = Object.entries(results.claims ?? {}).filter(
    ([, claim]) => /** @type {any} */ (claim).n_claims > 0,
  );
  return html`
    <table class="results">
      <thead>
        <tr>
          <th scope="col">Evaluation</th>
          <th scope="col" class="num">value</th>
          <th scope="col">what it means</th>
        </tr>
      </thead>
      <tbody>
        ${rows
          .filter(([, value]) => value !== "—")
          .map(
            ([name, value, meaning]) => html`
              <tr key=${name}>
                <th scope="row">${name}</th>
                <td class="num">${value}</td>
                <td class="aside">${meaning}</td>
              </tr>
            `,
          )}
      </tbody>
    </table>
    ${
      claims.length > 0 &&
      html`
        <details class="section">
          <summary>Claims against known truth, by kind</summary>
          <table>
            <thead>
              <tr>
                <th scope="col">kind</th>
                <th scope="col" class="num">right</th>
                <th scope="col" class="num">chance</th>
                <th scope="col" class="num">best reader</th>
                <th scope="col" class="num">claims</th>
              </tr>
            </thead>
            <tbody>
              ${claims.map(
                ([kind, claim]) => html`
                  <tr key=${kind}>
                    <th scope="row">${kind}</th>
                    <td class="num">${percent(/** @type {any} */ (claim).precision)}</td>
                    <td class="num">${percent(/** @type {any} */ (claim).chance)}</td>
                    <td class="num">${percent(/** @type {any} */ (claim).best_reader)}</td>
                    <td class="num">${count(/** @type {any} */ (claim).n_claims)}</td>
                  </tr>
                `,
              )}
            </tbody>
          </table>
        </details>
      `
    }
  `;
}

/** @param {{samples: Row[], params: Record<string, string>}} props */
function Samples({ samples, params }) {
  const steps = useMemo(
    () =>
      [...new Set(samples.map((row) => /** @type {number} */ (row.step)))].sort((a, b) => a - b),
    [samples],
  );
  const index =
    params.step === undefined
      ? steps.length - 1
      : Math.max(
          0,
          steps.findLastIndex((step) => step <= Number(params.step)),
        );
  const shown = samples.filter((row) => row.step === steps[index]).slice(0, SAMPLES_SHOWN);
  return html`
    <section class="section" aria-label="Samples over steps">
      <div class="bar">
        <h2>Samples</h2>
        <label>
          step${" "}
          <input
            type="range"
            min="0"
            max=${steps.length - 1}
            value=${index}
            aria-valuetext=${`step ${steps[index]}`}
            onInput=${(/** @type {any} */ e) =>
              setParams({
                step: Number(e.target.value) === steps.length - 1 ? null : steps[e.target.value],
              })}
          />
          <output>${steps[index]}</output>
        </label>
      </div>
      <table class="samples">
        <thead>
          <tr>
            <th scope="col">text up to the token</th>
            <th scope="col">explanation</th>
            <th scope="col" class="num">FVE</th>
          </tr>
        </thead>
        <tbody>
          ${shown.map(
            (row, i) => html`
              <tr key=${i}>
                <td class="text small" dir="auto">${row.text_tail}</td>
                <td class="text small" dir="auto">
                  ${row.failed ? "(extraction failed) " : ""}
                  ${row.explanation}
                </td>
                <td class="num">${fixed(row.fve)}</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    </section>
  `;
}
