// Characters to tokens and back, as knock/vocab.py reads them.

/** The characters that a model knows. A character is one code point. */
export class Vocabulary {
  /**
   * @param {string[]} characters - by token.
   * @param {boolean} hasBoundary - whether there is one more token, the last, which is no character and ends an item.
   * @param {Object<string, string>} folds - characters that are read as others, their lower case.
   */
  constructor(characters, hasBoundary, folds) {
    this.chars = characters;
    this.boundary = hasBoundary ? characters.length : null;
    /** V, the number of tokens. */
    this.size = characters.length + (hasBoundary ? 1 : 0);
    this.folds = new Map(Object.entries(folds));
    this.tokens = new Map(characters.map((char, token) => [char, token]));
    /** The token that an empty prompt starts from: the boundary, or the newline if it is known, or token 0. */
    this.start = this.boundary ?? this.tokens.get("\n") ?? 0;
  }

  /** Return the token of a character; undefined if it is unknown. */
  tokenOf(char) {
    return this.tokens.get(this.folds.get(char) ?? char);
  }

  /**
   * Return the tokens of a text, number[].
   *
   * What is unknown but has only known characters in its other Unicode normal form is read in that form.
   *
   * @param {string} text
   * @param {"error"|"skip"|"replace"} unknown - how to handle other unknown characters; "replace" takes the first
   *   known one of ?, a space and the first character of the vocabulary.
   * @throws {RangeError} if a character is unknown and that is an error; its `offset` counts code points.
   */
  encode(text, unknown = "error") {
    if (!["error", "skip", "replace"].includes(unknown)) {
      throw new RangeError(`unknown must be one of error, skip, replace, got ${unknown}`);
    }
    const replacement = this.tokens.get("?") ?? this.tokens.get(" ") ?? 0;
    const tokens = [];
    for (const { characters, offset } of this.#spelled(text)) {
      characters.forEach((char, i) => {
        const token = this.tokenOf(char);
        if (token !== undefined) tokens.push(token);
        else if (unknown === "replace") tokens.push(replacement);
        else if (unknown === "error") throw unknownCharacter(char, offset + i);
      });
    }
    return tokens;
  }

  /**
   * Return the parts of a text, characters that belong together. What is known only in its other Unicode normal form is
   * in that form.
   */
  #spelled(text) {
    const isKnown = (char) => this.tokenOf(char) !== undefined;
    const characters = [...text];
    if (characters.every(isKnown)) return [{ characters, offset: 0 }];
    const parts = [];
    for (let start = 0, end; start < characters.length; start = end) {
      end = start + 1;
      while (end < characters.length && joinsPrevious(characters[end])) end++;
      const part = characters.slice(start, end);
      const other = part.every(isKnown) ? undefined : otherForm(part, isKnown);
      parts.push({ characters: other === undefined ? part : [...other], offset: start });
    }
    return parts;
  }

  /** Return a text with the parts that are known only in their other Unicode normal form in that form. */
  respell(text) {
    return this.#spelled(text).flatMap((part) => part.characters).join("");
  }

  /** Return a string as the model writes it: in lower case if it knows no other, in its normal form. */
  asWritten(text) {
    return [...this.respell(text)].map((char) => this.folds.get(char) ?? char).join("");
  }

  /** Return the text of tokens. */
  decode(tokens) {
    return Array.from(tokens, (token) => this.chars[token]).join("");
  }
}

/** Return characters in another normal form in which all are known; undefined if there is none. */
function otherForm(part, isKnown) {
  const text = part.join("");
  return ["NFC", "NFD"].map((form) => text.normalize(form)).find((spelling) => [...spelling].every(isKnown));
}

/** Return whether a character may be a part of the one before it in NFC: a combining mark, a vowel sign, a jamo. */
function joinsPrevious(char) {
  return char > "\x7f" && (/^\p{M}$/u.test(char) || (char >= "\u1160" && char <= "\u11ff"));
}

function unknownCharacter(char, offset) {
  const point = char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  const error = new RangeError(`the model does not know the character U+${point} at offset ${offset}`);
  return Object.assign(error, { char, offset });
}
