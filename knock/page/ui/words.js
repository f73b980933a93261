// Characters and numbers as the page shows them.

export const END_SIGN = "∎";

/**
 * Return a visible form of a character, as `knock inspect` shows it in a terminal.
 * @param {string} char one character; a space becomes ␣, a control character ^I, an odd one its escape
 * @returns {string}
 */
export function label(char) {
  if (char === "\n") return "↵";
  if (char === " ") return "␣";
  if (/^\p{M}$/u.test(char)) return `◌${char}`; // a combining mark needs a base character
  const code = char.codePointAt(0);
  if (code < 0x20 || code === 0x7f) return `^${String.fromCharCode(code ^ 0x40)}`;
  if (code >= 0x80 && code < 0xa0) return `M-^${String.fromCharCode(code ^ 0xc0)}`;
  if (/^[\p{Zs}\u200c\u200d]$/u.test(char) || !/^[\p{C}\p{Z}]$/u.test(char)) return char;
  const digits = code < 0x100 ? 2 : code < 0x10000 ? 4 : 8;
  return `\\${{ 2: "x", 4: "u", 8: "U" }[digits]}${code.toString(16).padStart(digits, "0")}`;
}

/**
 * Return the visible forms of a model's tokens.
 * @param {Object} model
 * @returns {string[]} [V]
 */
export function labelsOf(model) {
  return [...model.vocab.chars.map(label), ...(model.vocab.boundary === null ? [] : [END_SIGN])];
}

const SPOKEN = { "\n": "new line", " ": "space", "\t": "tab", ",": "comma", ".": "full stop", "'": "apostrophe" };

/** @returns {string} a character as a screen reader should say it */
export function spoken(char) {
  if (char === undefined) return "the end of the item";
  return SPOKEN[char] ?? (/^\p{Lu}$/u.test(char) ? `capital ${char}` : label(char));
}

/** @returns {string} a share as a percentage, such as 42%, 3.1% or 0.02% */
export function percent(share) {
  if (share >= 0.0995 || share === 0) return `${(100 * share).toFixed(0)}%`;
  if (share < 1e-5) return "<0.001%";
  return `${Number((100 * share).toPrecision(2))}%`;
}

/** @returns {string} a count with its noun: 1 character, 3,000 characters */
export function counted(count, noun) {
  return `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** @returns {string} a whole number with commas between thousands */
export function grouped(count) {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** @returns {string} words as a list: a, b and c */
export function listed(words) {
  return words.length > 1 ? `${words.slice(0, -1).join(", ")} and ${words.at(-1)}` : (words[0] ?? "");
}

/** @returns {number} the entropy of probabilities, in bits */
export function bitsOf(probabilities) {
  let sum = 0;
  for (const p of probabilities) if (p > 0) sum -= p * Math.log2(p);
  return Math.max(0, sum);
}

/**
 * Return the softmax of logits.
 * @param {ArrayLike<number>} logits [V]
 * @param {number} [temperature]
 * @returns {Float64Array} [V]
 */
export function probabilitiesOf(logits, temperature = 1) {
  let top = -Infinity;
  for (const z of logits) top = Math.max(top, z);
  const p = new Float64Array(logits.length);
  let sum = 0;
  for (let i = 0; i < p.length; i++) sum += p[i] = Math.exp((logits[i] - top) / temperature);
  for (let i = 0; i < p.length; i++) p[i] /= sum;
  return p;
}
