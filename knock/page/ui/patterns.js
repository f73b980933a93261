// What each head learned: its attention by distance, averaged over the text.

import { byId, drawn, element } from "./dom.js";
import { headName } from "./heads.js";
import { counted, label, percent } from "./words.js";

const PANEL_WIDTH = 240;
const PANEL_HEIGHT = 120;
const PANEL_LEFT = 34;
const PANEL_BOTTOM = 16;
const PANEL_TOP = 6;
const LINEAR = 16; // distances; longer windows have a log axis, since most attention is close
const SERIES = [
  { name: "attention", colour: "var(--attention)", dashes: "" },
  { name: "reweight", colour: "var(--reweight)", dashes: "5 3" },
  { name: "chosen", colour: "var(--character)", dashes: "1 3" },
];

/**
 * Draw the patterns of all heads.
 * @param {Object} model
 * @param {Object} result of a survey
 * @param {string|null} chosen a character, for the patterns where it is read
 * @param {function(number[]): void} onChoose called with block and head of a panel that was chosen
 */
export function showPatterns(model, result, chosen, onChoose) {
  const flat = result.heads.flat();
  const uppers = flat.map(({ attention }) => Math.max(...upperOf(attention)));
  const series = SERIES.map((each) => ({ ...each, isShown: flat.some((head) => head[each.name] !== null) }));
  const hasHybrid = model.facts.gates.some((gates) => gates !== null);
  series[1].isShown &&= hasHybrid; // of pure heads, it is the attention
  const highest = roundedUp(Math.max(...uppers, ...series.filter(({ isShown }) => isShown).flatMap(({ name }) =>
    flat.flatMap((head) => head[name]?.mean.filter((value) => !Number.isNaN(value)) ?? []))));
  const distances = Math.max(...flat.map(({ attention }) => attention.mean.length));
  const scale = scaleOf(distances, highest);
  byId("patterns").style.setProperty("--columns", columnsFor(model.config));
  byId("patterns").replaceChildren(
    ...result.heads.flatMap((block, b) => block.map((head, h) => panel(model, head, b, h, series, scale, onChoose))),
  );
  legend(series, result, chosen);
  byId("axis").textContent =
    `Across: distance in characters back, 1 is the last one read${scale.isLog ? ", on a log scale" : ""}. ` +
    "Up: share of the head's attention, on one scale for all heads. Click a panel to look at its head above.";
}

/** @returns {number} panels in a row: the heads of a block, or of several if there are few */
function columnsFor({ n_heads: heads, n_blocks: blocks }) {
  return Math.min(6, heads * Math.min(blocks, Math.max(1, Math.floor(4 / heads))));
}

/** @returns {number} the least share at or above one that halves to a short percentage */
function roundedUp(share) {
  return [0.02, 0.04, 0.1, 0.2, 0.4, 0.6, 0.8].find((round) => round >= share) ?? 1;
}

function legend(series, result, chosen) {
  const meanings = {
    attention: `attention, mean over ${counted(result.places, "place")} of the text; band: standard deviation`,
    reweight: "the learned pattern alone, reweight",
    chosen: chosen === null ? "" : `attention where ${label(chosen)} is read, mean over ${counted(result.chosenPlaces, "place")}`,
  };
  byId("series").replaceChildren(
    ...series.filter(({ isShown }) => isShown).map(({ name, colour, dashes }) => {
      const swatch = drawn("svg", { class: "swatch", viewBox: "0 0 26 6", "aria-hidden": "true" },
        drawn("line", { x1: 0, x2: 26, y1: 3, y2: 3, style: `stroke: ${colour}`, "stroke-width": 3, "stroke-dasharray": dashes }));
      return element("span", {}, swatch, ` ${meanings[name]}`);
    }),
  );
}

function scaleOf(distances, highest) {
  const isLog = distances > LINEAR;
  const last = distances - 1;
  const across = (i) => (last ? (isLog ? Math.log(i + 1) / Math.log(last + 1) : i / last) : 0.5);
  return {
    isLog, distances, highest,
    x: (i) => PANEL_LEFT + across(i) * (PANEL_WIDTH - PANEL_LEFT - 8),
    y: (value) => PANEL_HEIGHT - PANEL_BOTTOM - (value / highest) * (PANEL_HEIGHT - PANEL_BOTTOM - PANEL_TOP),
  };
}

/** @returns {number[]} indices of the distances that the axis names */
function marksOf({ isLog, distances }) {
  if (!isLog) return [...new Set([0, Math.round((distances - 1) / 2), distances - 1])];
  const powers = Array.from({ length: Math.floor(Math.log2(distances)) + 1 }, (_, power) => 2 ** power - 1);
  return powers.length > 8 ? powers.filter((_, power) => power % 2 === 0) : powers;
}

function panel(model, head, b, h, series, scale, onChoose) {
  const gate = model.facts.gates[b]?.[h];
  const caption = [headName(b, h), gate === undefined ? "" : `gate ${gate.toFixed(2)}`, `distance ${head.distance.toFixed(1)}`];
  const peak = head.attention.mean.indexOf(Math.max(...head.attention.mean));
  const described = `its attention is highest ${counted(peak + 1, "character")} back, ${percent(head.attention.mean[peak])}`;
  const chart = drawn("svg", { viewBox: `0 0 ${PANEL_WIDTH} ${PANEL_HEIGHT}`, "aria-hidden": "true" });
  drawAxes(chart, scale);
  drawBand(chart, head.attention, scale);
  for (const each of series) if (each.isShown && head[each.name] !== null) drawMean(chart, head[each.name].mean, each, scale);
  const button = element("button", { type: "button", class: "panel", title: described },
    element("span", { class: "panel-caption" }, caption.filter(Boolean).join(", ")), chart);
  button.setAttribute("aria-label", `${caption.filter(Boolean).join(", ")}; ${described}`);
  button.addEventListener("click", () => onChoose([b, h]));
  return button;
}

function drawAxes(chart, scale) {
  for (const value of [0, scale.highest / 2, scale.highest]) {
    const y = scale.y(value);
    chart.append(drawn("line", { x1: PANEL_LEFT, x2: PANEL_WIDTH - 8, y1: y, y2: y, class: "grid" }));
    chart.append(drawn("text", { x: PANEL_LEFT - 4, y: y + 3.5, "text-anchor": "end" }, `${(100 * value).toFixed(0)}%`));
  }
  for (const i of marksOf(scale)) {
    chart.append(drawn("text", { x: scale.x(i), y: PANEL_HEIGHT - 3, "text-anchor": "middle" }, String(i + 1)));
  }
}

function drawBand(chart, { mean, spread }, scale) {
  const upper = mean.map((value, i) => [i, Math.min(scale.highest, value + spread[i])]);
  const lower = mean.map((value, i) => [i, Math.max(0, value - spread[i])]);
  chart.append(drawn("polygon", { points: pointsOf([...upper, ...lower.reverse()], scale), class: "band" }));
}

function drawMean(chart, mean, { colour, dashes }, scale) {
  const known = [...mean.entries()].filter(([, value]) => !Number.isNaN(value));
  const style = `stroke: ${colour}`;
  chart.append(drawn("polyline", { points: pointsOf(known, scale), fill: "none", style, "stroke-width": 1.8, "stroke-dasharray": dashes }));
  if (known.length === 1) {
    chart.append(drawn("circle", { cx: scale.x(known[0][0]), cy: scale.y(known[0][1]), r: 3, style: `fill: ${colour}` }));
  }
}

function pointsOf(pairs, scale) {
  return pairs.map(([i, value]) => `${scale.x(i).toFixed(1)},${scale.y(value).toFixed(1)}`).join(" ");
}

function upperOf({ mean, spread }) {
  return mean.map((value, i) => Math.min(1, value + spread[i]));
}
