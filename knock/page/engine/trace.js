// The attention of one token for display: what a head looked at, and what each kind of its logits alone would.

/**
 * Return the attention of a head by distance; index 0 is the character just read.
 *
 * `weights` is the attention. `reweight` and `content` are the softmax of either kind of logits alone, without the gate
 * that mixes them; null if the head has none, or its gate leaves none. Reweight logits may reach less far.
 *
 * @param {object} block
 * @param {number} h - the head.
 * @param {Float64Array|Int16Array} codes - of the attention, [seen].
 * @param {Float32Array} logits - [seen].
 * @param {Float32Array} learned - the reweight logits among them, as far as they reach.
 * @returns {{weights: Float32Array, reweight: Float32Array|null, content: Float32Array|null}}
 */
export function traceOf({ gates, hasReweight }, h, codes, logits, learned) {
  const gate = gates === null ? (hasReweight ? 1 : 0) : gates[h];
  const sum = codes.reduce((a, b) => a + b, 0);
  const compared = logits.map((logit, j) => logit - (learned[j] ?? 0));
  return {
    weights: Float32Array.from(codes, (code) => code / sum),
    reweight: gate > 0 ? softmaxOf(learned, gate) : null,
    content: gate < 1 ? softmaxOf(compared, 1 - gate) : null,
  };
}

/** Return the softmax of logits / scale. */
function softmaxOf(logits, scale) {
  const top = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = logits.map((logit) => Math.exp((logit - top) / scale));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}
