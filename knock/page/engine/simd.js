// The forward pass of one token by the functions of kernels.js, to the bits of plain.js.

import { KERNELS, PANEL_COLUMNS } from "./kernels.js";
import { traceOf } from "./trace.js";
import { wasmModule } from "./wasm.js";

const BYTES_OF_PAGE = 65536; // of WebAssembly's memory
const WINDOWS = 4; // that the memory of a block holds before the last one moves to its beginning
const LONGEST_WINDOW = 2 ** 16;
const LARGEST_NUMBER = 2 ** 60; // in models whose numbers cannot overflow, and so are never NaN
const LARGEST_CODE_SUM = 2 ** 31;

let compiled; // the module; null if the browser cannot run it

/** Return the module, null if the browser cannot run it. */
function kernelModule() {
  if (compiled === undefined) {
    try {
      compiled = new WebAssembly.Module(wasmModule(KERNELS));
    } catch {
      compiled = null;
    }
  }
  return compiled;
}

const upTo = (n, multiple) => Math.ceil(n / multiple) * multiple;

/** The blocks of a model, with the keys and values of one text, in WebAssembly's memory. */
export class SimdPass {
  /** Return whether a model can run: vectors are there, and its numbers stay finite. */
  static fits(model) {
    return kernelModule() !== null && model.config.blocks.every(({ T }) => T <= LONGEST_WINDOW) && isTame(model);
  }

  /** @param {Model} model */
  constructor(model) {
    const { n_emb: C, nodes: F, n_heads: H, head_width: D, vocab_size: V, blocks: shapes } = model.config;
    this.model = model;
    this.head = upTo(D, 8); // columns of a head
    this.longest = Math.max(...shapes.map((shape) => shape.T));
    const arena = new Arena();
    const row = arena.int16(upTo(Math.max(C, F), 16));
    const x = arena.float32(upTo(C, 16));
    const mask = arena.float32(upTo(C, 16));
    const hidden = arena.float32(upTo(F, PANEL_COLUMNS));
    const weights = arena.int16(upTo(this.longest, 8));
    const z = arena.float32(upTo(this.longest, 8));
    const attended = arena.float32(H * this.head);
    const moved = arena.float32(upTo(C, PANEL_COLUMNS)); // what the MLP adds
    const query = arena.int16(H * this.head);
    const logits = arena.float32(upTo(V, PANEL_COLUMNS));
    const plans = model.blocks.map((block) => this.#plan(block, arena));
    const output = new Product(model.output, range(model.output.M), arena);
    this.memory = arena.memory();
    Object.assign(this, { row, x, mask, hidden, weights, z, attended, moved, query, plans, output });
    for (const array of [x, weights, z, attended, moved, logits]) array.view(this.memory);
    for (const plan of plans) for (const array of [plan.projected, plan.keys, plan.values]) array.view(this.memory);
    this.#fill();
    this.kernels = new WebAssembly.Instance(kernelModule(), { env: { memory: this.memory } }).exports;
    /** Logits after the last token, [V]; overwritten by the next. */
    this.logits = logits.values.subarray(0, V);
    this.logitsAt = logits.at;
    this.reset();
  }

  /** Write the weights; the states of a model share a copy of the first one's memory. */
  #fill() {
    const { model, memory, mask, plans, output } = this;
    const bytes = new Uint8Array(memory.buffer);
    if (model.image === null) {
      new Uint32Array(memory.buffer, mask.at, model.config.n_emb).fill(0xffffffff);
      for (const { inputs, w0, w1 } of plans) for (const each of [inputs, w0, w1]) each.write(memory);
      output.write(memory);
      model.image = bytes.slice();
    } else bytes.set(model.image);
  }

  /** Return a block's products, and memory for its keys and values: [rows, H * head]. */
  #plan(block, arena) {
    const { n_heads: H, head_width: D, n_emb: C } = this.model.config;
    const parts = (block.hasContent ? [block.queries, block.keys] : []).concat(block.values);
    const columns = parts.flatMap((start) => padded(range(C, start), H, D, this.head));
    const { reach } = block;
    const learned = block.hasReweight ? range(H * reach, block.reweight) : [];
    const inputs = new Product(block.inputs, [...columns, ...learned], arena);
    const rows = WINDOWS * block.T;
    const width = H * this.head;
    return {
      block, inputs, rows, width,
      w0: new Product(block.w0, range(block.w0.M), arena),
      w1: new Product(block.w1, range(block.w1.M), arena),
      projected: arena.float32(inputs.panels * PANEL_COLUMNS),
      queryAt: 0,
      keyAt: width,
      valueAt: (parts.length - 1) * width,
      learnedAt: columns.length,
      keys: arena.int16(block.hasContent ? rows * width : 0),
      values: arena.int16(rows * width),
      end: 0,
    };
  }

  /** Forget the text. */
  reset() {
    this.position = 0;
    for (const plan of this.plans) plan.end = 0;
  }

  /**
   * Read a token into `logits`.
   *
   * @param {number} token
   * @param {boolean} isLast - whether its logits are needed; otherwise only what later tokens need is computed.
   * @param {object[]|null} trace - list to which the attention of each block is added.
   */
  step(token, isLast, trace) {
    const { model, plans, kernels, row, output } = this;
    const { embed, pos } = model;
    const x = this.x.values;
    const C = model.config.n_emb;
    const position = this.position++;
    for (let i = 0; i < C; i++) x[i] = embed[token * C + i];
    if (pos !== null) for (let i = 0; i < C; i++) x[i] += pos[position * C + i];
    for (let b = 0; b < plans.length; b++) {
      const plan = plans[b];
      this.#project(plan);
      if (!isLast && b === plans.length - 1) return;
      this.#attend(plan, trace);
      this.#feedForward(plan);
    }
    this.#normalize();
    output.run(kernels, row.at, 1, this.logitsAt);
  }

  #normalize() {
    const { kernels, x, mask, row, model } = this;
    kernels.normalize(x.at, mask.at, row.at, x.length >> 4, model.config.n_emb, model.normScale);
  }

  /** Compute a block's projection, and add its key and value to the memory. */
  #project(plan) {
    const { kernels, row, query } = this;
    const { projected, keys, values, width, rows, block } = plan;
    this.#normalize();
    plan.inputs.run(kernels, row.at, 1, projected.at);
    if (plan.end === rows) {
      values.values.copyWithin(0, (rows - block.T) * width);
      keys.values.copyWithin(0, (rows - block.T) * width);
      plan.end = block.T;
    }
    const offset = 2 * plan.end++ * width; // bytes
    const groups = width >> 3;
    kernels.toCodes(projected.at + 4 * plan.valueAt, values.at + offset, groups);
    if (block.hasContent) {
      kernels.toCodes(projected.at + 4 * plan.keyAt, keys.at + offset, groups);
      kernels.toCodes(projected.at + 4 * plan.queryAt, query.at, groups);
    }
  }

  /** Add the weighted values of all heads to x. */
  #attend(plan, trace) {
    const { kernels, query, z, weights, attended, head } = this;
    const { block, keys, values, width, end } = plan;
    const { n_heads: H, head_width: D } = this.model.config;
    const seen = Math.min(end, block.T);
    const groups = (seen + 7) >> 3;
    const stride = 2 * width;
    const heads = [];
    for (let h = 0; h < H; h++) {
      const newest = 2 * ((end - 1) * width + h * head);
      this.#learned(plan, h, seen, 8 * groups);
      const learned = trace === null ? null : z.values.slice(0, block.hasReweight ? Math.min(block.reach, seen) : 0);
      if (block.hasContent) {
        kernels.compare(
          query.at + 2 * h * head, keys.at + newest, stride, head >> 3, seen, block.logitFactor[h], z.at);
      }
      const sum = kernels.weigh(z.at, weights.at, groups);
      const factor = Math.fround(block.valueFactor[h] / sum);
      kernels.attend(weights.at, values.at + newest, stride, head >> 3, seen, factor, attended.at + 4 * h * head);
      if (trace !== null) {
        heads.push(traceOf(block, h, weights.values.slice(0, seen), z.values.slice(0, seen), learned));
      }
    }
    if (trace !== null) trace.push(heads);
    const x = this.x.values;
    const added = attended.values;
    for (let h = 0; h < H; h++) for (let d = 0; d < D; d++) x[h * D + d] += added[h * head + d];
  }

  /** Write the reweight logits of a head into z by distance, nearest first, then zeros; behind `seen`, -Infinity. */
  #learned({ block, projected, learnedAt }, h, seen, length) {
    const { reach, hasReweight } = block;
    const z = this.z.values;
    const logits = projected.values;
    const near = hasReweight ? Math.min(reach, seen) : 0;
    const first = learnedAt + h * reach;
    if (this.model.pos !== null) for (let j = 0; j < near; j++) z[j] = logits[first + seen - 1 - j];
    else for (let j = 0; j < near; j++) z[j] = logits[first + j];
    for (let j = near; j < seen; j++) z[j] = 0;
    for (let j = seen; j < length; j++) z[j] = -Infinity;
  }

  /** Add the MLP of x to x. */
  #feedForward({ w0, w1 }) {
    const { kernels, row, hidden, moved, model } = this;
    this.#normalize();
    w0.run(kernels, row.at, 1, hidden.at);
    const step = kernels.activate(hidden.at, row.at, hidden.length >> 3, model.hiddenCodes);
    w1.run(kernels, row.at, step, moved.at);
    const x = this.x.values;
    const added = moved.values;
    for (let i = 0; i < model.config.n_emb; i++) x[i] += added[i];
  }
}

/** A matrix product in WebAssembly's memory. */
class Product {
  /**
   * @param {Layer} layer
   * @param {number[]} columns - of the layer, -1 for one of zeros.
   * @param {Arena} arena
   */
  constructor(layer, columns, arena) {
    this.layer = layer;
    this.columns = columns;
    this.pairs = Math.ceil(layer.K / 2);
    this.panels = Math.ceil(columns.length / PANEL_COLUMNS);
    const M = this.panels * PANEL_COLUMNS;
    this.codes = arena.int16(2 * this.pairs * M);
    this.factor = arena.float32(M);
    this.bias = arena.float32(M);
  }

  /** Copy the layer to the memory. */
  write(memory) {
    const { layer, columns, pairs } = this;
    for (const array of [this.codes, this.factor, this.bias]) array.view(memory);
    columns.forEach((column, m) => {
      if (column < 0) return; // padding
      this.factor.values[m] = layer.factor[column];
      if (layer.bias !== null) this.bias.values[m] = layer.bias[column];
      const panel = Math.floor(m / PANEL_COLUMNS) * pairs;
      for (let k = 0; k < layer.K; k++) {
        const pair = (panel + (k >> 1)) * PANEL_COLUMNS + (m % PANEL_COLUMNS);
        this.codes.values[2 * pair + (k & 1)] = layer.codes[k * layer.M + column];
      }
    });
  }

  run(kernels, row, step, out) {
    kernels.product(row, this.codes.at, this.pairs, this.panels, this.factor.at, this.bias.at, step, out);
  }
}

/** Places of arrays in a memory that is allocated once. */
class Arena {
  constructor() {
    this.size = 0;
  }

  float32(length) {
    return this.#place(length, 4, Float32Array);
  }

  int16(length) {
    return this.#place(length, 2, Int16Array);
  }

  #place(length, bytes, type) {
    const at = this.size;
    this.size += upTo(length * bytes, 64);
    return { at, length, values: null, view(memory) { this.values = new type(memory.buffer, at, length); } };
  }

  /** Return memory for all arrays, filled with zeros. */
  memory() {
    return new WebAssembly.Memory({ initial: Math.max(1, Math.ceil(this.size / BYTES_OF_PAGE)) });
  }
}

/** Return whether no number of a model can overflow, whatever it reads. */
function isTame(model) {
  const largest = (values) => values.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  const reach = ({ factor, bias }) => LARGEST_CODE_SUM * largest(factor) + (bias === null ? 0 : largest(bias));
  let x = largest(model.embed) + (model.pos === null ? 0 : largest(model.pos));
  let most = reach(model.output);
  for (const { inputs, w0, w1, valueFactor, logitFactor } of model.blocks) {
    const hidden = reach(w0);
    x += 2 ** 15 * largest(valueFactor) + reach(w1) * hidden;
    most = Math.max(most, reach(inputs), hidden, LARGEST_CODE_SUM * (logitFactor === null ? 0 : largest(logitFactor)));
  }
  return Math.max(x, most) < LARGEST_NUMBER;
}

function range(n, start = 0) {
  return Array.from({ length: n }, (_, i) => start + i);
}

/** Return columns of heads of width D with -1 for padding: [H * D] -> [H * width]. */
function padded(columns, H, D, width) {
  return range(H * width).map((i) => (i % width < D ? columns[Math.floor(i / width) * D + (i % width)] : -1));
}
