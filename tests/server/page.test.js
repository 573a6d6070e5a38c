import assert from "node:assert/strict";
import test from "node:test";

import { emptyTimeline, lanes, stepsLeftNs, withEvent } from "./fold.js";
import { duration, requestBody, saving } from "./format.js";

const events = [
  { event: "job_started", t_ns: 10, data: {} },
  { event: "stage_start", stage: "denoise", t_ns: 20, data: {} },
  ...[0, 1, 2].map((i) => ({ event: "step", stage: "denoise", t_ns: 120 + 100 * i,
    data: { index: i, total: 5, start_t_ns: 20 + 100 * i } })),
  { event: "cache_hit", t_ns: 321, data: { cache_type: "text_embedding", saved_ns: 7 } },
  { event: "cache_hit", t_ns: 322, data: { cache_type: "text_embedding" } },
];

test("events fold into a timeline whose steps share one lane", () => {
  const timeline = events.reduce(withEvent, emptyTimeline());
  assert.equal(timeline.state, "running");
  assert.deepEqual(lanes(timeline).map((row) => [row.name, row.bars.length]), [["denoise", 1], ["steps", 3]]);
  assert.equal(lanes(timeline)[0].bars[0].kind, "open");
  assert.deepEqual(timeline.hits, [{ type: "text_embedding", hits: 2, savedNs: 7 }]);
});

test("time left is that of the steps not done, by the median", () => {
  assert.equal(stepsLeftNs(events.reduce(withEvent, emptyTimeline())), 200);
  assert.equal(stepsLeftNs(emptyTimeline()), null);
});

test("an ended stage and an ended job are closed", () => {
  const timeline = [...events, { event: "stage_error", stage: "denoise", t_ns: 400, data: { type: "ValueError" } },
    { event: "job_failed", t_ns: 410, data: { error: { type: "ValueError", message: "no" } } }]
    .reduce(withEvent, emptyTimeline());
  assert.equal(timeline.state, "failed");
  assert.equal(lanes(timeline)[0].bars[0].kind, "error");
});

test("a cache that cost more than it saved says so", () => {
  assert.equal(saving(37.4), "saved 37 ms");
  assert.equal(saving(-4.2), "cost 4 ms more than it saved");
});

test("a request keeps all digits of its seed and leaves empty fields out", () => {
  const body = requestBody({ prompt: 'a "b"', model: "m", seed: "9223372036854775807", steps: "4", width: "" });
  assert.ok(body.includes('"seed":9223372036854775807'));
  assert.deepEqual(JSON.parse(body).inputs, { prompt: 'a "b"' });
  assert.equal(JSON.parse(body).config.steps, 4);
  assert.equal("width" in JSON.parse(body).config, false);
});

test("what was not measured is a dash", () => {
  assert.equal(duration(null), "–");
  assert.equal(duration(119_700), "2 min 0 s");
});
