// The page: it connects the text, the controls, the bars, the heads and the patterns.

import { Sampler, decodeModel } from "../engine/index.js";
import { bringIntoView, byId, element } from "./dom.js";
import { Bars } from "./bars.js";
import { ControlPanel, engineControls } from "./controls.js";
import { TextActions } from "./actions.js";
import { showGauge } from "./gauge.js";
import { HeadsView } from "./heads.js";
import { showPatterns } from "./patterns.js";
import { Reader } from "./reader.js";
import { Session } from "./session.js";
import { Slices } from "./slices.js";
import { tourSteps } from "./steps.js";
import { skim, survey } from "./survey.js";
import { TextView } from "./text.js";
import { Tour } from "./tour.js";
import { bitsOf, label, labelsOf, percent } from "./words.js";

const SURVEY_DELAY = 150; // milliseconds without a change of the text
const FIRST_SIGHT = 400; // characters of a text that are seen when the page opens

/** The page as a whole. */
class App {
  #looking = new Slices();
  #surveying = new Slices();
  #timer = 0;
  #surveyed = null; // the survey of the text; null before it is done
  #isOpening = true; // until something is selected, by the page or its reader
  #atStart = null; // what the model says before any text

  constructor(model, page) {
    this.model = model;
    this.page = page;
    this.plain = { temperature: 0.8, top_p: 0.95, min_p: 0, held: false, target: 1.5 };
    this.session = new Session(model, engineControls(this.plain));
    this.reader = new Reader(model);
    this.text = new TextView(this.session);
    this.bars = new Bars(model, labelsOf(model), (token) => this.session.pick(token), () => this.session.erase());
    this.heads = new HeadsView(model, (looked) => this.text.mark(looked));
    this.panel = new ControlPanel(this.session, this.plain);
    this.actions = new TextActions(model, this.session, page);
    this.#describe();
    this.#listen();
    for (const kind of ["keydown", "pointerdown", "input"]) {
      document.addEventListener(kind, () => this.#opened(), { capture: true, once: true });
    }
    this.#begin();
    this.tour = new Tour(() => this.#tourSteps(), () => this.#kept());
  }

  /** @type {Object|null} the survey of the text; null before it is done */
  get surveyed() {
    return this.#surveyed;
  }

  /** @type {boolean} whether everything that the page says is about the text as it is */
  get isSettled() {
    return this.#surveyed !== null && !this.#looking.isBusy;
  }

  #describe() {
    const { model, page } = this;
    byId("controls").open = !matchMedia("(max-width: 760px)").matches;
    document.title = page.title;
    byId("name").textContent = page.headline;
    byId("about").textContent = page.about;
    byId("source").textContent = page.source;
    byId("source").hidden = !page.source;
    byId("terms").replaceChildren(...page.terms.flatMap(([name, meaning]) => [element("dt", {}, name), element("dd", {}, meaning)]));
    byId("chosen").append(
      element("option", { value: "" }, "none"),
      ...model.vocab.chars.map((char, token) => element("option", { value: token }, label(char))),
    );
    byId("open-terms").addEventListener("click", () => {
      byId("words").open = true;
      byId("words").querySelector("summary").focus({ preventScroll: true });
      bringIntoView(byId("words"));
    });
    if (page.char !== null) byId("chosen").value = model.vocab.tokenOf(page.char);
    byId("chosen").addEventListener("change", () => this.#surveyLater());
  }

  #listen() {
    const { session } = this;
    session.addEventListener("text", () => this.#surveyLater());
    session.addEventListener("selection", () => this.#look());
    session.addEventListener("controls", () => this.#look());
    session.addEventListener("growth", () => {
      if (session.pause) this.#look(); // otherwise it would be over before anyone could look
    });
    session.addEventListener("ending", () => this.#surveyLater());
    session.addEventListener("activity", () => {
      if (!session.isWriting) this.#surveyLater();
    });
    for (const name of ["text", "growth", "controls"]) session.addEventListener(name, () => this.#gauge());
  }

  /** Show the given text, or one that the model writes; look at the most surprising character of its middle. */
  #begin() {
    if (this.page.text) this.session.showText(this.page.text);
    else this.session.write();
  }

  #selectInteresting() {
    const { letters } = this.session;
    const third = Math.floor(Math.min(letters.length, FIRST_SIGHT) / 3);
    let best = third;
    for (let at = third; at < 2 * third; at++) if (letters[at].surprise > (letters[best].surprise || 0)) best = at;
    this.#isOpening = false;
    this.session.select(best);
  }

  #opened() {
    if (!this.#isOpening) return;
    this.#isOpening = false;
    this.#look();
  }

  /** Ask the model about the selected place, and show what it says. */
  #look() {
    if (this.#isOpening) return;
    const { session, reader } = this;
    const at = session.selected;
    const place = session.placeBefore(at);
    if (place < 0) {
      this.#showPlace(at, this.#beforeAnyText(), true);
      return;
    }
    reader.set(session.read);
    this.#looking.run(reader.find(place), { onDone: (found) => this.#showPlace(at, found, session.fromStart) });
  }

  #beforeAnyText() {
    if (this.#atStart === null) {
      const state = this.model.state({ trace: true });
      this.#atStart = { logits: state.read(this.model.vocab.start).slice(), trace: state.trace };
    }
    return this.#atStart;
  }

  #showPlace(at, { logits, trace }, hasStart) {
    const { session, model } = this;
    const letter = session.letters[at];
    const stages = new Sampler(model, session.controls).stages(logits);
    this.bars.show(stages, session.controls, { actual: letter?.token ?? null });
    this.heads.show({ letters: session.letters, at, hasStart, trace });
    const place = letter?.char === undefined ? "at the end" : `where ${label(letter.char)} stands`;
    byId("next-title").textContent = letter === undefined ? "The next character" : `What was expected ${place}`;
    const facts = [];
    if (letter !== undefined) {
      const { probabilities } = stages[0];
      const share = probabilities[letter.token];
      const rank = 1 + probabilities.reduce((count, p) => count + Number(p > share), 0);
      facts.push(`Number ${rank} on the model's list, at ${percent(share)}: ${(-Math.log2(share)).toFixed(1)} bits of surprise.`);
    }
    const { target_entropy: target } = session.controls;
    if (target !== undefined) {
      const { temperature, probabilities } = stages.find(({ name }) => name === "temperature");
      const isHeld = Math.abs(bitsOf(probabilities) - target) < 0.01;
      facts.push(`The rule sets temperature ${temperature.toFixed(2)} here${isHeld ? "" : ": it can come no nearer to the target"}.`);
    }
    byId("next-facts").textContent = facts.join(" ");
    byId("from-here").hidden = letter === undefined || at === 0;
    byId("to-end").hidden = letter === undefined || session.isOver;
  }

  /** Read the whole text again once it has stayed the same for a moment. */
  #surveyLater() {
    clearTimeout(this.#timer);
    this.#surveying.cancel();
    this.#surveyed = null;
    this.#timer = setTimeout(() => this.#survey(), this.#isOpening ? 0 : SURVEY_DELAY);
  }

  /** First the surprise of every character, which is soon done, then the patterns of the heads. */
  #survey() {
    const { session, model, text } = this;
    if (session.isWriting) return;
    const read = session.read;
    const shift = 1 - Number(session.fromStart); // from a place to the letter that is predicted there
    const next = session.isOver ? model.vocab.boundary : undefined;
    this.#surveying.run(skim(model, read, next), {
      onSlice: (found) => {
        for (const { at, surprise, entropy } of found) session.learn(at + shift, surprise, entropy);
        const end = found.at(-1).at + shift + 1;
        text.paint(found[0].at + shift, Math.min(end, session.letters.length));
        if (this.#isOpening && end >= Math.min(session.letters.length, FIRST_SIGHT)) this.#selectInteresting();
      },
      onDone: () => {
        this.actions.summarize();
        this.#surveyPatterns(read);
      },
    });
  }

  #surveyPatterns(read) {
    const { model, reader } = this;
    const chosen = byId("chosen").value === "" ? null : Number(byId("chosen").value);
    reader.set(read);
    const predicting = read.length > 1 ? read.slice(0, -1) : read; // nothing in the text follows the last token
    this.#surveying.run(survey(model, predicting, chosen), {
      onSlice: (found) => {
        for (const { at, ...said } of found) reader.remember(at, said);
      },
      onDone: (result) => {
        this.#surveyed = result;
        showPatterns(model, result, chosen === null ? null : model.vocab.chars[chosen], (head) => {
          this.heads.choose(head);
          bringIntoView(byId("heads"));
        });
        this.tour?.surveyed();
      },
    });
  }

  #gauge() {
    const { session } = this;
    const target = session.controls.target_entropy;
    byId("gauge").hidden = target === undefined;
    if (target === undefined) return;
    const isOfTarget = session.drawn?.controls.target_entropy === target;
    const readings = isOfTarget ? session.letters.filter(({ held }) => held !== undefined) : [];
    showGauge(readings.map(({ entropy, held }) => ({ before: entropy, after: held })), target);
  }

  #tourSteps() {
    const { model, session, panel, heads, plain, page } = this;
    const surveyed = () => this.#surveyed;
    return tourSteps({ model, session, panel, heads, plain, surveyed, corpus: page.corpus, sample: session.snapshot() });
  }

  /** Remember the text, the controls and the chosen head; return what restores them. */
  #kept() {
    const { session, panel, heads } = this;
    const [text, settings, pause, head] = [session.snapshot(), panel.settings, session.pause, heads.chosen];
    return () => {
      heads.choose(head);
      session.restore(text);
      session.setPause(pause);
      panel.set(settings);
    };
  }
}

const content = (id) => JSON.parse(byId(id).textContent);
globalThis.knock = new App(decodeModel(content("model")), content("page"));
