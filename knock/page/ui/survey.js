// Readings of a whole text: the surprise of every character, and the patterns of every head over its places.

import { probabilitiesOf, bitsOf } from "./words.js";

const NEAR_BACK = 3; // characters back that are near
const FAR_BACK = 8; // characters back beyond which they are far

/**
 * Mean and standard deviation of the attention of each head, by distance.
 * @typedef {Object} Pattern
 * @property {number[]} mean index 0 is the last character read; NaN at distances that no place sees
 * @property {number[]} spread
 */

/** Sums over places, for one kind of attention of one head. */
class Sums {
  #sum;
  #squares;
  #count;
  #reach = 0;

  /** @param {number} T window of the block */
  constructor(T) {
    this.#sum = new Float64Array(T);
    this.#squares = new Float64Array(T);
    this.#count = new Int32Array(T);
  }

  /** Add the attention at a place. */
  add(weights) {
    for (let j = 0; j < weights.length; j++) {
      this.#sum[j] += weights[j];
      this.#squares[j] += weights[j] * weights[j];
      this.#count[j]++;
    }
    this.#reach = Math.max(this.#reach, weights.length);
  }

  /** @returns {Pattern|null} null if nothing was added */
  get pattern() {
    if (!this.#reach) return null;
    const mean = Array.from(this.#sum.subarray(0, this.#reach), (sum, j) => sum / this.#count[j]);
    return { mean, spread: mean.map((m, j) => Math.sqrt(Math.max(0, this.#squares[j] / this.#count[j] - m * m))) };
  }

  /** @type {number} the mean distance of the attention */
  get distance() {
    return this.#sum.reduce((total, weight, j) => total + weight * (j + 1), 0) / this.#total;
  }

  /**
   * Return the share of the attention that goes to some distances. It is not the sum of their means: these leave out the
   * places that do not see as far.
   * @param {number} from index of the nearest distance
   * @param {number} [to] index after the farthest one
   * @returns {number} from 0 to 1
   */
  share(from, to) {
    return this.#sum.subarray(from, to).reduce((sum, weight) => sum + weight, 0) / this.#total;
  }

  get #total() {
    return this.#sum.reduce((sum, weight) => sum + weight, 0);
  }
}

/**
 * Return the places to average over: those with the longest window full of characters, or all if there are none.
 * @param {number[]} places
 * @param {number} full tokens in the longest window
 */
function fullest(places, full) {
  const filled = places.filter((place) => place >= full - 1);
  return filled.length ? filled : places;
}

/**
 * Read a text for the surprise of its characters: an iterator with a step for each token.
 * @param {Object} model
 * @param {number[]} read the tokens of the text, as the model reads them
 * @param {number} [next] the token after the last one, if there is one that is not read: the end of an item
 * @returns {Generator<{at: number, surprise: number, entropy: number}>} at each token, the surprise of the next one in
 *   bits, NaN if there is none, and the entropy of its prediction
 */
export function* skim(model, read, next) {
  const state = model.state();
  for (let at = 0; at < read.length; at++) {
    const p = probabilitiesOf(state.read(read[at]));
    const following = read[at + 1] ?? next;
    yield { at, surprise: following === undefined ? NaN : -Math.log2(p[following]), entropy: bitsOf(p) };
  }
}

/**
 * Read a text for the patterns of its heads: an iterator with a step for each token.
 * @param {Object} model
 * @param {number[]} read the tokens of the text, as the model reads them
 * @param {number|null} [chosen] a token: patterns are also averaged over the places where it is read
 * @returns {Generator<Object, Object>} at each token, its place `at`, `logits` and `trace`. At last: `places` and
 *   `chosenPlaces`, how many were averaged over, and in `heads`, [L][H], the patterns `attention`, `reweight`, `content`,
 *   `chosen`, null where the model has none, the mean `distance` of the attention, and the shares of it that go to the
 *   last three tokens, `near`, and to those more than eight back, `far`
 */
export function* survey(model, read, chosen = null) {
  const state = model.state({ trace: true });
  const full = Math.max(...model.config.blocks.map(({ T }) => T));
  const every = fullest([...read.keys()], full);
  const those = chosen === null ? [] : fullest([...read.keys()].filter((at) => read[at] === chosen), full);
  const [averaged, withChosen] = [new Set(every), new Set(those)];
  const heads = model.config.blocks.map(({ T }) => Array.from({ length: model.config.n_heads }, () => ({
    attention: new Sums(T), reweight: new Sums(T), content: new Sums(T), chosen: new Sums(T),
  })));
  for (let at = 0; at < read.length; at++) {
    const logits = state.read(read[at]).slice();
    state.trace.forEach((block, b) =>
      block.forEach((head, h) => {
        const sums = heads[b][h];
        if (averaged.has(at)) {
          sums.attention.add(head.weights);
          if (head.reweight) sums.reweight.add(head.reweight);
          if (head.content) sums.content.add(head.content);
        }
        if (withChosen.has(at)) sums.chosen.add(head.weights);
      }),
    );
    yield { at, logits, trace: state.trace };
  }
  return {
    places: every.length,
    chosenPlaces: those.length,
    heads: heads.map((block) =>
      block.map(({ attention, reweight, content, chosen: when }) => ({
        attention: attention.pattern, reweight: reweight.pattern, content: content.pattern, chosen: when.pattern,
        distance: attention.distance, near: attention.share(0, NEAR_BACK), far: attention.share(FAR_BACK),
      })),
    ),
  };
}
