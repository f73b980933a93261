// Philox4x32-10: random numbers as a pure function of a counter and a key.
//
// Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3". The generator has no state, so the
// number of a step of a row depends on no other draw.

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const ROUNDS = 10;

/** Return a whole number in [0, 2**64), a number or a BigInt, as two words of 32 bits, the low one first. */
export function words(number) {
  const wide = BigInt(number);
  return [Number(wide & 0xffffffffn), Number(wide >> 32n)];
}

/**
 * Return the uniform number in [0, 1) of one step of one row, with 53 random bits.
 *
 * @param {number[]} key - the seed, as `words`.
 * @param {number[]} stream - the row's index, as `words`.
 * @param {number} step - number of the draw, below 2**53.
 */
export function uniform(key, stream, step) {
  let c0 = step | 0;
  let c1 = (step / 4294967296) | 0;
  let c2 = stream[0] | 0;
  let c3 = stream[1] | 0;
  let k0 = key[0] | 0;
  let k1 = key[1] | 0;
  for (let i = 0; i < ROUNDS; i++) {
    const high0 = highWord(MULTIPLIER_0, c0);
    const high1 = highWord(MULTIPLIER_1, c2);
    const low0 = Math.imul(MULTIPLIER_0, c0);
    const low1 = Math.imul(MULTIPLIER_1, c2);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + WEYL_0) | 0;
    k1 = (k1 + WEYL_1) | 0;
  }
  return ((c0 >>> 5) * 67108864 + (c1 >>> 6)) * 2 ** -53;
}

/** Return the upper 32 bits of the product of two unsigned words. */
function highWord(a, b) {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16); // below 2**32
  const other = aLow * bHigh + (middle & 0xffff); // below 2**32, in which >>> is exact
  return (aHigh * bHigh + (middle >>> 16) + (other >>> 16)) | 0;
}
