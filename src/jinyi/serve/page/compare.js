// Two sentences: P(similar) with a threshold, the cosine of their vectors, and which tokens answer which.

import { loadName, python } from "./calls.js";
import { area, el, replace } from "./dom.js";
import { heatCard, tokenStates } from "./heat.js";
import { post } from "./server.js";
import { thresholdCard } from "./threshold.js";
import { say } from "./words.js";
import { View, absent } from "./view.js";

export class Compare extends View {
  get examples() {
    return [
      { a: "我的手机号码换了怎么办", b: "更换手机号怎么操作" },
      { a: "可以换其他银行卡吗？", b: "分期的如何用别的银行卡还钱" },
      { a: "他把书借给了我。", b: "我把书借给了他。" },
      { a: "今天天气真不错", b: "这家店的面条很好吃" },
    ];
  }

  fields() {
    return [
      el(
        "div",
        { class: "pair" },
        this.bound("a", say("compare.a"), area("compare-a", 2)),
        this.bound("b", say("compare.b"), area("compare-b", 2)),
      ),
      this.choice("pair", this.able("rerank"), (model) => model.name),
      this.choice("embed", this.able("embed"), (model) => model.name),
    ];
  }

  asked() {
    return {
      a: this.needed("a", say("compare.a")),
      b: this.needed("b", say("compare.b")),
      pair: this.model("pair"),
      embed: this.model("embed"),
      states: this.states(),
    };
  }

  /** Whose token vectors are compared: a language model's, as its tokens were trained to say which word they are; a
   *  model of sentence vectors has them lean towards the whole sentence. */
  states() {
    const able = this.able("embed_all");
    return able.find((model) => model.operations.includes("zero_shot")) ?? able[0];
  }

  async compute({ a, b, pair, embed, states }, signal) {
    const texts = [a, b];
    const [score, cosine, tokens] = await Promise.all([
      pair ? post("rerank", { model: pair.name, query: a, texts: [b] }, signal) : null,
      embed
        ? post("similarity", { model: embed.name, inputs: { source_sentence: a, sentences: [b] } }, signal)
        : null,
      states ? tokenStates(states, texts, signal) : null,
    ]);
    const answers = [score, cosine, tokens].filter(Boolean);
    return {
      score: score?.data[0].score,
      cosine: cosine?.data[0],
      tokens: tokens?.sides,
      ms: Math.max(0, ...answers.map((answer) => answer.ms)),
      cut: Math.max(0, ...answers.map((answer) => answer.cut)),
    };
  }

  cards({ asked, score, cosine, tokens }) {
    return el(
      "div",
      { class: "cards" },
      el(
        "div",
        { class: "column" },
        asked.pair ? thresholdCard(asked.pair, score, this.state) : absent("pair"),
        asked.embed
          ? el(
              "section",
              { class: "card cosine" },
              el("h2", {}, say("compare.cosine")),
              el("p", { class: "figure", id: "cosine" }, cosine.toFixed(3)),
              el("p", { class: "detail" }, asked.embed.name),
            )
          : absent("embed"),
      ),
      tokens ? heatCard(asked.states, tokens) : null,
    );
  }

  calls({ a, b, pair, embed }) {
    const requests = [];
    const jinyi = [];
    if (pair) {
      requests.push({
        path: "rerank",
        body: { model: pair.name, query: a, texts: [b] },
        read: 'answer.json()[0]["score"]',
      });
      jinyi.push(
        `pair = jinyi.PairScorer.load(${loadName(pair)})`,
        `print(pair.predict((${python(a)}, ${python(b)})))`,
      );
      if (pair.thresholds) jinyi.push("print(pair.threshold())");
    }
    if (embed) {
      requests.push({
        path: "similarity",
        body: { model: embed.name, inputs: { source_sentence: a, sentences: [b] } },
        read: "answer.json()[0]",
      });
      jinyi.push(
        `encoder = jinyi.SentenceEncoder.load(${loadName(embed)})`,
        `print(encoder.similarity([${python(a)}], [${python(b)}]).item())`,
      );
    }
    return { requests, jinyi };
  }

  draw() {
    if (this.able("rerank").length + this.able("embed").length === 0)
      replace(this.panel, absent("pair"), absent("embed"));
    else super.draw();
  }
}
