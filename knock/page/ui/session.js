// The text on the page: what the model was given, what it wrote, and which character is looked at.

import { Sampler } from "../engine/index.js";
import { Slices } from "./slices.js";
import { bitsOf, probabilitiesOf } from "./words.js";

export const MOST_CHARACTERS = 10000;
const LAST_SEED = 2n ** 64n - 1n;
const MOST_UNDONE = 50;

/**
 * A character of the text.
 * @typedef {Object} Letter
 * @property {number} token
 * @property {string|undefined} char undefined for the end of an item
 * @property {boolean} isGiven whether it belongs to the prompt
 * @property {number} surprise in bits; NaN if unknown
 * @property {number} entropy of its prediction, in bits; NaN if unknown
 * @property {number|undefined} temperature that it was drawn at
 * @property {number|undefined} held entropy at that temperature, in bits, if the entropy rule chose it
 */

/**
 * What a text was, or is to be, drawn with.
 * @typedef {Object} Draw
 * @property {Object} controls settings of `knock.sampling`
 * @property {bigint} seed
 * @property {number} length most characters to write
 */

/**
 * Holds the text. Events: `text`, all of it is new; `growth`, letters were added from `detail.from` on; `selection`;
 * `controls`, what the next text will be drawn with; `activity`, writing begins or ends; `ending`, a text is complete.
 */
export class Session extends EventTarget {
  #model;
  #slices = new Slices();
  #past = [];

  /**
   * @param {Object} model
   * @param {Object} controls the first settings of `knock.sampling`
   */
  constructor(model, controls) {
    super();
    this.#model = model;
    this.prompt = "";
    this.controls = controls;
    this.seed = 1n;
    this.length = 300;
    this.pause = 0; // milliseconds after each character
    this.letters = [];
    this.drawn = null; // what the text was drawn with, a `Draw`; null if nothing was written after the prompt
    this.fromStart = true; // whether the token before a text was read before this one
    this.finishReason = null;
    this.unknown = []; // characters of the prompt that the model does not know
    this.selected = 0;
  }

  /** @type {boolean} whether text is being written */
  get isWriting() {
    return this.#slices.isBusy;
  }

  /** @type {boolean} whether the text is a whole item, which nothing can follow */
  get isOver() {
    return this.finishReason === "end";
  }

  /** @type {boolean} whether `undo` can restore anything */
  get hasPast() {
    return this.#past.length > 0;
  }

  /** @type {string} the text as the model reads it */
  get text() {
    return this.letters.map(({ char }) => char ?? "").join("");
  }

  /** @type {number[]} the tokens as the model reads them, [N] or, with a start, [N + 1] */
  get read() {
    const tokens = this.letters.filter(({ char }) => char !== undefined).map(({ token }) => token);
    return this.fromStart ? [this.#model.vocab.start, ...tokens] : tokens;
  }

  /** @type {Draw} what the written text was drawn with, which writes it again; without one, what the next will be */
  get draw() {
    const { controls, seed, length, drawn, finishReason } = this;
    const written = this.letters.filter(({ isGiven }) => !isGiven).length;
    if (drawn === null || !written) return { controls, seed, length };
    return finishReason === "stopped" ? { ...drawn, length: written } : drawn;
  }

  /** @returns {number} the place in `read` of the token after which letter `at` was predicted; -1 if it was the first */
  placeBefore(at) {
    return at - 1 + Number(this.fromStart);
  }

  /** Replace the prompt, and the text by it. */
  setPrompt(prompt) {
    this.#slices.cancel();
    this.#become(prompt);
    this.#showAll();
  }

  /** Show a text that was not written here, such as one to inspect: it begins after the start token. */
  showText(text) {
    this.#slices.cancel();
    this.#become(text);
    this.fromStart = true;
    this.#showAll(0);
  }

  /**
   * Write a text that continues the prompt.
   * @param {bigint} [seed]
   */
  write(seed = this.seed) {
    this.#remember();
    this.#slices.cancel();
    if (seed !== this.seed) this.setSeed(seed);
    this.#begin();
  }

  #begin() {
    const { controls, seed, length } = this;
    this.#become(this.prompt);
    this.drawn = { controls, seed, length };
    this.#emit("text");
    this.selected = this.letters.length;
    this.#slices.run(writing(this.#model, this), {
      pause: this.pause,
      onSlice: (written) => this.#extend(written),
      onDone: (finishReason) => {
        this.finishReason = finishReason;
        if (this.isOver) this.#extend([{ token: this.#model.vocab.boundary, surprise: NaN, entropy: NaN }]);
        this.#emit("ending");
        this.select(this.letters.length);
        this.#emit("activity");
      },
    });
    this.#emit("activity");
  }

  /** Write another text for the same prompt, with the next seed. */
  again() {
    this.write(this.seed === LAST_SEED ? 0n : this.seed + 1n);
  }

  /** Stop writing; the text so far stays. */
  stop() {
    if (!this.isWriting) return;
    this.#slices.cancel();
    this.finishReason = "stopped";
    this.#emit("selection");
    this.#emit("activity");
  }

  /** Make the text before a letter the prompt. */
  continueFrom(at) {
    this.#remember();
    this.#slices.cancel();
    this.#become(this.letters.slice(0, at).map(({ char }) => char ?? "").join(""));
    this.#showAll();
  }

  /** Put a token where the selected letter is, in place of it and all that follows; the result is the new prompt. */
  pick(token) {
    const char = this.#model.vocab.chars[token];
    if (this.isOver && this.selected === this.letters.length) return;
    this.continueFrom(this.selected);
    if (char === undefined) {
      this.#add({ token, surprise: NaN, entropy: NaN });
      this.finishReason = "end";
    } else {
      this.prompt += char;
      this.letters.push(this.#given(token));
      this.fromStart = this.#startsWithStart();
    }
    this.#showAll();
  }

  /** Remove the letter before the selected place, and all that follows; the result is the new prompt. */
  erase() {
    if (this.selected > 0) this.continueFrom(this.selected - 1);
  }

  /** Restore the text before the last change that was not typed. */
  undo() {
    const past = this.#past.pop();
    if (past !== undefined) this.restore(past);
  }

  /** @returns {Object} the text with its prompt and seed, for `restore` */
  snapshot() {
    const { prompt, letters, drawn, fromStart, unknown, selected, seed } = this;
    const finishReason = this.isWriting ? "stopped" : this.finishReason;
    return { prompt, letters, drawn, fromStart, finishReason, unknown, selected, seed };
  }

  /** Show a text of `snapshot` again. */
  restore(snapshot) {
    this.#slices.cancel();
    Object.assign(this, snapshot);
    for (const name of ["text", "controls", "selection", "activity"]) this.#emit(name);
  }

  /** Look at a letter, or at what comes next if `at` is the number of letters. */
  select(at) {
    this.selected = Math.max(0, Math.min(at, this.letters.length - Number(this.isOver)));
    this.#emit("selection");
  }

  /** Draw the next texts with other settings. */
  setControls(controls) {
    this.#set({ controls });
  }

  /** Draw the next texts with another seed, a whole number below 2**64. */
  setSeed(seed) {
    this.#set({ seed: seed < 0n ? 0n : seed > LAST_SEED ? LAST_SEED : seed });
  }

  /** Write at most so many characters. */
  setLength(length) {
    this.#set({ length: Math.max(1, Math.min(MOST_CHARACTERS, Math.round(length) || 300)) });
  }

  /** Wait after each character, 0 to write as fast as possible. */
  setPause(pause) {
    this.#set({ pause });
  }

  /** Change settings. A text that is being written begins again: all of it is drawn with the same settings. */
  #set(changed) {
    const isNew = Object.entries(changed).some(([name, value]) => !isSame(this[name], value));
    Object.assign(this, changed);
    this.#emit("controls");
    if (isNew && this.isWriting) this.#begin();
  }

  /** Add what a reading of the text found: the surprise of a letter, and the entropy of its prediction. */
  learn(at, surprise, entropy) {
    const letter = this.letters[at];
    if (letter !== undefined) Object.assign(letter, { surprise, entropy });
  }

  #showAll(selected = this.letters.length) {
    this.#emit("text");
    this.select(selected);
    this.#emit("activity");
  }

  #become(prompt) {
    const { vocab } = this.#model;
    this.prompt = prompt;
    this.unknown = [...new Set(vocab.respell(prompt))].filter((char) => vocab.tokenOf(char) === undefined);
    this.letters = vocab.encode(prompt, "skip").map((token) => this.#given(token));
    this.fromStart = this.#startsWithStart();
    this.drawn = null;
    this.finishReason = null;
  }

  /** As in generation: an empty prompt begins a line; in a model of items, every prompt an item. */
  #startsWithStart() {
    return this.letters.every(({ isGiven }) => !isGiven) || this.#model.vocab.boundary !== null;
  }

  #given(token) {
    return { token, char: this.#model.vocab.chars[token], isGiven: true, surprise: NaN, entropy: NaN };
  }

  #add(step) {
    const { token, entropy, surprise, temperature, held } = step;
    const char = this.#model.vocab.chars[token]; // undefined for the end of an item
    this.letters.push({ token, char, isGiven: false, surprise, entropy, temperature, held });
  }

  #extend(steps) {
    const from = this.letters.length;
    for (const step of steps) this.#add(step);
    this.selected = this.letters.length;
    this.#emit("growth", { from });
  }

  #remember() {
    if (!this.letters.length) return;
    this.#past.push(this.snapshot());
    if (this.#past.length > MOST_UNDONE) this.#past.shift();
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** @returns {boolean} whether two settings are equal: numbers, or objects of numbers in the same order */
function isSame(one, other) {
  return one === other || (typeof one === "object" && JSON.stringify(one) === JSON.stringify(other));
}

/**
 * Write a text: an iterator over its steps, as `Sampler.step` returns them, with the entropy that the rule held. At last,
 * why the text ended: "length" or "end".
 */
function* writing(model, { read, controls, seed, length }) {
  const state = model.state();
  const sampler = new Sampler(model, controls, { seed, context: read });
  let unread = read.slice(-model.config.receptive_field); // the next token depends on no earlier one
  for (let i = 0; i < length; i++) {
    let logits;
    for (const token of unread) logits = state.read(token);
    const step = sampler.step(logits);
    if (step.token === model.vocab.boundary) return "end";
    if (controls.target_entropy !== undefined) step.held = bitsOf(probabilitiesOf(logits, step.temperature));
    unread = [step.token];
    yield step;
  }
  return "length";
}
