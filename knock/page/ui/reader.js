// What the model says at a place of a text: the logits of the next token, and where the heads looked.

const KEPT = 2 ** 22; // numbers of attention that are remembered, some 16 megabytes for each kind
const BEFORE = 32; // places before the one asked for that are read, too: the reader often moves to the left

/** Reads a sequence of tokens, as little of it as the model needs. */
export class Reader {
  #model;
  #read = [];
  #found = new Map(); // by place
  #state;
  #places; // how many results are remembered
  #start = 0; // first token that the state has read
  #next = 0; // first token that it has not

  /** @param {Object} model */
  constructor(model) {
    this.#model = model;
    this.#state = model.state({ trace: true });
    const { blocks, n_heads: heads } = model.config;
    this.#places = Math.max(2 * BEFORE, Math.floor(KEPT / blocks.reduce((sum, { T }) => sum + T * heads, 0)));
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
        this.#state.isTraced = at > place - BEFORE; // a trace takes longer than all else
        const logits = this.#state.read(this.#read[at]).slice();
        if (isExact(at) && this.#state.isTraced) this.remember(at, { logits, trace: this.#state.trace });
        if (this.#next <= place) yield;
      }
    }
    return this.#found.get(place);
  }

  /** Remember what a reading from the beginning found at a place. */
  remember(place, result) {
    this.#found.set(place, result);
    if (this.#found.size > this.#places) this.#found.delete(this.#found.keys().next().value);
  }
}
