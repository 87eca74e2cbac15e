// Every word the page says, in Chinese and English; sizes and numbers are put in by name.

const WORDS = {
  skip: ["跳到内容", "Skip to content"],
  tagline: [
    "中文句子：是否同义、谁最相近、说的什么、如何成群",
    "Chinese sentences: same meaning, nearest, topic, groups",
  ],
  tabs: ["功能", "Views"],
  "tab.compare": ["两句比较", "Compare"],
  "tab.rank": ["相似排序", "Rank"],
  "tab.topics": ["主题分类", "Topics"],
  "tab.map": ["句子地图", "Map"],
  language: ["English", "中文"],
  "language.label": ["Switch to English", "切换到中文"],
  "theme.dark": ["深色", "Dark"],
  "theme.light": ["浅色", "Light"],

  "key.label": ["这台服务器需要密钥（API key）", "This server asks for its API key"],
  "key.use": ["使用", "Use"],
  run: ["计算", "Compute"],
  "run.hint": ["Ctrl + Enter", "Ctrl + Enter"],
  example: ["换一个例子", "Another example"],
  busy: ["计算中…", "Computing…"],
  took: ["服务器用时 {ms} 毫秒", "{ms} ms on the server"],
  lines: ["{n} 行", "{n} lines"],
  line: ["第 {n} 行", "line {n}"],
  model: ["模型", "Model"],
  threshold: ["阈值", "Threshold"],
  cut: [
    "{n} 条文本超过模型长度，只读了开头部分。",
    "Texts longer than the model reads: {n}. Only their beginnings counted.",
  ],
  cosine: ["余弦", "cosine"],

  "compare.a": ["第一句", "First sentence"],
  "compare.b": ["第二句", "Second sentence"],
  "compare.score": ["意思相同的概率", "Probability of the same meaning"],
  "compare.yes": ["判为同义", "Same meaning"],
  "compare.no": ["判为不同义", "Not the same meaning"],
  "compare.cosine": ["句向量余弦", "Cosine of the sentence vectors"],
  "compare.measured": [
    "在 {rows} 对人工标注的句子上，此阈值的精确率为 {precision}，召回率为 {recall}。",
    "On {rows} labelled pairs this threshold has a precision of {precision} and a recall of {recall}.",
  ],
  "compare.above": [
    "标注句对中达到此分数的太少，说不出精确率。",
    "Too few labelled pairs score this high to tell a precision.",
  ],
  "compare.unmeasured": [
    "此模型没有校准：0.5 只是习惯，请用 jinyi calibrate 在自己的数据上选阈值。",
    "This model is not calibrated: 0.5 is a habit. Choose a threshold on your data with jinyi calibrate.",
  ],
  "compare.best": ["F1 最高", "Best F1"],
  "compare.precise": ["精确率 ≥ {share}", "Precision ≥ {share}"],
  "heat.title": ["字与字的对应", "Which words answer which"],
  "heat.note": [
    "{model} 最后一层的词元向量，各减去本句平均后的余弦。",
    "Cosine of the last layer's token vectors of {model}, each sentence's mean taken off.",
  ],
  "heat.note.raw": [
    "{model} 最后一层词元向量的余弦。",
    "Cosine of the last layer's token vectors of {model}.",
  ],
  "heat.mutual": ["互为最近", "nearest both ways"],
  "heat.read": ["{a} 与 {b}：{value}", "{a} and {b}: {value}"],
  "heat.hint": ["把指针移到格子上，或用方向键", "Point at a cell, or use the arrow keys"],
  "heat.part": ["只画了每句前 {n} 个词元。", "Only the first {n} tokens of each sentence are drawn."],

  "rank.query": ["查询", "Query"],
  "rank.texts": ["候选句，每行一条", "Candidates, one a line"],
  "rank.title": ["由近到远", "Nearest first"],
  "rank.pair": ["逐对判断（{model}）", "Pair by pair ({model})"],
  "rank.vector": ["向量余弦（{model}）", "Vectors, cosine ({model})"],
  "rank.line": ["阈值 {value} 以下", "below the threshold {value}"],

  "topics.texts": ["文本，每行一条", "Texts, one a line"],
  "topics.labels": ["主题，用逗号或空格隔开", "Topics, separated by commas or spaces"],
  "topics.fixed": [
    "此模型的主题是训练时定的：{labels}",
    "This model's topics were fixed in training: {labels}",
  ],
  "topics.prompt": ["提示语，{} 处填主题", "Prompt; the topic goes where {} stands"],
  "topics.title": ["主题的概率", "Probability of each topic"],
  "topics.note": [
    "没有训练样例：模型只看主题词填进提示语是否通顺。有几条样例时，TopicClassifier.fit 会更准。",
    "No training: the model judges how well each label reads in the prompt. A few examples do better (TopicClassifier.fit).",
  ],

  "map.texts": ["句子，每行一条", "Sentences, one a line"],
  "map.title": ["句子地图", "Map of the sentences"],
  "map.note": [
    "{d} 维句向量的前两个主成分，占全部差异的 {share}。",
    "First two principal components of the {d}-dimensional sentence vectors: {share} of all variance.",
  ],
  "map.groups": ["分成几群", "Groups"],
  "map.duplicates": ["近重复：余弦不低于", "Near-duplicates: cosine from"],
  "map.pairs": ["近重复句对", "Near-duplicates"],
  "map.nopairs": ["没有余弦达到 {value} 的句对。", "No pair has a cosine of {value} or more."],
  "map.more": ["另有 {n} 对。", "{n} more pairs."],
  "map.members": ["各群的句子", "The groups"],
  "map.most": [
    "地图一次最多画 {most} 行；给了 {n} 行，画了前 {most} 行。",
    "The map draws {most} lines at most: of {n} given lines these are the first {most}.",
  ],
  "map.few": ["至少要三条不同的句子。", "Three different sentences at least."],

  "calls.title": ["用代码得到同样的结果", "The same from code"],
  copy: ["复制", "Copy"],
  copied: ["已复制", "Copied"],
  uncopied: ["请手动复制", "Copy by hand"],

  "fault.empty": ["请先填写：{what}", "Please fill in: {what}"],
  "fault.reach": ["连接不上服务器。它还在运行吗？", "The server does not answer. Is it still running?"],
  "fault.busy": [
    "服务器正忙，没有接下这个请求。请在 {seconds} 秒后再试。",
    "The server is busy and did not take this request. Try again in {seconds} s.",
  ],
  "fault.starting": [
    "服务器正在启动或关闭，请稍后再试。",
    "The server is starting or stopping. Try again shortly.",
  ],
  "fault.key": ["密钥缺失或不对。", "The API key is missing or wrong."],
  "fault.large": ["内容太大。", "Too much at once."],
  "fault.input": ["服务器不接受这个输入。", "The server does not accept this input."],
  "fault.model": ["服务器没有合适的模型。", "The server has no fitting model."],
  "fault.other": ["服务器出错（{status}）。", "The server failed ({status})."],
  again: ["再试一次", "Try again"],
  "absent.pair": ["服务器没有载入句对模型。启动时加上：", "No pair model is loaded. Start the server with:"],
  "absent.embed": [
    "服务器没有载入句向量模型。启动时加上：",
    "No model of sentence vectors is loaded. Start the server with:",
  ],
  "absent.topic": [
    "服务器没有载入主题模型。启动时加上：",
    "No topic model is loaded. Start the server with:",
  ],
  "served.none": ["没有载入模型", "No model is loaded"],
  served: ["jinyi {version}，已载入：{models}", "jinyi {version}, serving {models}"],
};

let language = "zh";

export function currentLanguage() {
  return language;
}

/** The first language of the browser that the page speaks; what was chosen before goes first. */
export function chooseLanguage(saved) {
  const wanted = [saved, ...(navigator.languages ?? [])].map((tag) => (tag ?? "").slice(0, 2).toLowerCase());
  setLanguage(wanted.find((tag) => tag === "zh" || tag === "en") ?? "en");
}

export function setLanguage(tag) {
  language = tag === "zh" ? "zh" : "en";
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
}

/** The words of a key in the current language, with {name} replaced. */
export function say(key, values = {}) {
  const words = WORDS[key];
  if (!words) throw new Error(`no words for ${key}`);
  return words[language === "zh" ? 0 : 1].replace(/\{(\w+)\}/g, (slot, name) => values[name] ?? slot);
}

/** Put words into everything below `root` that carries data-t (text) or data-t-label (aria-label). */
export function translate(root = document) {
  for (const node of root.querySelectorAll("[data-t]")) node.textContent = say(node.dataset.t);
  for (const node of root.querySelectorAll("[data-t-label]"))
    node.setAttribute("aria-label", say(node.dataset.tLabel));
}

export function percent(share) {
  return `${(share * 100).toFixed(1)}%`;
}

export function whole(number) {
  return number.toLocaleString(language === "zh" ? "zh-CN" : "en");
}
