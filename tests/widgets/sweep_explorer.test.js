import assert from "node:assert/strict";
import test from "node:test";

import widget, { dragged, isInside, keyed, moved, nearest, places, resized, spanWords, withBrush } from "./sweep_explorer.js";

const line = (shares, words = []) => ({ row: 0, shares, words, title: "", colour: "", note: "" });

test("the module is what anywidget takes", () => {
  assert.deepEqual(Object.keys(widget), ["render"]);
});

test("a run is inside when every brush holds it, and outside of one where it was not measured", () => {
  assert.equal(isInside(line([0.2, 0.9]), []), true);
  assert.equal(isInside(line([0.2, 0.9]), [{ axis: 0, low: 0.2, high: 0.5 }]), true);
  assert.equal(isInside(line([0.2, 0.9]), [{ axis: 0, low: 0, high: 1 }, { axis: 1, low: 0, high: 0.8 }]), false);
  assert.equal(isInside(line([0.2, null]), [{ axis: 1, low: 0, high: 1 }]), false);
});

test("a drag is a brush whichever way it goes, and none where it is short", () => {
  assert.deepEqual(dragged(1, 0.7, 0.2), { axis: 1, low: 0.2, high: 0.7 });
  assert.deepEqual(dragged(1, 0.9, 1.4), { axis: 1, low: 0.9, high: 1 });
  assert.equal(dragged(1, 0.5, 0.51), null);
});

test("a brush keeps its length when it is moved against an end, and never vanishes when it shrinks", () => {
  assert.deepEqual(moved({ axis: 0, low: 0.25, high: 0.75 }, 1), { axis: 0, low: 0.5, high: 1 });
  assert.deepEqual(moved({ axis: 0, low: 0.25, high: 0.75 }, -1), { axis: 0, low: 0, high: 0.5 });
  const least = resized({ axis: 0, low: 0.4, high: 0.6 }, -1);
  assert.ok(least.high - least.low > 0);
});

test("keys make a brush, move it, resize it and take it away", () => {
  const brush = { axis: 2, low: 0.25, high: 0.5 };
  assert.deepEqual(keyed(2, undefined, "ArrowUp"), { axis: 2, low: 0.5, high: 1 });
  assert.deepEqual(keyed(2, undefined, "ArrowDown"), { axis: 2, low: 0, high: 0.5 });
  assert.deepEqual(keyed(2, brush, "ArrowUp"), moved(brush, 0.05));
  assert.deepEqual(keyed(2, brush, "+"), resized(brush, 0.025));
  assert.equal(keyed(2, brush, "Escape"), null);
  assert.equal(keyed(2, undefined, "Escape"), undefined);
  assert.equal(keyed(2, brush, "q"), undefined);
});

test("an axis has one brush", () => {
  const [first, other] = [{ axis: 0, low: 0, high: 1 }, { axis: 1, low: 0, high: 1 }];
  assert.deepEqual(withBrush([first, other], 0, { ...first, high: 0.5 }), [other, { ...first, high: 0.5 }]);
  assert.deepEqual(withBrush([first, other], 0, null), [other]);
});

test("a brush is said by the words of its lowest and highest run", () => {
  const lines = [line([0.9], ["30"]), line([0.1], ["10"]), line([0.5], ["20"])];
  assert.equal(spanWords(lines, { axis: 0, low: 0.4, high: 1 }), "20 to 30");
  assert.equal(spanWords(lines, { axis: 0, low: 0.8, high: 1 }), "30");
  assert.equal(spanWords(lines, { axis: 0, low: 0.6, high: 0.7 }), "no run");
});

test("the pointer finds the line that passes by, and none that has no figure there", () => {
  const xs = places(3, 400);
  const lines = [line([0, 0, null]), line([1, 1, 1])];
  assert.equal(nearest(lines, xs, (xs[0] + xs[1]) / 2, 258), lines[0]);
  assert.equal(nearest(lines, xs, (xs[1] + xs[2]) / 2, 258), null);
  assert.deepEqual(places(1, 400), [200]);
});
