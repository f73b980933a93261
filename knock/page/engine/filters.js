// The filters of the sampling pipeline, on a distribution: each keeps at least one token.

import { WIDTH, byHalves, logDouble } from "./arithmetic.js";
import { heldBy, largestOf } from "./distribution.js";

const HALVINGS = 8;
const asFloat = Math.fround;

/** Keep the logits within n standard deviations of the largest; drops logits only. */
export function keepTopNSigma(z, n) {
  const sums = new Float64Array(WIDTH);
  let count = 0;
  for (let i = 0; i < z.length; i++) {
    if (z[i] > -Infinity) {
      count++;
      sums[i & 15] += z[i];
    }
  }
  const mean = byHalves(sums) / count;
  sums.fill(0);
  for (let i = 0; i < z.length; i++) {
    if (z[i] > -Infinity) {
      const difference = z[i] - mean;
      sums[i & 15] += difference * difference;
    }
  }
  const edge = largestOf(z) - n * Math.sqrt(byHalves(sums) / count);
  for (let i = 0; i < z.length; i++) if (z[i] < edge) z[i] = -Infinity;
}

/** Keep the k most likely tokens. */
export function keepTopK(distribution, k) {
  keepFirst(distribution, distribution.z, k, true);
}

/** Keep the tokens whose surprise is nearest the entropy, up to a share of the mass. */
export function keepTypical(distribution, share) {
  const mean = asFloat(distribution.mean);
  const { z, scratch } = distribution;
  for (let i = 0; i < z.length; i++) scratch.order[i] = -Math.abs(asFloat(z[i] - mean));
  keepFirst(distribution, scratch.order, share * distribution.mass, false);
}

/** Keep the most likely tokens, up to a share of the mass. */
export function keepTopP(distribution, share) {
  keepFirst(distribution, distribution.z, share * distribution.mass, false);
}

/** Keep the tokens that are at least `ratio` times as likely as the most likely. */
export function keepMinP(distribution, ratio) {
  const edge = largestOf(distribution.z) + logDouble(ratio);
  for (let i = 0; i < distribution.z.length; i++) if (distribution.z[i] < edge) distribution.drop(i);
}

/** Drop the tokens of more surprise than mirostat's limit mu, in bits, except the most likely. */
export function keepBelowSurprise(distribution, logMass, mu, ln2) {
  const { z } = distribution;
  const most = z.indexOf(largestOf(z));
  let dropped = false;
  for (let i = 0; i < z.length; i++) {
    if (i !== most && (logMass - z[i]) / ln2 > mu) {
      distribution.drop(i);
      dropped = true;
    }
  }
  return dropped;
}

/**
 * Keep the tokens with the largest `order`, lower ids first among equals, until they reach a target.
 *
 * The steps are those of the engine, since sums are rounded: halvings of the range of `order`, then the candidates.
 *
 * @param {Distribution} distribution
 * @param {Float32Array} order - [V]; -Infinity for dropped tokens.
 * @param {number} target - of the sum of p, or of the number of tokens.
 * @param {boolean} isCounted - whether tokens are counted.
 */
function keepFirst(distribution, order, target, isCounted) {
  const V = order.length;
  const p = isCounted ? null : distribution.p;
  let low = Infinity;
  for (let i = 0; i < V; i++) if (order[i] > -Infinity && order[i] < low) low = order[i];
  let high = largestOf(order);
  for (let i = 0; i < HALVINGS; i++) {
    const middle = asFloat(asFloat(0.5 * low) + asFloat(0.5 * high));
    if (heldBy(order, p, V, middle, false) >= target) low = middle;
    else high = middle;
  }
  const above = heldBy(order, p, V, high, true);
  const { some, kept } = distribution.scratch;
  const someP = isCounted ? null : distribution.scratch.someP;
  let n = 0;
  for (let i = 0; i < V; i++) {
    if (low <= order[i] && order[i] <= high) {
      some[n] = order[i];
      if (someP !== null) someP[n] = p[i];
      n++;
    }
  }
  let edge = low;
  for (let i = 0; i < n; i++) {
    if (some[i] > edge && heldBy(some, someP, n, some[i], false) >= target - above) edge = some[i];
  }
  let reached = above + heldBy(some, someP, n, edge, true);
  const isTied = order.indexOf(edge) !== order.lastIndexOf(edge);
  for (let i = 0; i < V; i++) {
    kept[i] = order[i] >= edge ? 1 : 0;
    if (isTied && order[i] === edge) {
      if (reached >= target) kept[i] = 0;
      else reached += isCounted ? 1 : p[i];
    }
  }
  for (let i = 0; i < V; i++) if (!kept[i]) distribution.drop(i);
}
