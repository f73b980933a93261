// The forward pass of one text, a token at a time, to the bits of knock/engine/portable/model.py.

import { WIDTH, byHalves, exp, gelu, round } from "./arithmetic.js";
import { traceOfBlock } from "./trace.js";

const float = Math.fround;
const EPSILON = float(1e-5);
const TINY = 2 ** -100;
const WEIGHT_CODES = 8191; // of attention
const ROOM = 4; // windows that the memory of a block holds before the last one moves to its beginning
const LARGEST_TABLE = 2 ** 21; // numbers

/** What a model has read of one text. */
export class State {
  /**
   * @param {Model} model
   * @param {boolean} isTraced - whether to keep the attention of the last token.
   */
  constructor(model, isTraced) {
    const { config } = model;
    this.model = model;
    this.isTraced = isTraced;
    /** Attention of the last token: by block and head, as `traceOfBlock` describes; null before the first. */
    this.trace = null;
    /** Logits after the last token, [V]; overwritten by the next. */
    this.logits = new Float32Array(config.vocab_size);
    this.isAbsolute = config.position === "absolute";
    this.window = Math.max(...config.blocks.map((block) => block.T));
    this.memories = model.blocks.map((block) => new Memory(block, config.n_emb));
    this.x = new Float32Array(config.n_emb);
    this.row = new Float64Array(config.n_emb); // codes
    this.hidden = new Float32Array(config.nodes);
    this.hiddenRow = new Float64Array(config.nodes);
    this.z = new Float32Array(this.window);
    this.weights = new Float64Array(this.window);
    this.partial = new Float32Array(WIDTH);
    this.projected = model.blocks.map((block) => new Float64Array(block.inputs.M));
    // In a relative model, what the first block makes of a token alone does not depend on the text.
    const size = config.vocab_size * model.blocks[0].inputs.M;
    this.table = this.isAbsolute || size > LARGEST_TABLE ? null : new Array(config.vocab_size).fill(null);
    this.reset();
  }

  /** Forget the text. */
  reset() {
    this.tokens = []; // in an absolute model, those in the window
    this.trace = null;
    this.#forget();
  }

  #forget() {
    this.position = 0;
    for (const memory of this.memories) memory.end = 0;
  }

  /**
   * Read a token.
   *
   * @param {number} token
   * @returns {Float32Array} the logits of the next token, [V]; overwritten by the next call.
   */
  read(token) {
    if (!(Number.isInteger(token) && token >= 0 && token < this.logits.length)) {
      throw new RangeError(`a token must be a whole number from 0 to ${this.logits.length - 1}, got ${token}`);
    }
    if (this.isAbsolute) {
      if (this.tokens.length === this.window) { // all slots shift: the window is computed again
        this.tokens.shift();
        this.#forget();
        for (const earlier of this.tokens) this.#step(earlier, false);
      }
      this.tokens.push(token);
    }
    this.#step(token, true);
    return this.logits;
  }

  /** Compute the blocks of the next token; without its logits, only what later tokens need. */
  #step(token, isLast) {
    const { model, x, memories } = this;
    const C = x.length;
    const { embed, pos, blocks } = model;
    const position = this.position++;
    for (let i = 0; i < C; i++) x[i] = embed[token * C + i];
    if (pos !== null) for (let i = 0; i < C; i++) x[i] += pos[position * C + i];
    if (this.isTraced && isLast) this.trace = [];
    for (let b = 0; b < blocks.length; b++) {
      const projected = b === 0 ? this.#firstProjection(token) : this.#project(blocks[b], this.projected[b]);
      memories[b].add(projected);
      if (!isLast && b === blocks.length - 1) return;
      this.#attend(blocks[b], projected, memories[b]);
      this.#feedForward(blocks[b]);
    }
    this.#normalize();
    const { sums, factor, bias } = model.output;
    model.output.multiply(this.row);
    for (let i = 0; i < this.logits.length; i++) this.logits[i] = bias[i] + float(float(sums[i]) * factor[i]);
  }

  /** Write the codes of the normalised x. */
  #normalize() {
    const { x, row, partial } = this;
    const C = x.length;
    partial.fill(0);
    for (let i = 0; i < C; i++) partial[i & 15] += x[i];
    const mean = float(byHalves(partial) / C);
    partial.fill(0);
    for (let i = 0; i < C; i++) {
      const deviation = float(x[i] - mean);
      row[i] = deviation;
      partial[i & 15] += float(deviation * deviation);
    }
    const variance = float(byHalves(partial) / C);
    const deviationScale = float(1 / float(Math.sqrt(float(variance + EPSILON))));
    const scale = float(deviationScale * this.model.normScale);
    for (let i = 0; i < C; i++) row[i] = round(float(row[i] * scale));
  }

  #firstProjection(token) {
    const block = this.model.blocks[0];
    if (this.table === null) return this.#project(block, this.projected[0]);
    return (this.table[token] ??= this.#project(block, new Float64Array(block.inputs.M)));
  }

  /** Return the codes of queries, keys and values, and the reweight logits, written into `out`, [M]. */
  #project({ inputs, reweight }, out) {
    this.#normalize();
    inputs.multiply(this.row);
    const { sums, factor, bias, M } = inputs;
    for (let m = 0; m < M; m++) {
      const value = float(bias[m] + float(float(sums[m]) * factor[m]));
      out[m] = m < reweight ? round(value) : value;
    }
    return out;
  }

  /** Add the weighted values of all heads to x. */
  #attend(block, projected, memory) {
    const { x, weights } = this;
    const { n_heads: H, head_width: D, n_emb: C } = this.model.config;
    const seen = memory.seen;
    const heads = this.trace !== null && this.isTraced ? [] : null;
    for (let h = 0; h < H; h++) {
      const top = this.#scores(block, projected, memory, h, seen);
      const { z } = this;
      let sum = 0;
      for (let j = 0; j < seen; j++) {
        const weight = round(float(exp(float(z[j] - top)) * WEIGHT_CODES));
        weights[j] = weight;
        sum += weight;
      }
      const factor = float(block.valueFactor[h] / float(sum));
      const { values } = memory;
      const newest = (memory.end - 1) * C + h * D; // distance j is j rows before it
      for (let d = 0; d < D; d++) {
        let total = 0;
        for (let j = 0, at = newest + d; j < seen; j++, at -= C) total += weights[j] * values[at];
        x[h * D + d] += float(float(total) * factor);
      }
      if (heads !== null) heads.push({ weights: weights.slice(0, seen), sum, logits: z.slice(0, seen) });
    }
    if (heads !== null) this.trace.push(traceOfBlock(block, heads, projected, this.isAbsolute, seen));
  }

  /** Write the attention logits of a head into z by distance, nearest first; return the largest. */
  #scores(block, projected, memory, h, seen) {
    const { z } = this;
    const { head_width: D, n_emb: C } = this.model.config;
    const { reach, hasReweight, hasContent } = block;
    const near = hasReweight ? Math.min(reach, seen) : 0;
    const first = block.reweight + h * reach;
    if (this.isAbsolute) for (let j = 0; j < near; j++) z[j] = projected[first + seen - 1 - j];
    else for (let j = 0; j < near; j++) z[j] = projected[first + j];
    for (let j = near; j < seen; j++) z[j] = 0;
    if (hasContent) {
      const { keys } = memory;
      const factor = block.logitFactor[h];
      const query = block.queries + h * D;
      for (let j = 0, at = (memory.end - 1) * C + h * D; j < seen; j++, at -= C) {
        let sum = 0;
        for (let d = 0; d < D; d++) sum += projected[query + d] * keys[at + d];
        z[j] = float(float(sum) * factor) + z[j];
      }
    }
    let top = -Infinity;
    for (let j = 0; j < seen; j++) if (z[j] > top) top = z[j];
    return top;
  }

  /** Add the MLP of x to x. */
  #feedForward({ w0, w1 }) {
    const { x, hidden, hiddenRow } = this;
    this.#normalize();
    w0.multiply(this.row);
    let largest = 0;
    for (let i = 0; i < hidden.length; i++) {
      const value = gelu(float(w0.bias[i] + float(float(w0.sums[i]) * w0.factor[i])));
      hidden[i] = value;
      if (Math.abs(value) > largest) largest = Math.abs(value);
    }
    const most = this.model.hiddenCodes;
    const scale = float(most / (largest > TINY ? largest : TINY));
    const step = float(largest / most);
    for (let i = 0; i < hidden.length; i++) hiddenRow[i] = round(float(hidden[i] * scale));
    w1.multiply(hiddenRow);
    for (let i = 0; i < x.length; i++) x[i] += float(float(float(w1.sums[i]) * w1.factor[i]) * step);
  }
}

/** Codes of the last keys and values of a block, [rows, C]; the newest is row `end` - 1. */
class Memory {
  constructor(block, C) {
    this.C = C;
    this.T = block.T;
    this.keyColumn = block.hasContent ? block.keys : null;
    this.valueColumn = block.values;
    this.rows = ROOM * block.T;
    this.keys = new Float64Array(block.hasContent ? this.rows * C : 0);
    this.values = new Float64Array(this.rows * C);
    this.end = 0;
  }

  /** Number of tokens in the window. */
  get seen() {
    return Math.min(this.end, this.T);
  }

  /** Add the key and the value of a token. */
  add(projected) {
    const { C, T, keys, values, keyColumn, valueColumn } = this;
    if (this.end === this.rows) {
      values.copyWithin(0, (this.rows - T) * C);
      keys.copyWithin(0, (this.rows - T) * C);
      this.end = T;
    }
    const at = this.end++ * C;
    for (let i = 0; i < C; i++) values[at + i] = projected[valueColumn + i];
    if (keyColumn !== null) for (let i = 0; i < C; i++) keys[at + i] = projected[keyColumn + i];
  }
}
