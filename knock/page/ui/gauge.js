// The gauge of the entropy rule: the model's entropy at each character, and what the rule made of it.

import { byId, drawn } from "./dom.js";
import { counted } from "./words.js";

const GAUGE_WIDTH = 340;
const GAUGE_HEIGHT = 84;
const GAUGE_LEFT = 22;
const LATEST = 150; // characters
const NEAR = 0.02; // bits from the target that count as held

/**
 * An entropy before and after the rule.
 * @typedef {{before: number, after: number}} Reading
 */

/**
 * Draw the gauge.
 * @param {Reading[]} readings of the written characters, in order
 * @param {number} target in bits
 */
export function showGauge(readings, target) {
  const shown = readings.slice(-LATEST);
  const highest = Math.max(target * 1.5, 1, ...shown.map(({ before, after }) => Math.max(before, after)));
  const x = (i) => GAUGE_LEFT + (i * (GAUGE_WIDTH - GAUGE_LEFT - 4)) / Math.max(20, shown.length - 1);
  const y = (bits) => GAUGE_HEIGHT - 4 - (bits / highest) * (GAUGE_HEIGHT - 10);
  const line = (name, className) => drawn("polyline", {
    points: shown.map((reading, i) => `${x(i).toFixed(1)},${y(reading[name]).toFixed(1)}`).join(" "), class: className,
  });
  const chart = byId("gauge-chart");
  chart.setAttribute("viewBox", `0 0 ${GAUGE_WIDTH} ${GAUGE_HEIGHT}`);
  chart.replaceChildren(
    drawn("line", { x1: GAUGE_LEFT, x2: GAUGE_WIDTH - 4, y1: y(0), y2: y(0), class: "grid" }),
    drawn("text", { x: GAUGE_LEFT - 4, y: y(0) + 3, "text-anchor": "end" }, "0"),
    drawn("text", { x: GAUGE_LEFT - 4, y: y(target) + 3, "text-anchor": "end" }, target.toFixed(1)),
    line("before", "before"),
    drawn("line", { x1: GAUGE_LEFT, x2: GAUGE_WIDTH - 4, y1: y(target), y2: y(target), class: "target" }),
    line("after", "after"),
  );
  byId("gauge-words").textContent = inWords(readings, target);
}

function inWords(readings, target) {
  if (!readings.length) return "Write a text to see how the rule holds the entropy.";
  const mean = (name) => readings.reduce((sum, reading) => sum + reading[name], 0) / readings.length;
  const held = readings.filter(({ after }) => Math.abs(after - target) <= NEAR).length;
  const out = readings.length - held;
  const rest = out ? ` For ${counted(out, "character")} the target was out of reach: the temperature stays from 0.3 to 2.` : "";
  return `Held at ${held} of ${counted(readings.length, "character")}; mean ${mean("after").toFixed(2)} bits, ` +
    `where the model alone had ${mean("before").toFixed(2)}.${rest}`;
}
