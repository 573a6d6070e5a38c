/** DOM and SVG. Text goes in by `textContent` alone. */

import { lanes, mainSamples } from "./fold.js";
import { bytes, duration, saving, words } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const LANE = 22;
const MEMORY = 56;

/** @param {string} tag @param {Record<string, any>} properties @param {...(Node|string)} children */
export function el(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** @param {string} tag @param {Record<string, string|number>} attributes @param {string} [text] */
function svg(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  if (text !== undefined) node.textContent = text;
  return node;
}

/** The waterfall and, below it on the same axis, the memory curve. @param {any} timeline @param {number} width px */
export function chart(timeline, width) {
  const rows = lanes(timeline);
  const samples = mainSamples(timeline);
  const label = width < 480 ? 88 : 130;
  const begin = timeline.startedNs ?? 0;
  const span = Math.max(1, timeline.endNs - begin);
  const x = (t) => label + ((Math.max(begin, t) - begin) / span) * (width - label - 4);
  const bottom = rows.length * LANE + 6;
  const curve = samples.length > 1 ? MEMORY + 12 : 0;
  const height = bottom + curve + 18;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "chart", role: "img",
    "aria-label": `Stages over ${duration(span / 1e6)}; the table has the figures` });
  rows.forEach((row, index) => {
    const y = index * LANE + 4;
    root.append(svg("text", { x: 0, y: y + 13, class: "lane" }, words(row.name)));
    root.append(svg("line", { x1: label, x2: width - 4, y1: y + LANE - 4, y2: y + LANE - 4, class: "rule" }));
    for (const bar of row.bars) {
      const rect = svg("rect", { x: x(bar.start), y, height: 15, rx: bar.kind === "step" ? 1 : 3,
        width: Math.max(1, x(bar.end) - x(bar.start) - (bar.kind === "step" ? 1 : 0)), class: `b-${bar.kind}` });
      rect.append(svg("title", {}, `${words(row.name)}: ${duration((bar.end - bar.start) / 1e6)}`));
      root.append(rect);
    }
  });
  if (curve) root.append(...memory(timeline, samples, x, bottom + 8, width));
  root.append(svg("text", { x: label, y: height - 4, class: "axis" }, "0"));
  root.append(svg("text", { x: width - 4, y: height - 4, class: "axis", "text-anchor": "end" }, duration(span / 1e6)));
  return root;
}

/** The chart, drawn anew where its width changes. @param {any} timeline */
export function fitted(timeline) {
  const node = el("div");
  whenWidthChanges(node, (width) => node.replaceChildren(chart(timeline, width)));
  return node;
}

/** @param {Element} node @param {(width: number) => void} act */
export function whenWidthChanges(node, act) {
  let known = 0;
  const observer = new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width === 0 || width === known) return;
    known = width;
    act(width);
  });
  observer.observe(node);
}

function memory(timeline, samples, x, top, width) {
  const values = samples.map((sample) => sample.bytes);
  const high = Math.max(...values);
  const low = Math.min(...values);
  const y = (value) => top + MEMORY - 2 - ((value - low) / Math.max(1, high - low)) * (MEMORY - 6);
  const points = samples.map((sample) => `${x(sample.t).toFixed(1)},${y(sample.bytes).toFixed(1)}`);
  const floor = top + MEMORY;
  const first = x(samples[0].t);
  const last = x(samples[samples.length - 1].t);
  return [
    svg("text", { x: 0, y: top + 12, class: "lane" }, words(timeline.memoryKind ?? "memory")),
    svg("text", { x: 0, y: top + 27, class: "axis" }, `max ${bytes(high)}`),
    svg("text", { x: 0, y: top + 41, class: "axis" }, `min ${bytes(low)}`),
    svg("polygon", { points: `${first},${floor} ${points.join(" ")} ${last},${floor}`, class: "area" }),
    svg("polyline", { points: points.join(" "), class: "curve" }),
    svg("line", { x1: x(0), x2: width - 4, y1: floor, y2: floor, class: "rule" }),
  ];
}

/** The waterfall's twin. @param {any} timeline */
export function table(timeline) {
  const begin = timeline.startedNs ?? 0;
  const head = el("tr", {}, ...["Stage", "Begins", "Takes"].map((text) => el("th", { scope: "col", textContent: text })));
  const rows = timeline.stages.map((stage) => el("tr", {},
    el("th", { scope: "row", textContent: words(stage.name) }),
    el("td", { textContent: duration((stage.start - begin) / 1e6) }),
    el("td", { textContent: stage.end === null ? "open" : duration((stage.end - stage.start) / 1e6) })));
  return el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows));
}

/** @param {any} timeline */
export function hits(timeline) {
  return el("p", { className: "hits" }, ...timeline.hits.map((hit) => el("span", { className: "chip",
    textContent: `${words(hit.type)} cache hit${hit.hits > 1 ? ` ×${hit.hits}` : ""}` +
      (hit.savedNs === null ? "" : `, ${saving(hit.savedNs / 1e6)}`) })));
}

/** @param {string} state */
export const badge = (state) => el("span", { className: `badge s-${state}`, textContent: state });
