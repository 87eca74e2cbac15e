"""`jinyi calibrate`: what it puts into folders of pair and topic models, and what they do with it."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from calibration_tools import drawn
from jinyi import PairScorer, TopicClassifier
from jinyi.errors import FolderError, InputError
from jinyi.evals.reliability import told_of_gain
from jinyi.folder import read_folder, update_record, verify_folder
from jinyi.models.calibration import (
    fit_platt,
)
from jinyi.models.golden import make_golden
from jinyi.models.operating_points import OperatingPoints
from jinyi.models.temperature import TopicCalibration
from jinyi.registry import facts_of, models_home
from small_models import random_weights, write_small


def texts(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    alphabet = list("怎么改密码如何修登录今天气很好不心情体育财经新闻")
    return ["".join(rng.choice(alphabet, rng.integers(2, 12))) for _ in range(count)]


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pair_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair model whose logits vary, with golden scores."""
    weights = random_weights(head="classifier", labels=1)
    weights["classifier.weight"] = weights["classifier.weight"] * 4
    return write_small(
        tmp_path_factory.mktemp("pair") / "model", "pair", outputs=1, weights=weights, golden=make_golden
    )


@pytest.fixture(scope="module")
def pairs_file(pair_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs whose labels follow the model's scores, which are too sure and shifted."""
    pairs = list(zip(texts(600, 1), texts(600, 2), strict=True))
    logits = PairScorer.load(pair_folder).predict(pairs, raw_scores=True)
    z = (logits - logits.mean()) / logits.std()
    similar = np.random.default_rng(0).random(600) < 1 / (1 + np.exp(-2.5 * z + 1))
    rows = [{"texta": a, "textb": b, "label": int(y)} for (a, b), y in zip(pairs, similar, strict=True)]
    return write_rows(tmp_path_factory.mktemp("data") / "pairs.jsonl", rows)


@pytest.fixture
def own_folder(pair_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pair_folder, tmp_path / "own"))


PAIRS = [(a, b) for a, b in zip(texts(60, 5), texts(60, 6), strict=True)]


def test_a_second_calibration_is_measured_against_the_model_itself(
    run, own_folder: Path, pairs_file: Path
) -> None:
    for place, name in enumerate(("own", "own without its calibration")):
        code, out, err = run("calibrate", "-m", own_folder, "--data", pairs_file, "--seed", place, "--json")
        assert code == 0, err
        assert json.loads(out)["rows"][0]["system"] == name
    good, bad = {"log loss": 0.4}, {"log loss": 0.5}
    assert told_of_gain(bad, good) == [] and "does not help" in told_of_gain(good, bad)[0]


def test_rows_are_not_fitted_on_twice(run, own_folder: Path, pairs_file: Path) -> None:
    for first, second in ((f"a={pairs_file}", f"b={pairs_file}"), (f"a={pairs_file}", pairs_file)):
        code, _, err = run("calibrate", "-m", own_folder, "--data", first, "--data", second)
        assert code == 2 and "the same file under two names" in err


def test_a_copy_of_a_published_model_keeps_what_the_registry_knows(
    run, pair_folder: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JINYI_HOME", str(tmp_path / "home"))
    name = "IDEA-CCNL/Erlangshen-Roberta-110M-Similarity"
    place = Path(shutil.copytree(pair_folder, models_home() / name))
    for file in ("jinyi.json", "MANIFEST.sha256"):
        (place / file).unlink()
    code, _, err = run("calibrate", "-m", name, "--data", pairs_file, "--output", tmp_path / "copy")
    assert code == 0, err
    assert read_folder(tmp_path / "copy").record["segment_ids"] == facts_of(name)["segment_ids"]


@pytest.mark.parametrize("method", ["isotonic", "platt", None])
def test_a_calibrated_pair_model(run, own_folder: Path, pairs_file: Path, method: str | None) -> None:
    before = PairScorer.load(own_folder)
    asked = ["--method", method] if method else []
    code, out, err = run("calibrate", "-m", own_folder, "--data", pairs_file, *asked)
    assert code == 0, err
    assert "Calibration of own" in out and "precision 0.9" in out and str(own_folder) in err
    record = json.loads((own_folder / "jinyi.json").read_text(encoding="utf-8"))["calibration"]
    assert record["data"][0]["rows"] == 600 and len(record["data"][0]["sha256"]) == 64
    measured = record["measured"]
    after = measured[f"after, {record['method']}"]
    assert after["ECE"] < measured["before"]["ECE"] and after["log loss"] < measured["before"]["log loss"]
    if method is None:
        assert after["log loss"] == min(
            measured[f"after, {name}"]["log loss"] for name in ("isotonic", "platt")
        )
    scorer = PairScorer.load(own_folder)
    assert scorer.calibration == record["method"] == (method or record["method"])
    verify_folder(own_folder)
    raw, own = before.predict(PAIRS, raw_scores=True), before.predict(PAIRS)
    assert np.allclose(scorer.predict(PAIRS, raw_scores=True), raw, atol=1e-5)
    assert np.allclose(scorer.predict(PAIRS, calibrated=False), own, atol=1e-6)
    calibrated = scorer.predict(PAIRS)
    assert calibrated.dtype == np.float32 and np.abs(calibrated - own).max() > 0.05
    assert (np.diff(calibrated[np.argsort(raw)]) >= -1e-6).all()
    assert scorer.predict(PAIRS[0]) == pytest.approx(calibrated[0], abs=1e-5)
    documents = [b for _, b in PAIRS]
    ranked, plain = scorer.rank(PAIRS[0][0], documents), before.rank(PAIRS[0][0], documents)
    assert [each["corpus_id"] for each in ranked] == [each["corpus_id"] for each in plain]
    assert ranked[0]["score"] == pytest.approx(
        scorer.predict((PAIRS[0][0], documents[ranked[0]["corpus_id"]])), abs=1e-5
    )
    same = scorer.rank(PAIRS[0][0], documents, calibrated=False)
    assert [each["score"] for each in same] == pytest.approx([each["score"] for each in plain], abs=1e-6)
    for twin in (copy.deepcopy(scorer), pickle.loads(pickle.dumps(scorer))):
        assert np.allclose(twin.predict(PAIRS), calibrated, atol=1e-6)


def test_thresholds(run, own_folder: Path, pairs_file: Path) -> None:
    with pytest.raises(InputError, match="jinyi calibrate --model"):
        PairScorer.load(own_folder).threshold()
    assert run("calibrate", "-m", own_folder, "--data", pairs_file)[0] == 0
    scorer = PairScorer.load(own_folder)
    rows = [json.loads(line) for line in pairs_file.read_text(encoding="utf-8").splitlines()]
    labels = np.array([row["label"] for row in rows])
    probabilities = scorer.predict([(row["texta"], row["textb"]) for row in rows])
    for precision in (0.6, 0.8, 0.9):
        taken = probabilities >= scorer.threshold(precision=precision)
        point = scorer.operating_point(precision=precision)
        assert labels[taken].mean() == pytest.approx(point.precision) and point.precision >= precision
        assert (taken.sum(), point.rows, point.similar) == (point.accepted, 600, labels.sum())
        low, high = point.precision_interval
        assert low < point.precision < high
    assert labels[probabilities >= scorer.threshold(recall=0.9)].sum() >= 0.9 * labels.sum()
    assert scorer.threshold() == scorer.operating_point().threshold
    top = max(scorer._points.points, key=lambda point: point.precision)
    if top.precision < 1:
        with pytest.raises(InputError, match=r"accepted rows \(95% interval") as caught:
            scorer.threshold(precision=1.0)
        assert f"{top.precision:.4f}" in str(caught.value)
    for wrong in (
        {"precision": 0},
        {"precision": 95},
        {"recall": -0.1},
        {"recall": True},
        {"precision": "0.9"},
    ):
        with pytest.raises(InputError, match="a share above 0"):
            scorer.threshold(**wrong)
    with pytest.raises(InputError, match="one of them"):
        scorer.threshold(precision=0.9, recall=0.9)


def test_a_precision_out_of_reach_says_what_is_reached() -> None:
    labels = np.array([0, 1] * 50)
    points = OperatingPoints.measure(labels, np.linspace(0, 1, 100, dtype=np.float32))
    with pytest.raises(InputError, match=r"at most 0\.\d+.* \d+ of \d+ accepted rows.*recall") as caught:
        points.at_precision(0.95)
    assert "100 rows" in str(caught.value)


def test_the_calibration_belongs_to_one_output(small_folders: Path, tmp_path: Path) -> None:
    fitted = fit_platt(*drawn(100))
    points = OperatingPoints.measure([0, 1] * 10, np.linspace(0, 1, 20, dtype=np.float32))
    record = {**fitted.to_dict(), "output": 1, "thresholds": points.to_dict()}
    path = update_record(small_folders / "pair", target=tmp_path / "pair", calibration=record)
    assert PairScorer.load(path).calibration == "platt"
    other = PairScorer.load(path, similar_label=0)
    assert other.calibration is None
    with pytest.raises(InputError, match="without thresholds"):
        other.threshold()
    assert read_folder(small_folders / "pair").record["calibration"] is None


@pytest.mark.parametrize(
    "damage",
    [{"thresholds": None}, {"thresholds": {"rows": 5, "similar": 2, "points": [[0.5, 3]]}}, {"slope": "1"}],
)
def test_a_damaged_calibration_is_told_when_the_folder_is_opened(
    small_folders: Path, tmp_path: Path, damage: dict
) -> None:
    points = OperatingPoints.measure([0, 1] * 10, np.linspace(0, 1, 20, dtype=np.float32))
    record = {**fit_platt(*drawn(100)).to_dict(), "output": 1, "thresholds": points.to_dict()} | damage
    path = update_record(small_folders / "pair", target=tmp_path / "pair", calibration=record)
    with pytest.raises(FolderError, match="jinyi.json"):
        PairScorer.load(path)


def test_a_copy_with_a_report(run, pair_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    target, report = tmp_path / "copy", tmp_path / "report"
    arguments = ("calibrate", "-m", pair_folder, "--data", f"faq={pairs_file}", "--output", target)
    code, out, _ = run(*arguments, "--report", report, "--json")
    assert code == 0
    body = json.loads(out)
    assert body["kind"] == "calibration" and body["rows"][0]["data"] == "faq"
    assert {row["table"] for row in body["rows"]} == {"scores", "thresholds"}
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "Reliability" in page and "precision 0.8" in page
    kinds = [
        each["kind"] for each in json.loads((report / "report.json").read_text(encoding="utf-8"))["figures"]
    ]
    assert kinds == ["reliability", "histogram", "curve"]
    verify_folder(target)
    assert PairScorer.load(target).calibration and PairScorer.load(pair_folder).calibration is None
    code, _, err = run(*arguments)
    assert code == 2 and "--overwrite" in err
    assert run(*arguments, "--overwrite")[0] == 0


def test_a_place_that_is_never_replaced_is_told_first(run, pair_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("keep", encoding="utf-8")
    (tmp_path / "empty.jsonl").touch()
    for place, told in (("/", "root of the file system"), (tmp_path / "mine", "not a model folder")):
        # The rows cannot be read: whoever gets to them first has read for nothing.
        code, _, err = run(
            "calibrate",
            "-m",
            pair_folder,
            "--data",
            tmp_path / "empty.jsonl",
            "--output",
            place,
            "--overwrite",
        )
        assert code == 2 and told in err, err
    assert (tmp_path / "mine/letter.txt").read_text(encoding="utf-8") == "keep"


def test_two_files_are_taken_together(run, own_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    lines = pairs_file.read_text(encoding="utf-8").splitlines(keepends=True)
    for name, part in (("one", lines[:250]), ("two", lines[250:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(part), encoding="utf-8")
    files = (tmp_path / "one.jsonl", tmp_path / "two.jsonl")
    code, out, err = run("calibrate", "-m", own_folder, "--data", *files, "--json")
    assert code == 0, err
    assert json.loads(out)["rows"][0]["n"] == 600
    record = read_folder(own_folder).record["calibration"]
    assert [each["rows"] for each in record["data"]] == [250, 350]


def test_folders_of_other_writers_get_a_copy(
    run, pair_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    hub, foreign = tmp_path / "hub", tmp_path / "foreign"
    shutil.copytree(pair_folder, hub)
    foreign.mkdir()
    for file in hub.iterdir():
        if file.name not in ("jinyi.json", "MANIFEST.sha256"):
            (foreign / file.name).symlink_to(Path("..") / "hub" / file.name)  # as in the hub's cache
    code, _, err = run("calibrate", "-m", foreign, "--data", pairs_file)
    assert code == 2 and "--output" in err
    code, _, err = run("calibrate", "-m", foreign, "--data", pairs_file, "--output", tmp_path / "copy")
    assert code == 0, err
    shutil.rmtree(hub)
    assert PairScorer.load(tmp_path / "copy").calibration


@pytest.mark.parametrize(
    "labels,part",
    [
        (None, "without a label"),
        ([1] * 40, "all 1"),
        ([0, 1, 2] * 10, "label 2"),
        (["-"] * 30, "stands for none"),
        ([1] * 5 + [0] * 30, "5 rows with label 1"),
    ],
    ids=str,
)
def test_files_without_usable_labels(run, own_folder: Path, tmp_path: Path, labels, part: str) -> None:
    rows = [{"texta": "今天", "textb": text} for text in texts(len(labels or "x" * 30), 3)]
    for row, label in zip(rows, labels or [], strict=False):
        row["label"] = label
    file = write_rows(tmp_path / "pairs.jsonl", rows)
    code, _, err = run("calibrate", "-m", own_folder, "--data", file)
    assert code == 2 and part in err and "pairs.jsonl" in err
    assert read_folder(own_folder).record["calibration"] is None


def test_wrong_use(run, small_folders: Path, own_folder: Path, pairs_file: Path) -> None:
    data = ("--data", pairs_file)
    for arguments, part in (
        (("-m", own_folder, "--method", "temperature"), "isotonic or platt"),
        (("-m", own_folder, "--method", "beta"), "isotonic or platt"),
        (("-m", own_folder, "--labels", "体育,财经"), "for a pair model"),
        (("-m", small_folders / "embed"), "gives vectors"),
        ((), "shipped model jinyi-tiny-pair without --output"),
        (("-m", small_folders / "topic", "--labels", "体育,新闻"), "--output"),
    ):
        code, _, err = run("calibrate", *arguments, *data)
        assert code == 2 and part in err, (arguments, err)
    code, _, err = run("calibrate", "-m", own_folder)
    assert code == 2 and "no data" in err


@pytest.fixture(scope="module")
def topics_file(small_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts whose labels are surer than the model: drawn from probabilities at temperature 0.4."""
    lines = texts(400, 7)
    proba = TopicClassifier.load(small_folders / "topic").predict_proba(lines).astype(np.float64)
    sharp = proba**2.5 / (proba**2.5).sum(1, keepdims=True)
    first = np.random.default_rng(0).random(400) < sharp[:, 0]
    rows = [
        {"text": text, "label": "体育" if one else "财经"} for text, one in zip(lines, first, strict=True)
    ]
    return write_rows(tmp_path_factory.mktemp("topics") / "news.jsonl", rows)


def test_a_calibrated_topic_model(run, small_folders: Path, topics_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "calibrated"
    code, out, err = run(
        "calibrate", "-m", small_folders / "topic", "--data", topics_file, "--output", target
    )
    assert code == 0, err
    assert "temperature" in out
    record = read_folder(target).record["calibration"]
    assert record["temperature"] == pytest.approx(0.4, rel=0.4)
    assert record["measured"]["after"]["log loss"] < record["measured"]["before"]["log loss"]
    before, after = TopicClassifier.load(small_folders / "topic"), TopicClassifier.load(target)
    lines = texts(50, 8)
    plain = before.predict_proba(lines)
    assert np.allclose(after.predict_proba(lines, calibrated=False), plain, atol=1e-6)
    tempered = after.predict_proba(lines)
    assert np.allclose(tempered, TopicCalibration(record["temperature"], {}).apply(plain), atol=1e-5)
    assert np.allclose(after.decision_function(lines), np.log(tempered), atol=1e-4)
    assert after.predict(lines).tolist() == before.predict(lines).tolist()
    # Other labels, another prompt, contextual calibration, or a fit: the temperature says nothing about those.
    for options in ({"labels": ["体育", "新闻"]}, {"prompt": "关于{}："}, {"calibrate": True}):
        assert TopicClassifier.load(target, **options).calibration is None
    assert TopicClassifier.load(target, labels=["体育", "财经"]).calibration is not None
    for twin in (copy.deepcopy(after), pickle.loads(pickle.dumps(after))):
        assert np.allclose(twin.predict_proba(lines), tempered, atol=1e-6)
    after.save(tmp_path / "again")
    assert TopicClassifier.load(tmp_path / "again").calibration is not None
    labels = ["体育", "财经"] * 25
    assert after.fit(lines, labels).calibration is None
    after.save(tmp_path / "fitted")
    assert read_folder(tmp_path / "fitted").record["calibration"] is None
    assert TopicClassifier.load(tmp_path / "fitted").calibration is None


def test_fitted_and_classifier_folders(run, small_folders: Path, topics_file: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in topics_file.read_text(encoding="utf-8").splitlines()]
    lines, labels = [row["text"] for row in rows[:200]], [row["label"] for row in rows[:200]]
    fitted = tmp_path / "fitted"
    TopicClassifier.load(small_folders / "embed", method="reference").fit(lines, labels).save(fitted)
    held_out = write_rows(tmp_path / "held_out.jsonl", rows[200:])
    code, _, err = run("calibrate", "-m", fitted, "--data", held_out)
    assert code == 0, err
    assert TopicClassifier.load(fitted).calibration is not None
    assert TopicClassifier.load(fitted).fit(lines, labels).calibration is None
    classes = shutil.copytree(small_folders / "classes", tmp_path / "classes")
    own = TopicClassifier.load(classes).predict(lines).tolist()
    noisy = [own[place] if place % 3 else ("体育", "财经", "新闻")[place % 9 // 3] for place in range(200)]
    data = write_rows(
        tmp_path / "classes.jsonl", [{"text": t, "label": y} for t, y in zip(lines, noisy, strict=True)]
    )
    code, _, err = run("calibrate", "-m", classes, "--data", data)
    assert code == 0, err
    assert TopicClassifier.load(classes).calibration is not None


def test_label_words_of_the_data(run, small_folders: Path, topics_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "news"
    folder.mkdir()
    rows = [json.loads(line) for line in topics_file.read_text(encoding="utf-8").splitlines()]
    codes = {"体育": 0, "财经": 1}
    write_rows(folder / "dev.jsonl", [row | {"label": codes[row["label"]]} for row in rows])
    entries = [{"index": 0, "name": "sports", "word": "体育"}, {"index": 1, "name": "money", "word": "财经"}]
    (folder / "labels.json").write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    data = ("--data", folder / "dev.jsonl")
    # The model's own labels are the words: found by them.
    code, _, err = run("calibrate", "-m", small_folders / "topic", *data, "-o", tmp_path / "by_word")
    assert code == 0, err
    code, _, err = run(
        "calibrate", "-m", small_folders / "topic", *data, "-o", tmp_path / "own", "--labels", "data"
    )
    assert code == 0, err
    by_word, own = TopicClassifier.load(tmp_path / "by_word"), TopicClassifier.load(tmp_path / "own")
    assert by_word.classes_.tolist() == ["体育", "财经"] and own.classes_.tolist() == ["0", "1"]
    assert np.allclose(by_word.predict_proba(texts(9, 1)), own.predict_proba(texts(9, 1)), atol=1e-5)
    code, _, err = run(
        "calibrate", "-m", small_folders / "topic", *data, "-o", tmp_path / "no", "--labels", "体育,新闻"
    )
    assert code == 2 and "dev.jsonl:" in err and "--labels data" in err
    code, _, err = run(
        "calibrate", "-m", small_folders / "topic", *data, "-o", tmp_path / "no", "--method", "platt"
    )
    assert code == 2 and "temperature" in err
    assert not (tmp_path / "no").exists()


def test_contextual_calibration_is_saved_with_its_temperature(small_folders: Path, tmp_path: Path) -> None:
    topics = TopicClassifier.load(small_folders / "topic", labels=["体育", "新闻的"], calibrate=True)
    proba = topics.predict_proba(texts(5, 1))
    record = TopicCalibration(2.0, topics.state()).to_dict()
    topics.save(tmp_path / "mine", calibration=record)
    again = TopicClassifier.load(tmp_path / "mine")
    assert np.allclose(again.predict_proba(texts(5, 1), calibrated=False), proba, atol=1e-6)
    assert again.calibration is not None and again.calibration.temperature == 2.0


def test_golden_scores_are_the_models_own(own_folder: Path, pairs_file: Path, run, tmp_path: Path) -> None:
    assert run("calibrate", "-m", own_folder, "--data", pairs_file)[0] == 0
    golden = make_golden(own_folder)
    assert np.allclose(golden.values, read_folder(own_folder).golden.values, atol=1e-5)


def test_rows_that_are_cut_are_counted(run, own_folder: Path, pairs_file: Path) -> None:
    rows = [json.loads(line) for line in pairs_file.read_text(encoding="utf-8").splitlines()]
    rows[3]["texta"] *= 40
    file = write_rows(own_folder.parent / "long.jsonl", rows)
    code, out, err = run("calibrate", "-m", own_folder, "--data", file, "--json")
    assert code == 0 and "Warning" not in err
    assert "1 of 600 rows were longer than the model reads and were cut." in json.loads(out)["notes"]
