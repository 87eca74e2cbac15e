"""CLUE's tasks as data and their files as records."""

from __future__ import annotations

import lzma
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clue_data import lines, rows, write_task, zip_folder
from jinyi.clue.forms import mark_spans
from jinyi.clue.places import find_place
from jinyi.clue.reading import read_split, splits_there
from jinyi.clue.tasks import FOLDS, check_version, task_by_name, tasks, tasks_by_name
from jinyi.errors import InputError

ALL = tuple(tasks().values())


# Tasks


def test_names_in_a_submission() -> None:
    clue = {task.name: task for task in ALL if task.benchmark == "clue"}
    assert {name: task.member("1.1") for name, task in clue.items()} == {
        "afqmc": "afqmc_predict.json",
        "tnews": "tnews11_predict.json",
        "iflytek": "iflytek_predict.json",
        "cmnli": "cmnli_predict.json",
        "ocnli": "ocnli_50k_predict.json",
        "wsc": "cluewsc11_predict.json",
        "csl": "csl_predict.json",
    }
    changed = {name for name, task in clue.items() if task.member("1.0") != task.member("1.1")}
    assert {clue[name].member("1.0") for name in changed} == {
        "tnews10_predict.json",
        "cluewsc10_predict.json",
    }
    few = [task.member(fold="3") for task in ALL if task.benchmark == "fewclue"]
    assert sorted(few) == sorted(
        f"{name}_predict_3.json"
        for name in [
            "eprstmt",
            "csldcp",
            "tnewsf",
            "iflytekf",
            "ocnlif",
            "bustm",
            "chidf",
            "cslf",
            "cluewscf",
        ]
    )
    assert task_by_name("qbqtc").member() == "qbqtc_predict.json"
    members = [task.member(version) for task in ALL for version in ("1.0", "1.1")]
    assert len(set(members)) == len(ALL) + 2


def test_labels() -> None:
    assert {task.name: len(task.labels) for task in ALL if task.benchmark == "clue"} == {
        "afqmc": 2,
        "tnews": 15,
        "iflytek": 119,
        "cmnli": 3,
        "ocnli": 3,
        "wsc": 2,
        "csl": 2,
    }
    assert task_by_name("iflytek").labels == tuple(map(str, range(119)))
    assert set(task_by_name("tnews").labels) == {str(n) for n in range(100, 117)} - {"105", "111"}
    assert len(task_by_name("csldcp").labels) == 67


def test_task_names() -> None:
    assert task_by_name("CLUEWSC2020") is task_by_name("wsc")
    assert [task.name for task in tasks_by_name("csl, afqmc,csl,")] == ["csl", "afqmc"]
    assert len(tasks_by_name("clue")) == 7
    assert "chidf" not in [task.name for task in tasks_by_name("fewclue")]
    with pytest.raises(InputError, match="Did you mean afqmc"):
        task_by_name("afqcm")
    with pytest.raises(InputError, match="Did you mean iflytek"):
        tasks_by_name("tnews,iflytec")
    with pytest.raises(InputError, match="Reading comprehension"):
        task_by_name("c3")
    with pytest.raises(InputError, match="no task"):
        tasks_by_name(" , ")
    with pytest.raises(InputError, match="split 'valid'"):
        task_by_name("afqmc").files("valid")
    with pytest.raises(InputError, match="fold '5'"):
        task_by_name("bustm").member(fold="5")
    with pytest.raises(InputError, match="fold '0'"):
        task_by_name("afqmc").member(fold="0")
    with pytest.raises(InputError, match=r"1\.0 or 1\.1"):
        check_version("1.2")
    assert FOLDS == ("0", "1", "2", "3", "4", "all")


# Places


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
@pytest.mark.parametrize(
    "layout", ["itself", "folder", "official", "nested", "zip", "nested zip", "zip itself"]
)
def test_layouts(task, layout: str, tmp_path: Path) -> None:
    short, official = task.folders[-1 if task.benchmark == "clue" else 0], task.folders[0]
    source = write_task(tmp_path / "source" / official, task, splits=("test", task.splits[0]))
    data = tmp_path / "data"
    data.mkdir()
    if layout == "itself":
        data = source
    elif layout == "folder":
        write_task(data / short, task, splits=("test", task.splits[0]))
    elif layout == "official":
        data = source.parent
    elif layout == "nested":
        write_task(data / "CLUE" / official / short, task, splits=("test", task.splits[0]))
    elif layout == "zip":
        zip_folder(source, data / f"{official}.zip")
    elif layout == "nested zip":
        zip_folder(source, data / "zips" / f"{official}.zip", f"{official}/")
    else:
        data = zip_folder(source, data / f"{official}.zip", "some/folder/")
    test = read_split(task, data, "test")
    assert [record.id for record in test.records] == [entry["id"] for entry in rows(task, "test")]
    assert set(splits_there(task, data)) == {"test", task.splits[0]}
    assert ("!" in test.source) == ("zip" in layout)


def test_repository_zip(tmp_path: Path) -> None:
    """FewCLUE's zip from GitHub: many tasks, and other folders of the same names."""
    with zipfile.ZipFile(tmp_path / "FewCLUE-main.zip", "w") as archive:
        for name in ("tnewsf", "bustm"):
            task = task_by_name(name)
            folder = f"FewCLUE-main/datasets/{task.folders[0]}"
            for split in task.splits:
                archive.writestr(f"{folder}/{split}.json", lines(rows(task, split)))
            archive.writestr(f"FewCLUE-main/baselines/{task.folders[0]}/test.json", b"{}")
            archive.writestr(f"__MACOSX/{folder}/._test.json", b"\0")
    task = task_by_name("tnewsf")
    assert splits_there(task, tmp_path) == task.splits
    split = read_split(task, tmp_path, "train_3")
    assert split.source.endswith("FewCLUE-main.zip!FewCLUE-main/datasets/tnews/train_3.json")
    assert splits_there(task_by_name("csldcp"), tmp_path) == ()


def test_folder_before_zip_and_fuller_before_emptier(tmp_path: Path) -> None:
    task = task_by_name("afqmc")
    source = write_task(tmp_path / "source", task)
    zip_folder(source, tmp_path / "data" / "afqmc_public.zip")
    write_task(tmp_path / "data" / "afqmc", task, splits=("test",))
    assert find_place(task, tmp_path / "data").path.name == "afqmc_public.zip"
    write_task(tmp_path / "data" / "afqmc_public", task)
    assert find_place(task, tmp_path / "data").path.name == "afqmc_public"


def test_packed_file(tmp_path: Path) -> None:
    task = task_by_name("cslf")
    (tmp_path / "csl").mkdir()
    (tmp_path / "csl" / "test.json.xz").write_bytes(lzma.compress(lines(rows(task, "test"))))
    assert len(read_split(task, tmp_path, "test").records) == 12


def test_place_errors(tmp_path: Path) -> None:
    task = task_by_name("afqmc")
    with pytest.raises(InputError, match="no such folder"):
        find_place(task, tmp_path / "nothing")
    with pytest.raises(InputError, match="afqmc_public or afqmc.*jinyi clue download --tasks afqmc"):
        find_place(task, tmp_path)
    (tmp_path / "afqmc_public.zip").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(InputError, match=r"afqmc_public\.zip: found a file that cannot be read"):
        find_place(task, tmp_path)
    with zipfile.ZipFile(tmp_path / "afqmc_public.zip", "w") as archive:
        archive.writestr("valid.json", "{}")
        archive.writestr("test.json", lines(rows(task, "test")))
    with pytest.raises(InputError, match=r"train: found test\.json, valid\.json; expected train\.json"):
        read_split(task, tmp_path, "train")


def test_damaged_member(tmp_path: Path) -> None:
    task = task_by_name("afqmc")
    path = zip_folder(write_task(tmp_path / "source", task), tmp_path / "afqmc_public.zip")
    raw = bytearray(path.read_bytes())
    place = raw.index(b"sentence1", raw.index(b"train.json"))
    raw[place] ^= 1
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"afqmc_public\.zip!train\.json: found a file that cannot be read"):
        read_split(task, tmp_path, "train")


# Rows


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
def test_records(task, tmp_path: Path) -> None:
    write_task(tmp_path / task.folders[0], task)
    for name in task.splits:
        split = read_split(task, tmp_path, name)
        entries = rows(task, name)
        assert len(split.records) == len(entries)
        assert split.labelled == (name not in ("test", "unlabeled"))
        for record, entry in zip(split.records, entries, strict=True):
            assert record.label == (str(entry[task.answer]) if split.labelled else None)
            assert record.id == entry.get("id") and type(record.id) is type(entry.get("id"))
            assert (record.b is not None) == task.paired
            if task.form == "pair":
                assert (record.a, record.b) == tuple(entry[field] for field in task.fields)
            elif task.form == "csl":
                assert (record.a, record.b) == (" ".join(entry["keyword"]), entry["abst"])
            elif task.form == "wsc":
                noun = entry["target"]["span1_text"]
                assert record.a.startswith(f"_{noun}_不见了") and record.a.endswith("[它]去哪了")
            assert record.options == tuple(entry.get("candidates", ()))


def put(folder: Path, name: str, entries: list[dict] | bytes, split: str = "train") -> Path:
    task = task_by_name(name)
    (folder / task.folders[0]).mkdir(exist_ok=True)
    raw = entries if isinstance(entries, bytes) else lines(entries)
    (folder / task.folders[0] / task.files(split)[-1]).write_bytes(raw)
    return folder


def test_open_labels_are_dropped_and_counted(tmp_path: Path) -> None:
    task = task_by_name("cmnli")
    entries = rows(task, "train", 6)
    entries[1]["label"] = entries[4]["label"] = "-"
    split = read_split(task, put(tmp_path, "cmnli", entries), "train")
    assert (len(split.records), split.dropped) == (4, 2)
    assert [record.line for record in split.records] == [1, 3, 4, 6]
    assert any('2 rows with the label "-"' in note for note in split.notes)
    for entry in entries:
        entry["label"] = "-"
    with pytest.raises(InputError, match="6 rows with the label '-' only"):
        read_split(task, put(tmp_path, "cmnli", entries), "train")
    entries = rows(task_by_name("afqmc"), "train", 3)
    entries[1]["label"] = "-"
    with pytest.raises(InputError, match=r"train\.json:2: found label '-'"):
        read_split(task_by_name("afqmc"), put(tmp_path, "afqmc", entries), "train")


def test_numbers_for_labels(tmp_path: Path) -> None:
    """FewCLUE writes 102 where CLUE writes "102"."""
    entries = rows(task_by_name("tnewsf"), "train_0", 3)
    for entry in entries:
        entry["label"] = int(entry["label"])
    split = read_split(task_by_name("tnewsf"), put(tmp_path, "tnewsf", entries, "train_0"), "train_0")
    assert [record.label for record in split.records] == ["100", "101", "102"]


@pytest.mark.parametrize(
    ("label", "found"), [("2", "label '2'"), (None, "label None"), (1.0, "label 1.0"), ("", "label ''")]
)
def test_unknown_label(label: object, found: str, tmp_path: Path) -> None:
    entries = rows(task_by_name("afqmc"), "dev", 5)
    entries[3]["label"] = label
    with pytest.raises(InputError, match=rf"dev\.json:4: found {found}"):
        read_split(task_by_name("afqmc"), put(tmp_path, "afqmc", entries, "dev"), "dev")


def test_split_without_labels(tmp_path: Path) -> None:
    entries = rows(task_by_name("afqmc"), "test", 5)
    with pytest.raises(InputError, match=r"dev\.json:1: found no label.*No score is computed"):
        read_split(task_by_name("afqmc"), put(tmp_path, "afqmc", entries, "dev"), "dev")


def test_labels_of_the_test_file_are_not_read(tmp_path: Path) -> None:
    entries = [{**entry, "label": "0"} for entry in rows(task_by_name("afqmc"), "test", 5)]
    split = read_split(task_by_name("afqmc"), put(tmp_path, "afqmc", entries, "test"), "test")
    assert {record.label for record in split.records} == {None} and not split.labelled


def test_ids_of_the_test_file(tmp_path: Path) -> None:
    task = task_by_name("afqmc")
    entries = rows(task, "test", 4)
    bare = [{name: entry[name] for name in task.fields} for entry in entries]
    split = read_split(task, put(tmp_path, "afqmc", bare, "test"), "test")
    assert split.numbered and [record.id for record in split.records] == [0, 1, 2, 3]
    assert "numbered from 0" in split.notes[0]
    for value, message in [
        (0, r"test\.json:3: found id 0 a second time, after line 1"),
        ("2", r"test\.json:3: found id '2' where line 1 has 0"),
        (None, r"test\.json:3: found id None"),
        (True, r"test\.json:3: found id True"),
        (2.0, r"test\.json:3: found id 2\.0"),
    ]:
        changed = [dict(entry) for entry in entries]
        changed[2]["id"] = value
        with pytest.raises(InputError, match=message):
            read_split(task, put(tmp_path, "afqmc", changed, "test"), "test")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "a file without a row"),
        (b"\n\n", "a file without a row"),
        (b'{"sentence1": "a"', r"train\.json:1: found .*Expecting"),
        (b"[1, 2]", r"train\.json:1: found .*no object"),
        ('{"sentence1": "好"}'.encode("gb18030"), r"train\.json:1: found .*no UTF-8"),
        ('{"sentence1": "好", "label": "0"}'.encode(), r"train\.json:1: found fields sentence1, label"),
        ('{"sentence1": " ", "sentence2": "好", "label": "0"}'.encode(), r"train\.json:1, sentence1"),
        ('{"sentence1": 3, "sentence2": "好", "label": "0"}'.encode(), r"train\.json:1, sentence1"),
    ],
)
def test_bad_lines(raw: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_split(task_by_name("afqmc"), put(tmp_path, "afqmc", raw), "train")


def test_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    """U+2028 and U+0085 stand in CLUE's texts; only a line feed ends a line."""
    task = task_by_name("tnews")
    row = '{"sentence": "上\u2028下\u0085左", "label": "100"}'
    raw = b"\xef\xbb\xbf" + f"{row}\r\n\n{row}".encode()
    split = read_split(task, put(tmp_path, "tnews", raw), "train")
    assert [(record.a, record.line) for record in split.records] == [
        ("上\u2028下\u0085左", 1),
        ("上\u2028下\u0085左", 3),
    ]


# WSC


def target(text: str, one: int, first: str, two: int, second: str) -> dict[str, object]:
    assert text[one : one + len(first)] == first and text[two : two + len(second)] == second
    return {"span1_text": first, "span1_index": one, "span2_text": second, "span2_index": two}


def test_mark_spans() -> None:
    text = "小明说他累了"
    assert mark_spans(text, target(text, 0, "小明", 3, "他"), "") == "_小明_说[他]累了"
    text = "他累了，小明说"
    assert mark_spans(text, target(text, 4, "小明", 0, "他"), "") == "[他]累了，_小明_说"
    text = "小明他"
    assert mark_spans(text, target(text, 0, "小明", 2, "他"), "") == "_小明_[他]"


@given(st.text("甲乙丙丁他它", min_size=4, max_size=12), st.data())
def test_marking_as_the_baselines_do(text: str, data: st.DataObject) -> None:
    """CLUE's baselines insert into a list of characters, the smaller index first, and shift the other by two."""
    ends = sorted(data.draw(st.sets(st.integers(0, len(text)), min_size=4, max_size=4)))
    spans = [(ends[0], ends[1]), (ends[2], ends[3])]
    data.draw(st.randoms(use_true_random=False)).shuffle(spans)
    (a, b), (c, d) = spans
    characters = list(text)
    order = [(a, b, "_", "_"), (c, d, "[", "]")]
    for shift, (start, end, before, after) in zip((0, 2), sorted(order), strict=True):
        characters.insert(start + shift, before)
        characters.insert(end + shift + 1, after)
    assert mark_spans(text, target(text, a, text[a:b], c, text[c:d]), "") == "".join(characters)


@pytest.mark.parametrize(
    "change",
    [
        {"span1_index": 1},
        {"span2_text": "她"},
        {"span1_text": ""},
        {"span2_index": "3"},
        {"span1_index": -6},
        {"span2_index": 1, "span2_text": "明"},
        {"span2_text": None},
    ],
)
def test_wrong_spans(change: dict[str, object], tmp_path: Path) -> None:
    entry = {"text": "小明说他累了", "target": target("小明说他累了", 0, "小明", 3, "他"), "label": "true"}
    good = put(tmp_path, "wsc", [entry])
    assert read_split(task_by_name("wsc"), good, "train").records[0].a == "_小明_说[他]累了"
    entry["target"] = {**entry["target"], **change}
    with pytest.raises(InputError, match=r"train\.json:1: found target"):
        read_split(task_by_name("wsc"), put(tmp_path, "wsc", [entry]), "train")


# Versions


def test_two_test_files(tmp_path: Path) -> None:
    task = task_by_name("wsc")
    folder = write_task(tmp_path / "cluewsc2020_public", task)
    alone = read_split(task, tmp_path, "test")
    assert any("taken for the test set of 1.1" in note for note in alone.notes)
    (folder / "test1.0.json").write_bytes(lines(rows(task, "test", 5, start=100)))
    new, old = (read_split(task, tmp_path, "test", version=version) for version in ("1.1", "1.0"))
    assert [record.id for record in old.records] == [100, 101, 102, 103, 104]
    assert (len(new.records), new.notes, old.notes) == (12, (), ())
    assert old.source.endswith("test1.0.json") and new.source.endswith("test.json")


def test_the_wrong_test_set_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = replace(task_by_name("wsc"), test_rows={"1.0": 12, "1.1": 30})
    write_task(tmp_path / "wsc", task)
    with pytest.raises(InputError, match=r"12 rows, as many as the test set of 1\.0 has"):
        read_split(task, tmp_path, "test", version="1.1")
    assert len(read_split(task, tmp_path, "test", version="1.0").records) == 12


def test_hash_tells_files_apart(tmp_path: Path) -> None:
    task = task_by_name("afqmc")
    first = read_split(task, put(tmp_path, "afqmc", rows(task, "train", 4)), "train")
    again = read_split(task, tmp_path, "train")
    other = read_split(task, put(tmp_path, "afqmc", rows(task, "train", 5)), "train")
    assert first.sha256 == again.sha256 != other.sha256
