// Results as files: JSON, and one HTML page that works offline, without a script.
import { fetchFile } from "./connection.js";
import { counted, fixed, fveReading, norm, scaleStep, signed } from "./numbers.js";
import { claimLines, escapeHtml, visible } from "./text.js";

/** @typedef {import("./types.js").Reading} Reading */

/** @param {import("./types.js").Token[]} tokens @param {number | null} position */
function tokenOf(tokens, position) {
  const {
    token,
    token_id,
    role = null,
    section = null,
    message_index = null,
    fragment_index,
    fragment_count,
  } = tokens[/** @type {number} */ (position)];
  return {
    position,
    token,
    token_id,
    role,
    section,
    message_index,
    fragment_index,
    fragment_count,
  };
}

/** @param {import("./reading.js").ReadText} text @param {Reading[]} readings */
export function asJson(text, readings) {
  const { nla, source, tokens } = text;
  return JSON.stringify(
    {
      format: "gloss-explanations",
      version: 1,
      nla: { name: nla.name, target: nla.target, layer: nla.layer, d_model: nla.d_model },
      source,
      tokens: tokens.map((token) => token.token),
      explanations: readings.map(
        ({
          position,
          text: said,
          failed,
          fve,
          baseline,
          cosine,
          mse: direction_mse,
          norm: length,
          flags,
          lines,
          trust,
        }) => ({
          ...tokenOf(tokens, position),
          text: failed ? null : said,
          response: failed ? said : undefined,
          fve,
          baseline,
          cosine,
          direction_mse,
          norm: length,
          flags,
          lines,
          trust,
        }),
      ),
    },
    null,
    1,
  );
}

/**
 * The table that ``gloss explain --out`` writes, made by the server.
 * @param {import("./reading.js").ReadText} text
 * @param {Reading[]} readings
 */
export async function asParquet(text, readings) {
  return fetchFile("parquet", JSON.parse(asJson(text, readings)));
}

const STYLE = `
:root {
  color-scheme: light dark;
  --paper: #fbfaf8; --ink: #1f2328; --muted: #565d66; --rule: #dedbd4; --accent: #1f6f8b; --bad: #a3341f;
  --q0: #eaf3f7; --q1: #d7eaf2; --q2: #c3e1ed; --q3: #aed8e7; --q4: #9acee2; --q5: #85c5dd;
  --q6: #6fbcd8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16181b; --ink: #e9e7e1; --muted: #a7adb5; --rule: #31363c; --accent: #67b7d3; --bad: #f0907c;
    --q0: #1f272a; --q1: #223239; --q2: #243e48; --q3: #254a58; --q4: #255668; --q5: #236379;
    --q6: #20708b;
  }
}
body {
  margin: 0 auto; max-width: 46rem; padding: 3rem 1.25rem;
  background: var(--paper); color: var(--ink); font: 1rem/1.6 system-ui, sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
}
h1 { font-size: 1.5rem; line-height: 1.2; margin: 0; }
h2 { font: 1.1rem Charter, Georgia, serif; margin: 0 0 0.4rem; }
p { margin: 0.3rem 0; }
.lead, .n, th { color: var(--muted); font-size: 0.875rem; }
.text, .said { font-family: Charter, Georgia, serif; font-size: 1.1rem; white-space: pre-wrap; }
.text { line-height: 2; margin: 2rem 0; }
.text a, .text span {
  color: inherit; text-decoration: none; border-radius: 2px; padding: 0.14em 0;
}
.text .q-under, .text .failed { text-decoration: underline wavy var(--bad); }
.n.bad { color: var(--bad); }
.text a:hover, .text a:focus { outline: 2px solid var(--accent); }
${[0, 1, 2, 3, 4, 5, 6].map((step) => `.q${step} { background: var(--q${step}); }`).join("\n")}
article { border-top: 1px solid var(--rule); padding: 1rem 0; }
article:target { border-top: 2px solid var(--accent); }
table { width: 100%; border-collapse: collapse; }
td, th {
  text-align: left; font-weight: 400; vertical-align: baseline; padding: 0.1rem 0.8rem 0.1rem 0;
}
td.v, th.v { text-align: right; white-space: nowrap; }
`;

const WHAT_FVE_IS =
  "FVE is the share of the variance of directions that an explanation rebuilds: 1 is perfect, " +
  "guessing the mean gives 0 on average. A high FVE does not make a sentence true.";

const NOT_EXTRACTED =
  "No explanation could be extracted: this is what the AV wrote. It counts as orthogonal, never as" +
  " missing.";

/**
 * A page for sharing: every text escaped, no script, nothing loaded.
 * @param {import("./reading.js").ReadText} text
 * @param {Reading[]} readings
 */
export function asPage(text, readings) {
  const { nla } = text;
  const byPosition = new Map(readings.map((reading) => [reading.position, reading]));
  const tokens = text.drawn.map(({ token, positions }) => {
    const position = positions.findLast((p) => byPosition.has(p));
    const reading = position === undefined ? undefined : byPosition.get(position);
    const shown =
      escapeHtml(visible(token.token)) + (token.token.includes("\n") ? "<br>" : "<wbr>");
    const step = scaleStep(reading?.fve, [0, 1]);
    return reading
      ? `<a href="#p${position}"${classOf(reading, step)}>${shown}</a>`
      : `<span>${shown}</span>`;
  });
  const name = escapeHtml(nla.name);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Explanations by ${name}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>What activations say</h1>
<p class="lead">NLA ${name}, target ${escapeHtml(nla.target)}, output of block ${nla.layer}.
${WHAT_FVE_IS}</p>
<p class="n">${summaryOf(readings)}</p>
<div class="text" dir="auto">${tokens.join("")}</div>
${readings.map(articleOf).join("\n")}
</body>
</html>
`;
}

/** How many are shown, and how many of them are bad. @param {Reading[]} readings */
function summaryOf(readings) {
  const below = readings.filter((one) => !one.failed && one.fve !== null && one.fve < 0).length;
  const failed = readings.filter((one) => one.failed).length;
  return (
    `${counted(readings.length, "explanation")}, ${below} of them below an FVE of 0 and ${failed}` +
    " that could not be extracted (both underlined)."
  );
}

/**
 * Colour by FVE; what is below 0 or could not be extracted is marked, not left blank.
 * @param {Reading} reading
 * @param {string | undefined} step
 */
function classOf(reading, step) {
  if (reading.failed) return ' class="failed"';
  return step ? ` class="q${step === "under" ? "-under" : step}"` : "";
}

/** @param {Reading} reading */
function articleOf(reading) {
  const { position, lines, flags, failed } = reading;
  const head = `<tr><th></th><th class="v">adds</th><th class="v">lost without it</th></tr>`;
  const rows = lines
    ? lines.map((line) => [line.text, signed(line.adds), fixed(line.loses)])
    : claimLines(reading.text).map((line) => [line]);
  const numbers = [
    `token ${position}`,
    `FVE ${fixed(reading.fve)}`,
    `cosine ${fixed(reading.cosine)}`,
    `norm ${norm(reading.norm)}`,
    ...(flags.length ? [escapeHtml(flags.join(", "))] : []),
  ];
  return `<article id="p${position}">
<h2 dir="auto">${escapeHtml(visible(reading.token))}</h2>
<table>${lines ? head : ""}${rows.map(rowOf).join("")}</table>
<p class="n">${numbers.join(" · ")}</p>
<p class="n${failed ? " bad" : ""}">${escapeHtml(failed ? NOT_EXTRACTED : fveReading(reading.fve))}</p>
</article>`;
}

/** @param {string[]} cells what a line says, and perhaps its worth */
function rowOf([said, ...worth]) {
  const values = worth.map((value) => `<td class="v">${value}</td>`);
  return `<tr><td class="said" dir="auto">${escapeHtml(said)}</td>${values.join("")}</tr>`;
}
