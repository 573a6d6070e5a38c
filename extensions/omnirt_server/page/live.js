/** The running jobs, each following its own events. */

import { badge, chart, el, hits, whenWidthChanges } from "./draw.js";
import { emptyTimeline, isEnded, stepsLeftNs, withEvent } from "./fold.js";
import { duration } from "./format.js";
import { ask, follow } from "./server.js";

/** @param {string} jobId @param {(error: Error) => void} onError */
export function cancelButton(jobId, onError) {
  const button = el("button", { type: "button", textContent: "Cancel" });
  button.addEventListener("click", async () => {
    button.disabled = true;
    button.textContent = "Cancelling…";
    try {
      await ask(`v1/jobs/${jobId}`, "DELETE");
    } catch (error) {
      button.disabled = false;
      button.textContent = "Cancel";
      onError(error);
    }
  });
  return button;
}

/**
 * A card that draws itself anew at most once a frame, however many events come.
 * @param {any} job @param {() => void} onEnd @param {(error: Error) => void} onError
 */
export function liveCard(job, onEnd, onError) {
  let timeline = emptyTimeline();
  let drawing = 0;
  const bar = el("progress", { max: 1 });
  bar.setAttribute("aria-label", "Steps done");
  const words = el("p", { className: "progress-words" });
  const spoken = el("p", { className: "spoken" });
  spoken.setAttribute("aria-live", "polite");
  const figure = el("div", { className: "figure" });
  const node = el("article", { className: "card job" },
    el("div", { className: "bar" }, el("p", { className: "prompt", textContent: job.prompt || "(no prompt)" }),
      badge("running"), cancelButton(job.job_id, onError)), bar, words, spoken, figure);
  const draw = () => {
    drawing = 0;
    const left = stepsLeftNs(timeline);
    const done = timeline.steps.length;
    if (timeline.stepsPlanned === null) bar.removeAttribute("value");
    else bar.value = done / timeline.stepsPlanned;
    const stage = timeline.stages.findLast((one) => one.end === null);
    words.textContent = [
      timeline.stepsPlanned === null ? (stage?.name ?? "starting").replaceAll("_", " ")
        : `step ${done} of ${timeline.stepsPlanned}`,
      left === null ? "" : `${duration(left / 1e6)} of steps left`,
    ].filter(Boolean).join(" · ");
    const quarter = timeline.stepsPlanned === null ? 0 : Math.floor((4 * done) / timeline.stepsPlanned);
    const say = quarter === 0 ? "" : `${job.prompt}: ${25 * quarter} % of the steps done`;
    if (spoken.textContent !== say) spoken.textContent = say;
    figure.replaceChildren(chart(timeline, figure.clientWidth || 320), hits(timeline));
  };
  whenWidthChanges(figure, () => (drawing ||= requestAnimationFrame(draw)));
  const source = follow(job.job_id, (event) => {
    timeline = withEvent(timeline, event);
    drawing ||= requestAnimationFrame(draw);
    if (isEnded(timeline.state)) onEnd();
  });
  return { node, close: () => source.close() };
}
