// A quantised matrix product: exact sums of integers, which have no order.

const PANEL = 8; // columns that are summed together, in local variables

/** The numbers of a matrix product, [K, M]: bias + sum of codes * factor. */
export class Layer {
  /**
   * @param {number} K - rows.
   * @param {number} M - columns.
   * @param {Int16Array} codes - of the weights, [K, M].
   * @param {Float32Array} factor - of the sums, [M].
   * @param {Float32Array|null} bias - [M]; null if there is none.
   */
  constructor(K, M, codes, factor, bias) {
    Object.assign(this, { K, M, codes, factor, bias });
  }
}

/** The product of a layer in plain JavaScript. */
export class PlainProduct {
  /** @param {Layer} layer */
  constructor({ K, M, codes, factor, bias }) {
    const panels = Math.ceil(M / PANEL);
    Object.assign(this, { K, M, factor, bias });
    /** Codes by panel, row and column in the panel, [panels, K, PANEL]. V8 multiplies float64 numbers fastest. */
    this.codes = new Float64Array(panels * K * PANEL);
    for (let k = 0; k < K; k++) {
      for (let m = 0; m < M; m++) {
        this.codes[(Math.floor(m / PANEL) * K + k) * PANEL + (m % PANEL)] = codes[k * M + m];
      }
    }
    /** The sums of the last product, [panels * PANEL]. */
    this.sums = new Float64Array(panels * PANEL);
  }

  /**
   * Multiply a row of codes into `sums`.
   *
   * @param {Float64Array} row - whole numbers, [K].
   */
  multiply(row) {
    const { K, codes, sums } = this;
    let at = 0;
    for (let m = 0; m < sums.length; m += PANEL) {
      let a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0;
      for (let k = 0; k < K; k++) {
        const x = row[k];
        a += x * codes[at];
        b += x * codes[at + 1];
        c += x * codes[at + 2];
        d += x * codes[at + 3];
        e += x * codes[at + 4];
        f += x * codes[at + 5];
        g += x * codes[at + 6];
        h += x * codes[at + 7];
        at += PANEL;
      }
      sums[m] = a;
      sums[m + 1] = b;
      sums[m + 2] = c;
      sums[m + 3] = d;
      sums[m + 4] = e;
      sums[m + 5] = f;
      sums[m + 6] = g;
      sums[m + 7] = h;
    }
  }
}
