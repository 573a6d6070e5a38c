/** The page: asks for the lists once a second while it is seen, and lets each running job draw itself. */

import { badge, el } from "./draw.js";
import { ago, duration, requestBody } from "./format.js";
import { cancelButton, liveCard } from "./live.js";
import { openReport } from "./report.js";
import { ask, pictureUrl } from "./server.js";

const POLL_MS = 1000;
const MODELS_POLL_MS = 10_000;
const TROUBLE_MS = 6000;
const byId = (id) => /** @type {any} */ (document.getElementById(id));
/** @type {Map<string, {node: Element, close: () => void}>} */
const cards = new Map();
let shownQueue = "";
let shownRuns = "";

const url = new URL(location.href);
if (url.searchParams.has("token")) {
  url.searchParams.delete("token"); // the server has set its cookie; a token does not belong into a shared address
  history.replaceState(null, "", url);
}

let hiding = 0;

/** Says what went wrong until it has not gone wrong again for a while. @param {Error} error */
function trouble(error) {
  byId("trouble").textContent = error.message;
  byId("trouble").hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (byId("trouble").hidden = true), TROUBLE_MS);
}

function showRunning(jobs) {
  const ids = new Set(jobs.map((job) => job.job_id));
  for (const [id, card] of cards) {
    if (!ids.has(id)) {
      card.close();
      card.node.remove();
      cards.delete(id);
    }
  }
  for (const job of jobs.filter((one) => !cards.has(one.job_id))) {
    const card = liveCard(job, () => refresh(), trouble);
    cards.set(job.job_id, card);
    byId("live").append(card.node);
  }
  byId("live-empty").hidden = jobs.length > 0;
  byId("running-count").textContent = jobs.length || "";
}

function showQueue(jobs) {
  byId("queue-empty").hidden = jobs.length > 0;
  byId("queued-count").textContent = jobs.length || "";
  const key = JSON.stringify(jobs);
  if (key === shownQueue) return;
  shownQueue = key;
  byId("queue").replaceChildren(...jobs.map((job) => el("li", { className: "card bar" },
    el("p", { className: "prompt", textContent: job.prompt || "(no prompt)" }),
    el("span", { className: "quiet", textContent: job.model }), cancelButton(job.job_id, trouble))));
}

function showRuns(runs) {
  byId("runs-empty").hidden = runs.length > 0;
  byId("runs-empty").textContent = byId("filter-prompt").value || byId("filter-state").value
    ? "No run matches." : "No runs yet: generate a picture with the form.";
  const key = JSON.stringify(runs) + Math.floor(Date.now() / 60_000);
  if (key === shownRuns) return;
  shownRuns = key;
  const focused = document.activeElement?.getAttribute("data-run");
  byId("runs").replaceChildren(...runs.map(runItem));
  if (focused) byId("runs").querySelector(`[data-run="${CSS.escape(focused)}"]`)?.focus();
}

function runItem(run) {
  const thumb = run.artifact_sha256
    ? el("img", { src: pictureUrl(run.artifact_sha256), alt: "", loading: "lazy", className: "thumb" })
    : el("span", { className: "thumb" });
  const facts = [run.model, run.steps === null ? "" : `${run.steps} steps`, run.duration_ms === null ? "" : duration(run.duration_ms),
    ago(run.enqueued_at_ms, Date.now())].filter(Boolean).join(" · ");
  const button = el("button", { type: "button", className: "run card" }, thumb,
    el("span", { className: "run-words" },
      el("span", { className: "prompt", textContent: run.prompt || "(no prompt)" }),
      el("span", { className: "quiet", textContent: facts })), badge(run.state));
  button.dataset.run = run.run_id;
  button.addEventListener("click", () => openReport(run.run_id).catch(trouble));
  return el("li", {}, button);
}

async function refresh() {
  const query = new URLSearchParams({ limit: "50" });
  if (byId("filter-prompt").value) query.set("prompt", byId("filter-prompt").value);
  if (byId("filter-state").value) query.set("state", byId("filter-state").value);
  const [running, queued, runs] = await Promise.all(
    [ask("v1/jobs?state=running"), ask("v1/jobs?state=queued&limit=100"), ask(`v1/runs?${query}`)]);
  showRunning(running.jobs);
  showQueue(queued.jobs.toReversed());
  showRuns(runs.runs.filter((run) => !["queued", "running"].includes(run.state)));
  const summary = `${running.jobs.length} running, ${queued.jobs.length}${queued.next_before ? "+" : ""} waiting`;
  if (byId("summary").textContent !== summary) byId("summary").textContent = summary;
}

async function showModels() {
  const { data } = await ask("v1/models");
  byId("models").replaceChildren(...data.map((model) => el("option", { value: model.id })));
  byId("model-list").replaceChildren(...data.map((model) => el("li", { className: "bar" },
    el("span", { className: "prompt", textContent: model.id }),
    el("span", { className: "quiet", textContent: workerCount(model.workers.length) }))));
}

const workerCount = (count) => (count === 0 ? "no worker now" : `${count} ${count === 1 ? "worker" : "workers"}`);

async function poll() {
  if (!document.hidden) await refresh().catch(trouble);
  setTimeout(poll, POLL_MS);
}

async function pollModels() {
  if (!document.hidden) await showModels().catch(trouble);
  setTimeout(pollModels, MODELS_POLL_MS);
}

byId("form").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const answer = byId("form-answer");
  try {
    await ask("v1/generate", "POST", requestBody(Object.fromEntries(new FormData(byId("form")))));
    answer.textContent = "Queued.";
    await refresh();
  } catch (error) {
    answer.textContent = error.message;
  }
});

byId("runs").addEventListener("keydown", (pressed) => {
  const buttons = [...byId("runs").querySelectorAll("button")];
  const to = { ArrowDown: 1, ArrowUp: -1 }[pressed.key];
  if (to === undefined) return;
  pressed.preventDefault();
  buttons[buttons.indexOf(document.activeElement) + to]?.focus();
});

byId("filter-prompt").addEventListener("input", () => refresh().catch(trouble));
byId("filter-state").addEventListener("change", () => refresh().catch(trouble));

const themes = ["auto", "light", "dark"];
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = `Theme: ${theme}`;
  localStorage.setItem("omnirt-theme", theme);
}
setTheme(themes.includes(localStorage.getItem("omnirt-theme")) ? localStorage.getItem("omnirt-theme") : "auto");
byId("theme").addEventListener("click", () =>
  setTheme(themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length]));

pollModels();
poll();
