// A text as it is generated: what `knock generate --precision int16` writes.

import { Sampler } from "./sampler.js";
import { StopStrings } from "./stopping.js";

/**
 * @typedef {object} Character
 * @property {string} char
 * @property {number} token
 * @property {number} entropy - of the model's distribution, in bits.
 * @property {number} sampledEntropy - of the distribution drawn from, in bits.
 * @property {number} confidence - the model's probability of its most likely token.
 * @property {number} temperature - the temperature used, 0 for greedy.
 * @property {number} surprise - of the token under the model's distribution, in bits.
 */

/**
 * An iterator over the characters of a text, each a `Character`, as they are generated.
 *
 * Characters that may belong to a stop string are held back until that is decided. What a text must match (--match,
 * --pattern, lengths, banned strings, schemas of tables) is not supported.
 */
export class TextGenerator {
  /**
   * @param {Model} model
   * @param {object} options
   * @param {string} options.prompt - the text to continue. An empty one begins a new line. In a model of items, it is
   *   the beginning of an item.
   * @param {number|bigint} options.seed - decides every draw.
   * @param {number|bigint} options.index - the text's number among those of the seed.
   * @param {object} options.controls - as `checkedControls` takes them.
   * @param {number} options.maxChars - most characters to generate.
   * @param {string[]} options.stop - stop strings.
   * @param {"error"|"skip"|"replace"} options.unknown - how to handle unknown characters of the prompt.
   * @param {State} options.state - a state of the model to use again, which is reset; by default a new one.
   * @throws {RangeError} if an option is out of range, or a character of the prompt is unknown.
   */
  constructor(model, options = {}) {
    const { prompt = "", seed = 0, index = 0, controls = {}, maxChars = 300 } = options;
    const { stop = [], unknown = "error", state = model.state() } = options;
    if (!(Number.isInteger(maxChars) && maxChars >= 0)) {
      throw new RangeError(`maxChars must be a whole number of at least 0, got ${maxChars}`);
    }
    const { vocab } = model;
    const tokens = vocab.encode(prompt, unknown);
    if (!tokens.length || vocab.boundary !== null) tokens.unshift(vocab.start);
    this.model = model;
    this.sampler = new Sampler(model, controls, { seed, index, context: tokens });
    this.stops = new StopStrings(stop, (string) => vocab.asWritten(string));
    this.state = state;
    this.state.reset();
    this.unread = tokens.slice(-model.config.receptive_field); // the next token depends on no earlier one
    this.left = maxChars;
    this.held = []; // characters that may belong to a stop string
    this.ready = []; // characters to yield
    /** Why the text ended: "length", "stop" at a stop string, "end" where an item ends; null before. */
    this.finishReason = null;
    /** The stop string that ended the text, as given; null if none did. */
    this.stopString = null;
  }

  [Symbol.iterator]() {
    return this;
  }

  /** Return the next character: { value: Character, done }. */
  next() {
    while (!this.ready.length && this.finishReason === null) this.#advance();
    return this.ready.length ? { value: this.ready.shift(), done: false } : { value: undefined, done: true };
  }

  #advance() {
    if (this.left === 0) return this.#finish("length");
    let logits;
    for (const token of this.unread) logits = this.state.read(token);
    const step = this.sampler.step(logits);
    this.unread = [step.token];
    this.left--;
    if (step.token === this.model.vocab.boundary) return this.#finish("end");
    step.char = this.model.vocab.chars[step.token];
    this.held.push(step);
    const { found, cut, held } = this.stops.feed(step.char);
    if (found === null) {
      while (this.held.length > held) this.ready.push(this.held.shift());
      return undefined;
    }
    this.held.length -= cut;
    this.stopString = found;
    return this.#finish("stop");
  }

  #finish(reason) {
    this.finishReason = reason;
    this.ready.push(...this.held);
    this.held.length = 0;
  }
}
