// Two texts as one, with what was taken out and what was put in.
import { html } from "../../vendor/preact-htm.js";
import { wordDiff } from "../text.js";

/** @param {{before: string, after: string}} props */
export function Diff({ before, after }) {
  return html`
    <p class="text" dir="auto" aria-label="The edit, word by word">
      ${wordDiff(before, after).map((part, i) =>
        part.kind === "added"
          ? html`<ins key=${i}>${part.text}</ins>`
          : part.kind === "removed"
            ? html`<del key=${i}>${part.text}</del>`
            : part.text,
      )}
    </p>
  `;
}
