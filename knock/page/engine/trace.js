// The attention of one token for display: what each head looked at, and what each kind of its logits alone would.

/**
 * Return the attention of the heads of a block by distance; index 0 is the character just read.
 *
 * `weights` is the attention. `reweight` and `content` are the softmax of either kind of logits alone, without the gate
 * that mixes them; null if the head has none, or its gate leaves none. Reweight logits may reach less far.
 *
 * @param {object} block
 * @param {{weights: Float64Array, sum: number, logits: Float32Array}[]} heads - codes of the attention, their sum, and
 *   the logits.
 * @param {Float64Array} projected - the projection of the token.
 * @param {boolean} isAbsolute - whether reweight logits are by slot.
 * @param {number} seen - number of tokens in the window.
 * @returns {{weights: Float32Array, reweight: Float32Array|null, content: Float32Array|null}[]}
 */
export function traceOfBlock(block, heads, projected, isAbsolute, seen) {
  const { reach, gates } = block;
  return heads.map(({ weights, sum, logits }, h) => {
    const gate = gates === null ? (block.hasReweight ? 1 : 0) : gates[h];
    const near = Math.min(reach, seen);
    const first = block.reweight + h * reach;
    const learned = Float32Array.from({ length: near }, (_, j) => projected[first + (isAbsolute ? seen - 1 - j : j)]);
    const compared = logits.map((logit, j) => logit - (j < near ? learned[j] : 0));
    return {
      weights: Float32Array.from(weights, (weight) => weight / sum),
      reweight: gate > 0 ? softmaxOf(learned, gate) : null,
      content: gate < 1 ? softmaxOf(compared, 1 - gate) : null,
    };
  });
}

/** Return the softmax of logits / scale. */
function softmaxOf(logits, scale) {
  const top = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = logits.map((logit) => Math.exp((logit - top) / scale));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}
