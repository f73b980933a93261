// What a model has read of one text, and the logits that follow.

import { PlainPass } from "./plain.js";
import { SimdPass } from "./simd.js";

/** The state of one text. */
export class State {
  /**
   * @param {Model} model
   * @param {boolean} isTraced - whether to keep the attention of the last token.
   * @param {boolean} isPlain - whether to compute without WebAssembly, which gives the same.
   */
  constructor(model, isTraced, isPlain) {
    const { blocks, position } = model.config;
    this.window = position === "absolute" ? Math.max(...blocks.map((block) => block.T)) : null;
    this.isTraced = isTraced;
    this.pass = !isPlain && SimdPass.fits(model) ? new SimdPass(model) : new PlainPass(model);
    this.reset();
  }

  /** Forget the text. */
  reset() {
    /** Attention of the last token, [L][H] of what `traceOf` returns; null before the first or if it is not kept. */
    this.trace = null;
    this.tokens = []; // of an absolute model, those in the window
    this.pass.reset();
  }

  /**
   * Read a token.
   *
   * @param {number} token
   * @returns {Float32Array} the logits of the next token, [V]; overwritten by the next call.
   */
  read(token) {
    const { logits } = this.pass;
    if (!(Number.isInteger(token) && token >= 0 && token < logits.length)) {
      throw new RangeError(`a token must be a whole number from 0 to ${logits.length - 1}, got ${token}`);
    }
    if (this.window !== null) {
      if (this.tokens.length === this.window) { // all slots shift: the window is computed again
        this.tokens.shift();
        this.pass.reset();
        for (const earlier of this.tokens) this.pass.step(earlier, false, null);
      }
      this.tokens.push(token);
    }
    const heads = this.isTraced ? [] : null;
    this.pass.step(token, true, heads);
    this.trace = heads;
    return logits;
  }
}
