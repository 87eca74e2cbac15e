"""`evaluate_sts`: numbers equal to scipy on the model's own vectors, protocols, and files that cannot be scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from eval_pairs import random_pairs, write_pairs
from jinyi import SentenceEncoder
from jinyi.errors import FolderError, InputError
from jinyi.evals.labelled_pairs import read_labelled_pairs, read_plain_texts
from jinyi.evals.published_sts import published, quoted_rows
from jinyi.evals.report import from_record, tables
from jinyi.evals.report.record import as_record
from jinyi.evals.result import Evaluation, Row
from jinyi.evals.sts import _label_groups, evaluate_sts
from jinyi.evals.vectors import WhiteningTexts, pair_cosines
from jinyi.models.whitening import EIGENVALUE_FLOOR, Whitening
from small_models import write_small

QUIET = {"intervals": False, "baselines": False, "quoted": False, "progress": False, "threads": 1}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sts")
    a, b, labels = random_pairs(120)
    grades = [label * 3.4 + len(text) % 2 for label, text in zip(labels, a, strict=True)]
    return {
        "bq": write_pairs(root / "bq.jsonl", a, b, labels),
        "STS-B": write_pairs(root / "stsb.jsonl", b, a, grades, "score"),
    }


def by_hand(folder: Path, file: Path, pooling: str | None, k: int | None, fit: str) -> tuple[float, float]:
    """Spearman and Pearson x100 by scipy from float64 vectors, whitened by SVD as in Su et al. 2021."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    texts = [row["texta"] for row in rows] + [row["textb"] for row in rows]
    encoder = SentenceEncoder.load(folder, pooling=pooling)
    vectors = encoder.encode(texts, normalize=False).astype(np.float64)
    if fit != "none":
        given = (
            vectors if fit == "transductive" else encoder.encode(read_plain_texts(Path(fit)), normalize=False)
        )
        u, values, _ = np.linalg.svd(np.cov(np.asarray(given, np.float64).T))
        # Layer norm leaves one direction without variance: the floor keeps its rounding errors small.
        vectors = (vectors - given.mean(0)) @ (u / np.sqrt(np.maximum(values, EIGENVALUE_FLOOR)))[:, :k]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = (vectors[: len(rows)] * vectors[len(rows) :]).sum(1)
    gold = [row.get("label", row.get("score")) for row in rows]
    return 100 * spearmanr(cosines, gold).statistic, 100 * pearsonr(cosines, gold).statistic


def test_every_protocol_equals_scipy(small_folders: Path, files: dict[str, Path]) -> None:
    found = evaluate_sts(
        [str(small_folders / "embed")],
        files,
        pooling=["cls", "own", "mean", "first_last"],
        whitening=["none", "transductive", str(files["bq"])],
        k=[None, 8],
        **QUIET,
    )
    # Three poolings (mean is the model's own), each plain and whitened in two ways to two widths, on two sets.
    assert len(found.rows) == 3 * (1 + 2 * 2) * 2
    assert [row.settings["pooling"] for row in found.rows[:11:5]] == ["mean", "cls", "first_last"]
    assert len({(row.data, row.protocol) for row in found.rows}) == len(found.rows)
    for row in found.rows:
        expected = by_hand(
            small_folders / "embed",
            files[row.data],
            row.settings["pooling"],
            row.settings.get("k"),
            row.settings["whitening"],
        )
        # Whitening of float32 vectors moves near ties; without it only the last digits differ.
        allowed = 1e-3 if row.settings["whitening"] == "none" else 5e-2
        assert np.allclose((row.scores["Spearman"], row.scores["Pearson"]), expected, atol=allowed), (
            row.protocol
        )
        assert row.n == 120 and len(row.data_sha256 or "") == 64 and row.seed is None and not row.intervals
    names = {row.protocol for row in found.rows}
    assert {"mean", "[CLS]", "first and last layer", "[CLS], transductive whitening, k=8"} < names
    assert f"mean, whitening fitted on {files['bq'].parent.name}/bq.jsonl, k=32" in names
    assert any("without its labels" in note for note in found.notes)


def test_whole_table(small_folders: Path, files: dict[str, Path]) -> None:
    found = evaluate_sts(
        [str(small_folders / "embed"), str(small_folders / "megatron")], files, progress=False
    )
    ours = [row for row in found.rows if row.quoted is None]
    assert [row.system for row in ours] == 2 * ["embed", "megatron", "character TF-IDF", "character BM25"]
    for row in ours:
        for name, (low, high) in row.intervals.items():
            assert low < row.scores[name] < high
    quoted = [row for row in found.rows if row.quoted]
    assert {row.data for row in quoted} == {"bq", "STS-B"} and len(quoted) == 2 * len(published()["rows"])
    assert any("test splits" in note for note in found.notes)
    assert found.averages == {"mean": ("bq", "STS-B")}
    assert [table.title for table in tables(found)] == ["Spearman", "Pearson"]
    assert from_record(json.loads(json.dumps(as_record(found)))) == from_record(as_record(found))
    groups = [list(figure.values["groups"]) for figure in found.figures]
    assert groups[:2] == [["not similar", "similar"], ["0", "1", "3", "4"]] and len(groups) == 4
    assert sum(map(len, found.figures[1].values["groups"].values())) == 120


def test_five_sets_have_a_mean_of_their_own(files: dict[str, Path], small_folders: Path) -> None:
    five = dict.fromkeys(("ATEC", "bq", "LCQMC", "paws-x", "stsb"), files["bq"])
    model = [str(small_folders / "embed")]
    assert set(evaluate_sts(model, five, **QUIET).averages) == {"mean"}
    more = evaluate_sts(model, {"afqmc": files["bq"], **five}, **QUIET)
    assert more.averages["mean of the five"] == tuple(five)
    assert [len(evaluate_sts(model, {"one": files["bq"]}, **QUIET).rows), more.layout] == [1, "sets across"]


def test_quoted_rows() -> None:
    rows = quoted_rows(["STS-B", "own", "PAWSX"])
    erlangshen = {row.data: row.scores for row in rows if row.system == "Erlangshen-SimCSE-110M"}
    assert erlangshen == {"PAWSX": {"Spearman": 21.84}, "STS-B": {"Spearman": 70.50}}
    assert all(row.quoted and not row.data_sha256 for row in rows)
    with_sources = Evaluation(title="t", kind="sts", rows=rows)
    assert any("bojone/CoSENT" in note for table in tables(with_sources) for note in table.notes)
    assert quoted_rows(["own"]) == []


def test_whitening_on_the_scored_file_is_told(small_folders: Path, files: dict[str, Path]) -> None:
    found = evaluate_sts([str(small_folders / "embed")], files, whitening=[str(files["bq"])], k=[8], **QUIET)
    assert sum("transductive here" in note for note in found.notes) == 1
    with pytest.raises(InputError, match="no whitening that keeps them"):
        evaluate_sts([str(small_folders / "embed")], files, k=[8], **QUIET)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0, 1], ["not similar", "similar"]),
        ([0.2, 3.4], ["0", "3"]),
        (range(101), ["0 to 20", "20 to 40", "40 to 60", "60 to 80", "80 to 100"]),
        ([0.1, 0.3, 0.4], ["0.1 to 0.16", "0.16 to 0.22", "0.22 to 0.28", "0.28 to 0.34", "0.34 to 0.4"]),
    ],
)
def test_a_histogram_has_few_groups(labels: Any, names: list[str]) -> None:
    groups, _ = _label_groups(np.asarray(list(labels), np.float64))
    assert list(groups) == names and sum(rows.sum() for rows in groups.values()) == len(labels)


def test_what_is_cut_and_left_out_is_told(tmp_path: Path, small_folders: Path) -> None:
    long = write_pairs(tmp_path / "long.jsonl", ["今天" * 40, "今", "好"], ["天" * 60, "天", "好"], [1, 0, 1])
    found = evaluate_sts(
        [str(small_folders / "embed")], {"long": long}, whitening=["none", "transductive"], **QUIET
    )
    assert len(found.rows) == 1
    assert "long: 2 of 6 texts cut to the 48 tokens that embed reads." in found.notes
    assert any(
        note.startswith("long: transductive whitening to k=32 left out, 5 different") for note in found.notes
    )


def test_models_that_do_not_fit(tmp_path: Path, small_folders: Path, files: dict[str, Path]) -> None:
    bare = write_small(tmp_path / "bare", "encoder")
    with pytest.raises(FolderError, match="no word on pooling"):
        evaluate_sts([str(bare)], files, **QUIET)
    assert evaluate_sts([str(bare)], files, pooling=["cls"], **QUIET).rows[0].protocol == "[CLS]"
    embed = str(small_folders / "embed")
    with pytest.raises(InputError, match="embed twice"):
        evaluate_sts([embed, embed], files, **QUIET)
    for wrong, message in (
        ({"pooling": ["clss"]}, "one of own, cls"),
        ({"whitening": ["transductiv"]}, "none, transductive, or a file"),
        ({"whitening": ["transductive"], "k": [33]}, "k: found 33.*Vectors of embed have 32 numbers"),
        ({"whitening": []}, "no whitening"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate_sts([embed], files, **QUIET, **wrong)
    with pytest.raises(InputError, match="no data"):
        evaluate_sts([embed], {}, **QUIET)
    few = write_pairs(tmp_path / "few.jsonl", ["今天"], ["很好"], [1])
    with pytest.raises(InputError, match="2 different vectors"):
        evaluate_sts([embed], files, whitening=[str(few)], **QUIET)


@pytest.mark.parametrize(
    ("labels", "graded", "message"),
    [
        ([1, 0, ...], True, ":3: found a pair without a label"),
        ([1, None, 0], False, ":2: found a pair without a label"),
        ([1, "-", 0], False, ":2: found label '-', which stands for none"),
        ([1, "-1", 0], False, ":2: found label '-1', which stands for none"),
        ([1, float("nan"), 0], True, ":2: found label nan, which stands for none"),
        ([1, float("inf"), 0], True, ":2: found label inf.*finite number"),
        (["entailment", "neutral", "neutral"], True, ":1: found label 'entailment'.*finite number"),
        ([0, 1, 2], False, ":3: found label 2.*0 .not similar. or 1.*evaluate sts"),
        ([0, [1], 1], False, ":2: found label"),
        ([1, 1, 1], False, "3 labels that are all 1"),
        ([0.5, 0.5, 0.5], True, "3 labels that are all 0.5"),
    ],
)
def test_labels_that_cannot_be_scored(tmp_path: Path, labels: list, graded: bool, message: str) -> None:
    path = write_pairs(tmp_path / "x.jsonl", ["今", "天", "好"], ["气", "很", "吗"], labels)
    with pytest.raises(InputError, match=message) as caught:
        read_labelled_pairs("x", path, graded=graded)
    assert str(path) in str(caught.value)


def test_labels_of_every_kind_are_read(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "x.jsonl", ["今"] * 4, ["天"] * 4, ["1", 0, 1.0, True])
    read = read_labelled_pairs("x", path, graded=False)
    assert read.labels.tolist() == [1, 0, 1, 1] and read.place(2) == f"{path}:3"
    table = tmp_path / "x.tsv"
    table.write_text("sentence1\tsentence2\tscore\n今天\t天气\t2.5\n好\t吗\t0\n", encoding="utf-8")
    assert read_labelled_pairs("x", table, graded=True).labels.tolist() == [2.5, 0]
    plain = tmp_path / "plain.txt"
    plain.write_text("今天\n天气\n", encoding="utf-8")
    assert read_plain_texts(plain) == ["今天", "天气"]
    assert read_plain_texts(table) == ["今天", "天气", "好", "吗"]


def test_whitening_is_the_svd_reference_in_float64_and_folded(small_folders: Path, tmp_path: Path) -> None:
    texts = sorted({text for text in random_pairs(400)[0] if len(text) < 40})
    encoder = SentenceEncoder.load(small_folders / "embed")
    raw = encoder.encode(texts, normalize=False)
    x = raw.astype(np.float64)
    u, values, _ = np.linalg.svd(np.cov(x.T))
    expected = (x - x.mean(0)) @ (u / np.sqrt(values))[:, :12]
    fitted = Whitening(12).fit(raw).transform(raw)
    scale = np.abs(expected).max()
    signs = np.sign((fitted * expected).sum(0))
    assert np.abs(fitted * signs - expected).max() / scale < 1e-5
    # The same map as a Dense layer in the graph, and in a saved and opened folder.
    white = encoder.fit_whitening(texts, 12)
    white.save(tmp_path / "white")
    for each in (white, SentenceEncoder.load(tmp_path / "white")):
        assert np.abs(each.encode(texts, normalize=False) - fitted).max() / scale < 1e-5
        unit = fitted / np.linalg.norm(fitted, axis=1, keepdims=True)
        assert np.abs(each.encode(texts) - unit).max() < 1e-5


def test_equal_vectors_have_cosine_1() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 30)).astype(np.float32), rng.normal(size=(50, 30)).astype(np.float32)
    assert (pair_cosines(a, a) == 1).all() and (pair_cosines(a, b) == pair_cosines(b, a)).all()
    lengths = np.linalg.norm(a.astype(np.float64), axis=1) * np.linalg.norm(b.astype(np.float64), axis=1)
    expected = (a.astype(np.float64) * b.astype(np.float64)).sum(1) / lengths
    assert np.abs(pair_cosines(a, b * 3) - expected).max() < 1e-6
    assert np.abs(pair_cosines(a, b) - expected).max() < 1e-14


def test_whitening_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = [tmp_path / place / "set/texts.txt" for place in "ab"]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_text("今天\n好\n", encoding="utf-8")
    assert WhiteningTexts.read(paths[0], paths[:1]).name == "set/texts.txt"
    assert [WhiteningTexts.read(path, paths).name for path in paths] == list(map(str, paths))


def test_rows_have_what_a_report_needs(small_folders: Path, files: dict[str, Path]) -> None:
    row: Row = evaluate_sts([str(small_folders / "embed")], {"bq": files["bq"]}, **QUIET).rows[0]
    assert row.settings["precision"] == "float32" and row.settings["max_length"] == 48
    assert row.settings["model"] == str(small_folders / "embed") and row.settings["whitening"] == "none"
