import assert from "node:assert/strict";
import test from "node:test";

import widget, { framesOf, isEnlarged, keyed, panned, transform, WHOLE, zoomedAt } from "./compare_explorer.js";

test("the module is what anywidget takes", () => {
  assert.deepEqual(Object.keys(widget), ["render"]);
});

test("what stands under the pointer stays there when the view is zoomed", () => {
  const view = zoomedAt(WHOLE, 4, 0.5, 0.25);
  assert.deepEqual(view, { zoom: 4, x: 0.375, y: 0.1875 });
  assert.equal(view.x + 0.5 / view.zoom, 0.5);
  assert.equal(transform(view), "scale(4.0000) translate(-37.500%, -18.750%)");
});

test("a view never leaves the picture, and never shows less than a 32nd of its side", () => {
  assert.deepEqual(zoomedAt(WHOLE, 0.1, 0.9, 0.9), WHOLE);
  assert.deepEqual(panned(WHOLE, 1, -1), WHOLE);
  assert.equal(zoomedAt(WHOLE, 1000, 0, 0).zoom, 32);
  assert.deepEqual(panned({ zoom: 2, x: 0.4, y: 0 }, 1, 0), { zoom: 2, x: 0.5, y: 0 });
});

test("keys zoom around the middle, move by a tenth of the frame, and go back to the whole", () => {
  assert.deepEqual(keyed(WHOLE, "+"), zoomedAt(WHOLE, 1.25, 0.5, 0.5));
  assert.deepEqual(keyed({ zoom: 2, x: 0.2, y: 0.2 }, "ArrowLeft"), { zoom: 2, x: 0.15000000000000002, y: 0.2 });
  assert.equal(keyed({ zoom: 8, x: 0.5, y: 0.5 }, "0"), WHOLE);
  assert.equal(keyed(WHOLE, "q"), null);
});

test("side by side all have a frame, flipped one has, and a difference needs another side", () => {
  assert.deepEqual(framesOf("side", 3, 1), [0, 1, 2]);
  assert.deepEqual(framesOf("flip", 3, 1), [1]);
  assert.deepEqual(framesOf("difference", 3, 1), [1, 2]);
});

test("pixels show as such only where they are larger than the screen's", () => {
  assert.equal(isEnlarged(300, 1, 64), true);
  assert.equal(isEnlarged(300, 2, 1024), false);
});
