// Many lines as a plane: sentence vectors by their two principal components, groups, and near-duplicates.

import {
  cut,
  likelyGroups,
  linkage,
  middles,
  nearPairs,
  principalPlane,
  products,
  unitRows,
} from "./algebra.js";
import { loadName, python } from "./calls.js";
import { area, el, linesOf, replace } from "./dom.js";
import { scatter } from "./scatter.js";
import { Fault, post } from "./server.js";
import { percent, say, whole } from "./words.js";
import { View, absent } from "./view.js";

const MOST = 1000; // lines: all cosines of more would take the browser too long
const MOST_GROUPS = 12;
const MOST_PAIRS = 30; // near-duplicates listed
const COLOURS = 8;

const SERVICE = `怎么改密码
如何修改登录密码
忘记密码了怎么找回
密码输错多次被锁定了
登录密码在哪里修改
快递几天能到
下单后多久可以收到货
物流信息三天没有更新了
送货需要多长时间
可以退款吗
退款多久到账
申请退货后什么时候退钱
收到的商品破损怎么处理
东西坏了可以退吗
怎么开发票
发票抬头可以修改吗
电子发票在哪里下载
会员怎么取消自动续费
如何关闭自动续费
开通会员有什么优惠
今天天气真不错
明天会下雨吗
周末气温多少度`;

const NEWS = `主队加时赛险胜对手
国足客场一比一战平
湖人队三连胜领跑西部
乒乓球世锦赛今日开赛
央行下调存款利率
股市三大指数集体收涨
基金经理看好消费板块
人民币汇率小幅上涨
新款手机芯片速度提升一倍
国产大模型发布新版本
电动车续航突破一千公里
自动驾驶出租车上路
高考志愿填报时间公布
多地中小学调整上课时间
大学新增人工智能专业
热播剧今晚大结局
导演新片定档春节
歌手演唱会门票一分钟售罄`;

export class SentenceMap extends View {
  get examples() {
    return [{ texts: SERVICE }, { texts: NEWS }];
  }

  fields() {
    const count = el("span", { class: "count" });
    const texts = area("map-texts", 14);
    const tell = () => replace(count, say("lines", { n: whole(linesOf(texts.value).length) }));
    texts.addEventListener("input", tell);
    const fields = [
      this.bound("texts", say("map.texts"), texts, count),
      this.choice("way", this.able("embed"), (model) => model.name),
    ];
    tell();
    return fields;
  }

  asked() {
    this.needed("texts", say("map.texts"));
    const given = linesOf(this.state.texts);
    if (new Set(given).size < 3) throw new Fault(say("map.few"));
    return { texts: given.slice(0, MOST), given: given.length, model: this.model("way") };
  }

  async compute({ texts, model }, signal) {
    const answer = await post("embed", { model: model.name, inputs: texts }, signal);
    const vectors = unitRows(answer.data);
    const cosines = products(vectors, vectors);
    const merges = linkage(cosines, texts.length);
    const likely = likelyGroups(
      cosines,
      merges,
      texts.length,
      Math.min(MOST_GROUPS, Math.ceil(texts.length / 2)),
    );
    this.state.groups = likely;
    return {
      cut: answer.cut,
      ms: answer.ms,
      width: vectors.width,
      plane: principalPlane(vectors),
      cosines,
      merges,
    };
  }

  cards({ asked, width, plane, cosines, merges }) {
    const { texts, given } = asked;
    this.state.duplicate ??= 0.85;
    const drawing = el("div", { class: "plane" });
    const groupList = el("div", { class: "groups", id: "groups" });
    const pairList = el("div", { class: "duplicates", id: "duplicates" });
    let mark = () => {};

    const update = () => {
      const count = Math.min(this.state.groups, texts.length);
      const groups = cut(merges, texts.length, count);
      const centres = middles(cosines, groups, texts.length, count);
      const pairs = nearPairs(cosines, texts.length, this.state.duplicate);
      mark = scatter(drawing, say("map.title"), { points: plane.points, texts, groups, centres, pairs });
      replace(
        groupList,
        centres.map((centre, group) => this.group(group, centre, groups, texts, (...rows) => mark(...rows))),
      );
      replace(
        pairList,
        this.pairs(pairs, texts, (...rows) => mark(...rows)),
      );
    };
    const slider = (name, words, from, to, step, digits) => {
      const shown = el("output", { for: `map-${name}` }, this.state[name].toFixed(digits));
      const control = el("input", {
        type: "range",
        id: `map-${name}`,
        min: from,
        max: to,
        step,
        value: this.state[name],
        oninput: () => {
          this.state[name] = Number(control.value);
          shown.textContent = this.state[name].toFixed(digits);
          update();
        },
      });
      control.value = this.state[name];
      return el("div", { class: "slider" }, el("label", { for: control.id }, words), shown, control);
    };
    const card = el(
      "section",
      { class: "card map" },
      el("h2", {}, say("map.title")),
      given > texts.length
        ? el("p", { class: "notice" }, say("map.most", { most: whole(MOST), n: whole(given) }))
        : null,
      drawing,
      el("p", { class: "detail" }, say("map.note", { d: width, share: percent(plane.share) })),
      el(
        "div",
        { class: "sliders" },
        slider("groups", say("map.groups"), 1, Math.min(MOST_GROUPS, texts.length), 1, 0),
        slider("duplicate", say("map.duplicates"), 0.5, 1, 0.01, 2),
      ),
    );
    const lists = el(
      "div",
      { class: "cards lists" },
      el("section", { class: "card" }, el("h2", {}, say("map.members")), groupList),
      el("section", { class: "card" }, el("h2", {}, say("map.pairs")), pairList),
    );
    // The drawing takes the width of its place, which it has once it is in the page.
    requestAnimationFrame(update);
    this.resized?.disconnect();
    let before = 0;
    this.resized = new ResizeObserver(([entry]) => {
      const now = Math.round(entry.contentRect.width);
      if (now && now !== before) update();
      before = now;
    });
    this.resized.observe(drawing);
    return [card, lists];
  }

  group(group, centre, groups, texts, mark) {
    const members = texts.map((_, row) => row).filter((row) => groups[row] === group && row !== centre);
    return el(
      "details",
      { open: texts.length <= 60, class: `g${group % COLOURS}` },
      el(
        "summary",
        {
          onpointerenter: () => mark(centre),
          onfocus: () => mark(centre),
          onpointerleave: () => mark(),
          onblur: () => mark(),
        },
        el("i", { class: "dot" }),
        el("span", { lang: "zh" }, texts[centre]),
        el("b", {}, String(members.length + 1)),
      ),
      el(
        "ul",
        {},
        members.map((row) =>
          el(
            "li",
            {},
            marking(
              texts[row],
              () => mark(row),
              () => mark(),
            ),
          ),
        ),
      ),
    );
  }

  pairs(pairs, texts, mark) {
    if (pairs.length === 0)
      return el("p", { class: "detail" }, say("map.nopairs", { value: this.state.duplicate.toFixed(2) }));
    return [
      el(
        "ol",
        {},
        pairs.slice(0, MOST_PAIRS).map(({ a, b, cosine }) =>
          el(
            "li",
            {},
            marking(
              [el("span", {}, texts[a]), el("span", {}, texts[b])],
              () => mark(a, b),
              () => mark(),
            ),
            el("b", {}, cosine.toFixed(3)),
          ),
        ),
      ),
      pairs.length > MOST_PAIRS
        ? el("p", { class: "detail" }, say("map.more", { n: whole(pairs.length - MOST_PAIRS) }))
        : null,
    ];
  }

  calls({ texts, model }) {
    return {
      requests: [{ path: "embed", body: { model: model.name, inputs: texts }, read: "answer.json()" }],
      jinyi: [
        `texts = ${python(texts)}`,
        `encoder = jinyi.SentenceEncoder.load(${loadName(model)})`,
        "vectors = encoder.encode(texts)",
        "print(encoder.similarity(vectors, vectors))",
      ],
    };
  }

  draw() {
    if (this.able("embed").length === 0) replace(this.panel, absent("embed"));
    else super.draw();
  }
}

/** A line that shows its point while the pointer or the focus is on it. */
function marking(content, on, off) {
  return el(
    "button",
    {
      type: "button",
      class: "row",
      lang: "zh",
      onpointerenter: on,
      onfocus: on,
      onpointerleave: off,
      onblur: off,
    },
    content,
  );
}
