// One query against many lines, nearest first: pair by pair, or by the cosine of vectors.

import { loadName, python } from "./calls.js";
import { area, el, linesOf, replace } from "./dom.js";
import { Fault, post } from "./server.js";
import { firstThreshold } from "./threshold.js";
import { say, whole } from "./words.js";
import { View, absent, bar } from "./view.js";

export class Rank extends View {
  get examples() {
    return [
      {
        query: "怎么改密码",
        texts:
          "如何修改登录密码\n怎么注销账号\n忘记密码了怎么找回\n密码输错多次被锁定了\n怎么更换绑定的手机号\n账户余额在哪里查询\n支付密码如何重新设置\n可以修改收货地址吗",
      },
      {
        query: "快递几天能到",
        texts:
          "下单后多久可以收到货\n发什么快递\n可以开发票吗\n物流信息三天没有更新了\n送货需要多长时间\n能不能货到付款\n收到的商品破损怎么处理",
      },
    ];
  }

  ways() {
    return [...this.able("rerank"), ...this.able("embed")];
  }

  fields() {
    const count = el("span", { class: "count" });
    const texts = area("rank-texts", 8);
    const tell = () => replace(count, say("lines", { n: whole(linesOf(texts.value).length) }));
    texts.addEventListener("input", tell);
    const fields = [
      this.bound(
        "query",
        say("rank.query"),
        el("input", { id: "rank-query", type: "text", lang: "zh", autocomplete: "off" }),
      ),
      this.bound("texts", say("rank.texts"), texts, count),
      this.choice("way", this.ways(), (model) =>
        say(model.operations.includes("rerank") ? "rank.pair" : "rank.vector", { model: model.name }),
      ),
    ];
    tell();
    return fields;
  }

  asked() {
    const query = this.needed("query", say("rank.query"));
    this.needed("texts", say("rank.texts"));
    return { query, texts: linesOf(this.state.texts), model: this.model("way") };
  }

  async compute({ query, texts, model }, signal) {
    if (model.operations.includes("rerank")) {
      const answer = await post("rerank", { model: model.name, query, texts }, signal);
      return { ...answer, ranked: answer.data };
    }
    const body = { model: model.name, inputs: { source_sentence: query, sentences: texts } };
    const answer = await post("similarity", body, signal);
    if (answer.data.length !== texts.length) throw new Fault(say("fault.other", { status: 200 }));
    const ranked = answer.data.map((score, index) => ({ index, score })).sort((a, b) => b.score - a.score);
    return { ...answer, ranked };
  }

  cards({ asked, ranked }) {
    const pairs = asked.model.operations.includes("rerank");
    const threshold = pairs ? firstThreshold(asked.model) : -Infinity;
    const below = ranked.findIndex(({ score }) => score < threshold);
    return el(
      "section",
      { class: "card" },
      el("h2", {}, say("rank.title")),
      el(
        "ol",
        { class: "ranked", id: "ranked" },
        ranked
          .map(({ index, score }, place) => [
            place === below && below >= 0
              ? el(
                  "li",
                  { class: "below", role: "separator" },
                  say("rank.line", { value: threshold.toFixed(3) }),
                )
              : null,
            el(
              "li",
              { class: score < threshold ? "under" : null },
              el("span", { class: "place" }, String(place + 1)),
              el("span", { class: "text", lang: "zh" }, asked.texts[index]),
              el("span", { class: "source" }, say("line", { n: index + 1 })),
              bar(score, score.toFixed(3)),
            ),
          ])
          .flat(),
      ),
      el("p", { class: "detail" }, say(pairs ? "rank.pair" : "rank.vector", { model: asked.model.name })),
    );
  }

  calls({ query, texts, model }) {
    const lines = `texts = ${python(texts)}`;
    if (model.operations.includes("rerank")) {
      return {
        requests: [{ path: "rerank", body: { model: model.name, query, texts }, read: "answer.json()" }],
        jinyi: [
          lines,
          `pair = jinyi.PairScorer.load(${loadName(model)})`,
          `print(pair.rank(${python(query)}, texts))`,
        ],
      };
    }
    const body = { model: model.name, inputs: { source_sentence: query, sentences: texts } };
    return {
      requests: [{ path: "similarity", body, read: "answer.json()" }],
      jinyi: [
        lines,
        `encoder = jinyi.SentenceEncoder.load(${loadName(model)})`,
        `print(encoder.similarity([${python(query)}], texts)[0])`,
      ],
    };
  }

  draw() {
    if (this.ways().length === 0) replace(this.panel, absent("pair"), absent("embed"));
    else super.draw();
  }
}
