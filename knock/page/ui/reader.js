// What the model says at a place of a text: the logits of the next token, and where the heads looked.

const KEPT = 512; // places whose results are remembered
const BEFORE = 32; // places before the one asked for that are read, too: the reader often moves to the left

/** Reads a sequence of tokens, as little of it as the model needs. */
export class Reader {
  #model;
  #read = [];
  #found = new Map(); // by place
  #state;
  #start = 0; // first token that the state has read
  #next = 0; // first token that it has not

  /** @param {Object} model */
  constructor(model) {
    this.#model = model;
    this.#state = model.state({ trace: true });
  }

  /**
   * Replace the tokens; results for the beginning that stays are kept.
   * @param {number[]} read the tokens, as the model reads them
   */
  set(read) {
    let same = 0;
    while (same < read.length && same < this.#read.length && read[same] === this.#read[same]) same++;
    for (const place of this.#found.keys()) if (place >= same) this.#found.delete(place);
    if (same < this.#next) this.#next = -1; // it cannot unread
    this.#read = read.slice();
  }

  /**
   * Read up to a place: an iterator with a step for each token that has to be read.
   * @param {number} place of the last token to read
   * @returns {Generator<undefined, {logits: Float32Array, trace: Object[]}>}
   */
  *find(place) {
    const field = this.#model.config.receptive_field;
    const isExact = (at) => this.#start === 0 || at - this.#start + 1 >= field;
    if (!this.#found.has(place)) {
      if (this.#next < 0 || this.#next > place || place - this.#next > field + BEFORE) {
        this.#state.reset();
        this.#start = this.#next = Math.max(0, place - field - BEFORE + 1);
      }
      while (this.#next <= place) {
        const at = this.#next++;
        const logits = this.#state.read(this.#read[at]).slice();
        if (isExact(at)) this.#keep(at, { logits, trace: this.#state.trace });
        if (this.#next <= place) yield;
      }
    }
    return this.#found.get(place);
  }

  #keep(place, result) {
    this.#found.set(place, result);
    if (this.#found.size > KEPT) this.#found.delete(this.#found.keys().next().value);
  }
}
