// The same request as curl, as Python over HTTP and as Python with the package; tests run what is written here.

import { el, replace } from "./dom.js";
import { hasKey } from "./server.js";
import { say } from "./words.js";

const FORMS = [
  ["curl", "curl"],
  ["http", "Python · HTTP"],
  ["jinyi", "Python · jinyi"],
];
let chosen = "curl";

/** `requests`: [{path, body, read}], `read` being Python that takes the result from `answer`. `jinyi`: lines of Python
 *  with the package, after its import. */
export function callsPanel({ requests, jinyi }) {
  const texts = {
    curl: requests.map(curl).join("\n\n"),
    http: http(requests),
    jinyi: ["import jinyi", "", ...jinyi].join("\n"),
  };
  const code = el("code", {});
  const box = el("pre", { tabindex: "0" }, code);
  const buttons = FORMS.map(([form, title]) =>
    el("button", { type: "button", class: "quiet", "data-form": form, onclick: () => choose(form) }, title),
  );
  const copy = el(
    "button",
    { type: "button", class: "quiet copy", onclick: () => copyText(copy, code.textContent) },
    say("copy"),
  );
  const choose = (form) => {
    chosen = form;
    code.textContent = texts[form];
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.form === form));
  };
  choose(chosen);
  return el(
    "section",
    { class: "card calls" },
    el("header", {}, el("h2", {}, say("calls.title")), el("div", { class: "forms" }, buttons), copy),
    box,
  );
}

async function copyText(button, text) {
  // Browsers give pages over plain HTTP no clipboard, except on this machine.
  const done = await (navigator.clipboard?.writeText(text).then(
    () => true,
    () => false,
  ) ?? false);
  replace(button, say(done ? "copied" : "uncopied"));
  setTimeout(() => replace(button, say("copy")), 1500);
}

function address(path) {
  return new URL(path, document.baseURI).href;
}

function curl({ path, body }) {
  const quoted = json(body).replaceAll("'", String.raw`'\''`);
  const lines = [`curl -s ${address(path)}`, `  -H 'Content-Type: application/json'`];
  if (hasKey()) lines.push(`  -H "Authorization: Bearer $JINYI_API_KEY"`);
  return [...lines, `  -d '${quoted}'`].join(" \\\n");
}

function http(calls) {
  const key = hasKey();
  const posts = calls.flatMap(({ path, body, read }) => [
    "",
    "answer = requests.post(",
    `    "${address(path)}",`,
    `    json=${python(body, 4)},`,
    ...(key ? [`    headers={"Authorization": f"Bearer {os.environ['JINYI_API_KEY']}"},`] : []),
    ")",
    "answer.raise_for_status()",
    `print(${read})`,
  ]);
  return [...(key ? ["import os", ""] : []), "import requests", ...posts].join("\n");
}

/** A JSON value as Python source. */
export function python(value, indent = 0) {
  return written(value, indent, { null: "None", true: "True", false: "False" }, true);
}

function json(value) {
  return written(value, 0, {}, false);
}

/** A value on one line where it is short, else an item a line; `words` are the language's for null and booleans. */
function written(value, indent, words, trailing) {
  if (value === null || typeof value === "boolean") return words[value] ?? String(value);
  if (typeof value !== "object") return JSON.stringify(value);
  const inside = " ".repeat(indent + 4);
  const item = (one) => written(one, indent + 4, words, trailing);
  const items = Array.isArray(value)
    ? value.map(item)
    : Object.entries(value).map(([key, one]) => `${JSON.stringify(key)}: ${item(one)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const flat = open + items.join(", ") + close;
  if (flat.length < 80 && !flat.includes("\n")) return flat;
  const last = trailing ? "," : "";
  return `${open}\n${items.map((one) => inside + one).join(",\n")}${last}\n${" ".repeat(indent)}${close}`;
}

/** How the package opens this model: by name where it knows it, else from a folder of the reader's. */
export function loadName(model) {
  return model.known ? JSON.stringify(model.known) : '"path/to/model"';
}
