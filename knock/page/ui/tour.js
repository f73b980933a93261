// The tour: a panel that explains the page step by step. It opens only when asked for.

import { bringIntoView, byId, element } from "./dom.js";

const SEEN = "knock-tour-seen";

/** Walks through the steps of a tour. */
export class Tour {
  #plan;
  #steps = [];
  #at = 0;
  #isFollowing = false; // whether the part of the page that a step is about may still move
  #restore;

  /**
   * @param {function(): TourStep[]} plan called when the tour opens
   * @param {function(): function(): void} keep called when the tour opens; returns what restores the page
   */
  constructor(plan, keep) {
    this.#plan = plan;
    for (const opener of document.querySelectorAll(".take-tour")) {
      opener.addEventListener("click", () => this.open(keep));
    }
    byId("tour-next").addEventListener("click", () => this.#go(this.#at + 1));
    byId("tour-back").addEventListener("click", () => this.#go(this.#at - 1));
    byId("tour-close").addEventListener("click", () => this.close());
    byId("hint-close").addEventListener("click", () => hideHint());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !byId("tour").hidden) this.close();
    });
    byId("hint").hidden = wasSeen();
  }

  /** Open the tour at its first step. */
  open(keep) {
    hideHint();
    this.#restore = keep();
    this.#steps = this.#plan();
    byId("tour").hidden = false;
    document.body.classList.add("touring");
    this.#go(0);
  }

  /** Close the tour, and restore what the page showed before. */
  close() {
    byId("tour").hidden = true;
    document.body.classList.remove("touring");
    this.#light(null);
    this.#restore();
    byId("open-tour").focus();
    bringIntoView(byId("open-tour"));
  }

  #go(at) {
    if (at >= this.#steps.length) return this.close();
    this.#at = at;
    this.#isFollowing = true;
    const step = this.#steps[at];
    step.enter();
    byId("tour-count").textContent = `Step ${at + 1} of ${this.#steps.length}`;
    byId("tour-title").textContent = step.title;
    this.#say();
    byId("tour-tries").replaceChildren(...step.tries.map(({ name, run }) => {
      const button = element("button", { type: "button" }, name);
      button.addEventListener("click", () => {
        this.#isFollowing = true;
        run();
        this.#showTried();
      });
      return button;
    }));
    this.#showTried();
    byId("tour-back").disabled = at === 0;
    byId("tour-next").textContent = at + 1 < this.#steps.length ? "Next" : "Done";
    byId("tour-next").focus({ preventScroll: true });
    this.#light(step.target);
    return undefined;
  }

  /** Say what can be said now that the text has been surveyed. */
  surveyed() {
    if (byId("tour").hidden) return;
    const step = this.#steps[this.#at];
    step.surveyed?.();
    this.#say();
    if (this.#isFollowing) bringIntoView(byId(step.target)); // the text above it has grown
    this.#isFollowing = false;
  }

  /** Mark the buttons whose settings are in force. */
  #showTried() {
    const { tries } = this.#steps[this.#at];
    [...byId("tour-tries").children].forEach((button, i) => {
      if (tries[i].isOn !== undefined) button.setAttribute("aria-pressed", String(tries[i].isOn()));
    });
  }

  #say() {
    const said = this.#steps[this.#at].say();
    const shown = [...byId("tour-text").children].map((paragraph) => paragraph.textContent);
    if (said.join("\n") === shown.join("\n")) return;
    byId("tour-text").replaceChildren(...said.map((paragraph) => element("p", {}, paragraph)));
  }

  #light(id) {
    document.querySelector(".lit")?.classList.remove("lit");
    if (id === null) return;
    byId(id).classList.add("lit");
    bringIntoView(byId(id));
  }
}

function hideHint() {
  byId("hint").hidden = true;
  try {
    localStorage.setItem(SEEN, "yes");
  } catch {
    // Without storage, the hint returns at the next visit.
  }
}

function wasSeen() {
  try {
    return localStorage.getItem(SEEN) !== null;
  } catch {
    return false;
  }
}
