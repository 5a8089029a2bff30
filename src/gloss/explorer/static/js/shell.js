// The frame of every view: name, views, NLA, theme.
import { html, useEffect, useState } from "../vendor/preact-htm.js";
import { nlas, loadNlas } from "./api.js";
import { ConnectionNotice, Problem } from "./parts/notice.js";
import { formatHash, setParams, useRoute } from "./route.js";
import { useStore } from "./store.js";

const VIEWS = /** @type {const} */ ([
  ["read", "Read"],
  ["transcript", "Transcript"],
  ["steer", "Steer"],
  ["compare", "Compare"],
  ["vectors", "Vectors"],
  ["runs", "Runs"],
]);
const SHARED_PARAMS = ["nla", "t", "chat"];

/** @type {Record<string, () => Promise<Record<string, any>>>} */
const MODULES = {
  read: () => import("./views/read.js"),
  transcript: () => import("./views/transcript.js"),
  steer: () => import("./views/steer.js"),
  compare: () => import("./views/compare.js"),
  vectors: () => import("./views/vectors.js"),
  runs: () => import("./views/runs.js"),
};

/** The whole page. */
export function Shell() {
  const { view, params } = useRoute();
  const known = useStore(nlas);
  const [loaded, setLoaded] = useState(/** @type {{view: string, component: any} | null} */ (null));
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const name = view in MODULES ? view : "read";

  useEffect(() => {
    loadNlas().catch(setProblem);
  }, []);
  useEffect(() => {
    let here = true;
    MODULES[name]().then(
      (module) => here && setLoaded({ view: name, component: module.default }),
      setProblem,
    );
    document.title = `${VIEWS.find(([key]) => key === name)?.[1]} · Gloss`;
    return () => {
      here = false;
    };
  }, [name]);

  const named = known?.find((one) => one.name === params.nla) ?? null;
  const absent = Boolean(known && params.nla && !named);
  const nla = absent ? null : (named ?? known?.[0] ?? null);
  useEffect(() => {
    if (nla && !params.nla && (params.t || params.chat)) setParams({ nla: nla.name });
  }, [nla, params.nla, params.t, params.chat]);
  const ready = loaded?.view === name && (nla || name === "runs") && known;
  return html`
    <${Top} view=${name} params=${params} known=${known} nla=${nla} />
    <main id="main" tabindex="-1">
      <${ConnectionNotice} />
      <${Problem} error=${problem} onClose=${() => setProblem(null)} />
      ${
        ready
          ? html`
            <${loaded.component} key=${`${name} ${nla?.name ?? ""}`} nla=${nla} params=${params} />
          `
          : absent && name !== "runs"
            ? html`<${Absent} name=${params.nla} known=${known} />`
            : known && !nla && name !== "runs"
              ? html`
              <p class="lead">
                No NLA is loaded. Start the server with --nla, or look at <a href="#/runs">runs</a>.
              </p>
            `
              : html`<p class="lead" role="status">Loading…</p>`
      }
    </main>
  `;
}

/**
 * A link to an NLA that is not loaded: another one is opened only by who asks for it.
 * @param {{name: string, known: import("./types.js").NlaInfo[]}} props
 */
function Absent({ name, known }) {
  return html`
    <${Problem} error=${`This link is about the NLA ${name}, which this server does not hold.`} />
    <p class="bar">
      Open it with another one:
      ${known.map(
        (one) => html`
          <button key=${one.name} onClick=${() => setParams({ nla: one.name })}>${one.name}</button>
        `,
      )}
    </p>
  `;
}

/**
 * @param {object} props
 * @param {string} props.view
 * @param {Record<string, string>} props.params
 * @param {import("./types.js").NlaInfo[] | null} props.known
 * @param {import("./types.js").NlaInfo | null} props.nla
 */
function Top({ view, params, known, nla }) {
  const shared = Object.fromEntries(SHARED_PARAMS.map((key) => [key, params[key]]));
  return html`
    <header class="top">
      <div class="top-row">
        <a class="wordmark" href="#/read">Gloss</a>
        <nav aria-label="Views">
          <ul class="views">
            ${VIEWS.map(
              ([key, label]) => html`
                <li key=${key}>
                  <a
                    href=${formatHash(key, shared)}
                    aria-current=${key === view ? "page" : undefined}
                  >
                    ${label}
                  </a>
                </li>
              `,
            )}
          </ul>
        </nav>
        <div class="top-right">
          ${
            known &&
            known.length > 1 &&
            html`
              <label class="field">
                NLA${" "}
                <select
                  value=${nla?.name}
                  onChange=${(/** @type {any} */ e) => setParams({ nla: e.target.value })}
                >
                  ${known.map(
                    (one) => html`<option key=${one.name} value=${one.name}>${one.name}</option>`,
                  )}
                </select>
              </label>
            `
          }
          <${ThemeSwitch} />
        </div>
      </div>
    </header>
  `;
}

function ThemeSwitch() {
  const system = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const [theme, setTheme] = useState(document.documentElement.dataset.theme ?? system());
  useEffect(() => {
    const media = matchMedia("(prefers-color-scheme: dark)");
    const follow = () => {
      if (!document.documentElement.dataset.theme) setTheme(system());
    };
    media.addEventListener("change", follow);
    return () => media.removeEventListener("change", follow);
  }, []);
  const other = theme === "dark" ? "light" : "dark";
  const change = () => {
    document.documentElement.dataset.theme = other;
    setTheme(other);
    dispatchEvent(new Event("gloss-theme"));
    try {
      localStorage.setItem("gloss-theme", other);
    } catch {
      // Storage may be forbidden; the choice then holds until the page is left.
    }
  };
  return html`
    <button class="plain" onClick=${change}>
      ${other === "dark" ? "Dark" : "Light"}
      <span class="sr-only"> theme</span>
    </button>
  `;
}
