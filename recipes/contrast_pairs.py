"""Pairs that differ in a word or two: one word decides (label 0), or none does (label 1).

    python recipes/contrast_pairs.py --rows 60000 --pairs DATA/lcqmc/train.jsonl ... \
        --texts DATA/corpus/tatoeba.txt.xz ... > DATA/contrast/train.jsonl

A small model takes two sentences that share nearly all characters for the same, whichever the one that differs
(contrast sets, Gardner et al. 2020, arXiv 2004.02709). Half of the pairs are a sentence and itself with a city, day,
number, person, brand or opposite in place of another, two of a kind exchanged, or a statement denied; half with other
words for the same, a polite beginning or another ending. Sentences are real ones, of 4 to 30 characters; each is taken
once.
"""

from __future__ import annotations

import argparse
import json
import lzma
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from jinyi.train.data.records import read_records
from jinyi.train.recipe import Source

SHORTEST, LONGEST = 4, 30
MOST = 600  # times that a word is replaced: sets of labelled pairs have few topics
KINDS = (
    "北京 上海 广州 深圳 杭州 南京 武汉 成都 重庆 天津 西安 苏州 长沙 郑州 青岛 大连 厦门 昆明 沈阳 济南",
    "今天 明天 昨天 后天",
    "早上 上午 中午 下午 晚上 凌晨",
    "周一 周二 周三 周四 周五 周六 周日",
    "春天 夏天 秋天 冬天",
    "去年 今年 明年",
    "上个月 这个月 下个月",
    "爸爸 妈妈 爷爷 奶奶 哥哥 姐姐 弟弟 妹妹 儿子 女儿 老公 老婆",
    "男生 女生",
    "男人 女人",
    "男孩 女孩",
    "老师 学生 医生 警察 司机 律师",
    "中国 美国 日本 韩国 英国 法国 德国 俄罗斯",
    "中文 英文 日文 韩文",
    "语文 数学 英语 物理 化学 历史 地理 生物",
    "红色 黑色 白色 蓝色 绿色 黄色 粉色",
    "苹果 华为 小米 三星",
    "微信 支付宝 微博 抖音 淘宝 京东",
    "花呗 借呗 微粒贷 余额宝",
    "工商银行 建设银行 农业银行 招商银行 中国银行",
    "信用卡 储蓄卡",
    "身份证 护照 驾驶证 户口本",
    "顺丰 圆通 中通 申通 韵达",
    "飞机 高铁 火车 地铁 公交",
    "小猫 小狗 兔子 金鱼",
    "牛奶 咖啡 豆浆 可乐",
    "鸡蛋 豆腐 土豆 西红柿",
    "感冒 发烧 咳嗽 头疼 拉肚子 失眠",
    "高血压 糖尿病 胃炎 肺炎",
    "足球 篮球 羽毛球 乒乓球",
    "钢琴 吉他 小提琴",
    "第一 第二 第三 第四",
)
PERSONS = ("我", "你", "他", "她")
OPPOSITES = (
    "打开 关闭|开启 关闭|开通 关闭|增加 减少|提高 降低|上涨 下跌|上升 下降|购买 出售|之前 之后|以前 以后|"
    "上面 下面|左边 右边|里面 外面|最大 最小|最高 最低|最多 最少|最快 最慢|最好 最差|最便宜 最贵|"
    "喜欢 讨厌|同意 拒绝|成功 失败|入口 出口|收入 支出|存款 取款|借款 还款|充值 提现|绑定 解绑|添加 删除|"
    "登录 注销|安装 卸载|开始 结束|上班 下班|上学 放学|优点 缺点|好处 坏处|变大 变小|变多 变少|变红 变黑|"
    "太大 太小|太长 太短|太热 太冷|太快 太慢|过大 过小|开门 关门|开灯 关灯|开机 关机|上车 下车|进去 出来|"
    "借给 还给|便宜 贵|容易 困难|安全 危险|减肥 增肥|长胖 变瘦|安卓 苹果|大于 小于|高于 低于|多于 少于|"
    "早于 晚于|支持 反对|赢了 输了|买入 卖出|上调 下调|扩大 缩小|延长 缩短|好吃 难吃|好看 难看|好听 难听|"
    "好用 难用|开心 难过|高兴 生气|快乐 痛苦|很好 很差|不错 很差|不好 很好|真好 真差|很热 很冷|好热 好冷|"
    "太贵 太便宜|很贵 很便宜|很高 很低|很大 很小|很多 很少|很长 很短|很快 很慢|很胖 很瘦|很远 很近|"
    "很新 很旧|很早 很晚|很忙 很闲|很甜 很苦|干净 很脏|安静 很吵|聪明 很笨|漂亮 难看|有趣 无聊|简单 复杂|"
    "满意 失望|大涨 大跌|暴涨 暴跌|涨价 降价|爱你 恨你|充满 耗尽|写完了 没写完|做完了 没做完|"
    "吃饱了 没吃饱|看懂了 没看懂|听懂了 没听懂|找到了 没找到|收到了 没收到|买到了 没买到|同意了 没同意|"
    "很高 很矮|真高 真矮|太高 太矮|真好 太糟糕了|真好 真糟糕|很好 很糟糕|不错 糟糕|太好了 太糟了|真棒 真烂|"
    "心情不好 心情很好|心情好 心情差|心情不好 很开心|不开心 很开心|不高兴 很高兴|难受 舒服|很爱 很恨|最爱 最恨|"
    "来了 没来|去了 没去|想去 不想去|想要 不想要|有钱 没钱"
)
SAME = (
    "怎么 如何 怎样|为什么 为啥 为何|多久 多长时间|修改 更改 变更|手机号 手机号码|登录 登陆|账号 帐号|"
    "能不能 可不可以 能否 可否|是不是 是否|有没有 有无|什么时候 啥时候 何时|哪里 哪儿 什么地方|"
    "多少钱 什么价格 价格多少|喜欢 喜爱|立刻 马上 立即|告诉 告知|漂亮 好看|便宜 实惠|电脑 计算机|"
    "小孩 孩子 小朋友|妈妈 母亲|爸爸 父亲|医生 大夫|如果 要是 假如|因为 由于|但是 可是 不过|"
    "现在 目前 如今|经常 常常 时常|非常 特别 十分|附近 周围|办理 申办|怎么办 如何处理 怎么解决|原因 缘故|"
    "区别 差别 不同|减肥 瘦身|坏了 出故障了 出毛病了|丢了 弄丢了 不见了|方便 便利|取消 撤销|费用 花费|"
    "查询 查看|想要 想|什么 啥|怎么样 如何|好不好 怎么样|一起 一块儿|里面 里头|每天 天天|可以 能|"
    "应该 应当|时候 时间|必须 一定要|只有 仅有|关闭 关掉|打开 开启|删除 删掉|提高 提升|购买 买|快速 迅速|"
    "生气 发火|害怕 恐惧|高兴 开心|难过 伤心|著名 有名|大概 大约|全部 所有|突然 忽然|一直 始终|帮助 帮忙|"
    "忘记 忘了|预订 预定|地址 住址|价格 价钱|治疗 医治|睡不着 失眠|好吃 美味"
)
_ASKED = re.compile("[吗呢么？?几谁哪啥没不别]|怎|如何|什么|多少|多久|是否|能否|为何")
_DENIED = [
    "喜欢",
    "需要",
    "知道",
    "同意",
    "相信",
    "愿意",
    "记得",
    "认识",
    "应该",
    "可以",
    "支持",
    "想去",
    "打算",
    "准备",
]
_COUNTED = "天|个月|年级|岁|元|块|度|点|号|公里|分钟|小时|次|人|斤|级|楼|米|集|倍"
_NUMBER = re.compile(rf"(\d{{1,4}}|[二三四五六七八九十两]{{1,3}})(?={_COUNTED})")
_JOINED = re.compile("[和与跟及、或同]|还是")  # between two of a kind: their order says nothing
_POLITE = ("请问", "请问一下，", "你好，", "我想知道", "想问一下")

GROUPS = [kind.split() for kind in KINDS]
PAIRED = [pair.split() for pair in OPPOSITES.split("|")]
ALIKE = [group.split() for group in SAME.split("|")]


def replaced(text: str, groups: list[list[str]], rng: random.Random, used: Counter[str]) -> str | None:
    """Return the text with one word of a group in place of another; None where it has none, or too common ones.

    A single character is put in, but never looked for: it may be part of any word.
    """
    found = [(group, word) for group in groups for word in group if len(word) > 1 and word in text]
    found = [(group, word) for group, word in found if used[word] < MOST]
    if not found:
        return None
    group, word = rng.choice(found)
    used[word] += 1
    return text.replace(word, rng.choice([other for other in group if other != word]), 1)


def renumbered(text: str, rng: random.Random, _: Counter[str]) -> str | None:
    """Return the text with another number; None where none counts something."""
    found = list(_NUMBER.finditer(text))
    if not found:
        return None
    number = rng.choice(found)
    others = [str(rng.randint(2, 30))] if number[1].isdigit() else list("三四五六七八九十")
    other = rng.choice([value for value in others if value != number[1]] or ["31"])
    return text[: number.start()] + other + text[number.end() :]


def exchanged(text: str, rng: random.Random, used: Counter[str]) -> str | None:
    """Return the text with two of a kind exchanged; None where there are none, or their order says nothing."""
    for group in rng.sample([*GROUPS, PERSONS], len(GROUPS) + 1):
        places = sorted((text.find(word), word) for word in group if word in text)
        if len(places) != 2:
            continue
        (start, first), (middle, second) = places
        between = text[start + len(first) : middle]
        if between and not _JOINED.search(between) and used[first + second] < MOST:
            used[first + second] += 1
            return text[:start] + second + between + first + text[middle + len(second) :]
    return None


def denied(text: str, rng: random.Random, used: Counter[str]) -> str | None:
    """Return a statement with its opposite; None for questions and where it is denied already."""
    found = [word for word in _DENIED if word in text and used["不" + word] < MOST]
    if _ASKED.search(text) or not found:
        return None
    word = rng.choice(found)
    used["不" + word] += 1
    return text.replace(word, "不" + word, 1)


def reworded(text: str, rng: random.Random, used: Counter[str]) -> str | None:
    """Return the text in other words: one to three words, a beginning or an ending."""
    other = text
    for _ in range(rng.randint(1, 3)):
        other = replaced(other, ALIKE, rng, used) or other
    asked = text.endswith(("吗", "呢", "么", "？", "?"))
    if asked and rng.random() < 0.3:
        other = rng.choice(_POLITE) + other
    if other[-1] in "吗？?。" and rng.random() < 0.4:
        other = other[:-1] + {"吗": "么"}.get(other[-1], "")
    return other if other not in (text, "") else None


Change = Callable[[str, random.Random, Counter[str]], "str | None"]
OTHER: tuple[tuple[float, Change], ...] = (
    (0.4, lambda text, rng, used: replaced(text, GROUPS, rng, used)),
    (0.3, lambda text, rng, used: replaced(text, PAIRED, rng, used)),
    (0.1, renumbered),
    (0.1, exchanged),
    (0.1, denied),
)


def pairs(texts: list[str], rows: int, rng: random.Random) -> Iterator[tuple[str, str, int]]:
    """Yield up to `rows` pairs, half of each label while there are sentences for them; each sentence once."""
    left = {0: rows // 2, 1: rows - rows // 2}
    used: Counter[str] = Counter()
    for text in rng.sample(texts, len(texts)):
        label = 0 if left[0] and (rng.random() < 0.7 or not left[1]) else 1
        if not left[label]:
            return
        if label:
            other = reworded(text, rng, used)
        else:
            changes = [change for _, change in rng.sample(OTHER, len(OTHER))]
            first = rng.choices(OTHER, [share for share, _ in OTHER])[0][1]
            other = next((found for change in (first, *changes) if (found := change(text, rng, used))), None)
        if other is not None and other != text:
            left[label] -= 1
            yield (text, other, label) if rng.random() < 0.5 else (other, text, label)


def main() -> None:
    """Write the rows as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pairs", nargs="+", type=Path, default=[], metavar="FILE", help="files of pairs")
    parser.add_argument("--texts", nargs="+", type=Path, default=[], metavar="FILE", help="files of texts")
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.pairs or options.texts):
        sys.exit("no file: give --pairs or --texts")
    read = [
        text
        for file in options.pairs
        for _, texts, _ in read_records(file, Source(file=str(file)), "pairs")
        for text in texts
    ]
    for file in options.texts:  # blank lines stand between documents
        with (lzma.open if file.suffix == ".xz" else open)(file, "rt", encoding="utf-8") as stream:
            read += [line.strip() for line in stream]
    texts = [text for text in dict.fromkeys(read) if SHORTEST <= len(text) <= LONGEST]
    for a, b, label in pairs(texts, options.rows, random.Random(options.seed)):
        print(json.dumps({"texta": a, "textb": b, "label": label}, ensure_ascii=False))


if __name__ == "__main__":
    main()
