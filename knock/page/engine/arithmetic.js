// Sums, elementary functions and rounding, to the bits of knock/engine/portable/arithmetic.py.
//
// A float32 number is a JavaScript number that Math.fround leaves as it is. Every operation on float32 numbers is
// rounded on its own: fround(a * b + c) would round once where the engine rounds twice. A float64 sum, product,
// quotient or square root of float32 numbers, rounded to float32, is the float32 operation (Figueroa 1995).

const fround = Math.fround;

export const LOWEST = -87; // below, e**x counts as 0
export const LN2 = 0.6931471805599453;
export const WIDTH = 16; // partial sums

const MAGIC = 6755399441055744; // 1.5 * 2**52: adding it to a float64 rounds to an integer
const LOG2E = 1.4426950408889634;
const LOG2E_FLOAT = fround(LOG2E);
const EXP_1 = fround(0.6931469776120429);
const EXP_2 = fround(0.24022242145477116);
const EXP_3 = fround(0.05550733776473714);
const EXP_4 = fround(0.009671508809354482);
const EXP_5 = fround(0.0013264698743105238);
const GELU_A = fround(-2 * 0.7978845608028654);
const GELU_B = fround(0.044715);
const LN2_HIGH = 6.93147180369123816490e-01;
const LN2_LOW = 1.90821492927058770002e-10;
const SQRT2 = 1.4142135623730951;
const TAYLOR = inverseFactorials(13);
const POWERS = Float64Array.from({ length: 256 }, (_, i) => 2 ** (i - 127)); // exact

/** Return a number rounded to an integer, to an even one if two are as near: |x| < 2**51. */
export function round(x) {
  return (x + MAGIC) - MAGIC;
}

/** Return e**x for a float32 number of at most 88, as a float32 number. */
export function exp(x) {
  const t = fround((x < LOWEST ? LOWEST : x) * LOG2E_FLOAT);
  const n = round(t);
  const r = fround(t - n);
  const square = fround(r * r);
  const high = fround(fround(fround(fround(EXP_5 * r) + EXP_4) * square) + fround(fround(EXP_3 * r) + EXP_2));
  const p = fround(fround(high * square) + fround(fround(EXP_1 * r) + 1));
  return p * POWERS[(n + 127) | 0]; // exact: the result is a normal float32 number
}

/** Return x / (1 + exp(-2 sqrt(2/pi) (x + 0.044715 x^3))) for a float32 number. */
export function gelu(x) {
  const cube = fround(fround(fround(GELU_B * x) * x) * x);
  const argument = fround(GELU_A * fround(x + cube));
  return fround(x / fround(1 + exp(argument > 88 ? 88 : argument)));
}

/** Return the natural logarithm of a positive float64 number. */
export function logDouble(x) {
  let [m, e] = binary(x);
  if (m > SQRT2) {
    m *= 0.5;
    e += 1;
  }
  const f = m - 1;
  const s = f / (m + 1);
  const z = s * s;
  let tail = 0;
  for (let k = 23; k > 1; k -= 2) tail = (tail + 1 / k) * z;
  return e * LN2_HIGH + (e * LN2_LOW + (f - s * (f - 2 * tail)));
}

/** Return e**x for a float64 number between -700 and 700. */
export function expDouble(x) {
  const n = round(x * LOG2E);
  const r = (x - n * LN2_HIGH) - n * LN2_LOW;
  let p = TAYLOR[0];
  for (let k = 1; k < TAYLOR.length; k++) p = p * r + TAYLOR[k];
  const half = Math.trunc(n / 2);
  return p * powerOfTwo(half) * powerOfTwo(n - half);
}

/** Return the sum of 16 partial sums, the second half added to the first until one is left; changes them. */
export function byHalves(sums) {
  for (let half = WIDTH >> 1; half > 0; half >>= 1) {
    for (let i = 0; i < half; i++) sums[i] += sums[i + half];
  }
  return sums[0];
}

const DOUBLE = new Float64Array(1);
const WORDS = new Uint32Array(DOUBLE.buffer);
const HIGH = new Uint8Array(Uint16Array.of(1).buffer)[0] ? 1 : 0; // which word has the exponent

/** Return m and e with x = m * 2**e and 1 <= m < 2, for a positive number. */
function binary(x) {
  const isSmall = x < 2 ** -1022;
  DOUBLE[0] = isSmall ? x * 2 ** 54 : x;
  const e = (WORDS[HIGH] >>> 20) - 1023;
  WORDS[HIGH] = (WORDS[HIGH] & 0xfffff) | 0x3ff00000;
  return [DOUBLE[0], isSmall ? e - 54 : e];
}

function powerOfTwo(n) {
  WORDS[1 - HIGH] = 0;
  WORDS[HIGH] = (n + 1023) << 20;
  return DOUBLE[0];
}

/** Return 1/n!, ..., 1/1!, 1/0!. */
function inverseFactorials(n) {
  const inverses = new Float64Array(n + 1);
  for (let k = 0, factorial = 1; k <= n; k++, factorial *= k) inverses[n - k] = 1 / factorial;
  return inverses;
}
