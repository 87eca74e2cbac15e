"""Checks of data files: what counts as the same, what is found, and that it is counted right."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jinyi.errors import InputError, MissingExtraError, ModelNotFoundError
from jinyi.evals.datacheck import as_dict, as_evaluation, check_data, sentence
from jinyi.evals.datacheck.forms import alike_form, row_keys, same_form, text_keys
from jinyi.evals.datacheck.source import data_files, role_of


def write(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def pair(a: str, b: str, label: object = None) -> dict[str, object]:
    return {"texta": a, "textb": b} | ({} if label is None else {"label": label})


def text(value: str, label: object = None) -> dict[str, object]:
    return {"text": value} | ({} if label is None else {"label": label})


def kinds(found: Any) -> list[str]:
    return [finding.kind for finding in found.findings]


@pytest.mark.parametrize(
    ("first", "second", "level"),
    [
        ("怎么改密码？", "怎么改 密码？", "same"),
        ("怎么改密码", "怎么\u3000改密码\t", "same"),
        ("怎么改密码？", "怎么改密码", "alike"),
        ("ＡＢＣ１２３", "abc123", "alike"),
        ("iPhone 7，多少钱", "IPHONE7 多少钱!!", "alike"),
        ("「请上座」", "“请上座”", "alike"),
        ("涨了1.5元。", "涨了１．５元", "alike"),
        ("好\u200b吗", "好吗", "alike"),
        ("涨了1.5元", "涨了15元", "none"),
        ("涨了5%", "涨了5", "none"),
        ("C++怎么学", "C怎么学", "none"),
        ("真好😀", "真好😢", "none"),
        ("？？", "！", "none"),
        ("髮", "发", "none"),
    ],
)
def test_what_counts_as_the_same(first: str, second: str, level: str) -> None:
    assert (same_form(first) == same_form(second)) == (level == "same")
    assert (alike_form(first) == alike_form(second)) == (level != "none")


def test_traditional_characters_are_alike_when_asked() -> None:
    pytest.importorskip("opencc")
    assert alike_form("頭髮", simplified=True) == alike_form("头发", simplified=True) == "头发"


@given(st.text())
@example("1 . 5")
@example("㊗ ．5")
def test_each_form_follows_from_the_one_before(value: str) -> None:
    assert same_form(same_form(value)) == same_form(value)
    assert alike_form(value) == alike_form(same_form(value))
    if same_form(value):
        assert alike_form(value)


def test_row_keys_know_the_order_when_asked() -> None:
    keys = np.array(
        [[text_keys(a)[1], text_keys(b)[1]] for a, b in ("甲乙", "乙甲", "甲甲", "乙乙")], np.uint64
    )
    unordered, ordered = row_keys(keys, ordered=False), row_keys(keys, ordered=True)
    assert unordered[0] == unordered[1]
    assert len(np.unique(unordered)) == 3
    assert len(np.unique(ordered)) == 4


def naive(files: list[list[tuple[str, str, int]]], form: Any) -> dict[str, Any]:
    """Repeats, conflicts and shared pairs by dictionaries of the texts themselves."""
    keyed = [[(frozenset(map(form, row[:2])), row[2]) for row in rows] for rows in files]
    conflicts = []
    for rows in keyed:
        labels = defaultdict(set)
        for key, label in rows:
            labels[key].add(label)
        conflicts.append(sum(len(found) > 1 for found in labels.values()))
    shared = {}
    for one, two in combinations(range(len(files)), 2):
        counts = [Counter(key for key, _ in keyed[place]) for place in (one, two)]
        both = counts[0].keys() & counts[1].keys()
        if both:
            differing = sum(
                any(a != b for k, a in keyed[one] if k == key for j, b in keyed[two] if j == key)
                for key in both
            )
            rows = [sum(count[key] for key in both) for count in counts]
            shared[one, two] = (len(both), *rows, differing)
    combined = Counter()
    for key in {key for rows in keyed for key, _ in rows}:
        places = tuple(place for place, rows in enumerate(keyed) if any(key == k for k, _ in rows))
        if len(places) > 1:
            combined[places] += 1
    sides = [{form(side) for row in rows for side in row[:2]} for rows in files]
    sentences = {
        (one, two): len(sides[one] & sides[two])
        for one, two in combinations(range(len(files)), 2)
        if sides[one] & sides[two]
    }
    return {
        "repeats": [len(rows) - len({key for key, _ in rows}) for rows in keyed],
        "conflicts": conflicts,
        "shared": shared,
        "sets": combined,
        "sentences": sentences,
    }


SIDES = st.sampled_from(["甲", "甲。", "甲 乙", "甲乙", "乙", "乙 ", "Ａ", "a", "丙"])
FILES = st.lists(
    st.lists(st.tuples(SIDES, SIDES, st.integers(0, 1)), min_size=1, max_size=8), min_size=1, max_size=4
)


@given(FILES)
def test_counts_equal_those_of_dictionaries(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[tuple[str, str, int]]]
) -> None:
    folder = tmp_path_factory.mktemp("files")
    paths = [
        write(folder / f"set{place}.jsonl", [pair(*row) for row in rows]) for place, rows in enumerate(files)
    ]
    found = check_data(paths)
    for form, function in (("same", same_form), ("alike", alike_form)):
        expected = naive(files, function)
        assert [getattr(report.repeats, form) for report in found.files] == expected["repeats"]
        assert [getattr(report.conflicts, form) for report in found.files] == expected["conflicts"]
        overlaps = {(one.first, one.second): getattr(one, form) for one in found.shared}
        counts = {
            key: (one.distinct, one.first, one.second, one.differing)
            for key, one in overlaps.items()
            if one.distinct
        }
        assert counts == expected["shared"]
        combined = {
            tuple(int(name[3:]) for name in one.sets): getattr(one, form)
            for one in found.sets
            if getattr(one, form)
        }
        assert combined == expected["sets"]
        sentences = {
            (one.first, one.second): getattr(one, form).distinct
            for one in found.sentences
            if getattr(one, form).distinct
        }
        assert sentences == expected["sentences"]
    written = [len(rows) - len({row[:2] for row in rows}) for rows in files]
    assert [report.repeats.written for report in found.files] == written


def test_findings_name_files_and_lines(tmp_path: Path) -> None:
    train = write(
        tmp_path / "faq/train.jsonl",
        [
            pair("怎么改密码", "如何修改密码", 1),
            pair("如何修改密码", "怎么改密码？", 1),
            pair("天气", "心情", 0),
            pair("天气", "心 情", 1),
        ],
    )
    dev = write(tmp_path / "faq/dev.jsonl", [pair("心情", "天气", 0), pair("体育", "财经", 0)])
    found = check_data([train, dev])
    assert [report.file.name for report in found.files] == ["faq/train", "faq/dev"]
    assert [finding.kind for finding in found.problems] == ["repeated", "conflict", "shared"]
    repeated, conflict, shared = found.problems
    assert repeated.count == 2
    assert "1 swapped or with other blanks, 1 with other width, case or punctuation" in repeated.message
    assert [place.where for place in conflict.examples[0]] == [f"{train}:3", f"{train}:4"]
    assert [place.label for place in conflict.examples[0]] == ["0", "1"]
    assert [place.where for place in shared.examples[0]] == [f"{train}:3", f"{dev}:1"]
    assert shared.examples[0][1].texts == ("心情", "天气")
    assert "50.0% of faq/train, 50.0% of faq/dev); 1 with other labels" in shared.message
    assert sentence(shared).startswith("problem: faq/train and faq/dev: ")
    assert found.sets == []


def test_clean_files_have_no_findings(tmp_path: Path) -> None:
    rows = [pair(f"甲{place}", f"乙{place}", place % 2) for place in range(20)]
    found = check_data([write(tmp_path / "train.jsonl", rows[:10]), write(tmp_path / "dev.jsonl", rows[10:])])
    assert found.findings == []
    assert as_evaluation(found).notes == ["Nothing found."]


def test_order_is_part_of_an_inference(tmp_path: Path) -> None:
    rows = [("有人在跑步", "有人在动", "entailment"), ("有人在动", "有人在跑步", "neutral")]
    directed = [{"premise": a, "hypothesis": b, "label": label} for a, b, label in rows]
    found = check_data([write(tmp_path / "nli.jsonl", directed)])
    assert found.files[0].conflicts.same == 0
    found = check_data([write(tmp_path / "pairs.jsonl", [pair(*row) for row in rows])])
    assert found.files[0].conflicts.same == 1
    split = check_data(
        [
            write(tmp_path / f"{name}.jsonl", [row])
            for name, row in zip(("train", "dev"), directed, strict=True)
        ]
    )
    assert split.shared[0].same.distinct == 1
    assert split.shared[0].same.differing == 0


def test_labels_are_compared_by_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("text\tlabel\n甲\t1\n乙\t2 \n", encoding="utf-8")
    dev = write(tmp_path / "dev.jsonl", [text("甲", 1.0), text("乙", 2)])
    found = check_data([tmp_path / "train.tsv", dev])
    assert found.shared[0].same.distinct == 2
    assert found.shared[0].same.differing == 0
    score = write(tmp_path / "scored.jsonl", [{"text": "甲", "score": 1.0}])
    found = check_data([tmp_path / "train.tsv", score])
    assert found.shared[0].same.differing == 1, "a score of 1 is no label 1"


def test_labels_as_tables_write_them(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("text\tlabel\n甲\t1.0\n乙\t2.5\n", encoding="utf-8")
    dev = write(tmp_path / "dev.jsonl", [text("甲", 1), text("乙", 2.5), text("丙", float("nan"))])
    found = check_data([tmp_path / "train.tsv", dev])
    assert found.shared[0].same.differing == 0
    assert found.files[1].labels == {"1": 1, "2.5": 1}, "NaN stands for no label"


def test_scores_are_no_classes(tmp_path: Path) -> None:
    paths = [
        write(
            tmp_path / f"{split}.jsonl",
            [{"text": f"{split}{n}", "score": n / 7 + offset} for n in range(20)],
        )
        for split, offset in (("train", 0.0), ("dev", 0.05))
    ]
    assert check_data(paths).findings == []


def test_labels(tmp_path: Path) -> None:
    train = write(
        tmp_path / "train.jsonl", [text(f"甲{n}", "体育") for n in range(30)] + [text("乙", "财经")]
    )
    dev = write(tmp_path / "dev.jsonl", [text("丙", "体育"), text("丁", "房产"), text("戊")])
    found = check_data([train, dev])
    messages = [(finding.files[0], finding.message) for finding in found.findings if finding.kind == "label"]
    assert [finding.problem for finding in found.findings if finding.kind == "label"] == [True, True]
    assert any("1 row without a label" in message for _, message in messages)
    assert any("1 label that no training file of the set has: 房产" in message for _, message in messages)
    assert {name.split("/")[1] for name, _ in messages} == {"dev"}
    assert any("96.8% of the rows have the label 体育" in finding.message for finding in found.findings)
    assert found.files[0].labels == {"体育": 30, "财经": 1}


def test_rows_without_a_text_are_found_not_fatal(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [text("甲"), text(" "), {"text": None}, {"label": 1}, text("乙")])
    found = check_data([path])
    assert found.files[0].rows == 2
    assert [finding.kind for finding in found.problems] == ["unreadable"]
    assert found.problems[0].count == 3
    assert "line 2" in found.problems[0].message
    with pytest.raises(InputError, match="2 rows, none with a text"):
        check_data([write(tmp_path / "b.jsonl", [text(""), text("\u200b")])])


def test_pairs_of_one_text_and_labels_of_another_kind(tmp_path: Path) -> None:
    first = write(tmp_path / "one.jsonl", [pair("甲", " 甲", 0), pair("甲", "乙", 1)])
    other = write(tmp_path / "two.jsonl", [pair("乙", "甲", "entailment")])
    found = check_data([first, other])
    assert found.files[0].equal.tolist() == [0]
    messages = [finding.message for finding in found.findings]
    assert any("1 pair of twice the same text, labelled 0: 1" in message for message in messages)
    assert any("labels of another kind" in message for message in messages)
    assert [(one.sets, one.same, one.same_differing) for one in found.sets] == [(("one", "two"), 1, 1)]


def test_sentences_of_pairs_in_files_of_texts(tmp_path: Path) -> None:
    pairs = write(tmp_path / "train.jsonl", [pair("甲", "乙"), pair("丙", "乙。")])
    texts = write(tmp_path / "test.jsonl", [text("乙"), text("丁")])
    found = check_data([pairs, texts])
    assert found.shared == []
    assert found.sentences[0].alike.distinct == 1
    assert found.sentences[0].alike.first == 2
    assert kinds(found) == ["sentences"]


def test_training_files_and_unlabelled_ones_may_share(tmp_path: Path) -> None:
    rows = [text("甲"), text("乙")]
    names = ("train_0", "train_1", "unlabeled", "dev")
    found = check_data([write(tmp_path / f"{name}.jsonl", rows) for name in names])
    shared = [
        ({name.split("/")[1] for name in finding.files}, finding.problem)
        for finding in found.findings
        if finding.kind == "shared"
    ]
    assert len(shared) == 6
    assert [files for files, problem in shared if problem] == [{"train_0", "dev"}, {"train_1", "dev"}]


@pytest.mark.parametrize(
    ("split", "role"),
    [
        ("train", "train"),
        ("train_few_all", "train"),
        ("dev.0", "evaluated"),
        ("test_public", "evaluated"),
        ("Validation", "evaluated"),
        ("unlabeled", "unlabelled"),
        ("training", "unknown"),
        ("devices", "unknown"),
        ("afqmc", "unknown"),
    ],
)
def test_roles(split: str, role: str) -> None:
    assert role_of(split) == role


def test_names(tmp_path: Path) -> None:
    equals = write(tmp_path / "a=b.jsonl", [text("甲")])
    files = data_files(
        [tmp_path / "faq/train.jsonl.xz", "own=x/dev.csv", "test=rest.tsv", "my.data.tsv", equals]
    )
    names = [(file.name, file.set, file.role) for file in files]
    assert names == [
        ("faq/train", "faq", "train"),
        ("own/dev", "own", "evaluated"),
        ("test", "", "evaluated"),
        ("my.data", "my.data", "unknown"),
        ("a=b", "a=b", "unknown"),
    ]
    for given_files, found in (
        ([], "no file"),
        (["a.tsv", "./a.tsv"], "twice"),
        (["x/a.tsv", "y/a.tsv"], "both a"),
    ):
        with pytest.raises(InputError, match=found):
            data_files(given_files)


def test_columns(tmp_path: Path) -> None:
    triplets = write(tmp_path / "a.jsonl", [{"anchor": "甲", "positive": "乙", "negative": "丙"}])
    keywords = write(tmp_path / "b.jsonl", [{"abst": "甲", "keywords": ["乙", "丙"], "label": 1}])
    bare = write(tmp_path / "c.jsonl", ["甲", "乙"])
    lists = write(tmp_path / "d.jsonl", [["甲", "乙"]])
    (tmp_path / "e.txt").write_text("甲\t乙\t1\n乙\t甲\t0\n", encoding="utf-8")
    found = check_data([triplets, bare, lists, tmp_path / "e.txt"])
    assert [report.table.width for report in found.files] == [3, 1, 2, 2]
    assert found.files[3].conflicts.same == 1
    assert check_data([keywords], columns=["abst", "keywords"]).files[0].table.width == 2
    with pytest.raises(InputError, match=r"b\.jsonl:1: found columns abst"):
        check_data([keywords])
    with pytest.raises(InputError, match="topic"):
        check_data([triplets], label_column="topic")


def test_parquet_counts_rows(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"text": ["甲", "乙", "甲"], "label": [0, 1, 1]})
    parquet.write_table(table, tmp_path / "a.parquet")
    found = check_data([tmp_path / "a.parquet"])
    conflict = next(finding for finding in found.findings if finding.kind == "conflict")
    assert [place.where.split(", ")[1] for place in conflict.examples[0]] == ["row 1", "row 3"]


def test_what_a_model_reads(tmp_path: Path, small_folders: Path) -> None:
    long = "怎么改密码" * 10  # 50 tokens; the small models read 48
    pairs = write(tmp_path / "a.jsonl", [pair("怎么改密码" * 5, "今天天气" * 5), pair("体育", "髙财髙")])
    texts = write(tmp_path / "b.jsonl", [text(long), text("天气"), text("怎么改密码" * 9)])
    found = check_data([texts, pairs], model=str(small_folders / "embed"))
    one_by_one = [list(report.tokens.lengths) for report in found.files if report.tokens]
    assert one_by_one == [[52, 4, 47], [27, 5]]
    assert found.files[0].tokens.cut.tolist() == [0]
    assert found.files[1].tokens.missing == {"髙": 2}
    assert found.files[1].tokens.unknown_rate == 2 / 50
    cut = next(finding for finding in found.findings if finding.kind == "cut")
    assert "1 row (33.3%) longer than the 48 tokens" in cut.message
    assert [place.where for place in cut.examples[0]] == [f"{texts}:1"]
    found = check_data([pairs], model=str(small_folders / "pair"))
    assert list(found.files[0].tokens.lengths) == [48, 8], "a pair model reads both texts together"
    with pytest.raises(ModelNotFoundError):
        check_data([pairs], model="no-such-model")


def test_simplified_needs_opencc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jinyi import text as module

    path = write(tmp_path / "a.jsonl", [text("頭髮"), text("头发")])
    monkeypatch.setitem(__import__("sys").modules, "opencc", None)
    module._opencc.cache_clear()
    try:
        with pytest.raises(MissingExtraError, match="jinyi\\[zh\\]"):
            check_data([path], simplified=True)
    finally:
        module._opencc.cache_clear()


def test_command(tmp_path: Path, run: Any) -> None:
    train = write(
        tmp_path / "faq/train.jsonl", [pair("甲", "乙", 1), pair("丙", "丁", 0), pair("丙", "戊", 0)]
    )
    test = write(tmp_path / "faq/test.jsonl", [pair("乙", "甲！", 0), pair("己", "庚", 1)])
    code, out, error = run("data", "check", train, test)
    assert code == 0
    assert "problem: faq/train and faq/test: in both: 1 row, alike" in out
    assert f"{test}:1  乙 | 甲！  [0]" in out
    assert "1 problem, " in error
    assert run("data", "check", train, test, "--strict")[0] == 2
    assert run("data", "check", train, "--strict")[0] == 0
    code, out, _ = run("data", "check", train, test, "--json", "--examples", 0)
    body = json.loads(out)
    assert body == json.loads(json.dumps({**as_dict(check_data([train, test], examples=0)), "report": None}))
    assert body["problems"] == 1
    assert body["shared_rows"][0]["alike"] == {"distinct": 1, "first": 1, "second": 1, "other_label": 1}
    code, _, error = run("data", "check", tmp_path / "none.jsonl")
    assert code == 2
    assert "no such file" in error


def test_command_writes_a_report(tmp_path: Path, run: Any) -> None:
    one = write(tmp_path / "one/train.jsonl", [text("<script>甲", "a"), text("乙", "b")])
    two = write(tmp_path / "two/train.jsonl", [text("<script>甲", "b")])
    code, _, error = run("data", "check", one, two, "--output", tmp_path / "report")
    assert code == 0, error
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert "one/train" in page
    assert "<script>甲" not in page
    record = json.loads((tmp_path / "report/report.json").read_text(encoding="utf-8"))
    assert record["kind"] == "data"
    assert any("1 with other labels" in note for note in record["notes"])


def test_two_columns_without_names_are_told_to_be_a_pair(tmp_path: Path) -> None:
    path = tmp_path / "news.tsv"
    path.write_text("今天赢球\t体育\n股票大涨\t财经\n", encoding="utf-8")
    found = check_data([path])
    assert kinds(found) == ["columns"] and not found.problems
    assert "--columns 1 --label-column 2" in sentence(found.findings[0])
    told = check_data([path], columns=["1"], label_column="2")
    assert "columns" not in kinds(told) and set(told.files[0].labels) == {"体育", "财经"}
    assert "columns" not in kinds(check_data([path], columns=["1", "2"]))
    path.write_text("texta\ttextb\n今天赢球\t体育\n", encoding="utf-8")
    assert "columns" not in kinds(check_data([path]))
