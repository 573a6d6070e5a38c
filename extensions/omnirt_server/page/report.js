/** One run's report in a dialog. */

import { badge, el, fitted, hits, table } from "./draw.js";
import { fromReport } from "./fold.js";
import { bytes, duration } from "./format.js";
import { ask, pictureUrl } from "./server.js";

const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("report"));
const body = document.getElementById("report-body");

document.getElementById("report-close").addEventListener("click", () => dialog.close());

/** @param {string} runId */
export async function openReport(runId) {
  const report = await ask(`v1/runs/${runId}`);
  document.getElementById("report-title").textContent = report.request.inputs.prompt || "(no prompt)";
  dialog.dataset.run = runId;
  body.replaceChildren();
  dialog.showModal();
  body.append(...parts(report));
  const findings = await ask(`omnirt/findings/${runId}`);
  if (dialog.open && dialog.dataset.run === runId) body.append(el("h3", { textContent: "Diagnosis" }), findingList(findings));
}

function parts(report) {
  const timeline = fromReport(report);
  const pictures = report.artifacts.map((one) => el("img", {
    src: pictureUrl(one.preview_sha256 ?? one.sha256), alt: `Picture ${one.index + 1}: ${report.request.inputs.prompt}` }));
  const { error } = report;
  const failed = error === null ? [] : [el("p", { className: "error",
    textContent: [`${error.type}: ${error.message}`, error.hint].filter(Boolean).join(" – ") })];
  return [el("p", {}, badge(report.state)), ...failed,
    ...(pictures.length ? [el("div", { className: "pictures" }, ...pictures)] : []), facts(report),
    el("h3", { textContent: "Where the time went" }), fitted(timeline), hits(timeline),
    el("details", {}, el("summary", { textContent: "The stages as a table" }), table(timeline))];
}

function facts(report) {
  const { config } = report.request;
  const peaks = Object.entries(report.memory.peak_bytes).map(([device, peak]) => `${bytes(peak)} on ${device}`);
  const known = [
    ["Model", report.model], ["Pipeline", report.pipeline_class], ["Seed", report.artifacts[0]?.seed ?? config.seed],
    ["Steps", `${report.steps.length} of ${report.steps_planned ?? "–"}`],
    ["Guidance", report.config_resolved.guidance_scale ?? config.guidance_scale],
    ["Took", duration(report.duration_ms)], ["Waited", duration(report.queue_wait_ms)],
    [`Peak memory${report.memory.kind ? ` (${report.memory.kind.replaceAll("_", " ")})` : ""}`, peaks.join(", ")],
    ["Negative prompt", report.request.inputs.negative_prompt], ["Run", report.run_id],
  ];
  return el("dl", {}, ...known.filter(([, value]) => value != null && value !== "").map(([name, value]) =>
    el("div", {}, el("dt", { textContent: name }), el("dd", { textContent: String(value) }))));
}

function findingList(findings) {
  return el("ul", { className: "findings" }, ...findings.map((one) => el("li", { className: `f-${one.severity}` },
    el("span", { textContent: one.fact }),
    ...(one.advice ? [el("span", { className: "advice", textContent: one.advice })] : []))));
}
