// Elements of the page. Texts are set as text, never as markup: a corpus, a prompt or a name may hold anything.

/**
 * Create an element.
 * @param {string} tag
 * @param {Object} [properties] properties; `class`, `role`, `for`, `aria-*` and `data-*` are set as attributes
 * @param {...(Node|string)} children strings become text
 * @returns {HTMLElement}
 */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (/^(class|role|for)$|-/.test(name)) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/**
 * Create an SVG element.
 * @param {string} tag
 * @param {Object} [attributes]
 * @param {...(Node|string)} children
 * @returns {SVGElement}
 */
export function drawn(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** @returns {HTMLElement} the element with an id, which the page must have */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element #${id}`);
  return found;
}

/** Let screen readers say something once it is calm: the last of several messages within half a second. */
export function announce(message) {
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => (byId("status").textContent = message), 500);
}

/** @returns {boolean} whether the reader asked the system for less motion */
export function prefersStillness() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** Scroll an element into view, at once for readers who prefer that. */
export function bringIntoView(shown, block = "nearest") {
  shown.scrollIntoView({ block, behavior: prefersStillness() ? "auto" : "smooth" });
}
