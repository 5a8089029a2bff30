// Calm, inline messages.
import { html, useState } from "../../vendor/preact-htm.js";
import { status, unlock } from "../connection.js";
import { useStore } from "../store.js";

/** @param {{kind?: "caution" | "problem" | "", children?: any}} props */
export function Notice({ kind = "", children }) {
  return html`
    <div class=${`notice ${kind}`} role=${kind === "problem" ? "alert" : "status"}>${children}</div>
  `;
}

/** What stands between the page and its server, while something does. */
export function ConnectionNotice() {
  const now = useStore(status);
  return html`
    <div aria-live="polite">
      ${
        now.kind === "lost" &&
        html`
          <${Notice} kind="caution">
            The server does not answer. What is shown stays; the page goes on by itself when the
            server is back.
          <//>
        `
      }
      ${
        now.kind === "busy" &&
        html`
          <${Notice}>The server is busy with other requests. Trying again in ${now.seconds} s.<//>
        `
      }
      ${now.kind === "locked" && html`<${Unlock} wrong=${now.wrong} />`}
    </div>
  `;
}

/** Asks for the secret of a server that others can reach. @param {{wrong: boolean}} props */
function Unlock({ wrong }) {
  const [given, setGiven] = useState("");
  const send = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (given) unlock(given);
  };
  return html`
    <form class="notice" onSubmit=${send}>
      <label class="field">
        ${wrong ? "That was not the server's secret." : "This server asks for its secret."}
        <input
          type="password"
          autocomplete="current-password"
          value=${given}
          onInput=${(/** @type {any} */ e) => setGiven(e.target.value)}
        />
      </label>
      <button class="primary" disabled=${!given}>Go on</button>
    </form>
  `;
}

/** @param {{error: unknown, onClose?: () => void}} props */
export function Problem({ error, onClose }) {
  if (!error) return null;
  const line = error instanceof Error ? error.message : String(error);
  return html`
    <${Notice} kind="problem">
      <span>${line}</span>
      ${onClose && html`<button class="plain" onClick=${onClose}>Close</button>`}
    <//>
  `;
}

/** @param {{done: number, total: number, unit: string, onStop?: () => void}} props */
export function Progress({ done, total, unit, onStop }) {
  return html`
    <div class="progress">
      <progress value=${done} max=${total} aria-label=${`${unit} done`}></progress>
      <span class="aside" role="status">${done} of ${total} ${unit}</span>
      ${onStop && html`<button onClick=${onStop}>Stop</button>`}
    </div>
  `;
}
