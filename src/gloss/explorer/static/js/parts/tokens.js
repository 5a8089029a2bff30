// A text as its tokens: coloured by a quantity, selected by click, shift-click, drag and arrow
// keys.
import { Component, html, useEffect, useMemo, useRef, useState } from "../../vendor/preact-htm.js";
import { scaleStep } from "../numbers.js";
import { visible, visiblePieces } from "../text.js";

const PART = 128;

/**
 * @typedef {object} TokenProps
 * @property {import("../types.js").Drawn} drawn
 * @property {number} index
 * @property {string | undefined} step
 * @property {boolean} selected
 * @property {boolean} hit
 * @property {boolean} busy
 * @property {boolean} current
 * @property {string} label
 */

/**
 * One drawn token; renders again only when something of it changes. @extends
 * {Component<TokenProps>}
 */
class TokenView extends Component {
  /** @param {TokenProps} next */
  shouldComponentUpdate(next) {
    const now = /** @type {any} */ (this.props),
      then = /** @type {any} */ (next);
    return Object.keys(then).some((name) => then[name] !== now[name]);
  }

  /** @param {TokenProps} props */
  render({ drawn, index, step, selected, hit, busy, current, label }) {
    const { token } = drawn;
    const names = [
      "token",
      hit && "hit",
      busy && "busy",
      token.section && token.section !== "content" && "template",
    ];
    return html`
      <span
        class=${names.filter(Boolean).join(" ")}
        role="option"
        aria-selected=${selected ? "true" : "false"}
        aria-label=${label}
        data-index=${index}
        data-q=${step}
        tabindex=${current ? 0 : -1}
      >
        ${visiblePieces(token.token).map((piece, i) =>
          piece.mark ? html`<span class="ws" key=${i}>${piece.text}</span>` : piece.text,
        )}
      </span>
      <wbr />
    `;
  }
}

/**
 * @param {object} props
 * @param {import("../types.js").Drawn[]} props.drawn
 * @param {(position: number) => number | null | undefined} props.value what colours a token
 * @param {[number, number]} props.domain ends of the scale
 * @param {(value: number) => string} props.say the value in words, for labels
 * @param {Set<number>} props.selected positions
 * @param {Set<number>} [props.hits] positions
 * @param {Set<number>} [props.busy] positions that are being explained
 * @param {(positions: number[]) => void} props.onSelect
 * @param {string} props.label
 */
export function Tokens({ drawn, value, domain, say, selected, hits, busy, onSelect, label }) {
  const [current, setCurrent] = useState(0);
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const anchor = useRef(0);
  const dragging = useRef(false);
  const refocus = useRef(false);
  const cursor = Math.min(current, drawn.length - 1);

  useEffect(() => {
    if (!refocus.current) return;
    refocus.current = false;
    const element = at(box.current, cursor);
    element?.focus({ preventScroll: true });
    element?.scrollIntoView({ block: "nearest" });
  }, [cursor]);

  useEffect(() => {
    const stop = () => {
      dragging.current = false;
    };
    addEventListener("pointerup", stop);
    return () => removeEventListener("pointerup", stop);
  }, []);

  /** @param {number} from @param {number} to */
  const range = (from, to) =>
    drawn.slice(Math.min(from, to), Math.max(from, to) + 1).flatMap((item) => item.positions);

  /** @param {number} index @param {boolean} extend @param {boolean} toggle */
  const select = (index, extend, toggle) => {
    if (!extend) anchor.current = index;
    setCurrent(index);
    const own = drawn[index].positions;
    if (extend) onSelect(range(anchor.current, index));
    else if (toggle && own.every((p) => selected.has(p)))
      onSelect([...selected].filter((p) => !own.includes(p)));
    else onSelect(toggle ? [...selected, ...own] : own);
  };

  /** @param {PointerEvent} event */
  const down = (event) => {
    const index = indexOf(event.target);
    if (index === null || event.button !== 0) return;
    dragging.current = event.pointerType !== "touch";
    select(index, event.shiftKey, event.ctrlKey || event.metaKey);
  };

  /** @param {PointerEvent} event */
  const over = (event) => {
    const index = indexOf(event.target);
    if (!dragging.current || index === null || index === cursor) return;
    setCurrent(index);
    onSelect(range(anchor.current, index));
  };

  /** @param {KeyboardEvent} event */
  const key = (event) => {
    if (event.altKey || !drawn.length) return;
    if ((event.ctrlKey || event.metaKey) && event.key === "a") {
      event.preventDefault();
      onSelect(range(0, drawn.length - 1));
      return;
    }
    if (event.key === " " || event.key === "Enter") {
      event.preventDefault();
      select(cursor, event.shiftKey, event.ctrlKey || event.metaKey);
      return;
    }
    const next = neighbour(box.current, cursor, event.key, drawn.length);
    if (next === null) return;
    event.preventDefault();
    refocus.current = true;
    if (event.ctrlKey) setCurrent(next);
    else select(next, event.shiftKey, false);
  };

  const turns = useMemo(() => turnStarts(drawn), [drawn]);
  const states = drawn.map(({ positions }, index) => ({
    value: value(/** @type {number} */ (positions.at(-1))),
    marks: [
      positions.some((p) => selected.has(p)) && "s",
      hits && positions.some((p) => hits.has(p)) && "h",
      busy && positions.some((p) => busy.has(p)) && "b",
      index === cursor && "c",
    ]
      .filter(Boolean)
      .join(""),
  }));
  const parts = Array.from({ length: Math.ceil(states.length / PART) }, (_, i) =>
    states.slice(i * PART, (i + 1) * PART),
  );
  return html`
    <div
      class="tokens"
      dir="auto"
      role="listbox"
      aria-multiselectable="true"
      aria-label=${label}
      ref=${box}
      onPointerDown=${down}
      onPointerOver=${over}
      onKeyDown=${key}
    >
      ${parts.map(
        (part, i) => html`
          <${Part}
            key=${i}
            drawn=${drawn}
            turns=${turns}
            domain=${domain}
            say=${say}
            from=${i * PART}
            states=${part}
            state=${JSON.stringify(part)}
          />
        `,
      )}
    </div>
  `;
}

/**
 * What is drawn of a token; its marks are s selected, h hit, b busy, c current.
 * @typedef {{value: number | null | undefined, marks: string}} State
 */

/**
 * @typedef {object} PartProps
 * @property {import("../types.js").Drawn[]} drawn
 * @property {Map<number, string>} turns
 * @property {[number, number]} domain
 * @property {(value: number) => string} say
 * @property {number} from
 * @property {State[]} states
 * @property {string} state the states in one string, to compare
 */

/**
 * A stretch of tokens, so that a long text is not drawn again for one token. @extends
 * {Component<PartProps>}
 */
class Part extends Component {
  /** @param {PartProps} next */
  shouldComponentUpdate(next) {
    const now = /** @type {PartProps} */ (/** @type {unknown} */ (this.props));
    return (
      next.state !== now.state ||
      next.drawn !== now.drawn ||
      next.domain[0] !== now.domain[0] ||
      next.domain[1] !== now.domain[1]
    );
  }

  /** @param {PartProps} props */
  render({ drawn, turns, domain, say, from, states }) {
    return states.map(({ value, marks }, i) => {
      const item = drawn[from + i],
        role = turns.get(from + i);
      const said = value === null || value === undefined ? "" : `, ${say(value)}`;
      return html`
        ${role && html`<span class="turn" key=${`turn${i}`} role="presentation">${role}</span>`}
        <${TokenView}
          key=${i}
          drawn=${item}
          index=${from + i}
          step=${scaleStep(value, domain)}
          label=${`${visible(item.token.token)}, token ${item.positions.at(-1)}${said}`}
          selected=${marks.includes("s")}
          hit=${marks.includes("h")}
          busy=${marks.includes("b")}
          current=${marks.includes("c")}
        />
      `;
    });
  }
}

/** Where a chat's turns begin. @param {import("../types.js").Drawn[]} drawn */
function turnStarts(drawn) {
  /** @type {Map<number, string>} */
  const starts = new Map();
  let before = /** @type {number | null | undefined} */ (undefined);
  drawn.forEach(({ token }, index) => {
    if (token.role && token.message_index !== before) starts.set(index, token.role);
    before = token.message_index;
  });
  return starts;
}

/** @param {HTMLElement | null} box @param {number} index */
function at(box, index) {
  return /** @type {HTMLElement | null} */ (box?.querySelector(`[data-index="${index}"]`) ?? null);
}

/** @param {EventTarget | null} target */
function indexOf(target) {
  const element = target instanceof Element ? target.closest("[data-index]") : null;
  return element ? Number(/** @type {HTMLElement} */ (element).dataset.index) : null;
}

/**
 * The token that a key leads to: along the text, or to the nearest one of the line above or below.
 * @param {HTMLElement | null} box @param {number} index @param {string} key @param {number} count
 */
function neighbour(box, index, key, count) {
  const flipped = box !== null && getComputedStyle(box).direction === "rtl";
  if (key === (flipped ? "ArrowRight" : "ArrowLeft")) return Math.max(0, index - 1);
  if (key === (flipped ? "ArrowLeft" : "ArrowRight")) return Math.min(count - 1, index + 1);
  if (key === "Home") return 0;
  if (key === "End") return count - 1;
  if (key !== "ArrowUp" && key !== "ArrowDown") return null;
  const here = at(box, index)?.getClientRects()[0];
  if (!here) return index;
  const step = key === "ArrowUp" ? -1 : 1;
  let best = index,
    distance = Infinity,
    line = /** @type {number | null} */ (null);
  for (let i = index + step; i >= 0 && i < count; i += step) {
    const rect = at(box, i)?.getClientRects()[0];
    if (!rect || Math.abs(rect.top - here.top) < here.height / 2) continue;
    if (line !== null && Math.abs(rect.top - line) > here.height / 2) break;
    line = rect.top;
    if (Math.abs(rect.left - here.left) < distance)
      [best, distance] = [i, Math.abs(rect.left - here.left)];
  }
  return best;
}

/** @param {{name: string, low: string, high: string, under?: string}} props */
export function Legend({ name, low, high, under }) {
  return html`
    <div class="legend">
      <span class="scale">
        ${name}: ${low}
        <span class="steps" aria-hidden="true">
          ${[0, 1, 2, 3, 4, 5, 6].map((step) => html`<i data-q=${step} key=${step}></i>`)}
        </span>
        ${high}
      </span>
      ${
        under &&
        html`<span class="scale"><span class="under" aria-hidden="true"></span>${under}</span>`
      }
    </div>
  `;
}
