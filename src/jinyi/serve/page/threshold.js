// P(similar) on a ruler with a threshold that can be moved, and what that threshold did on labelled pairs.

import { el, replace } from "./dom.js";
import { percent, say, whole } from "./words.js";

const HABIT = 0.5;

/** Precision and recall of accepting P >= value on the labelled rows; null above the highest measured score. */
export function measuredAt(thresholds, value) {
  // Points fall from the highest threshold; the measured one at or above `value` that is nearest to it tells.
  const at = thresholds.points.filter(([threshold]) => threshold >= value).pop();
  if (!at) return null;
  const [, accepted, correct] = at;
  return { precision: correct / accepted, recall: correct / thresholds.similar };
}

/** The threshold with the best F1. */
export function bestThreshold(thresholds) {
  const f1 = ([, accepted, correct]) => (2 * correct) / (accepted + thresholds.similar);
  return thresholds.points.reduce((best, point) => (f1(point) > f1(best) ? point : best))[0];
}

/** The lowest threshold with at least this precision, or undefined. */
export function preciseThreshold(thresholds, least) {
  return thresholds.points.filter(([, accepted, correct]) => correct / accepted >= least).pop()?.[0];
}

/** The threshold to begin with for a model. */
export function firstThreshold(model) {
  return model.thresholds ? bestThreshold(model.thresholds) : HABIT;
}

/** `state.threshold` keeps what the reader chose for this model. */
export function thresholdCard(model, score, state) {
  if (state.threshold?.model !== model.name)
    state.threshold = { model: model.name, value: firstThreshold(model) };
  const verdict = el("p", { class: "verdict", id: "verdict" });
  const detail = el("p", { class: "detail", id: "measured" });
  const shown = el("output", { for: "threshold" });
  const slider = el("input", {
    type: "range",
    id: "threshold",
    min: 0,
    max: 1,
    step: 0.001,
    oninput: () => set(Number(slider.value)),
  });
  const ruler = el(
    "div",
    { class: "ruler", "--share": score },
    el("div", { class: "fill" }),
    slider,
    el(
      "div",
      { class: "scale", "aria-hidden": "true" },
      ["0", "0.25", "0.5", "0.75", "1"].map((mark) => el("span", {}, mark)),
    ),
  );
  const set = (value) => {
    state.threshold.value = value;
    slider.value = value;
    ruler.style.setProperty("--at", value);
    shown.textContent = value.toFixed(3);
    const yes = score >= value;
    verdict.textContent = say(yes ? "compare.yes" : "compare.no");
    verdict.classList.toggle("yes", yes);
    detail.textContent = account(model, value);
  };
  set(state.threshold.value);
  return el(
    "section",
    { class: "card score" },
    el("h2", {}, say("compare.score")),
    el("div", { class: "headline" }, el("p", { class: "figure", id: "score" }, score.toFixed(3)), verdict),
    ruler,
    el(
      "p",
      { class: "threshold" },
      el("label", { for: "threshold" }, say("threshold")),
      " ",
      shown,
      presets(model, set),
    ),
    detail,
    el("p", { class: "detail" }, model.name),
  );
}

function account(model, value) {
  if (!model.thresholds) return say("compare.unmeasured");
  const at = measuredAt(model.thresholds, value);
  if (!at) return say("compare.above");
  return say("compare.measured", {
    rows: whole(model.thresholds.rows),
    precision: percent(at.precision),
    recall: percent(at.recall),
  });
}

function presets(model, set) {
  const box = el("span", { class: "presets" });
  if (!model.thresholds) return box;
  const choices = [[say("compare.best"), bestThreshold(model.thresholds)]];
  for (const share of [0.8, 0.9]) {
    const value = preciseThreshold(model.thresholds, share);
    if (value !== undefined) choices.push([say("compare.precise", { share: `${share * 100}%` }), value]);
  }
  replace(
    box,
    choices.map(([words, value]) =>
      el("button", { type: "button", class: "quiet", onclick: () => set(value) }, words),
    ),
  );
  return box;
}
