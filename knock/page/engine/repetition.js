// Penalties for tokens that would repeat earlier text.

const LONGEST = 256; // tokens of a repetition; longer ones count as this long
const MOST = 1e4; // nats of a penalty
const rounded = Math.fround;

/**
 * Lower the logits of tokens that would repeat earlier text.
 *
 * @param {Float32Array} z - logits, [V]; changed.
 * @param {number[]} context - the tokens so far, prompt included.
 * @param {object} controls
 */
export function penalize(z, context, controls) {
  const lengths = repeats(context, z.length, controls.repetition_range);
  if (controls.dry_multiplier > 0) {
    for (let token = 0; token < z.length; token++) {
      if (lengths[token] >= controls.dry_allowed_length) {
        let penalty = controls.dry_multiplier;
        for (let i = controls.dry_allowed_length; i < lengths[token]; i++) {
          penalty = Math.min(penalty * controls.dry_base, MOST);
        }
        z[token] -= rounded(Math.min(penalty, MOST));
      }
    }
  }
  if (controls.no_repeat_ngram > 0) {
    const longest = controls.no_repeat_ngram - 1;
    const isOneLeft = z.some((each, token) => each > -Infinity && lengths[token] < longest);
    if (isOneLeft) for (let token = 0; token < z.length; token++) if (lengths[token] >= longest) z[token] = -Infinity;
  }
}

/** For each token, return the longest end of the text that it followed earlier: 0 if none, -1 if it is new. */
function repeats(text, V, reach) {
  const start = reach > 0 ? Math.max(0, text.length - reach) : 0;
  const last = text.length - 1;
  const lengths = new Int32Array(V).fill(-1);
  for (let j = start; j <= last; j++) lengths[text[j]] = 0;
  for (let j = start; j < last; j++) {
    if (text[j] === text[last]) {
      let length = 1;
      while (length < LONGEST && j - length >= start && text[j - length] === text[last - length]) length++;
      const next = text[j + 1];
      if (length > lengths[next]) lengths[next] = length;
    }
  }
  return lengths;
}
