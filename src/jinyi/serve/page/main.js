// Starts the page: language, light or dark, the served models, and the four views.

import { Compare } from "./compare.js";
import { el, replace } from "./dom.js";
import { SentenceMap } from "./map.js";
import { Rank } from "./rank.js";
import { Fault, facts, useKey } from "./server.js";
import { Topics } from "./topics.js";
import { chooseLanguage, currentLanguage, say, setLanguage, translate } from "./words.js";

const VIEWS = { compare: Compare, rank: Rank, topics: Topics, map: SentenceMap };
const NAMES = Object.keys(VIEWS);
const views = new Map();
const byId = (id) => document.getElementById(id);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
let served = null;
let asked = 0;

/** Settings of the page that outlive it; a browser that stores nothing starts afresh each time. */
const kept = {
  get: (name) => localStorage.getItem(`jinyi-${name}`),
  set: (name, value) => localStorage.setItem(`jinyi-${name}`, value),
};

function isDark() {
  return (kept.get("theme") ?? (dark.matches ? "dark" : "light")) === "dark";
}

function dress() {
  const now = isDark();
  document.documentElement.dataset.theme = now ? "dark" : "light";
  byId("theme").textContent = say(now ? "theme.light" : "theme.dark");
}

/** Everything that has words in it, again. */
function speak() {
  translate();
  byId("language").textContent = say("language");
  byId("language").setAttribute("aria-label", say("language.label"));
  dress();
  if (served) {
    const names =
      served.models.map((model) => model.name).join(currentLanguage() === "zh" ? "、" : ", ") ||
      say("served.none");
    byId("served").textContent = say("served", { version: served.version, models: names });
  }
  for (const view of views.values()) view.draw();
}

function named() {
  const name = location.hash.slice(1);
  return NAMES.includes(name) ? name : NAMES[0];
}

/** Show the view the address names; the first time it computes its example. */
function turn() {
  const open = named();
  for (const name of NAMES) {
    const tab = byId(`tab-${name}`);
    tab.setAttribute("aria-selected", String(name === open));
    tab.tabIndex = name === open ? 0 : -1;
    byId(name).hidden = name !== open;
  }
  if (!served || views.has(open)) return;
  const view = new VIEWS[open](byId(open), served.models);
  views.set(open, view);
  view.draw();
  if (view.output) view.run();
}

async function begin() {
  const turnOf = ++asked;
  try {
    const found = await facts();
    if (turnOf !== asked) return; // another key was given meanwhile
    served = found;
    byId("key").hidden = true;
    replace(byId("served"));
    views.clear();
    speak();
    turn();
  } catch (fault) {
    if (!(fault instanceof Fault)) throw fault;
    if (turnOf !== asked) return;
    if (fault.status === 401) askForKey();
    if (fault.status === 503) setTimeout(begin, 1000); // it is opening its models
    const again = el("button", { type: "button", class: "quiet", onclick: begin }, say("again"));
    const text = el("p", {}, fault.message);
    replace(
      byId(named()),
      el("div", { class: "notice fault", role: "alert" }, text, fault.status === 401 ? null : again),
    );
  }
}

function askForKey() {
  byId("key").hidden = false;
  byId("key-value").focus();
}

byId("key").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key-value").value.trim());
  begin();
});
byId("panels").addEventListener("keyneeded", askForKey);
byId("language").addEventListener("click", () => {
  setLanguage(currentLanguage() === "zh" ? "en" : "zh");
  kept.set("language", currentLanguage());
  speak();
});
byId("theme").addEventListener("click", () => {
  kept.set("theme", isDark() ? "light" : "dark");
  dress();
});
dark.addEventListener("change", dress);
window.addEventListener("hashchange", turn);
for (const name of NAMES) {
  byId(`tab-${name}`).addEventListener("click", () => {
    location.hash = name;
  });
}
document.querySelector(".tabs").addEventListener("keydown", (event) => {
  const at = NAMES.indexOf(named());
  const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: NAMES.length - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  const name = NAMES[(next + NAMES.length) % NAMES.length];
  location.hash = name;
  byId(`tab-${name}`).focus();
});

chooseLanguage(kept.get("language"));
speak();
turn();
begin();
