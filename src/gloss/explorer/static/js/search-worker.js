// Looks for a regular expression outside the page's own thread, so that the page can stop it.
import { spansOf } from "./matching.js";

addEventListener("message", ({ data: { pattern, texts } }) => postMessage(spansOf(pattern, texts)));
