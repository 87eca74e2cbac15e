"""Raw text to training text: rules in the manner of C4 and CLUECorpus2020, and an account of what each dropped.

CLUE's exact rules are not published (arXiv 2003.01355 names heuristic filters, removal of duplicates, of code and of
very short pieces); these are ours, after C4 (Raffel et al. 2020, 2.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinyi.text import normalize, split_sentences
from jinyi.train.corpus.duplicates import ExactSpans, NearDuplicates
from jinyi.vocab import is_han

_END = re.compile(r"[。！？；…!?;.~～：:][”’」』〞）)】》〉\"'\]]*$")
_CODE = re.compile(
    r"javascript|function\s*\(|</?[a-z][a-z0-9]*(\s[^<>]*)?/?>|&(nbsp|lt|gt|amp|quot|#\d+);|[{}]|\bvar \w+\s*=|"
    r"\$\(|document\.|window\.|=>|#include|\\u[0-9a-f]{4}|\]\(|!\[",
    re.IGNORECASE,
)
_BOILERPLATE = re.compile(
    r"版权所有|保留所有权利|未经(本站|授权|许可).{0,8}(转载|使用)|转载请注明|备案号|ICP备|公网安备|"
    r"点击(这里|此处|查看|下载|进入|阅读)|查看更多|阅读全文|展开全文|上一篇|下一篇|返回(首页|顶部)|扫描?二维码|"
    r"关注.{0,10}公众号|责任编辑|隐私(政策|条款)|使用条款|免责声明|请?启用.{0,4}cookie",
    re.IGNORECASE,
)
_EXAMPLES = 3


@dataclass(frozen=True)
class Rules:
    """What stays.

    Args:
        split: cut lines into sentences first, so that every line is one.
        simplified: write traditional characters simplified (OpenCC, extra [zh]); CLUE's vocabulary needs it.
        characters: fewest characters of a line.
        han: smallest share of Chinese characters among the visible characters of a line.
        ended: only lines that end with a punctuation mark.
        code: drop lines with markup or program code in them.
        boilerplate: drop lines such as 版权所有 and 点击查看.
        bad_words: documents with one of these in them are dropped as a whole.
        sentences: fewest lines left of a document.
        span: drop lines that came before in a row of so many, see `ExactSpans`; None keeps them.
        near: drop documents this similar to an earlier one, see `NearDuplicates`; None keeps them.
    """

    split: bool = True
    simplified: bool = False
    characters: int = 5
    han: float = 0.3
    ended: bool = True
    code: bool = True
    boilerplate: bool = True
    bad_words: tuple[str, ...] = ()
    sentences: int = 1
    span: int | None = 3
    near: float | None = 0.8


@dataclass
class Dropped:
    """What one rule took away: lines (those of whole documents included), documents, characters, first examples."""

    lines: int = 0
    documents: int = 0
    characters: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, lines: Sequence[str], documents: int = 0) -> None:
        """Count some lines."""
        self.lines += len(lines)
        self.documents += documents
        self.characters += sum(map(len, lines))
        if len(self.examples) < _EXAMPLES:
            self.examples += [line[:40] for line in lines[: _EXAMPLES - len(self.examples)]]


@dataclass
class Report:
    """What went in, what stayed and what each rule dropped; filled while `clean` runs.

    Lines are counted after they were cut into sentences.
    """

    documents: int = 0
    lines: int = 0
    characters: int = 0
    kept_documents: int = 0
    kept_lines: int = 0
    kept_characters: int = 0
    dropped: dict[str, Dropped] = field(default_factory=dict)

    def drop(self, rule: str, lines: Sequence[str], documents: int = 0) -> None:
        """Count what a rule dropped."""
        self.dropped.setdefault(rule, Dropped()).add(lines, documents)

    def to_dict(self) -> dict[str, Any]:
        """As JSON writes it."""
        fields = ("documents", "lines", "characters", "kept_documents", "kept_lines", "kept_characters")
        return {name: getattr(self, name) for name in fields} | {
            "dropped": {rule: vars(part) for rule, part in self.dropped.items()}
        }


def clean(
    documents: Iterable[Sequence[str]], rules: Rules | None = None, *, report: Report | None = None
) -> Iterator[list[str]]:
    """Clean a corpus, one document at a time.

    Lines are normalised (`jinyi.text.normalize`) and cut into sentences; then the rules are asked in the order blank,
    short, not Chinese, code, boilerplate, no sentence end; then whole documents: bad words, repeated lines, too few
    sentences, nearly equal to an earlier one. The first rule that speaks against a line is the one it is counted for.

    Args:
        documents: lines of each document.
        rules: what stays; None takes the defaults.
        report: is filled with counts.

    Yields:
        the sentences of each document of which something is left.

    Raises:
        MissingExtraError: `simplified` without opencc.
        InputError: a similarity out of range.
    """
    rules = rules or Rules()
    report = report if report is not None else Report()
    spans = ExactSpans(rules.span) if rules.span else None
    near = NearDuplicates(rules.near) if rules.near else None
    for document in documents:
        report.documents += 1
        kept = []
        for line in _sentences(document, rules):
            report.lines += 1
            report.characters += len(line)
            against = line_rule(line, rules)
            if against is None:
                kept.append(line)
            else:
                report.drop(against, [line])
        if kept and spans is not None:
            again = spans.repeated(kept)
            report_again = [line for line, twice in zip(kept, again, strict=True) if twice]
            if report_again:
                report.drop("repeated", report_again, documents=int(all(again)))
                kept = [line for line, twice in zip(kept, again, strict=True) if not twice]
        if not kept:
            continue
        rule = _document_rule(kept, rules, near)
        if rule is not None:
            report.drop(rule, kept, documents=1)
            continue
        report.kept_documents += 1
        report.kept_lines += len(kept)
        report.kept_characters += sum(map(len, kept))
        yield kept


def line_rule(line: str, rules: Rules) -> str | None:
    """Name of the first rule against a normalised line, or None."""
    visible = line.replace(" ", "")
    if not visible:
        return "blank"
    if len(visible) < rules.characters:
        return "short"
    if sum(map(is_han, visible)) < rules.han * len(visible):
        return "not Chinese"
    if rules.code and _CODE.search(line):
        return "code"
    if rules.boilerplate and _BOILERPLATE.search(line):
        return "boilerplate"
    if rules.ended and not _END.search(line):
        return "no sentence end"
    return None


def _sentences(document: Sequence[str], rules: Rules) -> Iterator[str]:
    for line in document:
        text = normalize(line, simplified=rules.simplified)
        parts = split_sentences(text) if rules.split else []
        yield from parts or [text]


def _document_rule(lines: Sequence[str], rules: Rules, near: NearDuplicates | None) -> str | None:
    text = "\n".join(lines)
    if any(word in text for word in rules.bad_words):
        return "bad words"
    if len(lines) < rules.sentences:
        return "few sentences"
    if near is not None and near.duplicate(text):
        return "near duplicate"
    return None
