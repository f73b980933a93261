// What can be done with the text: write it, again, stop, undo, copy, download; and the command that writes the same.

import { announce, byId, element } from "./dom.js";
import { commandFor } from "./command.js";
import { counted, grouped, label, listed } from "./words.js";

const ENDINGS = { length: "", end: ", a whole item", stopped: ", stopped" };
const SHOWN_UNKNOWN = 8; // characters
const LONG_OPTION = 40; // characters of an option with its value that can be broken into lines

/** Connects the prompt and the buttons of the page to a session. */
export class TextActions {
  #model;
  #session;
  #page;

  /**
   * @param {Object} model
   * @param {Session} session
   * @param {{model: string, fileName: string}} page how the command names the model; what a downloaded text is called
   */
  constructor(model, session, page) {
    this.#model = model;
    this.#session = session;
    this.#page = page;
    const prompt = byId("prompt");
    prompt.addEventListener("input", () => session.setPrompt(prompt.value));
    prompt.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      session.write();
    });
    const actions = {
      write: () => session.write(),
      again: () => session.again(),
      stop: () => session.stop(),
      undo: () => session.undo(),
      "from-here": () => {
        session.continueFrom(session.selected);
        prompt.focus();
      },
      "to-end": () => session.select(session.letters.length),
      copy: () => this.#copy(session.text, "The text"),
      "copy-command": () => this.#copy(this.#command(), "The command"),
      download: () => this.#download(),
    };
    for (const [id, act] of Object.entries(actions)) byId(id).addEventListener("click", act);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && session.isWriting) session.stop();
    });
    for (const name of ["text", "growth", "controls", "activity"]) session.addEventListener(name, () => this.summarize());
    session.addEventListener("ending", () => announce(`${counted(session.letters.length, "character")} written`));
  }

  /** Show what is in the text, and what the buttons can do. */
  summarize() {
    const session = this.#session;
    const prompt = byId("prompt");
    if (prompt.value !== session.prompt) prompt.value = session.prompt;
    byId("stop").disabled = !session.isWriting;
    byId("undo").disabled = !session.hasPast;
    byId("command").replaceChildren(...inPieces(this.#command()));
    byId("command-title").textContent = session.drawn === null ? "What Write does, in a terminal:" : "The same text in a terminal:";
    this.#showUnknown();
    const known = session.letters.map(({ surprise }) => surprise).filter((bits) => !Number.isNaN(bits));
    const mean = known.reduce((sum, bits) => sum + bits, 0) / known.length;
    const length = counted(session.letters.filter(({ char }) => char !== undefined).length, "character");
    const ending = session.isWriting ? ", writing" : (ENDINGS[session.finishReason] ?? "");
    byId("summary").textContent = `${length}${ending}${known.length ? `; ${mean.toFixed(2)} bits of surprise each` : ""}`;
  }

  #command() {
    const { prompt, draw, unknown } = this.#session;
    return commandFor({ model: this.#page.model, prompt, ...draw, skips: unknown.length > 0 });
  }

  #showUnknown() {
    const { unknown } = this.#session;
    byId("unknown").hidden = !unknown.length;
    if (!unknown.length) return;
    const more = unknown.length > SHOWN_UNKNOWN ? [`${grouped(unknown.length - SHOWN_UNKNOWN)} more`] : [];
    const names = listed([...unknown.slice(0, SHOWN_UNKNOWN).map(label), ...more]);
    byId("unknown").textContent = `The model does not know ${names}, so it reads the prompt without ${unknown.length > 1 ? "them" : "it"}.`;
  }

  async #copy(text, name) {
    try {
      await navigator.clipboard.writeText(text);
      this.#note(`${name} is copied.`);
    } catch {
      this.#note(copiedByHand(text) ? `${name} is copied.` : "This browser does not let the page copy; select the text instead.");
    }
  }

  #download() {
    const url = URL.createObjectURL(new Blob([this.#session.text], { type: "text/plain" }));
    element("a", { href: url, download: this.#page.fileName }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
    this.#note("The text is saved.");
  }

  #note(message) {
    byId("note").textContent = message;
    announce(message);
    setTimeout(() => (byId("note").textContent = ""), 3000);
  }
}

/** @returns {(Node|string)[]} a command whose options, but for long ones, are not broken into two lines */
function inPieces(command) {
  const options = command.split(/ (?=--\w)/);
  const pieces = options.map((option, i) => (i + 1 < options.length ? `${option} ` : option));
  return pieces.map((piece) => (piece.length > LONG_OPTION ? piece : element("span", { class: "option" }, piece)));
}

/** Copy a text in browsers that keep the clipboard from pages that are files. */
function copiedByHand(text) {
  const area = element("textarea", { value: text, class: "unseen" });
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  return isCopied;
}
