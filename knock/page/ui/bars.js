// The next character: its distribution before and after each filter, side by side. A click on a row writes it.

import { announce, byId, element } from "./dom.js";
import { bitsOf, label, percent, spoken } from "./words.js";

const ROWS = 10;

const HEADINGS = {
  model: () => ["model", "what the model expects"],
  bias: () => ["bias", "after the bias"],
  repetition: () => ["repeats", "after the penalty for repetition"],
  top_n_sigma: ({ top_n_sigma: n }) => [`top-n-sigma ${n}`, "only logits near the highest"],
  temperature: ({ temperature, target_entropy: target }) =>
    target === undefined
      ? temperature === 0
        ? ["greedy", "always the most likely character"]
        : [`temperature ${temperature}`, temperature < 1 ? "likely ones become likelier" : "rare ones become likelier"]
      : [`entropy ${target}`, "at the temperature that brings the entropy to this, in bits"],
  top_k: ({ top_k: k }) => [`top-k ${k}`, `only the ${k} most likely`],
  typical_p: ({ typical_p: p }) => [`typical-p ${p}`, "only those of typical surprise"],
  top_p: ({ top_p: p }) => [`top-p ${p}`, `the most likely, up to ${percent(p)} together`],
  min_p: ({ min_p: p }) => [`min-p ${p}`, `at least ${percent(p)} as likely as the first`],
};

/** Shows the stages of drawing a character, as a table whose rows are buttons. */
export class Bars {
  #model;
  #labels;
  #rows = [];
  #onPick;
  #onErase;

  /**
   * @param {Object} model
   * @param {string[]} labels of the tokens, [V]
   * @param {function(number): void} onPick called with the token of a row that was chosen
   * @param {function(): void} onErase called when the character before should go
   */
  constructor(model, labels, onPick, onErase) {
    this.#model = model;
    this.#labels = labels;
    this.#onPick = onPick;
    this.#onErase = onErase;
    byId("bars").addEventListener("keydown", (event) => this.#pressed(event));
  }

  /**
   * Show the stages of a draw.
   * @param {{name: string, probabilities: Float32Array}[]} stages
   * @param {Object} controls the settings of the stages
   * @param {Object} [more]
   * @param {number|null} [more.actual] token that stands at this place; null at the end of the text
   * @param {boolean} [more.canPick]
   */
  show(stages, controls, { actual = null, canPick = true } = {}) {
    const order = ranked(stages[0].probabilities);
    const tokens = order.slice(0, ROWS);
    if (actual !== null && !tokens.includes(actual)) tokens[tokens.length - 1] = actual;
    const table = byId("bars");
    table.style.setProperty("--stages", stages.length);
    table.dataset.stages = stages.length;
    this.#heading(stages, controls);
    while (this.#rows.length < tokens.length) this.#addRow();
    this.#rows.forEach((row, i) => {
      row.hidden = i >= tokens.length;
      if (!row.hidden) this.#fill(row, tokens[i], stages, { actual, canPick, rank: order.indexOf(tokens[i]) });
    });
    this.#footer(stages, tokens);
  }

  #heading(stages, controls) {
    byId("bars-heading").replaceChildren(
      element("span", {}),
      ...stages.map(({ name }) => {
        const [title, meaning] = HEADINGS[name](controls);
        return element("span", { title: meaning }, title);
      }),
    );
  }

  #addRow() {
    const row = element("button", { type: "button", class: "bar-row" });
    row.addEventListener("click", () => {
      if (row.getAttribute("aria-disabled") !== "true") this.#onPick(Number(row.dataset.token));
    });
    byId("bars-rows").append(row);
    this.#rows.push(row);
  }

  #fill(row, token, stages, { actual, canPick, rank }) {
    row.dataset.token = token;
    row.classList.toggle("actual", token === actual);
    row.setAttribute("aria-disabled", String(!canPick));
    const shares = stages.map(({ probabilities }) => probabilities[token]);
    const name = spoken(this.#model.vocab.chars[token]);
    row.setAttribute(
      "aria-label",
      `${name}: number ${rank + 1} of the model, ${percent(shares[0])}; ` +
        (shares.at(-1) > 0 ? `drawn with ${percent(shares.at(-1))}` : "never drawn") +
        (token === actual ? "; stands here" : "") + (canPick ? "; press Enter to write it" : ""),
    );
    row.replaceChildren(
      element("span", { class: "bar-name" }, this.#labels[token]),
      ...shares.map((share, i) => barCell(share, i > 0 && share === 0, i === stages.length - 1)),
    );
  }

  #footer(stages, tokens) {
    const cells = (name, values) => [element("span", {}, name), ...values.map((value) => element("span", {}, value))];
    const shown = new Set(tokens);
    const rest = stages.map(({ probabilities }) => probabilities.reduce((sum, p, i) => (shown.has(i) ? sum : sum + p), 0));
    const kept = stages.map(({ probabilities }) => probabilities.filter((p) => p > 0).length);
    byId("bars-footer").replaceChildren(
      ...cells("others", rest.map(percent)),
      ...cells("possible", kept.map(String)),
      ...cells("entropy", stages.map(({ probabilities }) => `${bitsOf(probabilities).toFixed(2)} bits`)),
    );
  }

  #pressed(event) {
    const row = this.#rows.indexOf(document.activeElement);
    const shown = this.#rows.filter((each) => !each.hidden);
    const to = { ArrowDown: row + 1, ArrowUp: row - 1, Home: 0, End: shown.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      shown[Math.max(0, Math.min(to, shown.length - 1))]?.focus();
    } else if (event.key === "Backspace") {
      event.preventDefault();
      this.#onErase();
    } else if ([...event.key].length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      const token = this.#model.vocab.chars.indexOf(event.key);
      if (token >= 0) this.#onPick(token);
      else this.#refuse(event.key);
    }
  }

  #refuse(char) {
    const message = `The model does not know ${label(char)}`;
    byId("next-facts").textContent = message;
    announce(message);
  }
}

/** A bar with its share; one that a filter removed is empty and says so. */
function barCell(share, isCut, isLast) {
  const cell = element("span", { class: isCut ? "bar-cell cut" : isLast ? "bar-cell last" : "bar-cell" });
  if (isCut) return cell.append("cut"), cell;
  const bar = element("i", {});
  bar.style.width = `${100 * share}%`;
  cell.append(bar, element("b", {}, percent(share)));
  return cell;
}

/** @returns {number[]} tokens by descending probability */
function ranked(probabilities) {
  return [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a] || a - b);
}
