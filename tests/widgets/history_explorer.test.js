// The pure parts of the history explorer: `node --test`, run by test_history_explorer.py.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ROW_PX, choices, counted, matching, moment, runsOf, tagChange, windowOf, withClick } from "./history_explorer.js";

const runs = runsOf({
  run_id: ["a", "b", "c", "d"],
  prompt: ["A Red circle", "a blue SQUARE", "<img src=x> red", "in the trash, red"],
  model: ["one", "two", "one", "one"],
  task: ["text2image", "text2image", "image2image", "text2image"],
  state: ["succeeded", "failed", "succeeded", "succeeded"],
  enqueued_at_ms: [4, 3, 2, 1],
  duration_ms: [20, null, 10, 5],
  tags: [["x", "y"], [], ["y"], []],
  rating: [3, null, 5, null],
  trashed: [false, false, false, true],
});
const all = { text: "", trash: false, sort: "enqueued_at_ms", descending: true };
const ids = (wish) => matching(runs, { ...all, ...wish }).map((run) => run.run_id).join("");

test("what is typed is found in prompts, upper and lower case alike, as text", () => {
  assert.equal(ids({}), "abc");
  assert.equal(ids({ text: "RED" }), "ac");
  assert.equal(ids({ text: "<img" }), "c");
  assert.equal(ids({ text: ".*" }), "");
});

test("filters leave the runs that pass them all", () => {
  assert.equal(ids({ model: "one" }), "ac");
  assert.equal(ids({ model: "one", task: "image2image", state: "succeeded" }), "c");
  assert.equal(ids({ tag: "y" }), "ac");
  assert.equal(ids({ rating: "4" }), "c");
  assert.equal(ids({ trash: true }), "d");
});

test("what is unknown is sorted last, in either direction", () => {
  assert.equal(ids({ sort: "duration_ms", descending: true }), "acb");
  assert.equal(ids({ sort: "duration_ms", descending: false }), "cab");
  assert.equal(ids({ sort: "prompt", descending: false }), "cba");
});

test("equal ones stay newest first", () => {
  assert.equal(ids({ sort: "model", descending: false }), "acb");
  assert.equal(ids({ sort: "model", descending: true }), "bac");
});

test("the values to choose from are each there once", () => {
  assert.deepEqual(choices(runs, "model"), ["one", "two"]);
  assert.deepEqual(choices(runs, "tags"), ["x", "y"]);
});

test("only the rows in view are drawn, with a few beyond", () => {
  assert.deepEqual(windowOf(0, 8 * ROW_PX, 10_000), { first: 0, end: 12 });
  assert.deepEqual(windowOf(5_000 * ROW_PX, 8 * ROW_PX, 10_000), { first: 4_996, end: 5_012 });
  assert.deepEqual(windowOf(0, 8 * ROW_PX, 3), { first: 0, end: 3 });
});

test("a click selects one, one more or less, or a range in either direction", () => {
  const order = ["a", "b", "c", "d"];
  assert.deepEqual([...withClick(new Set(["a"]), order, "c", "a", "one")], ["c"]);
  assert.deepEqual([...withClick(new Set(["a"]), order, "c", "a", "toggle")], ["a", "c"]);
  assert.deepEqual([...withClick(new Set(["a", "c"]), order, "c", "a", "toggle")], ["a"]);
  assert.deepEqual([...withClick(new Set(), order, "b", "d", "range")], ["b", "c", "d"]);
  assert.deepEqual([...withClick(new Set(), order, "b", null, "range")], ["b"]);
});

test("tags as typed become what to add and what to remove", () => {
  assert.deepEqual(tagChange(["x", "y"], " y,z ,, "), { add: ["z"], remove: ["x"] });
  assert.deepEqual(tagChange(["x"], ""), { add: [], remove: ["x"] });
});

test("counts and times are written as everywhere in the lab", () => {
  assert.equal(counted(1, "run"), "1 run");
  assert.equal(counted(12_345, "run"), "12,345 runs");
  assert.match(moment(Date.UTC(2026, 10, 24, 12, 5)), /^2026-11-2\d \d\d:\d5$/);
});
