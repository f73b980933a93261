// Decode the model of the page: what knock/page/weights.py writes.

import { Layer } from "./layer.js";
import { State } from "./state.js";
import { Vocabulary } from "./vocabulary.js";

const MODEL_FORMAT = 1;
const CODE_OFFSET = 2048; // added to codes, which makes them whole numbers of 12 bits

/**
 * Return the model of a JSON object.
 *
 * @param {object} json
 * @returns {Model}
 * @throws {RangeError} if it is of another format.
 */
export function decodeModel(json) {
  if (json.format !== MODEL_FORMAT) {
    throw new RangeError(`the model must have format ${MODEL_FORMAT}, got ${json.format}; make the page again`);
  }
  return new Model(json);
}

/**
 * A model. Sizes have the names of the engine: V tokens, C numbers of a position, H heads of width D, windows T.
 */
class Model {
  constructor(json) {
    const { config, vocab } = json;
    /** The shape, with the names of `ModelConfig`; `blocks` has T, reweight_T and head_type of each block. */
    this.config = config;
    this.vocab = new Vocabulary(vocab.characters, vocab.boundary, vocab.folds);
    this.name = json.name;
    /** For display: digest, number of parameters, default length of a text, gates [L][H] or null by block. */
    this.facts = {
      digest: json.digest,
      parameters: json.parameters,
      defaultLength: json.default_length,
      gates: json.blocks.map((block) => block.gates),
    };
    this.normScale = json.norm_scale;
    this.hiddenCodes = json.hidden_codes;
    /** [V, C] */
    this.embed = decodeNumbers(json.embed);
    /** [T, C], null in a relative model. */
    this.pos = json.pos === null ? null : decodeNumbers(json.pos);
    this.blocks = json.blocks.map((block, b) => decodeBlock(block, config, config.blocks[b]));
    this.output = decodeLayer(json.output);
    this.image = null; // of the weights in WebAssembly's memory, once there is one
  }

  /**
   * Return the state of an empty text.
   *
   * @param {object} options
   * @param {boolean} options.trace - whether to keep the attention of the last character read.
   * @param {boolean} options.plain - whether to compute without WebAssembly, which gives the same.
   */
  state({ trace = false, plain = false } = {}) {
    return new State(this, trace, plain);
  }
}

function decodeBlock(json, config, { T, reweight_T: reach, head_type: kind }) {
  const C = config.n_emb;
  const hasContent = kind !== "reweight";
  const values = hasContent ? 2 * C : 0;
  return {
    T,
    reach,
    hasContent,
    hasReweight: kind !== "content",
    gates: json.gates,
    inputs: decodeLayer(json.inputs),
    // Columns of the projection where its parts begin.
    queries: 0,
    keys: C,
    values,
    reweight: values + C,
    logitFactor: json.logit_factor === null ? null : decodeNumbers(json.logit_factor),
    valueFactor: decodeNumbers(json.value_factor),
    w0: decodeLayer(json.w0),
    w1: decodeLayer(json.w1),
  };
}

function decodeLayer({ shape: [K, M], codes, factor, bias }) {
  return new Layer(K, M, decodeCodes(codes, K * M), decodeNumbers(factor), bias === null ? null : decodeNumbers(bias));
}

/** Return codes of 12 bits, two in three bytes, as an Int16Array. */
export function decodeCodes(text, count) {
  const bytes = decodeBytes(text);
  const codes = new Int16Array(count);
  for (let i = 0, at = 0; i < count; i += 2, at += 3) {
    const pair = bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16);
    codes[i] = (pair & 4095) - CODE_OFFSET;
    if (i + 1 < count) codes[i + 1] = (pair >>> 12) - CODE_OFFSET;
  }
  return codes;
}

/** Return little-endian float32 numbers. */
export function decodeNumbers(text) {
  const view = new DataView(decodeBytes(text).buffer);
  return Float32Array.from({ length: view.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

function decodeBytes(text) {
  const binaryText = atob(text);
  const bytes = new Uint8Array(binaryText.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binaryText.charCodeAt(i);
  return bytes;
}
