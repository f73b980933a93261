// The controls of drawing, each with its value beside it.

import { byId } from "./dom.js";

/** What each control is set to where it changes nothing. */
const OFF = { temperature: 1, top_p: 1, min_p: 0 };

/**
 * Settings as the controls show them; `held` says whether the entropy rule replaces the temperature.
 * @typedef {{temperature: number, top_p: number, min_p: number, held: boolean, target: number}} Settings
 */

/** @returns {Object} settings as the engine takes them: only what is on */
export function engineControls({ temperature, top_p, min_p, held, target }) {
  const given = held ? { target_entropy: target } : { temperature };
  if (top_p !== OFF.top_p) given.top_p = top_p;
  if (min_p !== OFF.min_p) given.min_p = min_p;
  return given;
}

/** @returns {string} settings in a few words */
export function settingsInWords({ temperature, top_p, min_p, held, target }) {
  const first = held ? `entropy held at ${target} bits` : temperature === 0 ? "greedy" : `temperature ${temperature}`;
  const others = [top_p !== OFF.top_p ? `top-p ${top_p}` : "", min_p !== OFF.min_p ? `min-p ${min_p}` : ""];
  return [first, ...others.filter(Boolean)].join(", ");
}

/** Connects the sliders of the page to a session. */
export class ControlPanel {
  #session;
  #sliders = { temperature: byId("temperature"), top_p: byId("top-p"), min_p: byId("min-p"), target: byId("target") };

  /**
   * @param {Session} session
   * @param {Settings} settings the first ones
   */
  constructor(session, settings) {
    this.#session = session;
    this.set(settings);
    for (const slider of Object.values(this.#sliders)) slider.addEventListener("input", () => this.#changed());
    byId("held").addEventListener("change", () => this.#changed());
    byId("target").addEventListener("input", () => {
      if (!byId("held").checked) byId("held").click();
    });
    byId("seed").addEventListener("change", () => this.#seedChanged());
    byId("length").addEventListener("change", () => session.setLength(byId("length").valueAsNumber));
    byId("slow").addEventListener("change", () => session.setPause(byId("slow").checked ? 200 : 0));
    byId("reset").addEventListener("click", () => this.set(settings));
    session.addEventListener("controls", () => this.#show());
    this.#show();
  }

  /** @type {Settings} */
  get settings() {
    const values = Object.entries(this.#sliders).map(([name, slider]) => [name, Number(slider.value)]);
    return { ...Object.fromEntries(values), held: byId("held").checked };
  }

  /** Move the controls, some of them or all. */
  set(settings) {
    for (const [name, slider] of Object.entries(this.#sliders)) if (name in settings) slider.value = settings[name];
    if ("held" in settings) byId("held").checked = settings.held;
    this.#changed();
  }

  #changed() {
    this.#session.setControls(engineControls(this.settings));
  }

  #seedChanged() {
    const digits = byId("seed").value.trim();
    if (/^\d{1,30}$/.test(digits)) this.#session.setSeed(BigInt(digits));
    byId("seed").value = String(this.#session.seed);
  }

  #show() {
    const { temperature, top_p, min_p, target, held } = this.settings;
    const said = {
      temperature: temperature === 0 ? "0, greedy" : temperature.toFixed(2),
      top_p: top_p === OFF.top_p ? "1, off" : top_p.toFixed(2),
      min_p: min_p === OFF.min_p ? "0, off" : min_p.toFixed(2),
      target: `${target.toFixed(1)} bits`,
    };
    for (const [name, slider] of Object.entries(this.#sliders)) {
      byId(`${slider.id}-value`).textContent = said[name];
      slider.setAttribute("aria-valuetext", said[name]);
    }
    this.#sliders.temperature.disabled = held;
    byId("temperature-control").classList.toggle("off", held);
    byId("target-control").classList.toggle("off", !held);
    byId("in-words").textContent = settingsInWords(this.settings);
    byId("seed").value = String(this.#session.seed);
    byId("length").value = this.#session.length;
    byId("slow").checked = this.#session.pause > 0;
  }
}
