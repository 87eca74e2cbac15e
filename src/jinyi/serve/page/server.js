// Calls of the server, and what its refusals mean to a reader.

import { say } from "./words.js";

const KEY = "jinyi-key";

/** A refusal: `message` is for readers in their language, `detail` the server's own words. */
export class Fault extends Error {
  constructor(message, { status = 0, detail = "" } = {}) {
    super(message);
    this.status = status;
    this.detail = detail;
  }
}

export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

/** What the page shows of the served models. */
export async function facts() {
  return (await call("page/models", {})).data;
}

/** POST a body; returns {data, cut, ms}: the answer, how many inputs were cut, milliseconds on the server. */
export async function post(path, body, signal) {
  const { data, headers } = await call(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  const number = (name) => Number(headers.get(name) ?? 0);
  return { data, cut: number("x-truncated-inputs"), ms: number("x-total-time") };
}

async function call(path, options) {
  const headers = { ...options.headers };
  if (hasKey()) headers.Authorization = `Bearer ${sessionStorage.getItem(KEY)}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (fault) {
    if (fault.name === "AbortError") throw fault;
    throw new Fault(say("fault.reach"));
  }
  const text = await answer.text();
  if (!answer.ok) throw refusal(answer, text);
  return { data: JSON.parse(text), headers: answer.headers };
}

function refusal(answer, text) {
  const { status } = answer;
  const detail = messageOf(text);
  const words = {
    401: "fault.key",
    403: "fault.key",
    404: "fault.model",
    413: "fault.large",
    422: "fault.input",
    424: "fault.model",
    429: "fault.busy",
    503: "fault.starting",
  };
  const seconds = answer.headers.get("retry-after") ?? "1";
  return new Fault(say(words[status] ?? "fault.other", { status, seconds }), { status, detail });
}

/** The message in either shape of error body: {"error": "..."} or {"error": {"message": "..."}}. */
function messageOf(text) {
  try {
    const { error } = JSON.parse(text);
    return String(error?.message ?? error ?? "");
  } catch {
    return text.slice(0, 300);
  }
}
