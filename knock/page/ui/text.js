// The text on the page: every character can be looked at, and shows its surprise as a colour.

import { announce, bringIntoView, byId, element } from "./dom.js";
import { END_SIGN, label, spoken } from "./words.js";

const LEAST_MARK = 0.05; // of the longest bar below the text; shorter ones would be a line

/** Least surprise in bits of each colour; the same as in a terminal (knock/cli/ui/heat.py). */
export const HEAT_STEPS = [0, 1, 2, 4, 6, 8];

/** @returns {number} the number of the last step that starts at or below */
export function heatOf(surprise) {
  return Number.isNaN(surprise) ? 0 : HEAT_STEPS.findLastIndex((start) => surprise >= start);
}

/** Shows the letters of a session. */
export class TextView {
  #session;
  #view = byId("text");
  #spans = [];
  #start;
  #end;
  #marked = [];

  /** @param {Session} session */
  constructor(session) {
    this.#session = session;
    this.#start = element("span", { class: "edge", title: "what the model reads before the first character" }, "start");
    this.#end = element("span", { class: "edge next", title: "the next character", role: "button", tabIndex: -1 }, "▏");
    this.#end.setAttribute("aria-label", "the next character");
    session.addEventListener("text", () => this.#rebuild());
    session.addEventListener("growth", ({ detail }) => this.#grow(detail.from));
    session.addEventListener("selection", () => this.#showSelected());
    for (const kind of ["pointerover", "click", "focusin"]) {
      this.#view.addEventListener(kind, (event) => this.#pointed(event));
    }
    this.#view.addEventListener("keydown", (event) => this.#pressed(event));
    byId("coloured").addEventListener("change", () => this.#colour());
    this.#colour();
  }

  /** Show the surprise of letters that is known by now. */
  paint(from, to) {
    for (let at = from; at < to; at++) {
      const span = this.#spans[at];
      if (span !== undefined) span.dataset.heat = heatOf(this.#session.letters[at].surprise);
    }
  }

  /**
   * Show below the characters where a head looked.
   * @param {{at: number, share: number}[]} looked letters, -1 for the start, and their shares of the attention
   */
  mark(looked) {
    for (const span of this.#marked) {
      span.style.removeProperty("--look");
      span.classList.remove("looked-at");
    }
    const most = Math.max(...looked.map(({ share }) => share), 1e-9);
    this.#marked = [];
    for (const { at, share } of looked) {
      const span = at < 0 ? this.#start : this.#spans[at];
      if (span === undefined || share < LEAST_MARK * most) continue;
      span.style.setProperty("--look", share / most);
      span.classList.add("looked-at");
      this.#marked.push(span);
    }
  }

  #rebuild() {
    this.#spans = [];
    this.#marked = [];
    this.#start.hidden = !this.#session.fromStart;
    this.#view.replaceChildren(element("div", {}, this.#start, this.#end));
    this.#grow(0);
    this.#showSelected();
  }

  /** Add letters. Each line is a block, so that a browser need not lay out all of them again when the last one grows. */
  #grow(from) {
    const { letters } = this.#session;
    for (let at = from; at < letters.length; at++) {
      const { char, isGiven } = letters[at];
      const shown = char === undefined ? END_SIGN : char === " " ? " " : label(char);
      const span = element("span", { class: isGiven ? "given" : "", tabIndex: -1 }, shown);
      span.dataset.at = at;
      this.#spans[at] = span;
      this.#end.before(span);
      if (char === "\n") this.#view.append(element("div", {}, this.#end));
    }
    this.paint(from, letters.length);
    this.#view.classList.toggle("mixed", letters.some(({ isGiven }) => isGiven) && letters.some(({ isGiven }) => !isGiven));
    this.#end.hidden = this.#session.isOver;
    if (this.#session.isWriting) this.#view.scrollTop = this.#view.scrollHeight;
  }

  #showSelected() {
    const { selected, isWriting } = this.#session;
    this.#view.querySelector(".current")?.classList.remove("current");
    const stop = this.#view.querySelector("[tabindex='0']");
    if (stop) stop.tabIndex = -1;
    const span = this.#spans[selected] ?? this.#end;
    span.classList.add("current");
    span.tabIndex = 0;
    if (!isWriting) this.#keepVisible(span);
  }

  /** Scroll the text, not the page: a letter that is not to be seen moves to the middle. */
  #keepVisible(span) {
    const [inner, outer] = [span.getBoundingClientRect(), this.#view.getBoundingClientRect()];
    if (inner.top >= outer.top && inner.bottom <= outer.bottom) return;
    this.#view.scrollTop += (inner.top + inner.bottom - outer.top - outer.bottom) / 2;
  }

  #pointed(event) {
    if (event.type === "pointerover" && (event.pointerType === "touch" || this.#session.isWriting)) return;
    if (event.type === "pointerover" && this.#view.contains(document.activeElement)) return; // the keyboard leads
    const at = this.#place(event.target);
    if (at !== null && at !== this.#session.selected) this.#session.select(at);
  }

  #place(target) {
    if (target === this.#end) return this.#session.letters.length;
    return target.dataset?.at === undefined ? null : Number(target.dataset.at);
  }

  #pressed(event) {
    const { letters, selected, isOver } = this.#session;
    const last = letters.length - Number(isOver);
    const lineStart = letters.findLastIndex(({ char }, at) => at < selected && char === "\n") + 1;
    const breakAt = letters.findIndex(({ char }, at) => at >= selected && char === "\n");
    const lineEnd = breakAt < 0 ? last : breakAt;
    const to = {
      ArrowLeft: selected - 1, ArrowRight: selected + 1, Home: lineStart, End: lineEnd,
      ArrowUp: lineStart - 1, ArrowDown: breakAt < 0 ? last : lineEnd + 1,
    }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#session.select(to);
    const span = this.#spans[this.#session.selected] ?? this.#end;
    span.focus({ preventScroll: true });
    bringIntoView(span);
    this.#say();
  }

  #say() {
    const letter = this.#session.letters[this.#session.selected];
    if (letter === undefined) announce("the next character");
    else {
      const bits = Number.isNaN(letter.surprise) ? "" : `, surprise ${letter.surprise.toFixed(1)} bits`;
      announce(`${spoken(letter.char)}${bits}`);
    }
  }

  #colour() {
    this.#view.classList.toggle("coloured", byId("coloured").checked);
    byId("heat-key").hidden = !byId("coloured").checked;
  }
}
