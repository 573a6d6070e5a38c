/**
 * A sweep's runs as lines over parallel axes, to brush. The kernel sends every place and every word
 * (`omnirt_lab.views.sweep_page`); what is brushed goes back to it. Text goes in by `textContent` alone.
 *
 * @typedef {{axis: number, low: number, high: number}} Brush shares of the axis, from its lower end
 * @typedef {{label: string, ticks: [number, string][]}} Coordinate
 * @typedef {{row: number, shares: (number|null)[], words: string[], title: string, colour: string, note: string}} Line
 * @typedef {{title: string, prompt: string, summary: string[], axes: Coordinate[], lines: Line[]}} Page
 */

const HEIGHT = 260;
const AXIS_PX = 120;
const LEFT_PX = 58;
const RIGHT_PX = 86;
const STEP = 0.05;
const LEAST = 0.02;
const NEAR_PX = 12;
const MAX_PICTURES = 24;
const MAX_ROWS = 200;
const SEND_EVERY_MS = 100;

const clamp = (value) => Math.min(Math.max(value, 0), 1);

/** Whether every brush holds the run. @param {Line} line @param {Brush[]} brushes */
export const isInside = (line, brushes) =>
  brushes.every(({ axis, low, high }) => line.shares[axis] !== null && low <= line.shares[axis] && line.shares[axis] <= high);

/** From where a drag began to where it is. @returns {Brush|null} null for one that is too short to be meant */
export function dragged(axis, from, to) {
  const [low, high] = [clamp(Math.min(from, to)), clamp(Math.max(from, to))];
  return high - low < LEAST ? null : { axis, low, high };
}

/** The brush, moved as far as the axis reaches. @param {Brush} brush @returns {Brush} */
export function moved({ axis, low, high }, by) {
  const step = by > 0 ? Math.min(by, 1 - high) : Math.max(by, -low);
  return { axis, low: low + step, high: high + step };
}

/** The brush, longer or shorter at both ends. @param {Brush} brush @returns {Brush} */
export function resized({ axis, low, high }, by) {
  const room = Math.max(by, (LEAST - (high - low)) / 2);
  return { axis, low: clamp(low - room), high: clamp(high + room) };
}

/**
 * What a key does to an axis.
 * @param {Brush|undefined} brush @returns {Brush|null|undefined} null takes the brush away, undefined leaves all as it is
 */
export function keyed(axis, brush, key) {
  if (key === "Escape" || key === "Delete" || key === "Backspace") return brush && null;
  if (key === "ArrowUp") return brush ? moved(brush, STEP) : { axis, low: 0.5, high: 1 };
  if (key === "ArrowDown") return brush ? moved(brush, -STEP) : { axis, low: 0, high: 0.5 };
  if (key === "+" || key === "=") return brush && resized(brush, STEP / 2);
  return key === "-" ? brush && resized(brush, -STEP / 2) : undefined;
}

/** The brushes with this one in its axis's place; null for none. @param {Brush[]} brushes @returns {Brush[]} */
export const withBrush = (brushes, axis, brush) =>
  [...brushes.filter((other) => other.axis !== axis), ...(brush ? [brush] : [])];

/** The words of the lowest and of the highest run in a brush. @param {Line[]} lines @param {Brush} brush */
export function spanWords(lines, brush) {
  const inside = lines.filter((line) => isInside(line, [brush])).sort((a, b) => a.shares[brush.axis] - b.shares[brush.axis]);
  if (inside.length === 0) return "no run";
  const [low, high] = [inside[0].words[brush.axis], inside[inside.length - 1].words[brush.axis]];
  return low === high ? low : `${low} to ${high}`;
}

/** Where the axes stand. @param {number} count @param {number} width px */
export function places(count, width) {
  const room = width - LEFT_PX - RIGHT_PX;
  return [...Array(count).keys()].map((index) => (count < 2 ? width / 2 : LEFT_PX + (index * room) / (count - 1)));
}

/** The line that passes nearest to a point; null where none is near. @param {Line[]} lines @param {number[]} xs px */
export function nearest(lines, xs, x, y) {
  const right = Math.max(1, xs.findIndex((place) => place >= x));
  const between = (x - xs[right - 1]) / (xs[right] - xs[right - 1]);
  let [found, least] = [null, NEAR_PX];
  for (const line of lines) {
    const [a, b] = [line.shares[right - 1], line.shares[right]];
    if (a === null || a === undefined || b === null || b === undefined) continue;
    const apart = Math.abs((1 - (a + (b - a) * clamp(between))) * HEIGHT - y);
    if (apart < least) [found, least] = [line, apart];
  }
  return found;
}

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

/** @param {CanvasRenderingContext2D} pen @param {Line} line @param {number[]} xs */
function trace(pen, line, xs) {
  pen.beginPath();
  let isDown = false;
  line.shares.forEach((share, index) => {
    if (share === null) isDown = false;
    else if (isDown) pen.lineTo(xs[index], (1 - share) * HEIGHT);
    else pen.moveTo(xs[index], (1 - share) * HEIGHT);
    if (share !== null) isDown = true;
  });
  pen.setLineDash(line.note ? [4, 3] : []);
  pen.stroke();
}

/** @param {Page} page @param {Line[]} lines */
function table(page, lines) {
  const cell = (text) => h("td", { textContent: text });
  const head = [...page.axes.map((axis) => axis.label), "ended"].map((text) => h("th", { scope: "col", textContent: text }));
  const rows = lines.slice(0, MAX_ROWS).map((line) => h("tr", {}, ...line.words.map(cell), cell(line.note || "succeeded")));
  const left = lines.length > MAX_ROWS ? `and ${lines.length - MAX_ROWS} more: .selection has them all` : "";
  return [h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...rows)), left];
}

function render({ model, el }) {
  const leaving = new AbortController();
  const { signal } = leaving;
  const on = (target, kind, act) => target.addEventListener(kind, act, { signal });
  /** @type {Page} */
  const page = model.get("page");
  /** @type {Brush[]} */
  let brushes = model.get("brushes");
  let [xs, sending, isDragging] = [/** @type {number[]} */ ([]), 0, false];
  /** @type {Line|null} */
  let hovered = null;
  const urls = new Map();

  const canvas = h("canvas", { "aria-hidden": "true" });
  const axes = page.axes.map((axis, index) => {
    const band = h("div", { className: "oms-band", hidden: true });
    const ticks = axis.ticks.map(([share, text]) => {
      const tick = h("span", { className: "oms-tick", textContent: text, "aria-hidden": "true" });
      tick.style.bottom = `${100 * share}%`;
      return tick;
    });
    const track = h("div", { className: "oms-track" }, band, ...ticks);
    const name = h("div", { className: "oms-name", textContent: axis.label, title: axis.label, "aria-hidden": "true" });
    const node = h("div", { className: "oms-axis", tabIndex: 0, role: "group",
      "aria-description": "Up and down brush and move, plus and minus resize, Escape takes the brush away" }, name, track);
    on(node, "keydown", (event) => {
      const made = keyed(index, brushOf(index), event.key);
      if (made === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      brush(index, made);
    });
    on(track, "pointerdown", (event) => drag(event, index, track));
    return { node, band, label: axis.label };
  });
  const plot = h("div", { className: "oms-plot" }, canvas, ...axes.map(({ node }) => node));
  const clear = h("button", { type: "button", textContent: "Clear brushes" });
  const count = h("b", { role: "status" });
  const words = h("span", { className: "oms-quiet" });
  const strip = h("div", { className: "oms-strip" });
  const rows = h("div", { className: "oms-wide" });
  const details = h("details", {}, h("summary", { textContent: "The selected runs as a table" }), rows);

  const brushOf = (index) => brushes.find((one) => one.axis === index);
  const selected = () => page.lines.filter((line) => isInside(line, brushes));

  function brush(index, made) {
    brushes = withBrush(brushes, index, made);
    show();
    if (!sending) sending = setTimeout(send, SEND_EVERY_MS);
  }

  function send() {
    clearTimeout(sending);
    sending = 0;
    model.set("brushes", brushes);
    model.save_changes();
  }

  function drag(event, index, track) {
    const box = track.getBoundingClientRect();
    const shareOf = ({ clientY }) => 1 - (clientY - box.top) / box.height;
    const [from, held] = [shareOf(event), brushOf(index)];
    const isHeld = held && from >= held.low && from <= held.high;
    event.preventDefault();
    axes[index].node.focus({ preventScroll: true });
    track.setPointerCapture(event.pointerId);
    isDragging = true;
    const ending = new AbortController();
    const until = { signal: AbortSignal.any([signal, ending.signal]) };
    track.addEventListener("pointermove", (at) =>
      brush(index, isHeld ? moved(held, shareOf(at) - from) : dragged(index, from, shareOf(at))), until);
    const end = (at) => {
      ending.abort();
      isDragging = false;
      if (Math.abs(shareOf(at) - from) * box.height < 3) brush(index, null); // a click takes the brush away
      send();
    };
    for (const kind of ["pointerup", "pointercancel"]) track.addEventListener(kind, end, until);
  }

  function draw(lines) {
    const width = Math.max(plot.clientWidth, LEFT_PX + RIGHT_PX + AXIS_PX * (axes.length - 1));
    const dense = window.devicePixelRatio || 1;
    xs = places(axes.length, width);
    [canvas.width, canvas.height] = [width * dense, HEIGHT * dense];
    canvas.style.width = `${width}px`;
    axes.forEach(({ node }, index) => { node.style.left = `${xs[index]}px`; });
    const pen = canvas.getContext("2d");
    pen.scale(dense, dense);
    const inside = new Set(lines);
    pen.strokeStyle = getComputedStyle(plot).color;
    pen.globalAlpha = 0.1;
    for (const line of page.lines) if (!inside.has(line)) trace(pen, line, xs);
    pen.globalAlpha = lines.length > 200 ? 0.4 : 0.85;
    pen.lineWidth = lines.length > 200 ? 1 : 1.6;
    for (const line of lines) {
      pen.strokeStyle = line.colour;
      trace(pen, line, xs);
    }
    if (hovered) {
      [pen.globalAlpha, pen.lineWidth, pen.strokeStyle] = [1, 3.5, hovered.colour];
      trace(pen, hovered, xs);
    }
  }

  function show() {
    const lines = selected();
    draw(lines);
    count.textContent = `${lines.length.toLocaleString("en")} of ${page.lines.length.toLocaleString("en")} runs`;
    clear.disabled = brushes.length === 0;
    axes.forEach(({ node, band, label }, index) => {
      const own = brushOf(index);
      band.hidden = !own;
      node.setAttribute("aria-label", `${label}, ${own ? spanWords(page.lines, own) : "all"}`);
      if (own) [band.style.bottom, band.style.height] = [`${100 * own.low}%`, `${100 * (own.high - own.low)}%`];
    });
    showPictures(lines);
    if (details.open) rows.replaceChildren(...table(page, lines));
  }

  function showPictures(lines) {
    const thumbnails = model.get("thumbnails");
    const figures = lines.slice(0, MAX_PICTURES).map((line) => {
      const index = page.lines.indexOf(line);
      const content = thumbnails[index];
      if (content && !urls.has(index)) urls.set(index, URL.createObjectURL(new Blob([content])));
      const picture = content ? h("img", { src: urls.get(index), alt: line.title })
        : h("div", { className: "oms-missing", textContent: line.note || "no picture" });
      return h("figure", {}, picture, h("figcaption", { textContent: line.title }));
    });
    const left = lines.length - figures.length;
    strip.replaceChildren(...figures, left > 0 ? h("span", { className: "oms-quiet", textContent: `and ${left} more` }) : "");
  }

  on(plot, "pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const found = xs.length > 1 && y >= 0 && y <= HEIGHT ? nearest(selected(), xs, x, y) : null;
    if (found === hovered) return;
    hovered = found;
    words.textContent = found ? page.axes.map((axis, index) => `${axis.label} ${found.words[index]}`).join(" · ") : "";
    draw(selected());
  });
  on(clear, "click", () => {
    brushes = [];
    show();
    send();
  });
  on(details, "toggle", show);
  const taken = () => {
    if (isDragging) return; // what comes back is older than what the hand shows
    brushes = model.get("brushes");
    show();
  };
  model.on("change:brushes", taken);
  const resizing = new ResizeObserver(() => draw(selected()));
  resizing.observe(plot);
  on(signal, "abort", () => {
    clearTimeout(sending);
    model.off("change:brushes", taken);
    resizing.disconnect();
    urls.forEach((url) => URL.revokeObjectURL(url));
  });

  el.replaceChildren(h("div", { className: "oms", role: "region", "aria-label": "Sweep", "data-lm-suppress-shortcuts": "true" },
    h("div", {}, h("b", { textContent: page.title }), h("span", { className: "oms-quiet", textContent: ` ${page.prompt}` })),
    h("div", { className: "oms-quiet", textContent: page.summary.join(" · ") }),
    h("div", { className: "oms-wide" }, plot),
    h("div", { className: "oms-tools" }, count, clear, words), strip, details));
  show();
  return () => leaving.abort();
}

export default { render };
