"""Topic evaluation against the classes it evaluates, scikit-learn, and plain recomputation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import accuracy_score, f1_score
from sklearn.svm import LinearSVC

import jinyi
import jinyi.metrics
from jinyi.batches import make_batches
from jinyi.errors import FolderError, InputError
from jinyi.evals.result import Row
from jinyi.evals.topic_data import TopicData, read_topic_data
from jinyi.evals.topic_figures import MOST_CLASSES, confusion, mean_cosine, plane
from jinyi.evals.topic_scores import class_f1, mean_macro_f1
from jinyi.evals.topic_systems import Answers
from jinyi.evals.topics import evaluate_topics
from jinyi.folder.write import update_record
from jinyi.models.source import Source
from jinyi.models.whitening import Whitening
from jinyi.runtime import Head
from jinyi.tokens import build_tokenizer
from small_models import CONFIG, random_weights, write_small
from test_evals_topic_data import write_rows

WORDS = ["体育", "财经", "新闻"]
PROMPT = "关于{}："
PIECES = (
    "体育很好",
    "财经不好",
    "新闻是今天的",
    "今天天气很好",
    "怎么修改密码",
    "登录心情",
    "下面的一则",
    "1234",
    "abc",
)


def texts_of(seed: int, count: int) -> list[tuple[str, str]]:
    """Labelled texts in which a label's characters tend to occur."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        label = number % 3
        pieces = [PIECES[label]] if rng.random() < 0.7 else []
        pieces += [PIECES[place] for place in rng.integers(0, len(PIECES), 2)]
        rows.append(("".join(pieces) + str(rng.integers(10000)), WORDS[label]))
    return rows


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> TopicData:
    """Three folds of 24 training rows, scored on 45 rows."""
    folder = tmp_path_factory.mktemp("topics") / "toy"
    for fold in range(3):
        write_rows(folder / f"train_{fold}.json", texts_of(fold, 24))
    write_rows(folder / "dev_few_all.json", texts_of(9, 45))
    return read_topic_data(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_small(tmp_path_factory.mktemp("model") / "topic", "topic", labels=WORDS))


def run(model: str | None, data: TopicData, **options: Any) -> dict[str, Row]:
    """Evaluate one model quickly; rows by system and protocol."""
    settings = {"prompts": [PROMPT], "quoted": False, "intervals": False, "k": (6,), **options}
    result = evaluate_topics([model], {data.name: data}, **settings)
    return {f"{row.system}, {row.protocol}": row for row in result.rows}


def scores(data: TopicData, predicted: Sequence[Sequence[Any]]) -> dict[str, float]:
    """scikit-learn's scores of answers for each fold, the mean over folds."""
    gold = [data.labels.codes[target] for target in data.folds[0].scored.targets]
    return {
        "accuracy": 100 * float(np.mean([accuracy_score(gold, each) for each in predicted])),
        "macro-F1": 100 * float(np.mean([f1_score(gold, each, average="macro") for each in predicted])),
    }


def train_of(data: TopicData, fold: int) -> tuple[list[str], list[str]]:
    rows = data.folds[fold].train
    assert rows is not None
    return rows.texts, [data.labels.codes[target] for target in rows.targets]


def test_words_that_are_new_to_the_model_are_calibrated(model: str, folds: TopicData, tmp_path: Path) -> None:
    new = update_record(model, target=tmp_path / "topic", trained_words=["新"])
    zero = jinyi.TopicClassifier.load(new, labels=WORDS, prompt=PROMPT, calibrate=True)
    row = run(str(new), folds)[f"topic, zero-shot, “{PROMPT}”, calibrated"]
    assert row.scores == pytest.approx(scores(folds, [zero.predict(folds.folds[0].scored.texts)]))


def test_rows_equal_the_classifier(model: str, folds: TopicData) -> None:
    rows = run(model, folds, whitening=["none", "train"], prompt_on=["none"])
    scored = folds.folds[0].scored.texts
    zero = jinyi.TopicClassifier.load(model, labels=WORDS, prompt=PROMPT).predict(scored)
    assert rows[f"topic, zero-shot, “{PROMPT}”"].scores == pytest.approx(scores(folds, [zero]))
    assert not rows[f"topic, zero-shot, “{PROMPT}”"].deviations
    cases: dict[str, dict[str, Any]] = {
        "linear, vectors and n-grams": {"method": "linear", "word_examples": 0},
        f"linear, vectors and n-grams, label words, “{PROMPT}”": {"method": "linear", "prompt": PROMPT},
        "reference, prototype, no prompt": {"method": "reference"},
        "reference, nearest, no prompt": {"method": "reference", "decider": "nearest"},
        "reference, knn (k=5), no prompt": {"method": "reference", "decider": "knn"},
        "reference, prototype, no prompt, whitening on train, k=6": {"method": "reference", "whitening": 6},
    }
    for protocol, options in cases.items():
        classifier = jinyi.TopicClassifier.load(model, **options)
        answers = [classifier.fit(*train_of(folds, fold)).predict(scored) for fold in range(3)]
        row = rows[f"topic, {protocol}"]
        assert row.scores == pytest.approx(scores(folds, answers)), protocol
        each = [scores(folds, [answer])["accuracy"] for answer in answers]
        assert row.deviations["accuracy"] == pytest.approx(np.std(each, ddof=1))
        assert [fold["accuracy"] for fold in row.settings["folds"].values()] == pytest.approx(each)
        assert row.n == 45 and row.data_sha256 == folds.folds[0].scored.sha256


def test_baselines(model: str, folds: TopicData) -> None:
    rows = run(model, folds, methods=["zero-shot"])
    answers = []
    for fold in range(3):
        texts, labels = train_of(folds, fold)
        grams = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True)
        svm = LinearSVC(C=1.0, random_state=0).fit(grams.fit_transform(texts), labels)
        answers.append(svm.predict(grams.transform(folds.folds[0].scored.texts)))
    row = rows["TF-IDF + linear SVM, characters and pairs of characters"]
    assert row.scores == pytest.approx(scores(folds, answers))
    largest = rows["largest class, of the scored rows, everywhere"]
    assert largest.scores["accuracy"] == pytest.approx(100 / 3) and not largest.deviations
    assert list(rows)[-2:] == [
        f"{row.system}, {row.protocol}",
        "largest class, of the scored rows, everywhere",
    ]
    assert len(run(model, folds, methods=["zero-shot"], baselines=False)) == 1


def test_a_prompt_on_either_side_and_whitening_on_both(model: str, folds: TopicData) -> None:
    """Against vectors averaged here from the model's own hidden states."""
    source = Source.open(model, "topic")
    engine = source.engine(Head("tokens"))

    def vectors(texts: list[str], prompt: str | None) -> np.ndarray:
        encoded = (
            source.tokenizer.encode(texts)
            if prompt is None
            else source.tokenizer.encode_prompt(texts, prompt, 2)
        )
        means = np.empty((len(texts), 32))
        for batch, states in engine.run(make_batches(encoded, pad_id=source.tokenizer.pad_id)):
            for place, row in enumerate(batch.rows):
                means[row] = np.asarray(states)[place, : len(encoded.ids[row])].mean(axis=0)
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    scored = folds.folds[0].scored.texts
    rows = run(
        model, folds, methods=["reference"], prompt_on=["scored", "both"], deciders=["prototype"],
        whitening=["none", "train+scored"], baselines=False,
    )  # fmt: skip
    assert len(rows) == 4
    for shown, train_prompt in (("on scored texts", None), ("on both", PROMPT)):
        for tail, whiten in (("", False), (", whitening on train+scored, k=6", True)):
            answers = []
            for fold in range(3):
                texts, labels = train_of(folds, fold)
                train, test = vectors(texts, train_prompt), vectors(scored, PROMPT)
                if whiten:
                    fitted = Whitening(6).fit(np.concatenate((train, test)))
                    train, test = fitted.transform(train), fitted.transform(test)
                train, test = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test))
                means = np.stack(
                    [train[np.asarray(labels) == word].sum(axis=0) for word in folds.labels.codes]
                )
                means /= np.linalg.norm(means, axis=1, keepdims=True)
                answers.append([folds.labels.codes[place] for place in (test @ means.T).argmax(axis=1)])
            row = rows[f"topic, reference, prototype, “{PROMPT}” {shown}{tail}"]
            assert row.scores == pytest.approx(scores(folds, answers))


def test_whitening_that_cannot_be_fitted_is_left_out_and_told(model: str, folds: TopicData) -> None:
    result = evaluate_topics(
        [model], {"toy": folds}, methods=["reference"], prompt_on=["none"], k=(30, None, 100), intervals=False,
        whitening=["train", "train+scored"], deciders=["nearest"],
    )  # fmt: skip
    kept = [row.protocol for row in result.rows if row.settings["method"] == "reference"]
    assert kept == [f"reference, nearest, no prompt, whitening on train+scored, k={k}" for k in (30, 32)]
    assert "toy: whitening on train to k=30 left out: 24 rows to fit it on." in result.notes
    assert "toy: whitening on train+scored to k=100 left out: 69 rows to fit it on." in result.notes


def test_folds_with_files_of_their_own(model: str, folds: TopicData, tmp_path: Path) -> None:
    for fold in range(2):
        write_rows(tmp_path / f"train_{fold}.json", texts_of(fold, 24))
        write_rows(tmp_path / f"dev_{fold}.json", texts_of(5 + fold, 30))
    data = read_topic_data(tmp_path, name="toy")
    row = run(model, data, methods=["zero-shot"], intervals=True, baselines=False)[
        f"topic, zero-shot, “{PROMPT}”"
    ]
    classifier = jinyi.TopicClassifier.load(model, labels=WORDS, prompt=PROMPT)
    each = [
        100 * classifier.score(fold.scored.texts, [WORDS[target] for target in fold.scored.targets])
        for fold in (replace(fold, scored=replace_targets(data, fold.scored)) for fold in data.folds)
    ]
    assert row.scores["accuracy"] == pytest.approx(np.mean(each))
    assert row.deviations["accuracy"] == pytest.approx(np.std(each, ddof=1))
    assert row.n == 60 and row.data_sha256 is None and not row.intervals


def replace_targets(data: TopicData, rows: Any) -> Any:
    """The same rows with places in WORDS, which is not sorted."""
    return replace(
        rows, targets=np.asarray([WORDS.index(data.labels.codes[target]) for target in rows.targets])
    )


def test_intervals_cover_the_score_and_follow_the_seed(model: str, folds: TopicData) -> None:
    first, again, other = (
        run(model, folds, methods=["linear"], intervals=True, seed=seed, baselines=False)[
            "topic, linear, vectors and n-grams"
        ]
        for seed in (0, 0, 1)
    )
    assert first == again and first.intervals != other.intervals
    for metric, (low, high) in first.intervals.items():
        assert low < first.scores[metric] < high


def test_what_a_trained_folder_answers_itself(model: str, folds: TopicData, tmp_path: Path) -> None:
    fitted = jinyi.TopicClassifier.load(model).fit(*train_of(folds, 0))
    fitted.save(tmp_path / "fitted")
    scored = folds.folds[0].scored.texts
    row = run(str(tmp_path / "fitted"), folds, methods=["own"])["fitted, as trained"]
    assert row.scores == pytest.approx(scores(folds, [fitted.predict(scored)]))
    assert "fitted, as trained" in run(str(tmp_path / "fitted"), folds)
    classes = write_small(tmp_path / "classes", "classes", outputs=3, labels=WORDS)
    said = jinyi.TopicClassifier.load(classes).predict(scored)
    assert run(str(classes), folds, methods=["own"])["classes, as trained"].scores == pytest.approx(
        scores(folds, [said])
    )
    shuffled = tmp_path / "shuffled.json"
    entries = [{"index": 2 - place, "code": f"c{place}", "name": word} for place, word in enumerate(WORDS)]
    shuffled.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    renamed = read_topic_data(
        write_rows(
            tmp_path / "by-code.jsonl", [(text, f"c{place % 3}") for place, text in enumerate(scored)]
        ),
        labels=shuffled,
    )
    row = run(str(classes), renamed, methods=["own"])["classes, as trained"]
    right = [WORDS[place % 3] == label for place, label in enumerate(said)]
    assert row.scores["accuracy"] == pytest.approx(100 * np.mean(right))
    strange = write_small(tmp_path / "strange", "classes", outputs=3, labels=["体育", "天气", "财经"])
    with pytest.raises(InputError, match="classes 天气 in the model"):
        run(str(strange), folds, methods=["own"])


def test_methods_that_cannot_be(model: str, folds: TopicData, small_folders: Path) -> None:
    embed = str(small_folders / "embed")
    with pytest.raises(InputError, match="method zero-shot: embed cannot score words"):
        run(embed, folds, methods=["zero-shot"])
    result = evaluate_topics([embed], {"toy": folds}, intervals=False, k=(6,), deciders=["nearest"])
    assert "toy: no zero-shot rows: embed cannot score words." in result.notes
    assert {row.settings["method"] for row in result.rows} == {"reference", "linear", "tfidf svm", "majority"}
    bare = replace(folds, folds=tuple(replace(fold, train=None) for fold in folds.folds[:1]))
    with pytest.raises(InputError, match="method reference: toy has no training rows"):
        run(model, bare, methods=["reference"])
    assert {row.settings["method"] for row in run(model, bare).values()} == {"zero-shot", "majority"}
    wordless = replace(folds, labels=replace(folds.labels, words=()))
    with pytest.raises(InputError, match="method prompt: toy has no label words"):
        run(model, wordless, methods=["prompt"])
    with pytest.raises(InputError, match="method own: topic holds no trained classifier"):
        run(model, folds, methods=["own"])
    with pytest.raises(FolderError, match="found a pair model"):
        run(str(small_folders / "pair"), folds)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["svm"]}, "'svm'.*own or zero-shot"),
        ({"methods": []}, "no method"),
        ({"prompts": ["3"]}, "prompt for toy"),
        ({"prompts": ["没有空位"]}, "for the label word"),
        ({"whitening": ["test"]}, "'test'.*'none' or 'train'"),
        ({"deciders": ["mean"]}, "'prototype' or 'nearest' or 'knn'"),
        ({"prompt_on": ["train"]}, "'none' or 'scored' or 'both'"),
        ({"folds": ["8"]}, "fold 8"),
        ({"neighbors": 0}, "neighbors"),
        ({"prompt_options": {"epochs": 2}}, "epochs without the method prompt"),
    ],
)
def test_unknown_choices(model: str, folds: TopicData, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(model, folds, **options)


def test_nothing_to_evaluate(folds: TopicData) -> None:
    with pytest.raises(InputError, match="0 models and 1 sets"):
        evaluate_topics([], {"toy": folds})


@pytest.mark.slow
def test_prompt_fine_tuning(model: str, folds: TopicData) -> None:
    options = {"epochs": 2, "batch_size": 8}
    row = run(
        model, folds, methods=["prompt"], folds=["0", "1"], prompt_options=options, seed=3, baselines=False
    )[f"topic, prompt fine-tuning, “{PROMPT}”"]
    answers = []
    for fold in range(2):
        classifier = jinyi.TopicClassifier.load(model, labels=list(folds.labels.words), prompt=PROMPT)
        classifier.fit(*train_of(folds, fold), method="prompt", seed=3, **options)
        answers.append(classifier.predict(folds.folds[0].scored.texts))
    assert row.scores == pytest.approx(scores(folds, answers))
    assert row.seed == 3 and row.settings["epochs"] == 2


def test_both_templates_and_published_rows(tmp_path: Path) -> None:
    words = [
        *"故事文化娱乐体育财经房产汽车教育科技军事旅游国际股票农业电竞下面是一则关于的新闻接来，跟相内容：",
        "甲",
        "乙",
    ]
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(words)]
    config = replace(CONFIG, vocab_size=len(vocab))
    model = write_small(
        tmp_path / "model", "topic", config=config, tokenizer=build_tokenizer(vocab), labels=["体育", "财经"],
        weights=random_weights(config, head="mlm"),
    )  # fmt: skip
    rows = [("甲", 100), ("乙", 103), ("甲乙", 104)]
    file, other = (write_rows(tmp_path / name / "dev.jsonl", rows) for name in ("tnews", "other"))
    data = {
        "a": read_topic_data(file, name="tnews"),
        "b": read_topic_data(other, labels=labels(tmp_path)),
    }
    result = evaluate_topics([str(model)], data, intervals=False)
    shown = {(row.data, row.protocol) for row in result.rows if not row.quoted and "zero" in row.protocol}
    assert shown == {
        ("a", "zero-shot, template 1"),
        ("a", "zero-shot, template 2"),
        ("b", "zero-shot, own prompt"),
    }
    quoted = [row for row in result.rows if row.quoted]
    assert result.rows[-len(quoted) :] == quoted
    assert {row.data for row in quoted} == {"a"} and all(not row.intervals for row in quoted)
    pet = next(row for row in quoted if row.protocol.startswith("PET"))
    assert pet.scores == {"accuracy": 54.5} and "test_public" in str(pet.quoted)
    assert result.averages == {"mean": ("a", "b")}
    with pytest.raises(InputError, match="1 or 2 or a text"):
        evaluate_topics([str(model)], {"a": data["a"]}, prompts=["9"])


def labels(folder: Path) -> Path:
    entries = [
        {"code": code, "name": word, "word": word}
        for code, word in (("100", "故事"), ("103", "体育"), ("104", "财经"))
    ]
    (folder / "names.json").write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    return folder / "names.json"


def test_notes_name_the_protocol_and_leaks(model: str, folds: TopicData, tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.jsonl", texts_of(9, 12))
    scored = write_rows(tmp_path / "dev.jsonl", texts_of(9, 45))
    result = evaluate_topics(
        [model], {"toy": read_topic_data(scored, train=train)}, methods=["linear"], intervals=False
    )
    assert result.notes[0] == "toy: fitted on train (12 training rows); scored on dev, 45 rows."
    assert result.notes[1].startswith("toy: scored texts that are training texts too: 12.")
    result = evaluate_topics([model], {"toy": folds}, methods=["linear"], intervals=False)
    assert result.notes == [
        "toy: mean of folds 0, 1, 2 of 24 training rows each; scored on dev_few_all, 45 rows."
    ]


def test_cut_texts_are_told(model: str, tmp_path: Path) -> None:
    rows = [("今天天气很好" * 20, "体育"), ("心情", "财经"), ("密码", "新闻"), ("登录", "体育")]
    data = read_topic_data(
        write_rows(tmp_path / "x.jsonl", rows), train=write_rows(tmp_path / "t.jsonl", rows)
    )
    result = evaluate_topics([model], {"long": data}, methods=["linear"], intervals=False, baselines=False)
    assert (
        result.notes[-1]
        == "long: topic reads 48 tokens, prompt included: cut were up to 1 of the scored texts."
    )
    result = evaluate_topics(
        [model], {"long": data}, prompts=[PROMPT], methods=["zero-shot"], intervals=False
    )
    assert "cut were up to 1 of the scored texts" in result.notes[-1]


def test_figures_and_examples(model: str, folds: TopicData) -> None:
    result = evaluate_topics([model], {"toy": folds}, intervals=False, k=(6,), examples=4, quoted=False)
    kinds = {figure.kind: figure for figure in result.figures}
    assert set(kinds) == {"confusion", "bars", "map"}
    best = max((row for row in result.rows if row.system == "topic"), key=lambda row: row.scores["accuracy"])
    assert kinds["confusion"].caption.startswith(f"topic, {best.protocol}.")
    counts = np.asarray(kinds["confusion"].values["counts"])
    assert counts.sum() == (3 * 45 if best.deviations else 45)
    assert 100 * np.trace(counts) / counts.sum() == pytest.approx(best.scores["accuracy"])
    bars = list(kinds["bars"].values["bars"].values())
    assert bars == sorted(bars) and len(bars) == 3
    assert np.mean(bars) == pytest.approx(best.scores["macro-F1"])
    panels = kinds["map"].values["panels"]
    assert list(panels) == ["before whitening", "whitening fitted on train, k=6"]
    for panel in panels.values():
        assert np.shape(panel["points"]) == (45, 2) and set(panel["groups"]) == set(WORDS)
    assert len(result.examples) <= 4
    for example in result.examples:
        assert example.expected != example.found and example.place.startswith("dev_few_all.json:")
    sure = [example.score for example in result.examples if example.score is not None]
    assert sure == sorted(sure, reverse=True) and len(sure) == len(result.examples)


def test_a_confusion_of_many_classes_keeps_those_with_mistakes(folds: TopicData) -> None:
    size = 50
    names = tuple(f"类{place}" for place in range(size))
    rng = np.random.default_rng(0)
    targets = rng.integers(0, size, 900)
    said = np.where(rng.random(900) < 0.5, targets, rng.integers(0, size, 900))
    scored = replace(folds.folds[0].scored, targets=targets)
    data = replace(folds, labels=replace(folds.labels, codes=names, titles=names))
    figure = confusion(
        data, [replace(folds.folds[0], scored=scored)], Answers(system="x", protocol="y", predicted=[said])
    )
    counts = np.asarray(figure.values["counts"])
    assert counts.shape == (MOST_CLASSES, MOST_CLASSES) and counts.sum() == 900
    assert np.trace(counts[:-1, :-1]) == sum(
        int(((targets == place) & (said == place)).sum())
        for place in range(size)
        if names[place] in figure.values["labels"]
    )
    assert "29 classes with the most mistakes of 50" in figure.caption


def test_the_plane_of_a_map() -> None:
    rng = np.random.default_rng(0)
    centres = np.zeros((3, 20))
    centres[0, 4], centres[1, 4], centres[2, 9] = 5, -5, 3
    targets = np.arange(300) % 3
    points = (centres[targets] + rng.normal(0, 0.1, (300, 20))).astype(np.float32)
    found = plane(points, targets)
    assert np.corrcoef(found[:, 0], points[:, 4])[0, 1] ** 2 > 0.99
    assert np.corrcoef(found[:, 1], points[:, 9])[0, 1] ** 2 > 0.99
    two = plane(points[targets < 2], targets[targets < 2])
    assert two.shape == (200, 2) and np.isfinite(two).all()
    units = points / np.linalg.norm(points, axis=1, keepdims=True)
    cosines = units @ units.T
    assert mean_cosine(units) == pytest.approx(cosines[~np.eye(300, dtype=bool)].mean(), abs=1e-5)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40))
def test_f1_of_classes(rows: list[tuple[int, int]]) -> None:
    labels, said = np.asarray(rows).T
    occurs = np.union1d(labels, said)
    expected = f1_score(labels, said, average=None, labels=occurs, zero_division=0)
    values = class_f1(labels, said, 7)
    assert values[occurs] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(np.delete(values, occurs)).all()
    assert mean_macro_f1(labels, said) == pytest.approx(expected.mean(), abs=1e-12)
    assert mean_macro_f1(labels, said) == pytest.approx(jinyi.metrics.macro_f1(labels, said), abs=1e-12)


def test_nothing_computed_is_an_error(model: str, folds: TopicData) -> None:
    options: dict[str, Any] = {"methods": ["reference"], "baselines": False}
    with pytest.raises(InputError, match="no rows with a prompt on scored"):
        evaluate_topics([model], {"toy": folds}, prompt_on=["scored"], **options)
    with pytest.raises(InputError, match="whitening on train .* left out"):
        evaluate_topics([model], {"toy": folds}, whitening=["train"], k=[10_000], **options)


def test_training_labels_that_are_all_equal(model: str, folds: TopicData) -> None:
    first = folds.folds[0]
    assert first.train is not None
    one = replace(first.train, targets=np.zeros_like(first.train.targets))
    with pytest.raises(InputError, match="training labels that are all equal"):
        evaluate_topics([model], {"toy": replace(folds, folds=(replace(first, train=one),))})


def test_models_of_one_folder_name_are_told_apart(model: str, folds: TopicData, tmp_path: Path) -> None:
    other = write_small(tmp_path / "other" / Path(model).name, task="topic")
    found = evaluate_topics(
        [model, str(other)], {"toy": folds}, methods=["zero-shot"], baselines=False, intervals=False
    )
    assert {row.system for row in found.rows} == {model, str(other)}
