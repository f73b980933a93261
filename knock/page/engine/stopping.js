// Stop strings: where a text ends, and how much of a growing text is certain.

/**
 * Looks for stop strings in a growing text.
 *
 * The text ends where a stop string is first completed, and that string is cut off; of several that are completed at
 * the same character, the longest is cut off. The prompt does not count.
 */
export class StopStrings {
  /**
   * @param {string[]} strings - none of them empty.
   * @param {(string: string) => string} asWritten - returns a string as the model writes it.
   * @throws {RangeError} if one is empty.
   */
  constructor(strings, asWritten) {
    if (!Array.isArray(strings) || strings.some((each) => typeof each !== "string" || each === "")) {
      throw new RangeError("a stop string needs at least one character");
    }
    this.strings = strings.map((given) => ({ given, characters: [...asWritten(given)] }));
    this.longest = Math.max(0, ...this.strings.map(({ characters }) => characters.length));
    this.recent = []; // characters
  }

  /**
   * Add a character.
   *
   * @returns {{found: string|null, cut: number, held: number}} the stop string that it completes, as given, and the
   *   number of characters to cut off; otherwise how many of the last characters may yet belong to one.
   */
  feed(char) {
    if (this.longest === 0) return { found: null, cut: 0, held: 0 };
    this.recent.push(char);
    if (this.recent.length > this.longest) this.recent.shift();
    let found = null;
    let cut = 0;
    let held = 0;
    for (const { given, characters } of this.strings) {
      if (characters.length > cut && this.#endsWith(characters, characters.length)) {
        found = given;
        cut = characters.length;
      }
      const most = Math.min(characters.length - 1, this.recent.length);
      for (let n = most; n > held; n--) if (this.#endsWith(characters, n)) held = n;
    }
    return { found, cut, held };
  }

  /** Return whether the text ends with the first n of some characters. */
  #endsWith(characters, n) {
    const start = this.recent.length - n;
    if (start < 0) return false;
    for (let i = 0; i < n; i++) if (this.recent[start + i] !== characters[i]) return false;
    return true;
  }
}
