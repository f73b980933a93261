// Long work in short slices, so that the page stays responsive.

const SLICE = 12; // milliseconds of work between two frames

/** A lane for work of one kind: new work replaces what is still under way. */
export class Slices {
  #current = null;

  /** @type {boolean} whether work is under way */
  get isBusy() {
    return this.#current !== null;
  }

  /**
   * Do work: advance an iterator until it ends, a slice at a time. The first slice is done at once.
   * @param {Iterator} steps each step must take a few milliseconds at most
   * @param {Object} [hooks]
   * @param {function(any[]): void} [hooks.onSlice] called after a slice with what the iterator yielded
   * @param {function(any): void} [hooks.onDone] called at the end with what the iterator returned
   * @param {number} [hooks.pause] milliseconds after each step; by default as many steps as fit into a slice
   */
  run(steps, { onSlice = () => {}, onDone = () => {}, pause = 0 } = {}) {
    this.cancel();
    const work = (this.#current = { timer: 0, frame: 0 });
    const slice = () => {
      const until = performance.now() + SLICE;
      const yielded = [];
      let step;
      do {
        step = steps.next();
        if (!step.done) yielded.push(step.value);
      } while (!step.done && !pause && performance.now() < until);
      if (step.done) this.#current = null;
      if (yielded.length) onSlice(yielded);
      if (step.done) onDone(step.value);
      else if (this.#current !== work) return; // a hook has begun something else
      else if (pause) work.timer = setTimeout(slice, pause);
      else this.#later(work, slice);
    };
    slice();
  }

  /** Give up the work under way. */
  cancel() {
    if (this.#current === null) return;
    cancelAnimationFrame(this.#current.frame);
    clearTimeout(this.#current.timer);
    this.#current = null;
  }

  #later(work, slice) {
    // A hidden page has no frames.
    if (document.hidden) work.timer = setTimeout(slice);
    else work.frame = requestAnimationFrame(slice);
  }
}
