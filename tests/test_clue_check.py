"""`jinyi clue check`: every damaged submission is caught, and says what is wrong."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clue_data import lines, rows, write_task
from clue_reader import BOARDS, read_member
from jinyi.clue.checking import check_submission
from jinyi.clue.tasks import FOLDS, task_by_name, tasks
from jinyi.errors import InputError

TASKS = [task for task in tasks().values() if task.benchmark == "clue"]
EVERY = [*tasks().values()]
Rows = list[dict[str, Any]]


def predictions(task) -> Rows:
    made = []
    for number, entry in enumerate(rows(task, "test")):
        label = task.labels[number % len(task.labels)]
        made.append({"id": entry["id"], task.answer: int(label) if task.answer == "answer" else label})
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with the test files of every task, by benchmark."""
    root = tmp_path_factory.mktemp("data")
    for task in EVERY:
        folder = write_task(root / task.benchmark / task.folders[0], task, splits=("test",))
        if task.versioned:
            (folder / "test1.0.json").write_bytes(lines(rows(task, "test", start=500)))
    return {task.benchmark: root / task.benchmark for task in EVERY}


def packed(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, raw in members.items():
            archive.writestr(name, raw)
    return out.getvalue()


def check(folder: Path, members: dict[str, bytes] | bytes, data: Path | None, **options: Any):
    path = folder / "submit.zip"
    path.write_bytes(members if isinstance(members, bytes) else packed(members))
    return check_submission(path, data=data, **options)


# Mutations of rows: (expected kind, change)


def same(change: Callable[[Rows], object]) -> Callable[[Rows], Rows]:
    def apply(entries: Rows) -> Rows:
        change(entries)
        return entries

    return apply


def other_type(value: object) -> object:
    return str(value) if isinstance(value, int) else int(str(value))


ROW_MUTATIONS: dict[str, tuple[str, Callable[[Rows], Rows]]] = {
    "first row missing": ("missing", lambda r: r[1:]),
    "middle row missing": ("missing", lambda r: r[:5] + r[6:]),
    "last row missing": ("missing", lambda r: r[:-1]),
    "half missing": ("missing", lambda r: r[::2]),
    "a row twice": ("doubled", lambda r: [*r[:3], r[2], *r[3:]]),
    "a row twice at the end": ("doubled", lambda r: [*r, r[0]]),
    "an id twice": ("doubled", same(lambda r: r[4].update(id=r[3]["id"]))),
    "all rows twice": ("doubled", lambda r: [*r, *r]),
    "two rows swapped": ("order", lambda r: [r[1], r[0], *r[2:]]),
    "reversed": ("order", lambda r: r[::-1]),
    "rotated": ("order", lambda r: [*r[1:], r[0]]),
    "one id of another type": ("id type", same(lambda r: r[3].update(id=other_type(r[3]["id"])))),
    "all ids of another type": ("id type", same(lambda r: [e.update(id=other_type(e["id"])) for e in r])),
    "id as a float": ("id type", same(lambda r: r[3].update(id=float(r[3]["id"])))),
    "id as a boolean": ("id type", same(lambda r: r[1].update(id=True))),
    "id null": ("id type", same(lambda r: r[1].update(id=None))),
    "id in a list": ("id type", same(lambda r: r[1].update(id=[1]))),
    "id gone": ("keys", same(lambda r: r[1].pop("id"))),
    "key renamed": ("keys", same(lambda r: r[1].update(idx=r[1].pop("id")))),
    "a further key": ("keys", same(lambda r: r[1].update(prob=0.5))),
    "an unknown id": ("unknown id", same(lambda r: r[3].update(id=type(r[3]["id"])(9999)))),
    "ids shifted by one": (
        "unknown id",
        same(lambda r: [e.update(id=type(e["id"])(int(e["id"]) + 1)) for e in r]),
    ),
    "no row": ("missing", lambda r: []),
}


def change_label(value: object) -> Callable[[Rows, str], Rows]:
    def apply(entries: Rows, key: str) -> Rows:
        entries[2][key] = value
        return entries

    return apply


LABEL_MUTATIONS: dict[str, tuple[str, Callable[[Rows, str], Rows]]] = {
    "null": ("label type", change_label(None)),
    "a list": ("label type", change_label(["0"])),
    "a float": ("label type", change_label(1.0)),
    "a boolean": ("label type", change_label(True)),
    "label gone": ("keys", lambda r, key: [r[2].pop(key), r][1]),
}


def check_file(folder: Path, task, raw: bytes, data: dict[str, Path]):
    path = folder / task.member()
    path.write_bytes(raw)
    return check_submission(path, data=data[task.benchmark])


def test_unchanged_predictions_are_accepted(data: dict[str, Path], tmp_path: Path) -> None:
    for task in EVERY:
        report = check_file(tmp_path, task, lines(predictions(task)), data)
        assert report.accepted and report.members == {task.member(): 12}


@pytest.mark.parametrize("name", ROW_MUTATIONS)
def test_mutated_rows(name: str, data: dict[str, Path], tmp_path: Path) -> None:
    kind, change = ROW_MUTATIONS[name]
    for task in EVERY:
        report = check_file(tmp_path, task, lines(change(predictions(task))), data)
        assert kind in {finding.kind for finding in report.findings}, task.name
        assert {finding.member for finding in report.findings} == {task.member()}


@pytest.mark.parametrize("name", LABEL_MUTATIONS)
def test_mutated_labels(name: str, data: dict[str, Path], tmp_path: Path) -> None:
    kind, change = LABEL_MUTATIONS[name]
    for task in EVERY:
        raw = lines(change(predictions(task), task.answer))
        report = check_file(tmp_path, task, raw, data)
        assert [(finding.kind, finding.lines) for finding in report.findings] == [(kind, (3,))], task.name


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_labels_outside_the_domain(task, data: dict[str, Path], tmp_path: Path) -> None:
    numeric = task.answer == "answer"
    strangers: list[object] = [7, -1] if numeric else ["", "119", "Entailment", "yes", " 0", "-", "True"]
    if task.name == "tnews":
        strangers += ["105", "111", "99", "117"]
    for value in strangers:
        raw = lines(change_label(value)(predictions(task), task.answer))
        report = check_file(tmp_path, task, raw, data)
        assert [(finding.kind, finding.lines) for finding in report.findings] == [("label", (3,))], value
    raw = lines(change_label("0" if numeric else 0)(predictions(task), task.answer))
    assert [finding.kind for finding in check_file(tmp_path, task, raw, data).findings] == ["label type"]


RAW_MUTATIONS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "byte order mark": ("byte order mark", lambda raw: b"\xef\xbb\xbf" + raw),
    "UTF-16": ("encoding", lambda raw: raw.decode().encode("utf-16")),
    "a byte that is no UTF-8": ("encoding", lambda raw: raw[:20] + b"\xff" + raw[20:]),
    "empty": ("missing", lambda raw: b""),
    "cut in a row": ("no JSON", lambda raw: raw[: raw.rindex(b":") - 3]),
    "one JSON list": (
        "no JSON",
        lambda raw: json.dumps([json.loads(x) for x in raw.split(b"\n") if x]).encode(),
    ),
    "a comma behind each row": ("no JSON", lambda raw: raw.replace(b"\n", b",\n")),
    "two rows on a line": ("no JSON", lambda raw: raw.replace(b"\n", b" ", 1)),
    "blank line": ("blank line", lambda raw: raw.replace(b"\n", b"\n\n", 1)),
    "blank line at the end": ("blank line", lambda raw: raw + b"\n"),
    "single quotes": ("no JSON", lambda raw: raw.replace(b'"', b"'")),
    "tsv": ("no JSON", lambda raw: b"index\tprediction\n" + raw),
    "a key twice": ("keys", lambda raw: raw.replace(b'{"id"', b'{"id": 3, "id"', 1)),
}


@pytest.mark.parametrize("name", RAW_MUTATIONS)
def test_mutated_bytes(name: str, data: dict[str, Path], tmp_path: Path) -> None:
    kind, change = RAW_MUTATIONS[name]
    for task in EVERY:
        report = check_file(tmp_path, task, change(lines(predictions(task))), data)
        assert kind in {finding.kind for finding in report.findings}, task.name


def whole(version: str = "1.1") -> dict[str, bytes]:
    return {task.member(version): lines(predictions(task)) for task in TASKS}


def renamed(old: str, new: str) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    return lambda members: {new if name == old else name: raw for name, raw in members.items()}


def twice(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, raw in [*members.items(), ("afqmc_predict.json", members["afqmc_predict.json"])]:
            with pytest.warns(UserWarning) if name in archive.namelist() else io.StringIO():
                archive.writestr(name, raw)
    return out.getvalue()


def locked(members: dict[str, bytes]) -> bytes:
    raw = bytearray(packed(members))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(mark) + place] |= 1
    return bytes(raw)


def damaged(members: dict[str, bytes]) -> bytes:
    raw = bytearray(packed(members))
    raw[raw.index(b'{"id"') + 8] ^= 1
    return bytes(raw)


def damaged_lzma(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("afqmc_predict.json", members["afqmc_predict.json"])
    raw = bytearray(out.getvalue())
    raw[70:90] = bytes(20)
    return bytes(raw)


ZIP_MUTATIONS: dict[str, tuple[str, Callable[[dict[str, bytes]], dict[str, bytes] | bytes]]] = {
    "a folder": ("not flat", lambda m: {f"submit/{name}": raw for name, raw in m.items()}),
    "one file in a folder": ("not flat", renamed("csl_predict.json", "csl/csl_predict.json")),
    "backslash": ("not flat", renamed("csl_predict.json", "csl\\csl_predict.json")),
    "a folder's own entry": ("not flat", lambda m: {**m, "submit/": b""}),
    "what macOS adds": ("not flat", lambda m: {**m, "__MACOSX/._csl_predict.json": b"\0"}),
    "a foreign file": ("name", lambda m: {**m, "readme.txt": b"hello"}),
    "hidden file": ("name", lambda m: {**m, ".DS_Store": b"\0"}),
    "old name of tnews": ("name", renamed("tnews11_predict.json", "tnews_predict.json")),
    "old name of wsc": ("name", renamed("cluewsc11_predict.json", "cluewsc2020_predict.json")),
    "short name of wsc": ("name", renamed("cluewsc11_predict.json", "wsc_predict.json")),
    "ocnli without 50k": ("name", renamed("ocnli_50k_predict.json", "ocnli_predict.json")),
    "PyTorch baseline": ("name", renamed("afqmc_predict.json", "test_prediction.json")),
    "upper case": ("name", renamed("afqmc_predict.json", "AFQMC_predict.json")),
    "jsonl": ("name", renamed("afqmc_predict.json", "afqmc_predict.jsonl")),
    "a fold": ("name", renamed("afqmc_predict.json", "afqmc_predict_0.json")),
    "two versions": ("version", renamed("tnews11_predict.json", "tnews10_predict.json")),
    "names exchanged": (
        "label",
        lambda m: {
            **m,
            "iflytek_predict.json": m["cmnli_predict.json"],
            "cmnli_predict.json": m["iflytek_predict.json"],
        },
    ),
    "another board's file": ("name", lambda m: {**m, "qbqtc_predict.json": m["afqmc_predict.json"]}),
    "not JSON of reading comprehension": (
        "no JSON",
        lambda m: {**m, "c311_predict.json": m["afqmc_predict.json"]},
    ),
    "a name twice": ("doubled", twice),
    "password": ("password", locked),
    "wrong checksum": ("zip", damaged),
    "damaged LZMA": ("zip", damaged_lzma),
    "cut off": ("zip", lambda m: packed(m)[:-200]),
    "no zip": ("zip", lambda m: b"{}"),
    "empty zip": ("missing", lambda m: {}),
}


@pytest.mark.parametrize("name", ZIP_MUTATIONS)
def test_mutated_zip(name: str, data: dict[str, Path], tmp_path: Path) -> None:
    kind, change = ZIP_MUTATIONS[name]
    assert check(tmp_path, whole(), data["clue"]).accepted
    report = check(tmp_path, change(whole()), data["clue"])
    assert kind in {finding.kind for finding in report.findings}, report.findings


def test_advice_names_the_right_file(data: dict[str, Path], tmp_path: Path) -> None:
    members = renamed("cluewsc11_predict.json", "cluewsc2020_predict.json")(whole())
    (finding,) = check(tmp_path, members, data["clue"]).findings
    assert "expected cluewsc10_predict.json or cluewsc11_predict.json" in finding.message
    (finding,) = check(tmp_path, members, data["clue"], version="1.1").findings
    assert finding.message.endswith("expected cluewsc11_predict.json")


# Versions and forms


def test_versions(data: dict[str, Path], tmp_path: Path) -> None:
    assert check(tmp_path, whole("1.1"), data["clue"]).version == "1.1"
    assert (
        check(tmp_path, {"afqmc_predict.json": whole()["afqmc_predict.json"]}, data["clue"]).version is None
    )
    report = check(tmp_path, whole("1.1"), data["clue"], version="1.0")
    assert {"cluewsc11_predict.json", "tnews11_predict.json"} == {
        finding.member
        for finding in report.findings
        if finding.kind == "version" and "a name of 1.1" in finding.message
    }


@pytest.mark.parametrize("name", ["tnews", "wsc"])
def test_rows_of_the_other_test_set(name: str, data: dict[str, Path], tmp_path: Path) -> None:
    task = task_by_name(name)
    new, old = predictions(task), predictions(task)
    for entry in old:
        entry["id"] += 500
    assert check(tmp_path, {task.member("1.0"): lines(old)}, data["clue"]).accepted
    for version, entries, other in (("1.1", old, "1.0"), ("1.0", new, "1.1")):
        report = check(tmp_path, {task.member(version): lines(entries)}, data["clue"])
        assert report.findings[0].kind == "version"
        assert f"ids of the test set of {other}" in report.findings[0].message


def test_number_of_rows_without_data(tmp_path: Path) -> None:
    task = task_by_name("wsc")
    entries = [{"id": number, "label": "true"} for number in range(2574)]
    report = check(tmp_path, {task.member("1.1"): lines(entries)}, None)
    assert report.accepted and any("without --data" in note for note in report.notes)
    for wrong in (entries[:-1], [*entries, {"id": 2574, "label": "true"}]):
        (finding,) = check(tmp_path, {task.member("1.1"): lines(wrong)}, None).findings
        assert finding.kind == "rows"
    kinds = {
        finding.kind for finding in check(tmp_path, {task.member("1.1"): lines(entries[:290])}, None).findings
    }
    assert kinds == {"version", "rows"}
    doubled = [*entries[:-1], entries[0]]
    assert [f.kind for f in check(tmp_path, {task.member("1.1"): lines(doubled)}, None).findings] == [
        "doubled"
    ]
    texts = [{"id": str(entry["id"]), "label": "true"} for entry in entries]
    assert [f.kind for f in check(tmp_path, {task.member("1.1"): lines(texts)}, None).findings] == ["id type"]


def test_folds_are_complete(data: dict[str, Path], tmp_path: Path) -> None:
    task = task_by_name("bustm")
    raw = lines(predictions(task))
    folds = {task.member(fold=fold): raw for fold in FOLDS}
    assert check(tmp_path, folds, data["fewclue"]).accepted
    folds.pop("bustm_predict_3.json")
    (finding,) = check(tmp_path, folds, data["fewclue"]).findings
    assert finding.kind == "missing" and finding.message == "folds of bustm: bustm_predict_3.json"
    report = check(
        tmp_path, {**folds, "bustm_predict_3.json": raw, "bustm_predict.json": raw}, data["fewclue"]
    )
    assert not report.accepted
    other = {
        **folds,
        "bustm_predict_3.json": raw,
        "cslf_predict.json": lines(predictions(task_by_name("cslf"))),
    }
    assert [f.kind for f in check(tmp_path, other, data["fewclue"]).findings] == ["name"]


def test_left_out_tasks_are_a_note(data: dict[str, Path], tmp_path: Path) -> None:
    report = check(tmp_path, {"afqmc_predict.json": whole()["afqmc_predict.json"]}, data["clue"])
    assert report.accepted
    assert "left out: tnews, iflytek, cmnli, ocnli, wsc, csl" in report.notes
    report = check(tmp_path, {**whole(), "cmrc2018_predict.json": b'{"TEST_0_QUERY_0": "a"}'}, data["clue"])
    assert report.accepted and any("reading comprehension" in note for note in report.notes)


def test_harmless_forms(data: dict[str, Path], tmp_path: Path) -> None:
    """What boards read: no line feed at the end, CRLF, label_desc of CLUE's TensorFlow baseline."""
    task = task_by_name("tnews")
    raw = lines([{**entry, "label_desc": ""} for entry in predictions(task)])
    for form in (raw, raw.rstrip(b"\n"), raw.replace(b"\n", b"\r\n")):
        assert check(tmp_path, {task.member(): form}, data["clue"]).accepted


def test_a_single_file(data: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "afqmc_predict.json"
    path.write_bytes(lines(predictions(task_by_name("afqmc"))))
    assert check_submission(path, data=data["clue"]).accepted
    path = path.rename(tmp_path / "afqmc.json")
    assert [f.kind for f in check_submission(path, data=data["clue"]).findings] == ["name"]
    with pytest.raises(InputError, match="a folder"):
        check_submission(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        check_submission(tmp_path / "gone.zip")


def test_data_without_the_task(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    report = check(tmp_path, {"afqmc_predict.json": whole()["afqmc_predict.json"]}, tmp_path / "data")
    assert [finding.kind for finding in report.findings] == ["rows"]
    assert any("no test file" in note for note in report.notes)


# Random damage, judged by the independent reader


def reader_takes(task, raw: bytes) -> bool:
    board = "1.1" if task.benchmark == "clue" else "few"
    ids = [entry["id"] for entry in rows(task, "test")]
    try:
        answers = read_member(raw, BOARDS[board][task.member()], ids)
    except (AssertionError, ValueError, RecursionError, KeyError, TypeError):
        return False
    return task.name != "csldcp" or set(answers) <= set(task.labels)


edits = st.lists(
    st.tuples(
        st.sampled_from(["delete", "insert", "replace", "copy", "move"]),
        st.integers(0, 400),
        st.integers(0, 400),
        st.sampled_from(
            [b"\n", b'"', b"0", b"1", b" ", b"}", b"{", b"true", b"\xff", b"\r", b",", b"id", b"-", b"."]
        )
        | st.binary(min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=3,
)


@pytest.mark.parametrize("name", ["afqmc", "ocnli", "wsc", "tnewsf", "csldcp", "chidf"])
@settings(max_examples=60)
@given(edits=edits)
def test_random_damage(
    name: str, edits, data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    task = task_by_name(name)
    raw = lines(predictions(task))
    for kind, place, length, piece in edits:
        place %= len(raw) + 1
        end = place + length % 40
        if kind == "delete":
            raw = raw[:place] + raw[end:]
        elif kind == "insert":
            raw = raw[:place] + piece + raw[place:]
        elif kind == "replace":
            raw = raw[:place] + piece + raw[place + len(piece) :]
        elif kind == "copy":
            raw = raw[:end] + raw[place:]
        else:
            raw = raw[:place] + raw[end:] + raw[place:end]
    path = tmp_path_factory.mktemp("damage") / task.member()
    path.write_bytes(raw)
    report = check_submission(path, data=data[task.benchmark])
    assert report.accepted == reader_takes(task, raw)


@given(
    order=st.permutations(range(12)), kept=st.integers(1, 12), value=st.sampled_from(["0", "1", "2", 0, None])
)
def test_random_rows(order, kept: int, value: object, data: dict[str, Path], tmp_path_factory) -> None:
    task = task_by_name("afqmc")
    entries = predictions(task)
    entries[order[0]]["label"] = value
    raw = lines([entries[place] for place in order][:kept])
    path = tmp_path_factory.mktemp("rows") / task.member()
    path.write_bytes(raw)
    assert check_submission(path, data=data["clue"]).accepted == reader_takes(task, raw)


# Command


def test_command(run, data: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "submit.zip"
    path.write_bytes(packed(whole()))
    code, out, _ = run("clue", "check", path, "--data", data["clue"])
    assert code == 0 and f"{path}: accepted for CLUE 1.1\n" in out and "tnews11_predict.json" in out
    members = whole()
    members["csl_predict.json"] = lines(predictions(task_by_name("csl"))[::-1])
    members["afqmc_predict.json"] = lines(predictions(task_by_name("afqmc"))[:-1])
    path.write_bytes(packed(members))
    code, out, err = run("clue", "check", path, "--data", data["clue"])
    assert (
        code == 2
        and "order" in out
        and "missing" in out
        and "faults: 2" in out
        and "(lines 1, 2, 3, 4, 5, ..., 12 in all)" in out
        and not err
    )
    code, out, _ = run("clue", "check", path, "--data", data["clue"], "--json")
    report = json.loads(out)
    assert code == 2 and not report["accepted"]
    assert {entry["kind"]: entry["lines"] for entry in report["findings"]} == {
        "missing": [],
        "order": list(range(1, 13)),
    }
    code, _, err = run("clue", "check", path, "--version", "2.0")
    assert code == 2 and "1.0 or 1.1" in err
