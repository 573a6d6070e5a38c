/**
 * Runs side by side, to look into. The kernel sends every word and every share (`omnirt_lab.views.comparison_page`) and
 * the pictures; here one view, a zoom and a place, is laid over all of them. Text goes in by `textContent` alone.
 *
 * @typedef {{zoom: number, x: number, y: number}} View `x`, `y`: what stands at the frame's left and top, as shares
 *   of the picture
 * @typedef {"side" | "flip" | "difference"} Mode
 * @typedef {{label: string, colour: string, title: string, lines: string[]}} Pane
 * @typedef {{label: string, colour: string, share: number|null, figure: string, change: string, is_notable: boolean}} Bar
 * @typedef {{panes: Pane[], rows: {name: string, bars: Bar[]}[], differences: string[][], picture_count: number}} Page
 * @typedef {{content: DataView|null, difference: DataView|null, label: string}} Picture
 */

const MAX_ZOOM = 32;
const STEP = 1.25;
const PAN = 0.1;

/** @type {View} */
export const WHOLE = { zoom: 1, x: 0, y: 0 };

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** The view zoomed by a factor; what stands at (px, py), shares of the frame, stays there. @returns {View} */
export function zoomedAt(view, factor, px, py) {
  const zoom = clamp(view.zoom * factor, 1, MAX_ZOOM);
  return placed(zoom, view.x + px / view.zoom - px / zoom, view.y + py / view.zoom - py / zoom);
}

/** The view moved by shares of the frame. @returns {View} */
export const panned = (view, dx, dy) => placed(view.zoom, view.x + dx / view.zoom, view.y + dy / view.zoom);

/** No place outside of the picture. @returns {View} */
function placed(zoom, x, y) {
  const room = 1 - 1 / zoom;
  return { zoom, x: clamp(x, 0, room), y: clamp(y, 0, room) };
}

/** As CSS, of an image that fills the frame. @param {View} view */
export const transform = ({ zoom, x, y }) =>
  `scale(${zoom.toFixed(4)}) translate(${(-100 * x).toFixed(3)}%, ${(-100 * y).toFixed(3)}%)`;

/** What a key does to the view; null for a key that does nothing to it. @returns {View|null} */
export function keyed(view, key) {
  const moves = { ArrowLeft: [-PAN, 0], ArrowRight: [PAN, 0], ArrowUp: [0, -PAN], ArrowDown: [0, PAN] };
  if (key in moves) return panned(view, moves[key][0], moves[key][1]);
  if (key === "+" || key === "=") return zoomedAt(view, STEP, 0.5, 0.5);
  if (key === "-") return zoomedAt(view, 1 / STEP, 0.5, 0.5);
  return key === "0" ? WHOLE : null;
}

/** Which sides have a frame. @param {Mode} mode @param {number} count @param {number} shown the one flipped to */
export function framesOf(mode, count, shown) {
  if (mode === "flip") return [shown];
  return [...Array(count).keys()].slice(mode === "difference" ? 1 : 0);
}

/** Whether pixels are larger than the screen's, so that they are to be seen as such. */
export const isEnlarged = (widthPx, zoom, naturalPx) => widthPx * zoom > naturalPx;

/** @param {string} tag @param {Record<string, any>} [set] properties, and attributes by their names with a dash */
function h(tag, set = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(set)) {
    if (name.includes("-") || name === "role") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

/** @param {Pane} pane */
const mark = (pane) => h("span", { className: "omc-mark", style: `background: ${pane.colour}`, "aria-hidden": "true" });

/** @param {Page} page */
function times(page) {
  const rows = page.rows.map((row) => h("tr", {}, h("th", { scope: "row", textContent: row.name }),
    h("td", {}, ...row.bars.map(bar))));
  return h("table", { className: "omc-times" }, h("caption", { textContent: "Times" }), h("tbody", {}, ...rows));
}

/** @param {Bar} one */
function bar(one) {
  const filled = h("span", { className: "omc-bar", "aria-hidden": "true" });
  filled.style.width = `${(68 * (one.share ?? 0)).toFixed(2)}%`;
  filled.style.background = one.colour;
  const change = h("b", { className: one.is_notable ? "omc-notable" : "omc-quiet", textContent: one.change });
  return h("div", { className: "omc-line" }, filled,
    h("span", { textContent: `${one.label} ${one.figure} ` }), change);
}

/** @param {Page} page */
function differences(page) {
  if (page.differences.length === 0) {
    return h("p", { className: "omc-quiet", textContent: "Nothing recorded differs but the times." });
  }
  const head = h("tr", {}, ...["differs", ...page.panes.map((pane) => pane.label)].map((text) =>
    h("th", { scope: "col", textContent: text })));
  const rows = page.differences.map(([name, ...values]) => h("tr", {}, h("th", { scope: "row", textContent: name }),
    ...values.map((text) => h("td", { textContent: text }))));
  return h("details", { open: page.differences.length <= 8 }, h("summary", { textContent: "What differs" }),
    h("div", { className: "omc-wide" }, h("table", { className: "omc-differs" }, h("thead", {}, head), h("tbody", {}, ...rows))));
}

function render({ model, el }) {
  const leaving = new AbortController();
  const { signal } = leaving;
  const on = (target, kind, act) => target.addEventListener(kind, act, { signal, passive: false });
  /** @type {Page} */
  const page = model.get("page");
  /** @type {{view: View, mode: Mode, shown: number}} */
  const now = { view: WHOLE, mode: "side", shown: 0 };
  /** Addresses of the pictures, by side. @type {{content: string|null, difference: string|null, label: string}[]} */
  let addresses = [];

  const frames = page.panes.map((pane) => {
    const image = h("img", { className: "omc-image", draggable: false });
    const missing = h("span", { className: "omc-quiet" });
    const frame = h("div", { className: "omc-frame" }, image, missing);
    const name = h("b", { textContent: pane.label });
    const kind = h("span", { textContent: ` ${pane.title}` });
    const lines = pane.lines.map((line) => h("div", { className: "omc-quiet", textContent: line }));
    const caption = h("figcaption", {}, h("div", {}, mark(pane), name, kind), ...lines);
    return { image, missing, frame, kind, name, lines, figure: h("figure", {}, frame, caption) };
  });
  const stage = h("div", { className: "omc-stage", tabIndex: 0, role: "application", "aria-label": "Pictures",
    "aria-description": "Plus and minus zoom, 0 shows the whole, arrows move, F flips, S side by side, D difference" },
    ...frames.map(({ figure }) => figure));
  const modes = [["side", "Side by side"], ["flip", "Flip"], ["difference", "Difference"]].map(([mode, text]) => {
    const button = h("button", { type: "button", textContent: text });
    on(button, "click", () => (mode === "flip" ? flip() : enter(mode)));
    return { mode, button };
  });
  const zooms = [["-", "Zoom out", "−"], ["+", "Zoom in", "+"], ["0", "Show the whole", "Fit"]].map(([key, label, text]) => {
    const button = h("button", { type: "button", textContent: text, "aria-label": label, title: label });
    on(button, "click", () => look(keyed(now.view, key)));
    return button;
  });
  const choice = h("select", { "aria-label": "Picture", hidden: page.picture_count < 2 },
    ...[...Array(page.picture_count).keys()].map((index) => h("option", { value: index, textContent: `picture ${index + 1}` })));
  const status = h("span", { className: "omc-quiet", role: "status" });
  const tools = h("div", { className: "omc-tools", role: "toolbar", "aria-label": "View" },
    h("span", { className: "omc-group" }, ...modes.map(({ button }) => button)),
    h("span", { className: "omc-group" }, ...zooms), choice, status);

  function look(view) {
    now.view = view;
    for (const { image, frame } of frames) {
      image.style.transform = transform(view);
      const enlarged = isEnlarged(frame.clientWidth, view.zoom, image.naturalWidth);
      image.style.imageRendering = enlarged ? "pixelated" : "auto";
    }
    const flipped = now.mode === "flip" ? ` of ${page.panes[now.shown].label}; F flips` : "";
    status.textContent = `${view.zoom.toFixed(1)}×${flipped}`;
  }

  function enter(mode, shown = now.shown) {
    now.mode = mode;
    now.shown = shown;
    const seen = framesOf(mode, frames.length, shown);
    frames.forEach(({ figure }, index) => { figure.hidden = !seen.includes(index); });
    for (const { mode: own, button } of modes) button.setAttribute("aria-pressed", String(own === mode));
    stage.style.maxWidth = `${seen.length === 1 ? 30 : 22 * seen.length}rem`;
    if (addresses.length) showPictures();
  }

  const flip = () => enter("flip", now.mode === "flip" ? (now.shown + 1) % frames.length : now.shown);

  function showPictures() {
    const first = page.panes[0].label;
    frames.forEach(({ image, missing, kind, name, lines }, index) => {
      const pane = page.panes[index];
      const isApart = now.mode === "difference";
      const { label, ...sources } = addresses[index];
      const source = isApart ? sources.difference : sources.content;
      const words = isApart ? `${first} and ${pane.label}: ${label}` : `${pane.label}: ${pane.lines[0] ?? pane.title}`;
      image.hidden = !source;
      missing.textContent = source ? "" : isApart ? label : "no picture";
      image.alt = words;
      name.hidden = isApart;
      lines.forEach((line) => { line.hidden = isApart; });
      kind.textContent = isApart ? words : ` ${pane.title}`;
      if (source && image.src !== source) image.src = source;
    });
    look(now.view);
  }

  function forget() {
    addresses.flatMap(({ content, difference }) => [content, difference]).filter(Boolean).forEach(URL.revokeObjectURL);
  }

  function takePictures() {
    forget();
    const address = (bytes) => bytes && URL.createObjectURL(new Blob([bytes]));
    addresses = model.get("pictures").map((/** @type {Picture} */ { content, difference, label }) =>
      ({ content: address(content), difference: address(difference), label }));
    showPictures();
  }

  /** Where the pointer is, as shares of the frame that it is in. */
  function placeOf({ clientX, clientY }) {
    for (const { frame } of frames) {
      const box = frame.getBoundingClientRect();
      const [x, y] = [(clientX - box.left) / box.width, (clientY - box.top) / box.height];
      if (x >= 0 && x <= 1 && y >= 0 && y <= 1) return { x, y, box };
    }
    return null;
  }

  on(stage, "wheel", (event) => {
    const at = placeOf(event);
    if (!at || !(event.ctrlKey || stage === document.activeElement)) return; // else the page scrolls
    event.preventDefault();
    look(zoomedAt(now.view, event.deltaY < 0 ? STEP : 1 / STEP, at.x, at.y));
  });
  on(stage, "pointerdown", (event) => {
    const at = placeOf(event);
    if (!at) return;
    event.preventDefault(); // or the image would be dragged
    stage.focus({ preventScroll: true });
    stage.setPointerCapture(event.pointerId);
    let [x, y] = [event.clientX, event.clientY];
    const dragging = new AbortController();
    const move = (moved) => {
      look(panned(now.view, (x - moved.clientX) / at.box.width, (y - moved.clientY) / at.box.height));
      [x, y] = [moved.clientX, moved.clientY];
    };
    const until = { signal: AbortSignal.any([signal, dragging.signal]) };
    stage.addEventListener("pointermove", move, until);
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => dragging.abort(), until);
  });
  on(stage, "dblclick", (event) => {
    const at = placeOf(event);
    if (at) look(zoomedAt(now.view, 2, at.x, at.y));
  });
  on(stage, "keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const view = keyed(now.view, event.key);
    const acts = { f: flip, s: () => enter("side"), d: () => enter("difference") };
    const act = view ? () => look(view) : acts[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  });
  on(choice, "change", () => {
    model.set("index", Number(choice.value));
    model.save_changes();
  });
  for (const { image } of frames) on(image, "load", () => look(now.view));
  model.on("change:pictures", takePictures);
  signal.addEventListener("abort", () => {
    model.off("change:pictures", takePictures);
    forget();
  });

  choice.value = String(model.get("index"));
  el.replaceChildren(h("div", { className: "omc", role: "region", "aria-label": "Comparison",
    "data-lm-suppress-shortcuts": "true" }, tools, stage, times(page), differences(page)));
  enter("side");
  takePictures();
  return () => leaving.abort();
}

export default { render };
