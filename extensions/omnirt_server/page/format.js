/** Figures as people read them; what was not measured is a dash. */

const DASH = "–";

/** @param {number|null|undefined} ms */
export function duration(ms) {
  if (ms == null) return DASH;
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** What a cache has come to; looking may have taken longer than what it stood in for. @param {number} ms */
export const saving = (ms) => (ms >= 0 ? `saved ${duration(ms)}` : `cost ${duration(-ms)} more than it saved`);

/** @param {number|null|undefined} count */
export function bytes(count) {
  if (count == null) return DASH;
  if (count < 2 ** 20) return `${(count / 1024).toFixed(1)} KiB`;
  return count < 2 ** 30 ? `${(count / 2 ** 20).toFixed(0)} MiB` : `${(count / 2 ** 30).toFixed(2)} GiB`;
}

/** @param {string} name `text_encoder` → `text encoder` */
export const words = (name) => name.replaceAll("_", " ");

/** @param {number} thenMs @param {number} nowMs */
export function ago(thenMs, nowMs) {
  const seconds = Math.max(0, Math.round((nowMs - thenMs) / 1000));
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return seconds < 86_400 ? `${Math.floor(seconds / 3600)} h ago` : `${Math.floor(seconds / 86_400)} d ago`;
}

/**
 * The form's fields as the body of `POST /v1/generate`. The seed is written as it stands: a 64-bit integer is more
 * than a JavaScript number holds.
 * @param {Record<string, string>} fields @returns {string} JSON
 */
export function requestBody(fields) {
  const inputs = { prompt: fields.prompt };
  if (fields.negative_prompt) inputs.negative_prompt = fields.negative_prompt;
  const numbers = ["steps", "guidance_scale", "width", "height"].filter((name) => fields[name]);
  const config = numbers.map((name) => `"${name}":${Number(fields[name])}`);
  if (/^[0-9]+$/.test(fields.seed ?? "")) config.push(`"seed":${fields.seed.replace(/^0+(?=.)/, "")}`);
  return `{"async_run":true,"model":${JSON.stringify(fields.model)},"inputs":${JSON.stringify(inputs)},` +
    `"config":{${config.join(",")}}}`;
}
