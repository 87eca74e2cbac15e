"""Reports: tables, Markdown, one HTML file, JSON, figures; saved whole or not at all."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from jinyi import FolderError, InputError
from jinyi.errors import MissingExtraError
from jinyi.evals import provenance
from jinyi.evals.report import as_record, from_record, render_html, render_markdown, save, tables
from jinyi.evals.report.drawing import draw, standalone
from jinyi.evals.report.tables import UNDEFINED
from jinyi.evals.result import Evaluation, Example, Figure, Row
from jinyi.hashes import file_sha256

EVIL = "<script>alert('a')</script>|*b*"
CHANCE = np.random.default_rng(0)
FIGURES = {
    "histogram": {
        "groups": {"不相似": [0.1, 0.2, 0.15, math.nan], "similar": [0.8, 0.9], "none": []},
        "unit": "P(similar)",
        "lines": {"threshold": 0.5},
    },
    "reliability": {
        "curves": {"before": {"predicted": [0.1, 0.9], "observed": [0.2, None], "count": [10, 0]}}
    },
    "confusion": {"labels": ["体育", "财经"], "counts": [[3, 1], [0, 0]]},
    "curve": {"lines": {"lr 1e-4": {"x": [0, 1], "y": [0.5, 0.6]}}, "x": "step", "y": "accuracy"},
    "map": {
        "panels": {
            "before": {
                "points": CHANCE.normal(size=(900, 2)).tolist(),
                "groups": ["体育", "财经", "房产"] * 300,
            },
            "after": {"points": [[0.0, 1.0], [math.nan, 1.0]], "groups": ["体育", "财经"]},
        }
    },
    "bars": {"bars": {"字符级别的基线": 3.5, "jinyi": math.nan, EVIL: 1200}, "unit": "sentences/s"},
}


def figure(kind: str) -> Figure:
    return Figure(kind=kind, title=f"{kind} of 近义", values=FIGURES[kind], caption="A caption.")  # type: ignore[arg-type]


def example(**changed: Any) -> Evaluation:
    rows = [
        Row(
            data=data,
            system=system,
            protocol="[CLS]",
            scores={"spearman": score, "pearson": score / 2},
            n=1000,
            intervals={"spearman": (score - 2, score + 2)},
            settings={"pooling": "cls", "k": np.int64(256), "model": Path("m")},
            data_sha256="ab" * 32,
            seed=3,
        )
        for data, system, score in (
            ("lcqmc", "jinyi", 70.0),
            ("bq", "jinyi", 40.0),
            ("lcqmc", "TF-IDF", 60.5),
            ("bq", "TF-IDF", 50.25),
        )
    ]
    rows.append(
        Row(data="lcqmc", system="Other", protocol="test", scores={"spearman": 99.0}, quoted="a paper")
    )
    fields: dict[str, Any] = {
        "title": "STS of 近义",
        "kind": "sts",
        "rows": rows,
        "layout": "sets across",
        "across": ("spearman", "pearson"),
        "averages": {"average": ("lcqmc", "bq")},
        "figures": [figure("histogram")],
        "examples": [
            Example(
                data="bq",
                texts={"a": EVIL, "b": "如何修改登录密码"},
                expected="similar",
                found="not similar",
                score=0.03,
                place="dev.jsonl:4",
            )
        ],
        "notes": ["A note about protocols."],
        "command": "jinyi evaluate sts --data 'a b.tsv'",
        "version": "0.1.0",
        "machine": "a machine",
    }
    return Evaluation(**{**fields, **changed})


def texts(rows: tuple[tuple[Any, ...], ...]) -> list[list[str]]:
    return [[cell.text for cell in row] for row in rows]


def test_sets_across() -> None:
    first, second = tables(example())
    assert first.columns == ("system", "protocol", "lcqmc\nn=1,000", "bq\nn=1,000", "average")
    assert texts(first.rows) == [
        ["jinyi", "[CLS]", "70.00\n68.0 to 72.0", "40.00\n38.0 to 42.0", "55.00"],
        ["TF-IDF", "[CLS]", "60.50\n58.5 to 62.5", "50.25\n48.2 to 52.2", "55.38"],
        ["Other †", "test", "99.00", "", ""],
    ]
    best = [[cell.best for cell in row[2:]] for row in first.rows]
    assert best == [[True, False, False], [False, True, True], [False, False, False]]
    assert first.quoted == (False, False, True)
    assert any("a paper" in note for note in first.notes) and any("95%" in note for note in first.notes)
    assert second.title == "pearson" and len(second.rows) == 2 and second.notes == ()


def test_one_per_row() -> None:
    rows = [
        Row(
            data="afqmc",
            system=name,
            protocol="",
            scores={"accuracy": accuracy, "ece": ece, "threshold": 0.4, "majority": 68.5},
            n=4316,
        )
        for name, accuracy, ece in (("a", 70.0, 3.25), ("b", math.nan, 0.05), ("c", 71.0, 2.0))
    ]
    (table,) = tables(Evaluation(title="Pairs", kind="pairs", rows=rows))
    assert table.columns == ("set", "system", "n", "accuracy", "ece", "threshold", "majority")
    assert texts(table.rows)[1] == ["afqmc", "b", "4,316", UNDEFINED, "0.05", "0.40", "68.50"]
    best = [[cell.best for cell in row[3:]] for row in table.rows]
    assert best == [[False] * 4, [False, True, False, False], [True, False, False, False]]


def test_the_best_is_that_of_its_set() -> None:
    rows = [
        Row(data=data, system=str(score), protocol="", scores={"accuracy": score})
        for data, score in (("a", 50.0), ("a", 60.0), ("b", 90.0), ("b", 80.0))
    ]
    (table,) = tables(Evaluation(title="", kind="pairs", rows=rows))
    assert [row[-1].best for row in table.rows] == [False, True, True, False]


def test_majority_stands_below_the_accuracy() -> None:
    rows = [
        Row(data=name, system="jinyi", protocol="own", scores={"accuracy": 80.0, "majority": majority})
        for name, majority in (("a", 50.0), ("b", 68.0))
    ]
    evaluation = Evaluation(
        title="",
        kind="pairs",
        rows=rows,
        layout="sets across",
        across=("accuracy",),
        averages={"mean": ("a", "b"), "mean of three": ("a", "b", "c")},
    )
    (table,) = tables(evaluation)
    assert texts(table.rows)[-1] == ["majority class", "", "50.00", "68.00", "59.00", ""]


def test_no_table_of_a_score_that_no_row_has() -> None:
    rows = [
        Row(data="a", system="jinyi", protocol="cosine", scores={"auc": 80.0, "majority": 50.0}),
        Row(data="a", system="TF-IDF", protocol="cosine", scores={"auc": 60.0, "majority": 50.0}),
    ]
    evaluation = Evaluation(
        title="", kind="pairs", rows=rows, layout="sets across", across=("auc", "accuracy", "ECE")
    )
    assert [table.title for table in tables(evaluation)] == ["auc"]


def test_no_row_takes_the_place_of_another() -> None:
    rows = [
        Row(data=data, system="jinyi", protocol="own", scores={"F1": score}, seed=seed)
        for seed, data, score in ((0, "a", 1.5), (0, "b", 2.5), (1, "a", 3.5), (1, "b", 4.5))
    ]
    evaluation = Evaluation(title="", kind="clue", rows=rows, layout="sets across", across=("F1",))
    (table,) = tables(evaluation)
    assert [[cell.text for cell in row[2:]] for row in table.rows] == [["1.50", "2.50"], ["3.50", "4.50"]]


def test_several_sources_have_marks_of_their_own() -> None:
    rows = [
        Row(data="a", system=name, protocol="", scores={"f1": 1.0}, quoted=source)
        for name, source in (("x", "paper"), ("y", "card"), ("z", "paper"))
    ]
    (table,) = tables(Evaluation(title="", kind="topics", rows=rows))
    assert [row[1].text for row in table.rows] == ["x †1", "y †2", "z †1"]
    assert table.notes[-1] == "†2 quoted, not computed here: card"


def test_deviations() -> None:
    rows = [Row(data="a", system="x", protocol="", scores={"f1": 50.0}, deviations={"f1": 1.25})]
    (table,) = tables(Evaluation(title="", kind="topics", rows=rows))
    assert table.rows[0][-1].text == "50.00 ±1.25" and "±" in table.notes[0]


def test_no_rows_no_tables() -> None:
    empty = Evaluation(title="Nothing", kind="data")
    assert tables(empty) == []
    assert "Nothing" in render_html(empty) and "Nothing" in render_markdown(empty)


class Page(HTMLParser):
    """Counts elements, and sees that every one of them is closed."""

    VOID = ("meta", "br", "img", "link", "hr", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: dict[str, int] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    evaluation = example(figures=[figure(kind) for kind in FIGURES])
    evaluation.title = evaluation.rows[0].system + EVIL
    html = (save(evaluation, tmp_path / "report") / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []
    assert page.seen["svg"] == len(FIGURES) and page.seen["table"] >= 3
    assert "script" not in page.seen and "link" not in page.seen and "iframe" not in page.seen
    assert "http://" not in html and "https://" not in html and "@import" not in html
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href"):
            assert value and value.startswith(("#", "data:image/png;base64,"))
    assert set(re.findall(r"url\(([^)]{1,3})", html)) <= {"#fi"}
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert "&lt;script&gt;alert(" in html


@pytest.mark.parametrize("kind", FIGURES)
def test_every_figure_is_drawn(kind: str) -> None:
    svg = draw(figure(kind), name="f1")
    assert svg == draw(figure(kind), name="f1")
    root = ElementTree.fromstring(standalone(svg))
    words = " ".join(root.itertext())
    wanted = {
        "histogram": ["不相似 (3)", "similar (2)", "threshold 0.5", "P(similar)"],
        "reliability": ["before", "calibrated", "observed share"],
        "confusion": ["体育", "财经", "3", "predicted"],
        "curve": ["lr 1e-4", "step"],
        "map": ["before", "after", "体育", "财经", "房产"],
        "bars": ["字符级别的基线", "3.5", "1,200", "sentences/s", EVIL],
    }[kind]
    for word in wanted:
        assert word in words
    assert "currentColor" in svg and "#010203" not in svg


def test_many_points_become_a_picture() -> None:
    assert "data:image/png;base64," in draw(figure("map"))


def test_a_large_confusion_counts_places() -> None:
    names = [f"类{place}" for place in range(67)]
    values = {"labels": names, "counts": np.eye(67, dtype=int).tolist()}
    svg = draw(Figure(kind="confusion", title="", values=values))
    assert "类1" not in svg and "place of the label" in svg


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"jinyi\[eval\]"):
        draw(figure("bars"))
    monkeypatch.setattr("jinyi.evals.report.saving.find_spec", lambda name: None)
    place = save(example(), tmp_path / "report")
    assert r"jinyi\[eval\]" in (place / "report.md").read_text(encoding="utf-8")
    assert "jinyi[eval]" in (place / "report.html").read_text(encoding="utf-8")
    assert not (place / "figures").exists()
    assert json.loads((place / "report.json").read_text(encoding="utf-8"))["figures"]


def test_json_round_trip() -> None:
    evaluation = example(figures=[figure(kind) for kind in FIGURES])
    evaluation.rows.append(Row(data="bq", system="x", protocol="", scores={"spearman": math.nan}))
    text = json.dumps(as_record(evaluation), allow_nan=False)
    back = from_record(json.loads(text))
    assert json.dumps(as_record(back), allow_nan=False) == text
    assert back.rows[0].settings == {"pooling": "cls", "k": 256, "model": "m"}
    assert back.rows[0].intervals == {"spearman": (68.0, 72.0)}
    assert math.isnan(back.rows[-1].scores["spearman"])
    assert back.averages == evaluation.averages and back.across == evaluation.across
    assert tables(back) == tables(evaluation)


def test_other_json() -> None:
    with pytest.raises(InputError, match="schema 7"):
        from_record({"schema": 7})
    with pytest.raises(InputError, match="does not fit"):
        from_record({"schema": 1, "title": "x"})
    with pytest.raises(InputError, match="does not fit"):
        from_record({**as_record(example()), "more": 1})


def test_markdown() -> None:
    text = render_markdown(example(), {0: "figures/1.svg"})
    assert "| jinyi | \\[CLS\\] | **70.00**<br>68.0 to 72.0 | 40.00<br>38.0 to 42.0 | 55.00 |" in text
    assert "*99.00*" in text and "![histogram of 近义](figures/1.svg)" in text
    assert not re.search(r"(?<!\\)<script", text) and "\\<script\\>alert('a')\\</script\\>\\|\\*b\\*" in text
    assert "`jinyi evaluate sts --data 'a b.tsv'`" in text and "ab" * 32 in text
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1


def test_markdown_of_awkward_text() -> None:
    odd = Evaluation(title="&lt;b&gt;", kind="sts", command="jinyi evaluate sts 'a`b``.tsv'")
    text = render_markdown(odd)
    assert "# \\&lt;b\\&gt;" in text and "command: ``` jinyi evaluate sts 'a`b``.tsv' ```" in text


def test_saved_whole_and_replaced(tmp_path: Path) -> None:
    place = save(example(), tmp_path / "deep" / "report")
    assert {file.relative_to(place).as_posix() for file in place.rglob("*") if file.is_file()} == {
        "MANIFEST.sha256",
        "report.html",
        "report.json",
        "report.md",
        "figures/01-histogram-of.svg",
    }
    record = json.loads((place / "report.json").read_text(encoding="utf-8"))
    assert record["schema"] == 1 and record["rows"][0]["data_sha256"] == "ab" * 32
    save(example(title="Another", figures=[]), place)
    assert json.loads((place / "report.json").read_text(encoding="utf-8"))["title"] == "Another"
    assert not (place / "figures").exists()


def test_a_failing_report_leaves_the_old_one(tmp_path: Path) -> None:
    place = save(example(), tmp_path / "report")
    bad = example(notes=[object()])
    with pytest.raises(TypeError):
        save(bad, place)
    assert json.loads((place / "report.json").read_text(encoding="utf-8"))["title"] == "STS of 近义"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report"]


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(FolderError, match="mine.txt"):
        save(example(), tmp_path / "notes")
    place = save(example(), tmp_path / "report")
    (place / "thoughts.md").write_text("mine", encoding="utf-8")
    with pytest.raises(FolderError, match="thoughts.md"):
        save(example(), place)
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    with pytest.raises(FolderError):
        save(example(), file)
    (tmp_path / "empty").mkdir()
    save(example(), tmp_path / "empty")


def test_provenance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_sha256(file) == known
    monkeypatch.setattr("sys.argv", ["/usr/bin/jinyi", "evaluate", "sts", "--data", "a b.tsv"])
    evaluation = provenance.stamp(Evaluation(title="", kind="sts"))
    assert evaluation.command == "jinyi evaluate sts --data 'a b.tsv'"
    assert "core" in evaluation.machine and "openvino" in evaluation.machine and evaluation.version
    monkeypatch.setattr("sys.argv", ["/lib/jinyi/cli/__main__.py", "models", "list"])
    assert provenance.command_line() == "jinyi models list"
    kept = provenance.stamp(Evaluation(title="", kind="sts", command="as it was", machine="theirs"))
    assert (kept.command, kept.machine) == ("as it was", "theirs")
