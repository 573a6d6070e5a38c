/**
 * The report explorer's face: it draws, scales and filters what the kernel sends, and computes no figure.
 * `views.explorer` explains the fields of its page, lanes, bars and tables. Text goes in by `textContent` alone.
 *
 * @typedef {{start: number, end: number}} Stretch milliseconds on the run's axis
 * @typedef {{lane: number, bar: number}|null} Picked indexes
 */

const [LEFT, RIGHT, ROW, BAR, GAP, AXIS] = [168, 132, 26, 14, 18, 26];
const BY = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, Home: -Infinity, End: Infinity };
const MIN_MS = 0.01;
const SEEN_PX = 2;
const DRAG_PX = 4;
const MAX_ROWS = 200;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** Times as pixels and back. @param {Stretch} win @param {number} width px */
export function scale(win, width) {
  const perMs = width / (win.end - win.start);
  return { x: (ms) => (ms - win.start) * perMs, ms: (px) => win.start + clamp(px, 0, width) / perMs };
}

/** The window made `factor` times as long around a time. @returns {Stretch} inside the run */
export function zoomed(win, factor, at, total) {
  const length = clamp((win.end - win.start) * factor, MIN_MS, total);
  const share = (at - win.start) / (win.end - win.start);
  return panned({ start: 0, end: length }, at - length * share, total);
}

export function panned(win, by, total) {
  const start = clamp(win.start + by, 0, total - (win.end - win.start));
  return { start, end: start + win.end - win.start };
}

/** The window, moved or widened as little as it takes to have the stretch in sight. @returns {Stretch} */
export function showing(win, stretch, total) {
  const length = Math.min(total, Math.max(win.end - win.start, stretch.end - stretch.start));
  return panned({ start: 0, end: length }, clamp(win.start, stretch.end - length, stretch.start), total);
}

export const joined = (one, other) => ({ start: Math.min(one.start, other.start), end: Math.max(one.end, other.end) });

/** Round times in the window, about `count`, labelled in one unit. @param {Stretch} win @param {number} count */
export function ticks(win, count) {
  const about = (win.end - win.start) / count;
  const power = 10 ** Math.floor(Math.log10(about));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= about * 0.999);
  const [unit, name] = win.end >= 1000 ? [1000, "s"] : [1, "ms"];
  const digits = Math.max(0, Math.ceil(-Math.log10(step / unit) - 1e-9));
  const found = [];
  for (let index = Math.ceil(win.start / step - 1e-9); index * step <= win.end * (1 + 1e-9); index += 1) {
    found.push({ ms: index * step, label: index ? `${((index * step) / unit).toFixed(digits)} ${name}` : "0" });
  }
  return found;
}

/** Bars in the window; those that are too narrow to tell apart are one. @param {any[]} bars @param {Stretch} win */
export function drawn(bars, win, x) {
  const found = [];
  bars.forEach((bar, first) => {
    if (bar.end_ms < win.start || bar.start_ms > win.end) return;
    const [x0, x1] = [x(bar.start_ms), x(bar.end_ms)];
    const isThin = x1 - x0 < SEEN_PX;
    const last = found[found.length - 1];
    if (isThin && last?.isThin && last.look === bar.look && x0 - last.x1 < 0.5) Object.assign(last, { x1, last: first });
    else found.push({ x0, x1, first, last: first, look: bar.look, isThin });
  });
  return found;
}

/** The bar at a time, or the nearest within `slack` ms; -1 for none. @param {any[]} bars */
export function hit(bars, ms, slack) {
  const away = bars.map((bar) => Math.max(bar.start_ms - ms, ms - bar.end_ms, 0));
  const least = away.reduce((one, other) => Math.min(one, other), Infinity);
  return least <= slack ? away.indexOf(least) : -1;
}

/** Where a key leads: along the steps, or from lane to lane. @param {any[]} lanes @param {Picked} picked @returns {Picked} */
export function moved(lanes, picked, key) {
  if (!picked) return { lane: 0, bar: 0 };
  const by = BY[key];
  const { kind, bars } = lanes[picked.lane];
  if (kind === "steps" && !/Up|Down/.test(key)) return { ...picked, bar: clamp(picked.bar + by, 0, bars.length - 1) };
  const lane = clamp(picked.lane + by, 0, lanes.length - 1);
  return lane === picked.lane ? picked : { lane, bar: 0 };
}

export function tabAfter(index, key, count) {
  const next = index + BY[key];
  return Number.isFinite(next) ? (next + count) % count : clamp(next, 0, count - 1);
}

/** Indexes of the rows that touch the stretch; all where rows have no time. @param {any} table @param {Stretch|null} brush */
export function rowsIn(table, brush) {
  const all = table.rows.map((_, index) => index);
  if (!brush || !table.spans_ms.length) return all;
  return all.filter((index) => table.spans_ms[index][1] >= brush.start && table.spans_ms[index][0] <= brush.end);
}

/** Index of the nearest time. @param {number[]} times */
export function nearest(times, ms) {
  return times.reduce((best, time, index) => (Math.abs(time - ms) < Math.abs(times[best] - ms) ? index : best), 0);
}

/** @param {any[]} lanes @param {Picked} before kept where it is selected, too @returns {Picked} */
export function pickedBy(lanes, { stage, step }, before) {
  const isMeant = (bar) => bar?.stage === stage && bar.step === step;
  if (before && isMeant(lanes[before.lane].bars[before.bar])) return before;
  const lane = lanes.findIndex(({ bars }) => bars.some(isMeant));
  return lane < 0 ? null : { lane, bar: lanes[lane].bars.findIndex(isMeant) };
}

/** @param {any} bar @param {Stretch|null} brush */
export const selectionOf = (bar, brush) =>
  ({ start_ms: brush?.start ?? null, end_ms: brush?.end ?? null, stage: bar?.stage ?? null, step: bar?.step ?? null });

/** @param {string|Record<string, any>} given its text, or its properties and attributes */
function h(tag, given = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(typeof given === "string" ? { textContent: given } : given)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function s(tag, attributes, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
}

const write = (x, y, text, kind = "small", anchor = "start") => s("text", { x, y, class: `omx-${kind}`, "text-anchor": anchor }, text);

const list = (figures) => h("dl", {}, ...figures.map(([name, value]) => h("div", {}, h("dt", name), h("dd", value))));

/** Some rows of a table; a button adds more. @param {any} table @param {number[]} rows */
function tableOf(table, rows, where = "") {
  const isPart = rows.length < table.rows.length;
  const cell = (tag, textContent, column, scope) =>
    h(tag, { textContent, className: table.right.includes(column) ? "omx-right" : "", ...(scope && { scope }) });
  const body = h("tbody");
  const more = h("button", { type: "button", onclick: add });
  function add() {
    const from = body.children.length;
    body.append(...rows.slice(from, from + MAX_ROWS).map((row) => h("tr", { className: `omx-${table.tones[row]}` },
      ...table.rows[row].map((text, column) => (column ? cell("td", text, column) : cell("th", text, 0, "row"))))));
    more.hidden = body.children.length >= rows.length;
    more.textContent = `Show more rows (${rows.length - body.children.length} left)`;
  }
  add();
  if (!rows.length) body.append(h("tr", {}, cell("td", isPart ? "None in this stretch." : table.empty)));
  const head = h("tr", {}, ...table.header.map((text, column) => cell("th", text, column, "col")));
  const caption = h("caption", table.caption + (isPart ? ` (${rows.length} of ${table.rows.length}${where})` : ""));
  return h("div", { className: "omx-table" }, h("table", {}, caption, ...(rows.length ? [h("thead", {}, head)] : []), body), more);
}

/** Lanes and memory curves on one axis. @param {any} page @param {number} tall px of a curve */
function chart(page, { win, brush, picked }, lanes, width, tall) {
  const across = width - LEFT - RIGHT;
  const { x } = scale(win, across);
  const bottom = lanes.length * ROW + page.curves.length * (tall + GAP);
  const inside = s("svg", { x: LEFT, width: across, height: bottom });
  const root = s("svg", { width, height: bottom + AXIS, "aria-hidden": "true" });
  const stretch = (start, end, kind) => inside.append(s("rect",
    { x: x(start), y: 0, width: Math.max(x(end) - x(start), 1), height: bottom, class: `omx-${kind}` }));
  const chosen = picked ? page.lanes[picked.lane].bars : [];
  chosen.forEach((bar, index) => (bar.stage || index === picked.bar) && stretch(bar.start_ms, bar.end_ms, "band"));
  for (const { ms, label } of ticks(win, across / 90)) {
    inside.append(s("path", { d: `M${x(ms)} 0V${bottom}`, class: "omx-grid" }));
    root.append(write(LEFT + x(ms), bottom + GAP, label, "small", "middle"));
  }
  lanes.forEach(drawLane);
  page.curves.forEach((curve, index) => drawCurve(curve, lanes.length * ROW + index * (tall + GAP) + 12));
  if (brush) stretch(brush.start, brush.end, "brush");
  root.append(inside);
  return root;

  function drawLane(lane, row) {
    const { bars } = lane;
    const y = row * ROW + ROW / 2;
    if (picked?.lane === row) root.prepend(s("rect", { y: y - ROW / 2, width, height: ROW, class: "omx-picked" }));
    root.append(write(6, y + 4, lane.label, lane.kind === "steps" ? "small" : "name"),
      write(width - 6, y + 4, [lane.takes, lane.share].filter(Boolean).join(" · "), "small", "end"));
    let end = 0;
    for (const one of drawn(bars, win, x)) {
      const [first, last] = [bars[one.first], bars[one.last]];
      const odd = !one.isThin && first.step % 2 ? "omx-odd" : "";
      const rect = s("rect", { x: one.x0, y: y - BAR / 2, width: Math.max(one.x1 - one.x0, 1), height: BAR,
        class: `omx-bar omx-${lane.kind} omx-${one.look} ${odd}` });
      rect.append(s("title", {}, first === last ? first.words : `${first.words} … ${last.words}`));
      inside.append(rect);
      end = one.x1;
    }
    const fits = across - end > lane.note.length * 6.5;
    const [at, anchor] = fits ? [end + 7, "start"] : [x(bars[0].start_ms) - 7, "end"];
    inside.append(write(at, y + 4, lane.note, `note omx-${bars[0].look}`, anchor));
  }

  function drawCurve(curve, top) {
    const perByte = (tall - 6) / Math.max(curve.high_bytes - curve.low_bytes, 1);
    const [from, to] = [nearest(curve.t_ms, win.start) - 1, nearest(curve.t_ms, win.end) + 2];
    const points = curve.t_ms.map((ms, index) => [ms, curve.bytes[index]]).slice(Math.max(from, 0), to).map(([ms, held]) =>
      `${x(ms).toFixed(1)} ${(top + tall - 3 - (held - curve.low_bytes) * perByte).toFixed(1)}`);
    const foot = (point) => `${point?.split(" ")[0]} ${top + tall}`;
    const d = `M${[foot(points[0]), ...points, foot(points.at(-1))].join("L")}`;
    if (points.length) inside.append(s("path", { d, class: "omx-curve" }));
    root.append(write(6, top + 11, curve.counted, "name"), write(6, top + 26, curve.label),
      write(width - 6, top + 11, curve.high, "small", "end"), write(width - 6, top + tall, curve.low, "small", "end"));
  }
}

/** @param {{model: any, el: HTMLElement}} context @returns {() => void} what undoes it */
function render({ model, el }) {
  const leaving = new AbortController();
  const on = (target, kind, act) => target.addEventListener(kind, act, { signal: leaving.signal, passive: false });
  const page = model.get("_page");
  const { lanes } = page;
  const total = Math.max(page.total_ms, MIN_MS);
  const names = Object.keys(page.tabs);
  const whole = { start: 0, end: total };
  const state = { tab: "waterfall", win: whole, brush: null, picked: null };
  const urls = model.get("_pictures").map((file) => URL.createObjectURL(new Blob([file])));

  const button = (textContent, onclick, title = textContent) =>
    h("button", { type: "button", textContent, title, "aria-label": title, onclick });
  const toBrush = button("Zoom to brush", () => set({ win: zoomed(state.brush, 1, state.brush.start, total) }));
  const plot = h("div", { className: "omx-plot", role: "application", tabIndex: 0, "aria-description": page.help,
    "aria-label": `Waterfall and memory over ${page.total}` });
  const pointed = h("span", { className: "omx-pointed" });
  const said = h("p", { className: "omx-said", role: "status" });
  const details = h("div", { className: "omx-details" });
  const twin = h("details");
  const axis = h("div", {}, h("div", { className: "omx-tools" }, button("−", () => zoom(2), "Zoom out"),
    button("+", () => zoom(0.5), "Zoom in"), button("Whole run", () => set({ win: whole })), toBrush,
    button("Clear", () => choose(null, null)), pointed),
  plot, h("p", { className: "omx-help", textContent: page.help }), said, details, twin);
  const id = `omx${Math.random()}-`;
  const tabs = names.map((tab) => h("button", { type: "button", role: "tab", id: id + tab, "aria-controls": `${id}of-${tab}`,
    textContent: tab, onclick: () => set({ tab }) }));
  const panels = names.map((tab) => h("div", { role: "tabpanel", id: `${id}of-${tab}`, tabIndex: 0, "aria-labelledby": id + tab }));

  const barOf = (picked) => picked && lanes[picked.lane].bars[picked.bar];
  const stretchOf = (bar) => ({ start: bar.start_ms, end: bar.end_ms });
  const zoom = (factor, at = (state.win.start + state.win.end) / 2) => set({ win: zoomed(state.win, factor, at, total) });
  const pan = (share) => set({ win: panned(state.win, share * (state.win.end - state.win.start), total) });

  function set(change) {
    Object.assign(state, change);
    draw();
  }
  function choose(picked, brush) {
    set({ picked, brush });
    model.set("selection", selectionOf(barOf(picked), brush));
    model.save_changes();
  }
  function take() {
    const { start_ms: start, end_ms: end, ...one } = model.get("selection");
    set({ brush: start === null ? null : { start, end }, picked: pickedBy(lanes, one, state.picked) });
  }

  function draw() {
    tabs.forEach((tab, index) => {
      const isOpen = names[index] === state.tab;
      tab.setAttribute("aria-selected", isOpen);
      tab.tabIndex = isOpen ? 0 : -1;
      panels[index].hidden = !isOpen;
      if (isOpen) fill(panels[index]);
    });
  }
  function fill(panel) {
    const { tab, brush, picked } = state;
    const tables = page.tabs[tab].map((table) => tableOf(table, rowsIn(table, brush), ", in the brush"));
    if (tab === "waterfall" || tab === "memory") {
      if (!panel.contains(axis)) panel.replaceChildren(axis);
      twin.replaceChildren(h("summary", "As tables"), ...tables);
      toBrush.disabled = !brush;
      said.textContent = barOf(picked)?.words ?? "";
      details.replaceChildren(...chosen());
      plotted();
    } else if (tab === "pictures") {
      panel.replaceChildren(h("p", page.pictures), h("div", { className: "omx-pictures" },
        ...page.captions.map((textContent, index) => h("figure", {},
          h("img", { src: urls[index], alt: `${textContent}: ${page.prompt}` }), h("figcaption", textContent)))));
    } else panel.replaceChildren(...tables, ...(tab === "diagnosis" ? [h("pre", page.traceback)] : []));
  }
  function plotted() {
    const isMemory = state.tab === "memory";
    if (plot.clientWidth) plot.replaceChildren(chart(page, state, isMemory ? [] : lanes, plot.clientWidth, isMemory ? 160 : 64));
  }
  function chosen() {
    const { picked, brush } = state;
    const section = (name, figures, ...more) => h("section", {}, h("h4", name), list(figures), ...more);
    const parts = [];
    if (picked) {
      const [lane, events, steps] = [lanes[picked.lane], page.tabs.events[0], page.tabs.waterfall[1]];
      const isStep = lane.kind === "steps";
      const name = isStep ? `step ${picked.bar + 1}` : lane.label;
      const figures = isStep ? steps.header.map((head, column) => [head, steps.rows[picked.bar][column]]) : lane.figures;
      const rows = isStep ? barOf(picked).events : lane.bars.flatMap((bar) => bar.events);
      parts.push(section(name, figures, tableOf({ ...events, caption: `Events of ${name}` }, rows)));
    }
    const known = model.get("_brushed");
    const isKnown = brush && known.start_ms === brush.start && known.end_ms === brush.end;
    if (brush) parts.push(section("brush", isKnown ? known.figures : [["figures", "The kernel has not answered yet."]]));
    return parts;
  }

  const place = ({ clientX, clientY }) => {
    const box = plot.getBoundingClientRect();
    const px = clientX - box.left - LEFT;
    const { ms } = scale(state.win, box.width - LEFT - RIGHT);
    return { px, ms: ms(px), row: Math.floor((clientY - box.top) / ROW), slack: ms(DRAG_PX) - state.win.start };
  };
  let drag = null;
  on(plot, "pointerdown", (event) => {
    if (event.button) return;
    drag = { ...place(event), isBrush: false };
    plot.setPointerCapture(event.pointerId);
  });
  on(plot, "pointermove", (event) => {
    const { px, ms } = place(event);
    pointed.textContent = page.curves.filter((curve) => curve.t_ms.length)
      .map((curve) => page.tabs.memory[1].rows[curve.first_row + nearest(curve.t_ms, ms)].join(", ")).join("; ");
    if (!drag || (!drag.isBrush && Math.abs(px - drag.px) < DRAG_PX)) return;
    drag.isBrush = true;
    state.brush = joined({ start: ms, end: ms }, { start: drag.ms, end: drag.ms });
    plotted();
  });
  on(plot, "pointerup", (event) => {
    const { px, ms, row, slack } = place(event);
    const lane = state.tab === "waterfall" ? lanes[row] : null;
    const bar = lane ? (px < 0 ? 0 : hit(lane.bars, ms, slack)) : -1;
    if (drag?.isBrush) choose(state.picked, state.brush.end > state.brush.start ? state.brush : null);
    else if (drag) choose(...(bar < 0 ? [null, null] : [{ lane: row, bar }, state.brush]));
    drag = null;
  });
  on(plot, "pointercancel", () => {
    drag = null;
    take();
  });
  on(plot, "wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(2 ** (event.deltaY / 200), place(event).ms);
  });
  on(plot, "keydown", (event) => {
    const { picked } = state;
    const bar = barOf(picked);
    const act = { "+": () => zoom(0.5, bar?.start_ms), "-": () => zoom(2), 0: () => set({ win: whole }),
      PageUp: () => pan(-0.5), PageDown: () => pan(0.5), Escape: () => choose(null, null),
      Enter: () => bar?.end_ms > bar?.start_ms && choose(picked, stretchOf(bar)) }[event.key.replace("=", "+")];
    if (event.ctrlKey || event.metaKey || event.altKey || !(act || event.key in BY)) return;
    event.preventDefault();
    if (act) return act();
    const next = moved(lanes, picked, event.key);
    const there = stretchOf(barOf(next));
    state.win = showing(state.win, there, total);
    return choose(next, event.shiftKey ? joined(state.brush ?? (bar ? stretchOf(bar) : there), there) : state.brush);
  });
  tabs.forEach((tab, index) => on(tab, "keydown", (event) => {
    if (!(event.key in BY)) return;
    event.preventDefault();
    const next = tabs[tabAfter(index, event.key, tabs.length)];
    next.click();
    next.focus();
  }));
  model.on("change:selection", take);
  model.on("change:_brushed", draw);
  // else Jupyter takes arrow keys, Enter and Escape for its cells
  el.replaceChildren(h("div", { className: "omx", role: "region", "aria-label": "Report explorer", "data-lm-suppress-shortcuts": true },
    ...["title", "prompt", "settings", "error"].map((name) => h("p", { className: `omx-${name}`, textContent: page[name] })),
    list(page.figures), h("div", { role: "tablist", "aria-label": "Views" }, ...tabs), ...panels));
  const resized = new ResizeObserver(plotted);
  resized.observe(plot);
  take();
  return () => {
    leaving.abort();
    model.off("change:selection", take);
    model.off("change:_brushed", draw);
    resized.disconnect();
    urls.forEach((url) => URL.revokeObjectURL(url));
  };
}

export default { render };
