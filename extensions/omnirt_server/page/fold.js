/**
 * One job's events, or one report, as what the page draws. Pure: no DOM, no clock.
 *
 * @typedef {{name: string, start: number, end: number|null, error: string|null}} Stage times in ns since enqueued
 * @typedef {{index: number, start: number, end: number}} Step
 * @typedef {{t: number, device: string, bytes: number}} Sample
 * @typedef {{type: string, hits: number, savedNs: number|null}} Hit
 * @typedef {{state: string, startedNs: number|null, endNs: number, stages: Stage[], steps: Step[],
 *   stepsPlanned: number|null, samples: Sample[], memoryKind: string|null, hits: Hit[],
 *   outputs: {sha256: string}[], error: {type: string, message: string}|null}} Timeline
 */

const TERMINAL = { job_finished: "succeeded", job_failed: "failed", job_cancelled: "cancelled", job_lost: "lost" };

/** @returns {Timeline} A job of which nothing is known. */
export function emptyTimeline() {
  return { state: "queued", startedNs: null, endNs: 0, stages: [], steps: [], stepsPlanned: null, samples: [],
    memoryKind: null, hits: [], outputs: [], error: null };
}

/** @param {string} state */
export const isEnded = (state) => !["queued", "running"].includes(state);

/**
 * The timeline with one more event. The given one is left as it is.
 * @param {Timeline} before @param {any} event @returns {Timeline}
 */
export function withEvent(before, event) {
  const data = event.data ?? {};
  const after = { ...before, endNs: Math.max(before.endNs, event.t_ns) };
  if (event.event in TERMINAL) {
    return { ...after, state: TERMINAL[event.event], outputs: data.artifacts ?? [], error: data.error ?? null };
  }
  switch (event.event) {
    case "job_started":
      return { ...after, state: "running", startedNs: event.t_ns };
    case "stage_start":
      return { ...after, stages: [...before.stages, { name: event.stage, start: event.t_ns, end: null, error: null }] };
    case "stage_end":
      return { ...after, stages: closed(before.stages, event, null) };
    case "stage_error":
      return { ...after, stages: closed(before.stages, event, data.type) };
    case "step":
      return { ...after, stepsPlanned: data.total ?? before.stepsPlanned,
        steps: [...before.steps, { index: data.index, start: data.start_t_ns, end: event.t_ns }] };
    case "memory":
      return { ...after, memoryKind: data.kind,
        samples: [...before.samples, { t: event.t_ns, device: data.device, bytes: data.current_bytes }] };
    case "cache_hit":
      return { ...after, hits: withHit(before.hits, data) };
    default:
      return after;
  }
}

/** @param {Stage[]} stages @param {any} event @param {string|null} error */
function closed(stages, event, error) {
  const at = stages.findLastIndex((stage) => stage.name === event.stage && stage.end === null);
  return stages.map((stage, index) => (index === at ? { ...stage, end: event.t_ns, error } : stage));
}

/** @param {Hit[]} hits @param {any} data */
function withHit(hits, data) {
  const known = hits.find((hit) => hit.type === data.cache_type) ?? { type: data.cache_type, hits: 0, savedNs: null };
  const savedNs = data.saved_ns == null ? known.savedNs : (known.savedNs ?? 0) + data.saved_ns;
  return [...hits.filter((hit) => hit !== known), { ...known, hits: known.hits + 1, savedNs }];
}

/** @param {any} report @returns {Timeline} */
export function fromReport(report) {
  const stages = report.stages.map((s) => ({ name: s.name, start: s.start_t_ns, end: s.end_t_ns, error: s.error }));
  const steps = report.steps.map((s) => ({ index: s.index, start: s.start_t_ns, end: s.end_t_ns }));
  const samples = report.memory.samples.map(([t, device, bytes]) => ({ t, device, bytes }));
  const ends = [...stages.map((s) => s.end ?? s.start), ...steps.map((s) => s.end), ...samples.map((s) => s.t),
    ...report.stream_events.map((mark) => mark[3])];
  return {
    state: report.state, stages, steps, samples, memoryKind: report.memory.kind,
    startedNs: report.queue_wait_ms == null ? null : report.queue_wait_ms * 1e6,
    endNs: ends.reduce((most, t) => Math.max(most, t), 0),
    stepsPlanned: report.steps_planned,
    hits: report.cache_details.filter((use) => use.hits > 0).map((use) => ({
      type: use.cache_type, hits: use.hits, savedNs: use.saved_ms == null ? null : use.saved_ms * 1e6 })),
    outputs: report.artifacts, error: report.error,
  };
}

/**
 * Time left of the steps, by the median of those done; null before two are done (the first one warms up).
 * @param {Timeline} timeline @returns {number|null} ns
 */
export function stepsLeftNs(timeline) {
  const { steps, stepsPlanned } = timeline;
  if (stepsPlanned === null || steps.length < 2) return null;
  const times = steps.slice(1).map((step) => step.end - step.start).sort((a, b) => a - b);
  return Math.max(0, stepsPlanned - steps.length) * times[Math.floor(times.length / 2)];
}

/**
 * The rows of the waterfall: a lane a stage name, in the order of their beginning, and the steps in one lane.
 * @param {Timeline} timeline
 * @returns {{name: string, bars: {start: number, end: number, kind: string}[]}[]}
 */
export function lanes(timeline) {
  /** @type {Map<string, any[]>} */
  const byName = new Map();
  for (const stage of timeline.stages) {
    const bars = byName.get(stage.name) ?? [];
    const kind = stage.error ? "error" : stage.end === null ? "open" : "stage";
    byName.set(stage.name, [...bars, { start: stage.start, end: stage.end ?? timeline.endNs, kind }]);
  }
  const rows = [...byName].map(([name, bars]) => ({ name, bars }));
  if (timeline.steps.length > 0) {
    const bars = timeline.steps.map((step) => ({ start: step.start, end: step.end, kind: "step" }));
    const at = rows.findIndex((row) => row.name === "denoise");
    rows.splice(at < 0 ? rows.length : at + 1, 0, { name: "steps", bars });
  }
  return rows;
}

/** The readings of the device that used most. @param {Timeline} timeline @returns {Sample[]} */
export function mainSamples(timeline) {
  const top = timeline.samples.reduce((most, s) => (most === null || s.bytes > most.bytes ? s : most), null);
  return top === null ? [] : timeline.samples.filter((sample) => sample.device === top.device);
}
