// Texts by topic, with the reader's own topics, or with those that a model was trained on.

import { loadName, python } from "./calls.js";
import { area, el, linesOf, replace } from "./dom.js";
import { post } from "./server.js";
import { percent, say, whole } from "./words.js";
import { View, absent, bar } from "./view.js";

const MOST = 8; // topics shown of each text

export class Topics extends View {
  get examples() {
    return [
      {
        texts:
          "主队在加时赛里以3比2险胜，球迷们唱着歌走出球场\n央行下调存款准备金率，股市应声上涨\n新款手机的芯片速度提高了一倍",
        labels: "体育，财经，科技，旅游",
      },
      {
        texts:
          "三亚这个海滩人少景美，适合带孩子去\n这款车油耗低，后排空间也大\n高考志愿怎么填，听听老师的建议",
        labels: "旅游，汽车，教育，房产，军事",
      },
    ];
  }

  ways() {
    const fixed = this.able("classify").filter((model) => !isOpen(model));
    return [...this.able("zero_shot"), ...fixed];
  }

  fields() {
    const count = el("span", { class: "count" });
    const texts = area("topics-texts", 6);
    const tell = () => replace(count, say("lines", { n: whole(linesOf(texts.value).length) }));
    texts.addEventListener("input", tell);
    const choice = this.choice("way", this.ways(), (model) => model.name);
    choice?.addEventListener("change", () => {
      this.collect();
      this.controls.clear();
      this.state.prompt = this.model("way").prompt;
      this.draw();
    });
    const model = this.model("way");
    this.state.prompt ??= model.prompt ?? "";
    const fields = [
      this.bound("texts", say("topics.texts"), texts, count),
      ...(isOpen(model)
        ? [
            this.bound(
              "labels",
              say("topics.labels"),
              el("input", { id: "topics-labels", type: "text", lang: "zh", autocomplete: "off" }),
            ),
            this.bound(
              "prompt",
              say("topics.prompt"),
              el("input", { id: "topics-prompt", type: "text", lang: "zh", autocomplete: "off" }),
            ),
          ]
        : [el("p", { class: "detail" }, say("topics.fixed", { labels: model.labels.join(" · ") }))]),
      choice,
    ];
    tell();
    return fields;
  }

  asked() {
    const model = this.model("way");
    this.needed("texts", say("topics.texts"));
    const texts = linesOf(this.state.texts);
    if (!isOpen(model)) return { texts, model };
    const labels = this.needed("labels", say("topics.labels"))
      .split(/[\s,，、;；]+/)
      .filter(Boolean);
    return { texts, model, labels, prompt: this.state.prompt.trim() };
  }

  body({ texts, model, labels, prompt }) {
    const body = { model: model.name, input: texts };
    if (labels) body.labels = labels;
    if (prompt && prompt !== model.prompt) body.prompt = prompt;
    return body;
  }

  async compute(asked, signal) {
    return post("v1/classify", this.body(asked), signal);
  }

  cards({ asked, data }) {
    return el(
      "section",
      { class: "card" },
      el("h2", {}, say("topics.title")),
      el(
        "ol",
        { class: "topics", id: "topics-result" },
        data.data.map(({ index, scores }) =>
          el(
            "li",
            {},
            el("p", { class: "text", lang: "zh" }, asked.texts[index]),
            el(
              "ul",
              {},
              scores
                .slice(0, MOST)
                .map(({ label, score }, place) =>
                  el(
                    "li",
                    { class: place === 0 ? "first" : null },
                    el("span", { class: "topic", lang: "zh" }, label),
                    bar(score, percent(score)),
                  ),
                ),
            ),
          ),
        ),
      ),
      isOpen(asked.model) ? el("p", { class: "detail" }, say("topics.note")) : null,
      el("p", { class: "detail" }, asked.model.name),
    );
  }

  calls(asked) {
    const { texts, model, labels, prompt } = asked;
    const options = [loadName(model)];
    if (labels) options.push(`labels=${python(labels)}`);
    if (prompt && prompt !== model.prompt) options.push(`prompt=${python(prompt)}`);
    return {
      requests: [{ path: "v1/classify", body: this.body(asked), read: 'answer.json()["data"]' }],
      jinyi: [
        `texts = ${python(texts)}`,
        `topics = jinyi.TopicClassifier.load(${options.join(", ")})`,
        "print(topics.classes_)",
        "print(topics.predict_proba(texts))",
      ],
    };
  }

  draw() {
    if (this.ways().length === 0) replace(this.panel, absent("topic"));
    else super.draw();
  }
}

/** Whether a model takes topics named in the request. */
function isOpen(model) {
  return model.operations.includes("zero_shot");
}
