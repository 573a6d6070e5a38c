import assert from "node:assert/strict";
import test from "node:test";

import explorer, { drawn, hit, joined, moved, nearest, panned, pickedBy, rowsIn, scale, selectionOf, showing, tabAfter, ticks,
  zoomed } from "./explorer.js";

const bar = (start_ms, end_ms, rest) => ({ start_ms, end_ms, look: "whole", stage: null, step: null, ...rest });
const lanes = [
  { kind: "encode", bars: [bar(0, 10, { stage: "text_encoder" }), bar(10, 15, { stage: "text_encoder" })] },
  { kind: "denoise", bars: [bar(20, 80, { stage: "denoise" })] },
  { kind: "steps", bars: [bar(20, 40, { step: 0 }), bar(40, 60, { step: 1 }), bar(60, 80, { step: 2 })] },
  { kind: "decode", bars: [bar(80, 100, { stage: "vae_decode" })] },
];

test("a time becomes pixels and comes back, and no pixel lies outside of the window", () => {
  const { x, ms } = scale({ start: 100, end: 300 }, 400);
  assert.equal(x(200), 200);
  assert.equal(ms(x(250)), 250);
  assert.deepEqual([ms(-50), ms(900)], [100, 300]);
});

test("zooming keeps the time under the pointer, and stays inside the run", () => {
  assert.deepEqual(zoomed({ start: 0, end: 100 }, 0.5, 80, 100), { start: 40, end: 90 });
  assert.deepEqual(zoomed({ start: 40, end: 90 }, 8, 80, 100), { start: 0, end: 100 });
  assert.ok(Math.abs(zoomed({ start: 50, end: 51 }, 1e-6, 50, 100).end - 50.01) < 1e-9);
  assert.deepEqual(panned({ start: 10, end: 30 }, -50, 100), { start: 0, end: 20 });
  assert.deepEqual(panned({ start: 10, end: 30 }, 500, 100), { start: 80, end: 100 });
});

test("the window moves as little as it takes to show a bar, and widens for a long one", () => {
  assert.deepEqual(showing({ start: 0, end: 20 }, { start: 5, end: 9 }, 100), { start: 0, end: 20 });
  assert.deepEqual(showing({ start: 0, end: 20 }, { start: 50, end: 60 }, 100), { start: 40, end: 60 });
  assert.deepEqual(showing({ start: 60, end: 80 }, { start: 10, end: 70 }, 100), { start: 10, end: 70 });
  assert.deepEqual(joined({ start: 5, end: 9 }, { start: 1, end: 6 }), { start: 1, end: 9 });
});

test("ticks are round, inside the window, and labelled alike", () => {
  assert.deepEqual(ticks({ start: 0, end: 1260 }, 5).map((tick) => tick.label), ["0", "0.5 s", "1.0 s"]);
  assert.deepEqual(ticks({ start: 0.3, end: 0.9 }, 3).map((tick) => tick.label), ["0.4 ms", "0.6 ms", "0.8 ms"]);
  assert.deepEqual(ticks({ start: 1200.1, end: 1200.4 }, 3).map((tick) => tick.label),
    ["1.2001 s", "1.2002 s", "1.2003 s", "1.2004 s"]);
});

test("bars that cannot be told apart are drawn as one, and those outside of the window are not", () => {
  const many = Array.from({ length: 1000 }, (_, index) => bar(index, index + 1, { step: index }));
  const all = drawn(many, { start: 0, end: 1000 }, scale({ start: 0, end: 1000 }, 500).x);
  assert.deepEqual(all.map((one) => [one.first, one.last]), [[0, 999]]);
  const near = drawn(many, { start: 10.5, end: 13.5 }, scale({ start: 10.5, end: 13.5 }, 500).x);
  assert.deepEqual(near.map((one) => one.first), [10, 11, 12, 13]);
});

test("a click finds the bar under it, or one that is too thin to meet", () => {
  assert.equal(hit(lanes[2].bars, 45, 1), 1);
  assert.equal(hit(lanes[1].bars, 19.5, 1), 0);
  assert.equal(hit(lanes[1].bars, 10, 1), -1);
  assert.equal(hit([], 10, 1), -1);
});

test("arrow keys go from lane to lane, and along the steps", () => {
  const at = (...keys) => keys.reduce((picked, key) => moved(lanes, picked, key), null);
  assert.deepEqual(at("ArrowDown"), { lane: 0, bar: 0 });
  assert.deepEqual(at("ArrowDown", "ArrowRight"), { lane: 1, bar: 0 });
  assert.deepEqual(at("ArrowDown", "ArrowUp"), { lane: 0, bar: 0 });
  assert.deepEqual(at("ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight"), { lane: 2, bar: 1 });
  assert.deepEqual(moved(lanes, { lane: 2, bar: 1 }, "End"), { lane: 2, bar: 2 });
  assert.deepEqual(moved(lanes, { lane: 2, bar: 1 }, "ArrowDown"), { lane: 3, bar: 0 });
  assert.deepEqual(moved(lanes, { lane: 0, bar: 0 }, "End"), { lane: 3, bar: 0 });
});

test("arrow keys go round the tabs, Home and End to their ends", () => {
  assert.deepEqual(["ArrowRight", "ArrowLeft", "Home", "End"].map((key) => tabAfter(7, key, 8)), [0, 6, 0, 7]);
});

test("a brush keeps the rows that touch it; rows without time all stay", () => {
  const table = { rows: [["a"], ["b"], ["c"]], spans_ms: [[0, 10], [10, 20], [30, 40]] };
  assert.deepEqual(rowsIn(table, { start: 12, end: 30 }), [1, 2]);
  assert.deepEqual(rowsIn(table, null), [0, 1, 2]);
  assert.deepEqual(rowsIn({ ...table, spans_ms: [] }, { start: 12, end: 30 }), [0, 1, 2]);
  assert.equal(nearest([0, 10, 40], 26), 2);
});

test("a selection names a stage or a step, and is found again", () => {
  assert.deepEqual(selectionOf(lanes[1].bars[0], { start: 1, end: 2 }),
    { start_ms: 1, end_ms: 2, stage: "denoise", step: null });
  assert.deepEqual(selectionOf(null, null), { start_ms: null, end_ms: null, stage: null, step: null });
  assert.deepEqual(pickedBy(lanes, { stage: null, step: 1 }, null), { lane: 2, bar: 1 });
  assert.deepEqual(pickedBy(lanes, { stage: "text_encoder", step: null }, { lane: 0, bar: 1 }), { lane: 0, bar: 1 });
  assert.equal(pickedBy(lanes, { stage: null, step: null }, { lane: 0, bar: 1 }), null);
  assert.equal(pickedBy(lanes, { stage: "unknown", step: null }, null), null);
});

test("the module is a widget", () => assert.equal(typeof explorer.render, "function"));
