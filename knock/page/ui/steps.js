// The five steps of the tour: what each says, and what it does to the page.

import { headName } from "./heads.js";
import { counted, grouped, percent } from "./words.js";

const QUESTION = "What is the capital of France?\n";
const WORD = /\p{L}{5,}/gu;

/**
 * A step of the tour.
 * @typedef {Object} TourStep
 * @property {string} title
 * @property {string} target id of the part of the page that it is about
 * @property {function(): void} enter drives the page
 * @property {function(): void} [surveyed] called when the text has been surveyed
 * @property {function(): string[]} say paragraphs
 * @property {{name: string, run: function(): void, isOn: function(): boolean|undefined}[]} tries what the reader can try
 *   with a button; `isOn` tells whether its settings are in force
 */

/**
 * @param {Object} app
 * @param {Object} app.model
 * @param {Session} app.session
 * @param {ControlPanel} app.panel
 * @param {HeadsView} app.heads
 * @param {function(): Object|null} app.surveyed the survey of the text; null before it is done
 * @param {{characters: number|null}} app.corpus what the model was trained on
 * @param {Object} app.sample a snapshot of the session: the text to show and to begin like
 * @returns {TourStep[]}
 */
export function tourSteps(app) {
  const prompt = opening(app.sample.letters.map(({ char }) => char ?? "").join(""));
  return [aCharacterModel(app, prompt), aHeadsPattern(app), byTemperature(app, prompt), byEntropyRule(app, prompt), noKnowledge(app)];
}

function aCharacterModel({ model, session, panel, plain }, prompt) {
  return {
    title: "It guesses the next character",
    target: "expected",
    enter() {
      panel.set(plain);
      session.setPause(0);
      session.setPrompt(prompt);
    },
    say: () => [
      `This model knows ${counted(model.vocab.chars.length, "character")}. It reads the text so far and says how likely each ` +
        "of them is to come next: those are the bars. It does nothing else.",
      "To write, one character is drawn, likely ones more often; it is put at the end, and the model is asked again. " +
        "Click a bar to choose one yourself, or let the model draw slowly and watch the bars.",
    ],
    tries: [
      { name: "Draw slowly", run: () => drawSlowly(session, prompt) },
      { name: "Stop", run: () => session.stop() },
    ],
  };
}

function aHeadsPattern({ model, session, heads, surveyed, sample }) {
  const hasGates = model.facts.gates.some((gates) => gates !== null);
  return {
    title: "Heads look back",
    target: "learned",
    enter() {
      session.stop();
      if (sample.letters.length) session.restore(sample);
    },
    surveyed() {
      const found = extremes(surveyed());
      if (found !== null) heads.choose(found.far.of);
    },
    say() {
      const found = extremes(surveyed());
      const { n_blocks: blocks, n_heads: each } = model.config;
      return [
        `Which earlier characters matter? ${counted(blocks * each, "head")}, in ${counted(blocks, "block")}, decide. Each ` +
          "panel shows where one head looks on average: on the left the character just read, then one back, two back.",
        found === null ? "" :
          `${sentenceOf(found.near)} to the last three characters: it watches the spelling.` +
          (found.far.share < 0.1 ? "" : ` ${sentenceOf(found.far)} to what is more than eight back: earlier words, the shape of lines.`),
        hasGates
          ? "A dashed line is the learned pattern alone (reweight). The rest compares what stands there with what is " +
            "needed (content). The gate is the share of the pattern: 1 is only pattern, 0 only comparison."
          : "Click a panel, then point at a character of the text: bars below the text show where this head looked.",
      ].filter(Boolean);
    },
    tries: [],
  };
}

function byTemperature({ session, panel, heads, plain }, prompt) {
  const at = (degrees) => () => {
    panel.set({ ...plain, temperature: degrees, top_p: 1, held: false });
    session.setPause(0);
    session.setPrompt(prompt);
    session.write();
  };
  return {
    title: "Temperature: how boldly it draws",
    target: "written",
    enter() {
      heads.choose(null);
      at(0.2)();
    },
    surveyed() {
      const telling = neitherCertainNorOpen(session.letters);
      if (telling !== null) session.select(telling);
    },
    say: () => [
      "Before a character is drawn, the temperature changes the bars. Below 1, likely characters become likelier still: safe, " +
        "then dull, then going round in circles. Above 1, rare ones get their chance: lively, then misspelt, then noise.",
      "Try three temperatures. The prompt and the seed stay, so only the temperature makes the difference. In the bars on " +
        "the page, compare the column of the model with that of the temperature, here at a place with several choices.",
    ],
    tries: [0.2, 0.8, 1.5].map((degrees) => ({
      name: String(degrees), run: at(degrees), isOn: () => !panel.settings.held && panel.settings.temperature === degrees,
    })),
  };
}

function byEntropyRule({ session, panel, plain }, prompt) {
  const held = (target) => () => {
    panel.set({ ...plain, top_p: 1, held: true, target });
    session.setPause(0);
    session.setPrompt(prompt);
    session.write();
  };
  return {
    title: "The entropy rule: steady surprise",
    target: "gauge",
    enter: held(1.5),
    say: () => [
      "Entropy says how open the next character is: 0 bits, it is certain; 1 bit, a coin toss; 3 bits, eight equal choices. " +
        "Inside a word the model is sure; where a word begins, it is not. One temperature for both is a compromise.",
      "The entropy rule chooses the temperature for each character, so that the entropy is what you ask for. In the gauge, " +
        "grey is the model's own entropy, blue is after the rule: it lies on the dashed line, except where no temperature " +
        "from 0.3 to 2 can bring it there.",
    ],
    tries: [0.5, 1.5, 3].map((target) => ({
      name: `${target} bits`, run: held(target), isOn: () => panel.settings.held && panel.settings.target === target,
    })),
  };
}

function noKnowledge({ model, session, panel, plain, corpus }) {
  const prompt = knows(model, QUESTION) ? QUESTION : "";
  return {
    title: "Why it does not know things",
    target: "written",
    enter() {
      panel.set(plain);
      session.setPause(0);
      session.setPrompt(prompt);
      session.write();
    },
    say: () => [
      prompt
        ? "It answers at once, in style, and without a clue. It was never asked to be right, only to guess the next character" +
          (corpus.characters === null ? "." : ` of a text of ${counted(corpus.characters, "character")}.`)
        : "What it wrote looks right and is made up. It was never asked to be right, only to guess the next character" +
          (corpus.characters === null ? "." : ` of a text of ${counted(corpus.characters, "character")}.`),
      `All it kept of this text is ${grouped(model.facts.parameters)} numbers. How words are spelt and what a line looks ` +
        "like helps to guess, so it learned that. It has no place for facts, cannot look anything up, and cannot say that it " +
        "does not know: it always draws the next character.",
      "A text that is unsurprising to the model, without colour, is not therefore true. Large models learn from far more text " +
        "and are right far more often, but they write in the same way.",
    ],
    tries: [{ name: "Ask again", run: () => session.again() }],
  };
}

function drawSlowly(session, prompt) {
  session.setPause(350);
  session.setPrompt(prompt);
  session.write();
}

/** The beginning of a text, up to the middle of a word, where the next character is neither certain nor open. */
export function opening(text) {
  const words = [...text.matchAll(WORD)].map((match) => match.index + 3);
  const end = words.find((at) => at >= 12) ?? words[0] ?? Math.min(3, text.length);
  return text.slice(0, end);
}

/**
 * Return the place of a written letter where the temperature can be seen best: where the model's entropy is nearest to that of
 * four equal choices; null if nothing was written.
 */
function neitherCertainNorOpen(letters) {
  const distance = ({ entropy }) => Math.abs(entropy - 2);
  const written = letters.filter(({ char, isGiven, entropy }) => char !== undefined && !isGiven && !Number.isNaN(entropy));
  if (!written.length) return null;
  return letters.indexOf(written.reduce((best, each) => (distance(each) < distance(best) ? each : best)));
}

/** @returns {boolean} whether a model can read a text and writes more than items */
function knows({ vocab }, text) {
  return vocab.boundary === null && [...text].every((char) => vocab.tokenOf(char) !== undefined);
}

/** The heads that look most at what is near and at what is far; null if there is no survey, or only one head. */
function extremes(result) {
  if (result === null) return null;
  const heads = result.heads.flatMap((block, b) => block.map(({ near, far }, h) => ({ of: [b, h], near, far })));
  if (heads.length < 2) return null;
  const most = (name) => {
    const head = heads.reduce((best, each) => (each[name] > best[name] ? each : best));
    return { of: head.of, share: head[name] };
  };
  return { near: most("near"), far: most("far") };
}

function sentenceOf({ of: [b, h], share }) {
  const name = headName(b, h);
  return `${name[0].toUpperCase()}${name.slice(1)} gives ${percent(share)} of its attention`;
}
