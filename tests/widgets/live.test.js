import assert from "node:assert/strict";
import test from "node:test";

import widget, { areaPoints, barClass, isAtEdge, linePoints, percent, stopButton, times } from "./live.js";

const state = { prompt: "a circle", model: "m", state: "running", headline: "step 2 of 5", progress: 0.4, left: "3.2 s left",
  elapsed: "2.1 s", lanes: [], ticks: [], curves: [], hits: [], notes: [] };

test("the module is what anywidget takes", () => {
  assert.deepEqual(Object.keys(widget), ["render"]);
});

test("a share of the axis becomes a length of the page", () => {
  assert.equal(percent(5000), "50%");
});

test("a bar says what it is and how it stands", () => {
  const bar = { start: 0, end: 1, kind: "encode", is_open: false, is_cached: true, is_error: false };
  assert.equal(barClass(bar), "omnirt-bar omnirt-encode omnirt-is-cached");
  assert.equal(barClass({ ...bar, is_cached: false }), "omnirt-bar omnirt-encode");
});

test("a higher reading stands higher, and the area goes down to the floor", () => {
  assert.equal(linePoints([[0, 0], [10000, 10000]]), "0,94.00 100,6.00");
  assert.equal(areaPoints([[2500, 0], [10000, 10000]]), "25,100 25,94.00 100,6.00 100,100");
  assert.equal(areaPoints([]), "");
});

test("time left is said where it is known", () => {
  assert.equal(times(state), "3.2 s left · 2.1 s so far");
  assert.equal(times({ ...state, left: null }), "2.1 s so far");
});

test("a label at the right edge is left out", () => {
  assert.equal(isAtEdge(9900), true);
  assert.equal(isAtEdge(5000), false);
});

test("Stop can be pressed once, and only while there is something to stop", () => {
  assert.deepEqual(stopButton(state, false), { hidden: false, disabled: false, text: "Stop" });
  assert.deepEqual(stopButton(state, true), { hidden: false, disabled: true, text: "Stopping…" });
  assert.equal(stopButton({ ...state, state: "queued" }, false).hidden, false);
  assert.equal(stopButton({ ...state, state: "succeeded" }, false).hidden, true);
});
