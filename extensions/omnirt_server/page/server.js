/** The server's routes, asked with the cookie of Jupyter's login. */

const base = document.documentElement.dataset.baseUrl ?? "/";

/** @param {string} path Without a leading slash, such as `v1/jobs`. */
export const url = (path) => base + path;

/** @param {string} sha256 */
export const pictureUrl = (sha256) => url(`v1/artifacts/${sha256}`);

/** JSON whose long seeds become strings: a JavaScript number would round them. @param {string} text */
export const parsed = (text) => JSON.parse(text.replaceAll(/"seed":(\d{16,})/g, '"seed":"$1"'));

/**
 * @param {string} path @param {string} [method] @param {string} [body] JSON
 * @throws {Error} What the server says is wrong, with its hint.
 */
export async function ask(path, method = "GET", body = undefined) {
  const xsrf = document.cookie.split("; ").find((pair) => pair.startsWith("_xsrf="))?.slice(6) ?? "";
  const headers = { "X-XSRFToken": xsrf, ...(body === undefined ? {} : { "Content-Type": "application/json" }) };
  const response = await fetch(url(path), { method, body, headers, credentials: "same-origin" }).catch(() => {
    throw new Error("The server does not answer. Is it still running?");
  });
  const answer = parsed(await response.text());
  if (!response.ok) {
    throw new Error([answer.error?.message ?? response.statusText, answer.error?.hint].filter(Boolean).join(". "));
  }
  return answer;
}

/** Every event of a job, until it has ended. @param {string} jobId @param {(event: any) => void} take */
export function follow(jobId, take) {
  const source = new EventSource(url(`v1/jobs/${jobId}/events`));
  const words = ["job_enqueued", "job_started", "job_finished", "job_failed", "job_cancelled", "job_lost",
    "stage_start", "stage_end", "stage_error", "step", "memory", "cache_hit", "cache_miss", "warning"];
  const received = (message) => {
    const event = parsed(message.data);
    if (["job_finished", "job_failed", "job_cancelled", "job_lost"].includes(event.event)) source.close();
    take(event);
  };
  for (const word of words) source.addEventListener(word, received);
  return source;
}
