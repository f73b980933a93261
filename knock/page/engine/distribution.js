// One distribution over tokens: logits, probabilities that are not normalised, and their sums in a fixed order.

import { LN2, LOWEST, WIDTH, byHalves, exp, logDouble } from "./arithmetic.js";

const narrow = Math.fround;
const first = new Float64Array(WIDTH);
const second = new Float64Array(WIDTH);
const third = new Float64Array(WIDTH);

/**
 * Return the sum of the numbers p[i] whose order[i] is at least, or above, an edge; or their number.
 *
 * @param {Float32Array} order - [n].
 * @param {Float32Array|null} p - [n]; null to count.
 * @param {number} n
 * @param {number} edge
 * @param {boolean} isAbove - whether equal ones are left out.
 */
export function heldBy(order, p, n, edge, isAbove) {
  if (p === null) {
    let count = 0;
    for (let i = 0; i < n; i++) if (isAbove ? order[i] > edge : order[i] >= edge) count++;
    return count;
  }
  first.fill(0);
  for (let i = 0; i < n; i++) if (isAbove ? order[i] > edge : order[i] >= edge) first[i & 15] += p[i];
  return byHalves(first);
}

/** Return the largest number. */
export function largestOf(values) {
  let top = -Infinity;
  for (let i = 0; i < values.length; i++) if (values[i] > top) top = values[i];
  return top;
}

/** Logits z of tokens, the largest about 0, with their probabilities p. Dropped tokens have z = -Infinity, p = 0. */
export class Distribution {
  /** @param {number} V - number of tokens. */
  constructor(V) {
    this.z = new Float32Array(V);
    this.p = new Float32Array(V);
    /** For the filters. */
    this.scratch = {
      order: new Float32Array(V), some: new Float32Array(V), someP: new Float32Array(V), kept: new Uint8Array(V),
    };
    /** The sum of p, and the mean of z under p. */
    this.mass = 0;
    this.mean = 0;
  }

  /** Set p to e**z, and its sums. */
  weigh() {
    const { z, p } = this;
    for (let i = 0; i < z.length; i++) p[i] = z[i] > LOWEST ? exp(z[i]) : 0;
    this.measure();
  }

  /** Set the sums of p. */
  measure() {
    const { z, p } = this;
    first.fill(0);
    second.fill(0);
    for (let i = 0; i < z.length; i++) {
      first[i & 15] += p[i];
      second[i & 15] += p[i] * (z[i] > LOWEST ? z[i] : LOWEST);
    }
    this.mass = byHalves(first);
    this.mean = byHalves(second) / this.mass;
  }

  /** The entropy in bits, after `measure`. */
  get entropy() {
    return Math.max(0, (logDouble(this.mass) - this.mean) / LN2);
  }

  /** Drop a token. */
  drop(token) {
    this.z[token] = -Infinity;
    this.p[token] = 0;
  }

  /** Divide the logits, less the largest, by a temperature. */
  temper(temperature) {
    const { z } = this;
    const top = largestOf(z);
    const divisor = narrow(withinFloat(temperature));
    for (let i = 0; i < z.length; i++) z[i] = narrow(z[i] - top) / divisor;
  }

  /** Return the entropy in bits at a temperature, and its derivative by the temperature's logarithm. */
  tempered(temperature) {
    const { z } = this;
    const top = largestOf(z);
    const factor = narrow(1 / withinFloat(temperature));
    first.fill(0);
    second.fill(0);
    third.fill(0);
    for (let i = 0; i < z.length; i++) {
      const t = narrow(narrow(z[i] - top) * factor);
      if (t > LOWEST) {
        const e = exp(t);
        first[i & 15] += e;
        second[i & 15] += e * t;
        third[i & 15] += e * t * t;
      }
    }
    const mass = byHalves(first);
    const mean = byHalves(second) / mass;
    const square = byHalves(third) / mass;
    return { entropy: Math.max(0, (logDouble(mass) - mean) / LN2), slope: (square - mean * mean) / LN2 };
  }

  /** Return the first token whose cumulative mass exceeds u * mass. */
  draw(u) {
    const { p } = this;
    const target = u * this.mass;
    let before = 0;
    for (let start = 0; start < p.length; start += WIDTH) {
      const end = Math.min(start + WIDTH, p.length);
      first.fill(0);
      for (let i = start; i < end; i++) first[i - start] = p[i];
      const block = byHalves(first);
      if (before + block > target) {
        for (let i = start; i < end; i++) {
          before += p[i];
          if (before > target) return i;
        }
      } else before += block;
    }
    let last = p.length - 1; // rounding kept the sum below u * mass
    while (!(p[last] > 0)) last--;
    return last;
  }
}

function withinFloat(temperature) {
  return Math.min(Math.max(temperature, 1e-30), 1e30);
}
