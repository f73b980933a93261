// Where the heads looked when they predicted a character: all heads at a glance, one of them in detail.

import { byId, element } from "./dom.js";
import { label, percent } from "./words.js";

const NEAREST = 32; // characters of the overview
const LISTED = 6; // characters of a list
export const KINDS = [
  { name: "weights", title: "attention", meaning: "in all" },
  { name: "reweight", title: "reweight alone", meaning: "by distance, whatever stands there" },
  { name: "content", title: "content alone", meaning: "by likeness of what stands there" },
];

/** @returns {string} the name of a head, counted from 1 */
export function headName(b, h) {
  return `block ${b + 1}, head ${h + 1}`;
}

/** Shows the attention of every head at one place. */
export class HeadsView {
  #model;
  #onMark;
  #rows = [];
  #chosen = null; // [b, h]; null is the mean of all heads
  #kind = "weights";
  #place = null; // what is shown: { letters, at, trace, hasStart }

  /**
   * @param {Object} model
   * @param {function({at: number, share: number}[]): void} onMark called with what the chosen head looked at
   */
  constructor(model, onMark) {
    this.#model = model;
    this.#onMark = onMark;
    const { config } = model;
    const kinds = new Set(config.blocks.flatMap(({ head_type: kind }) => (kind === "hybrid" ? ["reweight", "content"] : [])));
    for (const { name, title, meaning } of KINDS) {
      if (name !== "weights" && !kinds.has(name)) continue;
      const button = element("input", { type: "radio", name: "kind", value: name, checked: name === "weights" });
      button.addEventListener("change", () => this.#draw((this.#kind = name)));
      byId("kinds").append(element("label", { title: meaning }, button, ` ${title}`));
    }
    byId("kinds").hidden = !kinds.size;
    this.#addRow(null, "mean of all heads");
    config.blocks.forEach((_, b) => {
      for (let h = 0; h < config.n_heads; h++) this.#addRow([b, h], headName(b, h));
    });
    byId("matrix").addEventListener("keydown", (event) => this.#pressed(event));
    this.choose(null);
  }

  /**
   * Show the attention at a place.
   * @param {{letters: Letter[], at: number, hasStart: boolean, trace: Object[]}} place
   */
  show(place) {
    this.#place = place;
    this.#draw();
  }

  /** @type {number[]|null} the chosen head, [block, head] counted from 0; null is the mean of all */
  get chosen() {
    return this.#chosen;
  }

  /** Choose a head, [block, head] counted from 0, or null for the mean of all. */
  choose(head) {
    this.#chosen = head;
    for (const { row, of } of this.#rows) {
      const isChosen = String(of) === String(head);
      row.setAttribute("aria-checked", String(isChosen));
      row.tabIndex = isChosen ? 0 : -1;
    }
    this.#draw();
  }

  #addRow(of, name) {
    const gate = of === null ? undefined : this.#model.facts.gates[of[0]]?.[of[1]];
    const title = of === null ? "mean" : `${of[0] + 1}.${of[1] + 1}`;
    const strip = element("span", { class: "strip" });
    const row = element("div", { class: "head-row", role: "radio", title: name },
      element("span", { class: "head-name" }, title), strip,
      element("span", { class: "head-gate" }, gate === undefined ? "" : gate.toFixed(2)));
    row.setAttribute("aria-label", gate === undefined ? name : `${name}, gate ${gate.toFixed(2)}`);
    row.addEventListener("click", () => this.choose(of));
    byId("matrix").append(row);
    this.#rows.push({ row, strip, of });
  }

  #pressed(event) {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const at = this.#rows.findIndex(({ row }) => row.tabIndex === 0);
    const next = this.#rows[(at + step + this.#rows.length) % this.#rows.length];
    this.choose(next.of);
    next.row.focus();
  }

  #draw() {
    if (this.#place === null) return;
    const { letters, at, trace, hasStart } = this.#place;
    const width = Math.min(NEAREST, Math.max(...trace.flat().map(({ weights }) => weights.length)));
    this.#drawColumns(letters, at, width, hasStart);
    for (const { strip, of } of this.#rows) drawStrip(strip, this.#weights(of), width);
    const weights = this.#weights(this.#chosen);
    const shares = weights === null ? [] : Array.from(weights);
    const looked = shares.map((share, j) => ({ at: at - 1 - j, share }));
    this.#onMark(looked.filter((each) => each.at >= -Number(hasStart)));
    this.#describe(letters, at);
  }

  /** The characters above the overview; the last one read is on the right. */
  #drawColumns(letters, at, width, hasStart) {
    const nameAt = (place) => (place >= 0 ? label(letters[place].char) : hasStart && place === -1 ? "start" : "");
    byId("columns").replaceChildren(
      element("span", {}, "head"),
      element("span", { class: "strip" }, ...Array.from({ length: width }, (_, i) =>
        element("span", { class: at - width + i < 0 ? "edge" : "" }, nameAt(at - width + i)))),
      element("span", {}, this.#model.facts.gates.some((gates) => gates !== null) ? "gate" : ""),
    );
  }

  /** The attention of a head, or the mean over the heads, by distance; null if a head lacks this kind. */
  #weights(of) {
    const heads = of === null ? this.#place.trace.flat() : [this.#place.trace[of[0]][of[1]]];
    const known = heads.map((head) => head[this.#kind]).filter((weights) => weights !== null);
    if (!known.length) return null;
    const length = Math.max(...known.map((weights) => weights.length));
    return Float64Array.from({ length }, (_, j) => known.reduce((sum, weights) => sum + (weights[j] ?? 0), 0) / known.length);
  }

  /** List what the chosen head looked at most, for each kind apart. */
  #describe(letters, at) {
    const kept = this.#kind;
    const name = this.#chosen === null ? "The mean of all heads" : sentence(headName(...this.#chosen));
    const lists = KINDS.map(({ name: kind, title, meaning }) => {
      this.#kind = kind;
      return { kind, title, meaning, weights: this.#weights(this.#chosen) };
    });
    this.#kind = kept;
    const shown = lists.filter(({ kind, weights }) => weights !== null || kind === "weights");
    const isMixed = shown.length > 2;
    byId("looked").replaceChildren(
      element("h3", {}, `${name} looked at`),
      ...shown.filter(({ kind }) => kind === "weights" || isMixed).map(({ kind, title, meaning, weights }) =>
        element("div", { class: `looked ${kind}` },
          element("h4", {}, isMixed ? title : "", element("small", {}, isMixed ? ` ${meaning}` : "")),
          ...lookedRows(letters, at, weights))),
    );
  }
}

/** The characters that a head looked at most, as rows of a list with bars. */
function lookedRows(letters, at, weights) {
  const order = [...weights.keys()].filter((j) => weights[j] >= 0.005).sort((a, b) => weights[b] - weights[a] || a - b);
  return order.slice(0, LISTED).map((j) => {
    const place = at - 1 - j;
    const bar = element("i", {});
    bar.style.width = `${(100 * weights[j]) / weights[order[0]]}%`;
    return element("div", { class: "looked-row" },
      element("span", {}, place < 0 ? "start" : label(letters[place].char)),
      element("span", { title: `${j + 1} back` }, `−${j + 1}`),
      element("span", {}, percent(weights[j])),
      element("span", { class: "looked-bar" }, bar));
  });
}

/** Paint the attention of a head as one row of cells: the stronger, the darker. */
function drawStrip(strip, weights, width) {
  strip.classList.toggle("lacking", weights === null);
  const stops = Array.from({ length: width }, (_, i) => {
    const share = weights?.[width - 1 - i] ?? 0;
    const strength = Math.round(100 * Math.sqrt(share)); // so that small shares can be seen
    const colour = `color-mix(in srgb, var(--attention) ${strength}%, var(--panel))`;
    return `${colour} ${(100 * i) / width}% ${(100 * (i + 1)) / width}%`;
  });
  strip.style.backgroundImage = stops.length ? `linear-gradient(to right, ${stops.join(", ")})` : "none";
}

/** Begin with a capital letter. */
function sentence(words) {
  return words[0].toUpperCase() + words.slice(1);
}
