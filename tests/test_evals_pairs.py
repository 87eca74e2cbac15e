"""`evaluate_pairs`: scikit-learn's numbers, thresholds from other rows only, asymmetry, answers worth reading."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

from eval_pairs import random_pairs, write_pairs
from jinyi import PairScorer
from jinyi.errors import FolderError, InputError
from jinyi.evals.calibration import calibrate_pairs
from jinyi.evals.labelled_pairs import read_labelled_pairs
from jinyi.evals.pair_scores import choose_thresholds, score_pairs, wrong_answers
from jinyi.evals.pairs import evaluate_pairs
from jinyi.evals.report import from_record, tables
from jinyi.evals.report.record import as_record
from jinyi.folder import update_record
from jinyi.metrics import expected_calibration_error

QUIET = {"intervals": False, "progress": False, "threads": 1}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pairs")
    return {
        name: write_pairs(root / f"{name}.jsonl", *random_pairs(rows, seed))
        for name, rows, seed in (("test", 150, 1), ("dev", 110, 2), ("other", 40, 3))
    }


def loaded(path: Path) -> tuple[list[tuple[str, str]], np.ndarray]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["texta"], row["textb"]) for row in rows], np.array([row["label"] for row in rows])


@pytest.mark.parametrize("folder", ["pair", "pair1"])
def test_scores_are_scikit_learns(small_folders: Path, files: dict[str, Path], folder: str) -> None:
    found = evaluate_pairs([str(small_folders / folder)], {"x": files["test"]}, baselines=False, **QUIET)
    (row,) = found.rows
    scorer = PairScorer.load(small_folders / folder)
    pairs, gold = loaded(files["test"])
    p = scorer.predict(pairs)
    expected = {
        "accuracy": accuracy_score(gold, p > 0.5),
        "F1": f1_score(gold, p > 0.5),
        "AUC": roc_auc_score(gold, p),
        "average precision": average_precision_score(gold, p),
        "majority": max(gold.mean(), 1 - gold.mean()),
    }
    for name, value in expected.items():
        # Both orders are computed in batches of their own here, which may move the last digit of a near tie.
        assert row.scores[name] == pytest.approx(100 * value, abs=0.05), name
    gaps = np.abs(
        scorer.predict(pairs, symmetric=False) - scorer.predict([(b, a) for a, b in pairs], symmetric=False)
    )
    assert row.scores["asymmetry, mean"] == pytest.approx(100 * gaps.mean(), abs=1e-3)
    assert row.scores["asymmetry, largest"] == pytest.approx(100 * gaps.max(), abs=1e-3)
    assert "accuracy, tuned" not in row.scores and found.layout == "one per row"
    assert row.protocol == "both orders averaged" and row.settings["symmetric"] is True


def test_vectors_alone_have_no_tables_of_probabilities(
    run, small_folders: Path, files: dict[str, Path]
) -> None:
    sets = [part for name in ("test", "dev") for part in ("--data", f"{name}={files[name]}")]
    code, out, err = run("evaluate", "pairs", *sets, "-m", small_folders / "embed", "--no-intervals")
    assert code == 0, err
    assert "AUC" in out and "cosine" in out and "majority" not in out


def test_a_calibrated_folder_is_scored_as_predict_does(
    small_folders: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    # A random model orders nothing, and what orders nothing cannot be calibrated: labels after its own scores.
    scorer, (dev, _) = PairScorer.load(small_folders / "pair"), loaded(files["dev"])
    scores = scorer.predict(dev)
    labels = (scores > np.median(scores)) ^ (np.arange(len(dev)) % 5 == 0)
    path = write_pairs(tmp_path / "dev.jsonl", *zip(*dev, strict=True), labels.astype(int).tolist())
    fitted = calibrate_pairs(scorer, {"dev": path}, method="platt")
    folder = update_record(small_folders / "pair", target=tmp_path / "pair", calibration=fitted.record)
    pairs, gold = loaded(files["test"])
    p = PairScorer.load(folder).predict(pairs)
    (row,) = evaluate_pairs([str(folder)], {"x": files["test"]}, baselines=False, **QUIET).rows
    assert (
        row.protocol == "both orders averaged, calibrated (platt)" and row.settings["calibration"] == "platt"
    )
    assert row.scores["accuracy"] == pytest.approx(100 * np.mean((p > 0.5) == gold), abs=0.7)
    assert row.scores["ECE"] == pytest.approx(100 * expected_calibration_error(gold, p), abs=0.5)
    # On the rows it was calibrated on, its calibration flatters it: that is told.
    same = evaluate_pairs([str(folder)], {"x": path}, baselines=False, **QUIET)
    assert any(note.startswith("x: pair was calibrated on these rows") for note in same.notes)


def test_tuned_scores_use_the_other_file(small_folders: Path, files: dict[str, Path]) -> None:
    models = [str(small_folders / "pair"), str(small_folders / "embed")]
    found = evaluate_pairs(
        models, {"x": files["test"], "y": files["other"]}, choose={"x": files["dev"]}, **QUIET
    )
    assert [row.system for row in found.rows] == 2 * ["pair", "embed", "character TF-IDF", "character BM25"]
    pairs, gold = loaded(files["test"])
    dev_pairs, dev_gold = loaded(files["dev"])
    scorer = PairScorer.load(small_folders / "pair")
    p, dev = scorer.predict(pairs), scorer.predict(dev_pairs)
    cuts = np.sort(np.append(dev + 1e-7, 0))
    best = max(np.mean((dev >= cut) == dev_gold) for cut in cuts)
    row = found.rows[0]
    cut = row.settings["thresholds"]["accuracy, tuned"]
    assert np.mean((dev >= cut) == dev_gold) == pytest.approx(best, abs=0.01)
    assert row.scores["accuracy, tuned"] == pytest.approx(100 * np.mean((p >= cut) == gold), abs=0.7)
    for each in found.rows:
        assert ("accuracy, tuned" in each.scores) == (each.data == "x")
        assert ("accuracy" in each.scores) == (each.system == "pair") == ("ECE" in each.scores)
    assert any("dev.jsonl (110 pairs) for x" in note for note in found.notes)
    titles = [table.title for table in tables(found)]
    assert "accuracy, tuned" in titles and "asymmetry, largest" in titles
    assert from_record(json.loads(json.dumps(as_record(found)))).rows == found.rows


@pytest.mark.parametrize("same", ["test", "copy", "turned"])
def test_thresholds_are_never_chosen_on_the_scored_rows(
    small_folders: Path, files: dict[str, Path], tmp_path: Path, same: str
) -> None:
    (tmp_path / "copy.jsonl").write_bytes(files["test"].read_bytes())
    pairs, gold = loaded(files["test"])
    write_pairs(tmp_path / "turned.jsonl", [b for _, b in pairs], [a for a, _ in pairs], gold.tolist())
    choose = {"x": files["test"] if same == "test" else tmp_path / f"{same}.jsonl"}
    with pytest.raises(InputError, match="the scored file of x"):
        evaluate_pairs([str(small_folders / "pair")], {"x": files["test"]}, choose=choose, **QUIET)


def test_scored_pairs_in_the_file_for_choosing_are_counted(
    small_folders: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    (pairs, gold), (known, _) = loaded(files["dev"]), loaded(files["test"])
    pairs[:4] = [(b, a) for a, b in known[10:14]]
    mixed = write_pairs(tmp_path / "mixed.jsonl", *zip(*pairs, strict=True), gold.tolist())
    model, told = [str(small_folders / "pair")], "x: 4 scored pairs stand in the file for choosing too"
    for choose, count in ((files["dev"], 0), (mixed, 1)):
        found = evaluate_pairs(model, {"x": files["test"]}, choose={"x": choose}, baselines=False, **QUIET)
        assert sum(told in note for note in found.notes) == count


def test_bad_choices(small_folders: Path, files: dict[str, Path]) -> None:
    model = [str(small_folders / "pair")]
    with pytest.raises(InputError, match="lcqmd, which is not scored.*Did you mean lcqmc"):
        evaluate_pairs(model, {"lcqmc": files["test"]}, choose={"lcqmd": files["dev"]}, **QUIET)
    with pytest.raises(InputError, match="no data"):
        evaluate_pairs(model, {}, **QUIET)
    with pytest.raises(FolderError, match="sequence classifier"):
        evaluate_pairs([str(small_folders / "topic")], {"x": files["test"]}, **QUIET)


def test_intervals_figures_and_examples(small_folders: Path, files: dict[str, Path]) -> None:
    found = evaluate_pairs(
        [str(small_folders / "pair"), str(small_folders / "pair1")],
        {"x": files["test"]},
        examples=7,
        progress=False,
    )
    for row in found.rows:
        assert set(row.intervals) == {"accuracy", "F1", "AUC", "average precision"} & set(row.scores)
        assert all(low <= row.scores[name] <= high for name, (low, high) in row.intervals.items())
    assert [figure.kind for figure in found.figures] == ["histogram", "histogram", "reliability"]
    assert list(found.figures[2].values["curves"]) == ["pair", "pair1"]
    assert len(found.examples) == 7 and all(example.expected != example.found for example in found.examples)
    assert any("first pair model" in note for note in found.notes)


def test_examples_are_the_surest_and_the_nearest(files: dict[str, Path]) -> None:
    data = read_labelled_pairs("x", files["test"], graded=False)
    p = np.random.default_rng(0).random(len(data)).astype(np.float32)
    wrong = [row for row in range(len(data)) if (p[row] > 0.5) != (data.labels[row] == 1)]
    found = wrong_answers(data, p, 0.5, 6)
    rows = [data.lines.index(int(example.place.rpartition(":")[2])) for example in found]
    surest = {
        max((row for row in wrong if (p[row] > 0.5) == kind), key=lambda row: abs(p[row] - 0.5))
        for kind in (0, 1)
    }
    assert set(rows[:2]) == surest and len(set(rows)) == 6 and set(rows) <= set(wrong)
    assert rows[4] == min(wrong, key=lambda row: abs(p[row] - 0.5))
    assert [example.score for example in found] == pytest.approx([max(p[row], 1 - p[row]) for row in rows])
    assert wrong_answers(data, data.labels.astype(np.float32), 0.5, 6) == []
    assert len(wrong_answers(data, p, 0.5, 1000)) == len(wrong)
    assert wrong_answers(data, p, 0.5, 0) == []


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9])), min_size=2, max_size=30
    ).filter(lambda rows: len({label for label, _ in rows}) == 2)
)
def test_no_threshold_is_better(rows: list[tuple[bool, float]]) -> None:
    labels = np.array([label for label, _ in rows], np.float64)
    scores = np.array([score for _, score in rows])
    chosen = choose_thresholds(labels, scores)
    cuts = [0.0, 0.2, 0.3, 0.6, 0.8, 1.0]
    for name, metric in (("accuracy, tuned", accuracy_score), ("F1, tuned", f1_score)):
        best = max(metric(labels, scores >= cut) for cut in cuts)
        assert metric(labels, scores >= chosen[name]) == pytest.approx(best, abs=1e-12)


def test_pairs_that_are_cut_are_counted(small_folders: Path, tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "x.jsonl", ["今天" * 40, "今", "好"], ["天" * 60, "天", "好"], [1, 0, 1])
    found = evaluate_pairs([str(small_folders / "pair")], {"x": path}, baselines=False, **QUIET)
    assert "x: 1 pairs cut to the length that pair reads." in found.notes


def test_accepting_nothing_may_be_best_for_float32_scores() -> None:
    labels, scores = np.array([0.0, 1.0, 0.0, 0.0]), np.array([0.9, 0.3, 0.2, 0.1], np.float32)
    chosen = choose_thresholds(labels, scores)
    found, _ = score_pairs(labels, scores, probability=False, thresholds=chosen, seed=None)
    assert found["accuracy, tuned"] == 75.0  # 50 where the threshold just above 0.9 is rounded down to it
