"""Reading of topic sets: folders of any layout, labels under any name, folds, and what cannot be scored."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from jinyi.errors import InputError
from jinyi.evals.topic_data import read_topic_data, shared_texts

LABELS = [
    {"index": 0, "code": "100", "name": "news_story", "word": "故事"},
    {"index": 1, "code": "103", "name": "news_sports", "word": "体育"},
    {"index": 2, "code": "104", "name": "news_finance", "word": "财经"},
]


def write_rows(path: Path, rows: Iterable[tuple[Any, ...]], text: str = "text") -> Path:
    """Write (text, label) rows, or rows of a text alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({text: row[0], **({"label": row[1]} if len(row) > 1 else {})}, ensure_ascii=False)
        for row in rows
    ]
    body = ("\n".join(lines) + "\n").encode()
    path.write_bytes(lzma.compress(body) if path.suffix == ".xz" else body)
    return path


def fewclue(folder: Path, *, common: bool = True, code: Any = int) -> Path:
    """A folder as FewCLUE has it, with two folds of a set known by its name."""
    labels = [code("103"), code("104")]
    for fold in (0, 1):
        write_rows(
            folder / f"train_{fold}.json", [(f"练习{fold}{i}", labels[i % 2]) for i in range(4)], "sentence"
        )
        write_rows(
            folder / f"dev_{fold}.json", [(f"看{fold}{i}", labels[i % 2]) for i in range(4)], "sentence"
        )
    write_rows(folder / "train_few_all.json.xz", [("练习00", labels[0]), ("练习11", labels[1])], "sentence")
    if common:
        write_rows(folder / "dev_few_all.json", [(f"全{i}", labels[i % 2]) for i in range(6)], "sentence")
    write_rows(folder / "test.json", [("考1",), ("考2",)], "sentence")
    return folder


def test_a_folder_with_its_own_labels(tmp_path: Path) -> None:
    folder = tmp_path / "news"
    write_rows(folder / "train.jsonl.xz", [("甲", 0), ("乙", 1)])
    write_rows(folder / "dev.jsonl", [("丙", 2), ("丁", 0)])
    (folder / "labels.json").write_text(json.dumps(LABELS[::-1], ensure_ascii=False), encoding="utf-8")
    data = read_topic_data(folder)
    assert (data.name, data.split) == ("news", "dev")
    assert data.labels.codes == ("100", "103", "104")
    assert data.labels.words == data.labels.titles == ("故事", "体育", "财经")
    (fold,) = data.folds
    assert fold.name == "train" and fold.train is not None
    assert fold.train.targets.tolist() == [0, 1] and fold.scored.targets.tolist() == [2, 0]
    assert fold.scored.texts == ["丙", "丁"] and fold.scored.lines == [1, 2]
    assert len(fold.scored.sha256) == 64


@pytest.mark.parametrize("form", ["index", "code", "name", "word"])
def test_every_way_of_writing_a_label(tmp_path: Path, form: str) -> None:
    file = write_rows(tmp_path / "dev.jsonl", [(f"文{i}", entry[form]) for i, entry in enumerate(LABELS)])
    (tmp_path / "labels.json").write_text(
        "\n".join(json.dumps(entry, ensure_ascii=False) for entry in LABELS), encoding="utf-8"
    )
    assert read_topic_data(file).folds[0].scored.targets.tolist() == [0, 1, 2]


def test_codes_that_are_other_labels_places(tmp_path: Path) -> None:
    entries = [
        {"label": code, "label_desc": name} for code, name in (("2", "甲类"), ("1", "乙类"), ("0", "丙类"))
    ]
    table = tmp_path / "names.json"
    table.write_text("\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries), encoding="utf-8")
    data = read_topic_data(write_rows(tmp_path / "x.jsonl", [("一", "2"), ("二", "0")]), labels=table)
    assert data.labels.titles == ("甲类", "乙类", "丙类")
    assert data.folds[0].scored.targets.tolist() == [0, 2]
    assert data.labels.words == ()


@pytest.mark.parametrize("code", [int, str])
def test_fewclue_folds(tmp_path: Path, code: Any) -> None:
    data = read_topic_data(fewclue(tmp_path / "tnews", code=code))
    assert data.split == "dev_few_all"
    assert [fold.name for fold in data.folds] == ["0", "1", "few_all"]
    assert len({id(fold.scored) for fold in data.folds}) == 1
    assert [data.labels.words[target] for target in data.folds[0].scored.targets[:2]] == ["体育", "财经"]
    assert data.labels.prompts[0] == "下面是一则关于{}的新闻："
    assert [fold.name for fold in data.choose(None)] == ["0", "1"]
    assert [fold.name for fold in data.choose(["few_all"])] == ["few_all"]
    with pytest.raises(InputError, match="fold 7.*0, 1, few_all"):
        data.choose(["7"])


def test_each_fold_with_its_own_dev_file(tmp_path: Path) -> None:
    data = read_topic_data(fewclue(tmp_path / "tnews"), split="dev")
    assert [fold.scored.path.name for fold in data.choose(None)] == ["dev_0.json", "dev_1.json"]
    bare = read_topic_data(fewclue(tmp_path / "bare-tnews", common=False))
    assert bare.split == "dev" and [fold.scored.path.name for fold in bare.folds] == [
        "dev_0.json",
        "dev_1.json",
    ]


def test_known_sets_by_name(tmp_path: Path) -> None:
    rows = [("一", "材料科学与工程"), ("二", "数学")]
    csldcp = read_topic_data(write_rows(tmp_path / "a.jsonl", rows, "content"), name="my-CSLDCP")
    assert csldcp.labels.known == "csldcp" and len(csldcp.labels) == 67
    assert [csldcp.labels.words[target] for target in csldcp.folds[0].scored.targets] == ["材料", "数学"]
    with pytest.raises(InputError, match=r"a\.jsonl:1: found label '材料科学与工程'"):
        read_topic_data(tmp_path / "a.jsonl", name="iflytek")


def test_labels_from_the_rows(tmp_path: Path) -> None:
    named = read_topic_data(write_rows(tmp_path / "named.jsonl", [("一", "财经"), ("二", "体育")]))
    assert named.labels.codes == named.labels.words == ("体育", "财经") and named.folds[0].train is None
    train = write_rows(tmp_path / "numbers-train.jsonl", [("一", 10), ("二", 2)])
    scored = write_rows(tmp_path / "numbers.jsonl", [("三", 2), ("四", 9)])
    numbers = read_topic_data(scored, train=train)
    assert numbers.labels.codes == ("2", "9", "10") and numbers.labels.words == ()
    signed = read_topic_data(write_rows(tmp_path / "signed.jsonl", [("一", -1), ("二", 1), ("三", 0)]))
    assert signed.labels.codes == ("-1", "0", "1") and signed.folds[0].scored.targets.tolist() == [0, 2, 1]
    assert numbers.folds[0].train is not None and numbers.folds[0].train.targets.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("一", 0), ("二",)], r"x\.jsonl:2: found a row without a label"),
        ([("一", "-"), ("二", "-")], r"x\.jsonl:1: found label '-', which marks none"),
        ([("一", 1), ("二", 1)], "2 labels that are all equal"),
    ],
)
def test_nothing_is_scored_without_labels(tmp_path: Path, rows: list[tuple[Any, ...]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_topic_data(write_rows(tmp_path / "x.jsonl", rows))


def test_a_split_without_labels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"test\.json:1: found a row without a label"):
        read_topic_data(fewclue(tmp_path / "tnews"), split="test")


def test_no_file_to_score(tmp_path: Path) -> None:
    write_rows(tmp_path / "set" / "train.jsonl", [("一", 0), ("二", 1)])
    with pytest.raises(InputError, match=r"train\.jsonl.*test_public or dev_few_all or dev"):
        read_topic_data(tmp_path / "set")
    with pytest.raises(InputError, match="to score: holdout"):
        read_topic_data(tmp_path / "set", split="holdout")


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1, 2]", "2 entries"), ('[{"code": "1"}]', "1 entries"), ('{"code": "1"', "damaged JSON")],
)
def test_damaged_label_files(tmp_path: Path, text: str, message: str) -> None:
    file = write_rows(tmp_path / "dev.jsonl", [("一", 0), ("二", 1)])
    (tmp_path / "labels.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_topic_data(file)


def test_a_label_file_that_is_not_there(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "dev.jsonl", [("一", 0), ("二", 1)])
    with pytest.raises(InputError, match="No such file"):
        read_topic_data(file, labels=tmp_path / "names.json")


def test_texts_in_training_and_scored_rows(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "t.jsonl", [("一", 0), ("二", 1)])
    data = read_topic_data(write_rows(tmp_path / "s.jsonl", [("二", 0), ("三", 1), ("二", 1)]), train=train)
    assert shared_texts(data.folds[0]) == 2
    assert shared_texts(read_topic_data(tmp_path / "s.jsonl").folds[0]) == 0


@pytest.mark.parametrize(
    ("indices", "fault"),
    [((0, None, 2), "no whole number as index"), ((0, "b", 2), "no whole number"), ((2, "1", 0), "")],
)
def test_indices_of_labels(tmp_path: Path, indices: Sequence[Any], fault: str) -> None:
    entries = [{"code": code, "index": index} for code, index in zip("abc", indices, strict=True)]
    entries = [{k: v for k, v in entry.items() if v is not None} for entry in entries]
    table = tmp_path / "labels.json"
    table.write_text("\ufeff" + json.dumps(entries), encoding="utf-8")
    file = write_rows(tmp_path / "dev.jsonl", [("一", "a"), ("二", "b")])
    if not fault:
        assert read_topic_data(file).labels.codes == ("c", "b", "a")
        return
    with pytest.raises(InputError, match=fault):
        read_topic_data(file)


def test_labels_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(LABELS, ensure_ascii=False), encoding="gb18030")
    file = write_rows(tmp_path / "dev.jsonl", [("一", "100"), ("二", "102")])
    with pytest.raises(InputError, match="bytes that are no utf-8"):
        read_topic_data(file)


def test_options_without_effect_are_refused(tmp_path: Path) -> None:
    folder = fewclue(tmp_path / "tnews")
    with pytest.raises(InputError, match="split test for a file"):
        read_topic_data(folder / "dev_0.json", split="test")
    with pytest.raises(InputError, match="training rows .* for a folder"):
        read_topic_data(folder, train=folder / "train_0.json")
