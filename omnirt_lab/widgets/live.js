/**
 * The live view of a run. The kernel says what there is to see (`omnirt_lab.views.live.LiveState`), in words and in
 * ten-thousandths of the time axis; here it is put into the page. Text goes in by `textContent` alone.
 *
 * @typedef {{start: number, end: number, kind: string, is_open: boolean, is_cached: boolean, is_error: boolean}} Bar
 * @typedef {{name: string, figure: string, bars: Bar[]}} Lane
 * @typedef {{name: string, low: string, high: string, points: [number, number][]}} Curve
 * @typedef {{prompt: string, model: string, state: string, headline: string, progress: number|null,
 *   left: string|null, elapsed: string, lanes: Lane[], ticks: [number, string][], curves: Curve[], hits: string[],
 *   notes: string[]}} LiveState
 * @typedef {{get: (name: string) => any, on: (name: string, act: () => void) => void,
 *   off: (name: string, act: () => void) => void, send: (content: object) => void}} Model
 */

const SVG = "http://www.w3.org/2000/svg";

/** A place on the axis as CSS length. @param {number} place */
export const percent = (place) => `${place / 100}%`;

/** @param {Bar} bar @returns {string} The classes of a bar. */
export function barClass(bar) {
  const marks = [bar.is_open && "open", bar.is_cached && "cached", bar.is_error && "error"].filter(Boolean);
  return ["omnirt-bar", `omnirt-${bar.kind}`, ...marks.map((mark) => `omnirt-is-${mark}`)].join(" ");
}

/**
 * The curve in a box of 100 by 100 whose y grows downwards, with room for the line above and below.
 * @param {[number, number][]} points @returns {string} for a polyline's `points`
 */
export const linePoints = (points) => points.map(([x, y]) => `${x / 100},${(94 - 0.0088 * y).toFixed(2)}`).join(" ");

/** The area under the curve, down to the floor. @param {[number, number][]} points */
export function areaPoints(points) {
  if (points.length === 0) return "";
  const [first, last] = [points[0][0], points[points.length - 1][0]];
  return `${first / 100},100 ${linePoints(points)} ${last / 100},100`;
}

/** What is said beside the headline. @param {LiveState} state */
export const times = (state) => [state.left, `${state.elapsed} so far`].filter(Boolean).join(" · ");

/** Whether a label at this place stands so far right that it would leave the axis. @param {number} place */
export const isAtEdge = (place) => place > 9300;

/** What the Stop button shows. @param {LiveState} state @param {boolean} isStopping */
export function stopButton(state, isStopping) {
  const isOver = !["queued", "running"].includes(state.state);
  return { hidden: isOver, disabled: isStopping, text: isStopping ? "Stopping…" : "Stop" };
}

/** @param {string} tag @param {Record<string, any>} [properties] @param {...Node} children */
function el(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** @param {string} tag @param {Record<string, string>} attributes @param {...Node} children */
function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Write only what has changed, so that a screen reader and a selection are left in peace. */
function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Make the children of `parent` as many as `items`, and fill each.
 * @template T @param {Element} parent @param {T[]} items @param {() => any} make
 * @param {(child: any, item: T) => void} fill
 */
function fillEach(parent, items, make, fill) {
  while (parent.childElementCount > items.length) parent.lastElementChild.remove();
  while (parent.childElementCount < items.length) parent.append(make());
  items.forEach((item, index) => fill(parent.children[index], item));
}

const newLane = () =>
  el("li", { className: "omnirt-lane" }, el("span", { className: "omnirt-name" }),
    el("span", { className: "omnirt-track", ariaHidden: "true" }), el("span", { className: "omnirt-figure" }));

/** @param {Element} node @param {Lane} lane */
function fillLane(node, lane) {
  const [name, track, figure] = node.children;
  write(name, lane.name);
  write(figure, lane.figure);
  fillEach(track, lane.bars, () => el("span"), (bar, /** @type {Bar} */ what) => {
    bar.className = barClass(what);
    bar.style.left = percent(what.start);
    bar.style.width = percent(what.end - what.start);
  });
}

const newCurve = () =>
  el("li", { className: "omnirt-curve" },
    el("span", { className: "omnirt-name" }),
    svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true", class: "omnirt-track" },
      svg("polygon", {}), svg("polyline", {})),
    el("span", { className: "omnirt-figure" }));

/** @param {Element} node @param {Curve} curve */
function fillCurve(node, curve) {
  const [name, chart, figure] = node.children;
  write(name, curve.name);
  chart.children[0].setAttribute("points", areaPoints(curve.points));
  chart.children[1].setAttribute("points", linePoints(curve.points));
  write(figure, `${curve.high}\nfrom ${curve.low}`);
}

/** The page's nodes, made once. */
function layout() {
  const parts = {
    prompt: el("div", { className: "omnirt-prompt" }),
    model: el("div", { className: "omnirt-quiet" }),
    stop: el("button", { className: "omnirt-stop", type: "button" }),
    headline: el("span", { className: "omnirt-headline" }),
    times: el("span", { className: "omnirt-quiet" }),
    bar: el("progress", { className: "omnirt-progress", max: 1 }),
    picture: el("img", { className: "omnirt-preview", hidden: true }),
    lanes: el("ol", { className: "omnirt-lanes" }),
    curves: el("ol", { className: "omnirt-curves" }),
    ticks: el("div", { className: "omnirt-ticks", ariaHidden: "true" }),
    hits: el("ul", { className: "omnirt-hits" }),
    notes: el("ul", { className: "omnirt-notes" }),
  };
  const head = el("div", { className: "omnirt-head" }, el("div", {}, parts.prompt, parts.model), parts.stop);
  const words = el("div", { className: "omnirt-words" }, parts.headline, parts.times);
  const figures = el("div", { className: "omnirt-figures" }, parts.lanes, parts.curves, parts.ticks, parts.hits);
  const body = el("div", { className: "omnirt-body" }, parts.picture, figures);
  const root = el("section", { className: "omnirt-live" }, head, words, parts.bar, body, parts.notes);
  root.setAttribute("aria-label", "A run in progress");
  return { root, parts };
}

/** @param {ReturnType<typeof layout>["parts"]} parts @param {LiveState} state @param {boolean} isStopping */
function show(parts, state, isStopping) {
  write(parts.prompt, state.prompt);
  write(parts.model, state.model);
  write(parts.headline, state.headline);
  write(parts.times, times(state));
  if (state.progress === null) parts.bar.removeAttribute("value");
  else parts.bar.value = state.progress;
  parts.bar.setAttribute("aria-label", state.headline);
  const { hidden, disabled, text } = stopButton(state, isStopping);
  Object.assign(parts.stop, { hidden, disabled });
  write(parts.stop, text);
  fillEach(parts.lanes, state.lanes, newLane, fillLane);
  fillEach(parts.curves, state.curves, newCurve, fillCurve);
  fillEach(parts.ticks, state.ticks, () => el("span"), (tick, [place, label]) => {
    tick.style.left = percent(place);
    tick.hidden = isAtEdge(place);
    write(tick, label);
  });
  fillEach(parts.hits, state.hits, () => el("li"), write);
  fillEach(parts.notes, state.notes, () => el("li"), write);
}

/** @param {{model: Model, el: HTMLElement}} context */
function render({ model, el: place }) {
  const { root, parts } = layout();
  let address = "";
  const showState = () => {
    const state = model.get("state");
    if (state) show(parts, JSON.parse(state), model.get("is_stopping"));
  };
  const showPicture = () => {
    const content = model.get("preview");
    if (!content.byteLength) return;
    URL.revokeObjectURL(address);
    address = URL.createObjectURL(new Blob([content], { type: model.get("preview_type") }));
    Object.assign(parts.picture, { src: address, hidden: false, alt: "What the picture will be, as predicted now" });
  };
  const stop = () => {
    parts.stop.disabled = true; // also before the kernel has answered
    model.send({ action: "stop" });
  };
  parts.stop.addEventListener("click", stop);
  model.on("change:state", showState);
  model.on("change:is_stopping", showState);
  model.on("change:preview", showPicture);
  showState();
  showPicture();
  place.append(root);
  return () => {
    model.off("change:state", showState);
    model.off("change:is_stopping", showState);
    model.off("change:preview", showPicture);
    URL.revokeObjectURL(address);
  };
}

export default { render };
