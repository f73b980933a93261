// The forward pass of one token in plain JavaScript, to the bits of knock/engine/portable/model.py.
//
// It defines what simd.js computes faster, and runs where that cannot.

import { WIDTH, byHalves, exp, gelu, round } from "./arithmetic.js";
import { PlainProduct } from "./layer.js";
import { traceOf } from "./trace.js";

const float = Math.fround;
const EPSILON = float(1e-5);
const TINY = 2 ** -100;
const WEIGHT_CODES = 8191; // of attention
const ROOM = 4; // windows that the memory of a block holds before the last one moves to its beginning

/** The blocks of a model, with the keys and values of one text. */
export class PlainPass {
  /** @param {Model} model */
  constructor(model) {
    const { config } = model;
    this.model = model;
    /** Logits after the last token, [V]; overwritten by the next. */
    this.logits = new Float32Array(config.vocab_size);
    this.isAbsolute = config.position === "absolute";
    const longest = Math.max(...config.blocks.map((block) => block.T));
    this.blocks = model.blocks.map((block) => ({
      ...block,
      inputs: new PlainProduct(block.inputs),
      w0: new PlainProduct(block.w0),
      w1: new PlainProduct(block.w1),
    }));
    this.output = new PlainProduct(model.output);
    this.memories = model.blocks.map((block) => new Memory(block, config.n_emb));
    this.x = new Float32Array(config.n_emb);
    this.row = new Float64Array(config.n_emb); // codes
    this.hidden = new Float32Array(config.nodes);
    this.hiddenRow = new Float64Array(config.nodes);
    this.z = new Float32Array(longest);
    this.weights = new Float64Array(longest);
    this.partial = new Float32Array(WIDTH);
    this.projected = model.blocks.map((block) => new Float64Array(block.inputs.M));
    this.reset();
  }

  /** Forget the text. */
  reset() {
    this.position = 0;
    for (const memory of this.memories) memory.end = 0;
  }

  /**
   * Read a token into `logits`.
   *
   * @param {number} token
   * @param {boolean} isLast - whether its logits are needed; otherwise only what later tokens need is computed.
   * @param {object[]|null} trace - list to which the attention of each block is added.
   */
  step(token, isLast, trace) {
    const { x, blocks, output, memories, logits } = this;
    const C = x.length;
    const { embed, pos } = this.model;
    const position = this.position++;
    for (let i = 0; i < C; i++) x[i] = embed[token * C + i];
    if (pos !== null) for (let i = 0; i < C; i++) x[i] += pos[position * C + i];
    for (let b = 0; b < blocks.length; b++) {
      const projected = this.#project(blocks[b], this.projected[b]);
      memories[b].add(projected);
      if (!isLast && b === blocks.length - 1) return;
      this.#attend(blocks[b], projected, memories[b], trace);
      this.#feedForward(blocks[b]);
    }
    this.#normalize();
    output.multiply(this.row);
    for (let i = 0; i < logits.length; i++) {
      logits[i] = output.bias[i] + float(float(output.sums[i]) * output.factor[i]);
    }
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
    const inverse = float(1 / float(Math.sqrt(float(variance + EPSILON))));
    const scale = float(inverse * this.model.normScale);
    for (let i = 0; i < C; i++) row[i] = round(float(row[i] * scale));
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
  #attend(block, projected, memory, trace) {
    const { x, z, weights, isAbsolute } = this;
    const { n_heads: H, head_width: D, n_emb: C } = this.model.config;
    const { values } = memory;
    const seen = memory.seen;
    const heads = [];
    for (let h = 0; h < H; h++) {
      const learned = this.#learned(block, projected, h, seen);
      if (block.hasContent) this.#compare(block, projected, memory, h);
      let top = -Infinity;
      for (let j = 0; j < seen; j++) if (z[j] > top) top = z[j];
      let sum = 0;
      for (let j = 0; j < seen; j++) {
        weights[j] = round(float(exp(float(z[j] - top)) * WEIGHT_CODES));
        sum += weights[j];
      }
      const factor = float(block.valueFactor[h] / float(sum));
      const newest = (memory.end - 1) * C + h * D; // distance j is j rows before it
      for (let d = 0; d < D; d++) {
        let total = 0;
        for (let j = 0, at = newest + d; j < seen; j++, at -= C) total += weights[j] * values[at];
        x[h * D + d] += float(float(total) * factor);
      }
      if (trace !== null) heads.push(traceOf(block, h, weights.subarray(0, seen), z.subarray(0, seen), learned));
    }
    if (trace !== null) trace.push(heads);
  }

  /** Write the reweight logits of a head into z by distance, nearest first, then zeros; return a copy of them. */
  #learned({ reach, hasReweight, reweight }, projected, h, seen) {
    const { z } = this;
    const near = hasReweight ? Math.min(reach, seen) : 0;
    const first = reweight + h * reach;
    if (this.isAbsolute) for (let j = 0; j < near; j++) z[j] = projected[first + seen - 1 - j];
    else for (let j = 0; j < near; j++) z[j] = projected[first + j];
    for (let j = near; j < seen; j++) z[j] = 0;
    return z.slice(0, near);
  }

  /** Add the content logits of a head to z. */
  #compare({ logitFactor, queries }, projected, { keys, end, seen }, h) {
    const { z } = this;
    const { head_width: D, n_emb: C } = this.model.config;
    const query = queries + h * D;
    for (let j = 0, at = (end - 1) * C + h * D; j < seen; j++, at -= C) {
      let sum = 0;
      for (let d = 0; d < D; d++) sum += projected[query + d] * keys[at + d];
      z[j] = float(float(sum) * logitFactor[h]) + z[j];
    }
  }

  /** Add the MLP of x to x. */
  #feedForward({ w0, w1 }) {
    const { x, hidden, hiddenRow } = this;
    this.#normalize();
    w0.multiply(this.row);
    let largest = 0;
    for (let i = 0; i < hidden.length; i++) {
      hidden[i] = gelu(float(w0.bias[i] + float(float(w0.sums[i]) * w0.factor[i])));
      if (Math.abs(hidden[i]) > largest) largest = Math.abs(hidden[i]);
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
