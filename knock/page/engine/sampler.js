// The sampling pipeline, to the bits of knock/engine/portable/sampler.py.

import { LN2, expDouble, logDouble } from "./arithmetic.js";
import { checkedControls } from "./controls.js";
import { Distribution, largestOf } from "./distribution.js";
import { keepBelowSurprise, keepMinP, keepTopK, keepTopNSigma, keepTopP, keepTypical } from "./filters.js";
import { uniform, words } from "./philox.js";
import { penalize } from "./repetition.js";

const TOLERANCE = 1e-6; // bits
const NEWTON_STEPS = 60;

/**
 * @typedef {object} Step
 * @property {number} token
 * @property {number} entropy - of the model's distribution, in bits.
 * @property {number} sampledEntropy - of the distribution drawn from, in bits.
 * @property {number} confidence - the model's probability of its most likely token.
 * @property {number} temperature - the temperature used, 0 for greedy.
 * @property {number} surprise - of the token under the model's distribution, in bits.
 */

/** Draws the tokens of one text. */
export class Sampler {
  /**
   * @param {Model} model
   * @param {object} controls - as `checkedControls` takes them.
   * @param {object} options
   * @param {number|bigint} options.seed - decides every draw, with the index and the step.
   * @param {number|bigint} options.index - the text's number among those of the seed.
   * @param {Iterable<number>} options.context - tokens before the first draw, for penalties of repetition.
   * @throws {RangeError} if a control, the seed or the index is out of range.
   */
  constructor(model, controls = {}, { seed = 0, index = 0, context = [] } = {}) {
    this.controls = checkedControls(controls, model.vocab);
    this.seed = wholeWord("seed", seed);
    this.index = wholeWord("index", index);
    this.key = words(this.seed);
    this.stream = words(this.index);
    const { mirostat, no_repeat_ngram: ngram, dry_multiplier: dry } = this.controls;
    this.penalizes = ngram > 0 || dry > 0;
    /** Mirostat's state: the largest surprise in bits that is drawn. */
    this.mu = mirostat === null ? 0 : 2 * mirostat;
    /** Number of draws so far. */
    this.steps = 0;
    this.context = Array.from(context);
    this.distribution = new Distribution(model.vocab.size);
  }

  /**
   * Draw the next token.
   *
   * @param {Float32Array} logits - [V].
   * @returns {Step}
   * @throws {RangeError} if a logit is not finite.
   */
  step(logits) {
    const state = this.#filter(logits, null);
    const u = uniform(this.key, this.stream, this.steps);
    const token = state.temperature === 0 ? state.token : this.distribution.draw(u);
    if (this.controls.mirostat !== null) {
      const surprise = (state.logAll - this.distribution.z[token]) / LN2;
      this.mu -= this.controls.mirostat_eta * (surprise - this.controls.mirostat);
    }
    return this.#take(state, logits, token);
  }

  /**
   * Take a token that someone else chose, instead of drawing one; the draw of this step is skipped.
   *
   * @param {Float32Array} logits - [V].
   * @param {number} token
   * @returns {Step}
   */
  choose(logits, token) {
    return this.#take(this.#filter(logits, null), logits, token);
  }

  /**
   * Return the distribution after each stage of the pipeline that is on, in order; nothing is drawn.
   *
   * @param {Float32Array} logits - [V].
   * @returns {{name: string, probabilities: Float32Array, temperature?: number}[]} names: "model", "bias",
   *   "repetition", "top_n_sigma", "temperature", "top_k", "typical_p", "top_p", "min_p", "mirostat".
   */
  stages(logits) {
    const stages = [];
    this.#filter(logits, stages);
    return stages;
  }

  #take({ logMass, largest, entropy, sampledEntropy, confidence, temperature }, logits, token) {
    this.steps++;
    if (this.penalizes) this.context.push(token);
    const surprise = (logMass - (logits[token] - largest)) / LN2;
    return { token, entropy, sampledEntropy, confidence, temperature, surprise };
  }

  /** Run the pipeline up to the draw, on `distribution`; add a copy after each stage to `stages`, if it is a list. */
  #filter(logits, stages) {
    const { controls, distribution, penalizes } = this;
    const { z } = distribution;
    const largest = largestOf(logits);
    for (let i = 0; i < z.length; i++) z[i] = logits[i] - largest;
    distribution.weigh();
    if (!Number.isFinite(distribution.mass)) throw new RangeError(`the logits of step ${this.steps} are not finite`);
    const logMass = logDouble(distribution.mass);
    const entropy = Math.max(0, (logMass - distribution.mean) / LN2);
    const state = {
      logMass, largest, entropy, sampledEntropy: entropy, confidence: 1 / distribution.mass, temperature: 0, token: -1,
      logAll: 0,
    };
    note(stages, "model", z);
    if (controls.bias !== null) {
      for (let i = 0; i < z.length; i++) z[i] += controls.bias[i];
      note(stages, "bias", z);
    }
    if (penalizes) {
      penalize(z, this.context, controls);
      note(stages, "repetition", z);
    }
    if (controls.top_n_sigma > 0) {
      keepTopNSigma(z, controls.top_n_sigma);
      note(stages, "top_n_sigma", z);
    }
    let changed = controls.bias !== null || penalizes || controls.top_n_sigma > 0;
    const temperature = controls.target_entropy === null ? controls.temperature : this.#steered();
    state.temperature = temperature;
    if (temperature === 0) {
      state.token = z.indexOf(largestOf(z));
      state.sampledEntropy = 0;
      if (stages !== null) {
        const only = z.map((_, token) => (token === state.token ? 0 : -Infinity));
        note(stages, "temperature", only, temperature);
      }
      return state;
    }
    if (changed || temperature !== 1) {
      distribution.temper(temperature);
      distribution.weigh();
      changed = true;
    }
    if (temperature !== 1 || controls.target_entropy !== null) note(stages, "temperature", z, temperature);
    if (controls.mirostat !== null) {
      state.logAll = logDouble(distribution.mass);
      if (keepBelowSurprise(distribution, state.logAll, this.mu, LN2)) changed = true;
      note(stages, "mirostat", z);
    } else if (this.#keep(stages)) changed = true;
    if (changed) {
      distribution.measure();
      state.sampledEntropy = distribution.entropy;
    }
    return state;
  }

  /** Apply the filters after temperature; return whether any was on. */
  #keep(stages) {
    const { distribution } = this;
    const { top_k: topK, typical_p: typicalP, top_p: topP, min_p: minP } = this.controls;
    let filtered = false;
    if (topK > 0 && topK < distribution.z.length) {
      keepTopK(distribution, topK);
      filtered = true;
      note(stages, "top_k", distribution.z);
    }
    if (typicalP < 1) {
      if (filtered) distribution.measure();
      keepTypical(distribution, typicalP);
      filtered = true;
      note(stages, "typical_p", distribution.z);
    }
    if (topP < 1) {
      if (filtered) distribution.measure();
      keepTopP(distribution, topP);
      filtered = true;
      note(stages, "top_p", distribution.z);
    }
    if (minP > 0) {
      keepMinP(distribution, minP);
      filtered = true;
      note(stages, "min_p", distribution.z);
    }
    return filtered;
  }

  /** Return the temperature that steers the entropy to its target, within bounds. */
  #steered() {
    const { distribution } = this;
    const { target_entropy: target, entropy_rule: rule, min_temp: low, max_temp: high } = this.controls;
    if (rule === "ratio" && target !== 0) {
      const { entropy } = distribution.tempered(1);
      return entropy > 0 ? Math.min(Math.max(Math.sqrt(target / entropy), low), high) : high;
    }
    if (distribution.tempered(low).entropy >= target) return low;
    if (distribution.tempered(high).entropy <= target) return high;
    let below = logDouble(low);
    let above = logDouble(high);
    let s = (below + above) / 2;
    let temperature = expDouble(s);
    for (let i = 0; i < NEWTON_STEPS; i++) {
      temperature = expDouble(s);
      const { entropy, slope } = distribution.tempered(temperature);
      const error = entropy - target;
      if (Math.abs(error) <= TOLERANCE) break;
      if (error < 0) below = s;
      else above = s;
      const newton = slope > 0 ? s - error / slope : above;
      s = below < newton && newton < above ? newton : (below + above) / 2;
    }
    return temperature;
  }
}

/** Add the softmax of z to stages, if it is a list. */
function note(stages, name, z, temperature) {
  if (stages === null) return;
  const distribution = new Distribution(z.length);
  const top = largestOf(z);
  distribution.z.set(z.map((each) => each - top));
  distribution.weigh();
  const stage = { name, probabilities: distribution.p.map((each) => each / distribution.mass) };
  stages.push(temperature === undefined ? stage : { ...stage, temperature });
}

/** Return a whole number in [0, 2**64) as a BigInt. */
function wholeWord(name, value) {
  const isWhole = typeof value === "bigint" || (typeof value === "number" && Number.isInteger(value));
  const number = isWhole ? BigInt(value) : -1n;
  if (number < 0n || number >= 1n << 64n) {
    throw new RangeError(`${name} must be a whole number from 0 to 2**64 - 1, got ${value}`);
  }
  return number;
}
