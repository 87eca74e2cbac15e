// What the four views share: a form, a run that can be overtaken by the next one, refusals, and the calls by code.

import { callsPanel } from "./calls.js";
import { el, replace } from "./dom.js";
import { Fault } from "./server.js";
import { say, whole } from "./words.js";

export class View {
  /** `panel`: the element to fill. `models`: the facts of the served models, in order. */
  constructor(panel, models) {
    this.panel = panel;
    this.models = models;
    this.result = null;
    this.fault = null;
    this.running = null;
    this.controls = new Map();
    this.example = 0;
    this.state = { ...this.examples[0] };
  }

  /** Models that can be asked for an operation. */
  able(operation) {
    return this.models.filter((model) => model.operations.includes(operation));
  }

  /** Build everything anew from the state, in the current language. */
  draw() {
    this.collect();
    this.controls.clear();
    this.output = el("div", { class: "answer", "aria-live": "polite", "aria-busy": "false" });
    this.note = el("p", { class: "cost" });
    const form = el(
      "form",
      {
        class: "ask",
        novalidate: true,
        onsubmit: (event) => {
          event.preventDefault();
          this.run();
        },
        onkeydown: (event) => {
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
            event.preventDefault();
            this.run();
          }
        },
      },
      this.fields(),
      el(
        "div",
        { class: "actions" },
        el("button", { type: "submit", class: "primary", title: say("run.hint") }, say("run")),
        el("button", { type: "button", class: "quiet", onclick: () => this.nextExample() }, say("example")),
        this.note,
      ),
    );
    replace(this.panel, form, this.output);
    this.show();
  }

  nextExample() {
    this.collect();
    this.example = (this.example + 1) % this.examples.length;
    this.state = { ...this.state, ...this.examples[this.example] };
    this.result = this.fault = null;
    this.controls.clear();
    this.draw();
    this.run();
  }

  /** Ask the server; a run that is still under way is given up. */
  async run() {
    this.running?.abort();
    const running = (this.running = new AbortController());
    this.output.setAttribute("aria-busy", "true");
    this.note.textContent = say("busy");
    try {
      this.collect();
      const asked = this.asked();
      const answer = await this.compute(asked, running.signal);
      if (this.running !== running) return;
      this.result = { asked, ...answer };
      this.fault = null;
    } catch (fault) {
      if (this.running !== running) return;
      if (!(fault instanceof Fault)) throw fault;
      this.result = null;
      this.fault = fault;
      if (fault.status === 401) this.panel.dispatchEvent(new CustomEvent("keyneeded", { bubbles: true }));
    } finally {
      if (this.running === running) {
        this.output.setAttribute("aria-busy", "false");
        this.show();
      }
    }
  }

  /** Show what there is: a refusal, a result, or nothing yet. */
  show() {
    this.note.textContent = "";
    if (this.fault) {
      replace(this.output, this.refusal(this.fault));
    } else if (this.result) {
      const { ms, cut } = this.result;
      this.note.textContent = say("took", { ms: ms < 10 ? ms.toFixed(1) : whole(Math.round(ms)) });
      replace(
        this.output,
        cut > 0 ? el("p", { class: "notice" }, say("cut", { n: cut })) : null,
        this.cards(this.result),
        callsPanel(this.calls(this.result.asked)),
      );
    } else {
      replace(this.output);
    }
  }

  refusal(fault) {
    return el(
      "div",
      { class: "notice fault", role: "alert" },
      el("p", {}, fault.message),
      fault.detail ? el("p", { class: "detail" }, fault.detail) : null,
      el("button", { type: "button", class: "quiet", onclick: () => this.run() }, say("again")),
    );
  }

  /** A text of the state, or a Fault that names the field. */
  needed(name, label) {
    const text = this.state[name].trim();
    if (!text) throw new Fault(say("fault.empty", { what: label }));
    return text;
  }

  /** Put what stands in the fields into the state. */
  collect() {
    for (const [name, control] of this.controls) this.state[name] = control.value;
  }

  /** A labelled field of the state. `control`: its element; `aside`: shown beside the label. */
  bound(name, label, control, aside = null) {
    control.value = this.state[name];
    this.controls.set(name, control);
    return el(
      "div",
      { class: "field" },
      el("div", { class: "label" }, el("label", { for: control.id }, label), aside),
      control,
    );
  }

  /** A choice between models, only where there is one. `words`: option text of a model. */
  choice(name, models, words) {
    if (!models.some((model) => model.name === this.state[name])) this.state[name] = models[0]?.name ?? "";
    if (models.length < 2) return null;
    const options = models.map((model) => el("option", { value: model.name }, words(model)));
    const select = el("select", { id: `${this.panel.id}-${name}` }, options);
    return this.bound(name, say("model"), select);
  }

  model(name) {
    return this.models.find((model) => model.name === this.state[name]);
  }
}

/** What stands in place of a view when no model can answer it. */
export function absent(kind) {
  return el(
    "div",
    { class: "notice" },
    el("p", {}, say(`absent.${kind}`)),
    el("pre", {}, el("code", {}, `jinyi serve --model jinyi-tiny-${kind}`)),
  );
}

/** A share between 0 and 1 as a bar with its number. */
export function bar(share, text, classes = "") {
  return el(
    "span",
    { class: `bar ${classes}`, "--share": Math.max(0, Math.min(1, share)) },
    el("i", { "aria-hidden": "true" }),
    el("b", {}, text),
  );
}
