"""Every quirk of published folders, one at a time, on a small model: the scores stay those of the clean folder."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from folder_tools import edit, error_of, plain, rewrite_weights
from jinyi import PairScorer, SentenceEncoder, TopicClassifier
from jinyi.errors import FolderError, InputError
from jinyi.folder import read_folder, update_record, write_folder
from jinyi.folder.labels import find_similar
from jinyi.models.golden import make_golden
from jinyi.tokens import Tokenizer, build_tokenizer
from small_models import CONFIG, MEGATRON, VOCAB, random_weights, write_small

PAIRS = [("怎么改密码", "如何修改登录密码"), ("今天天气很好", "心情不好，1a！"), ("体育新闻", "体育新闻。AB")]
TEXTS = ["怎么改密码？", "今天天气很好，心情不好abc"]
HEADS = {"pair": "classifier", "embed": "", "topic": "mlm"}
Quirk = Callable[[Path], Any]


def scores(path: Path, task: str) -> np.ndarray:
    if task == "pair":
        return PairScorer.load(path, threads=1).predict(PAIRS, raw_scores=True)
    if task == "embed":
        return SentenceEncoder.load(path, pooling="cls", threads=1).encode(TEXTS)
    return TopicClassifier.load(
        path, labels=["体育", "财经"], prompt="下面是{}新闻：", threads=1
    ).predict_proba(TEXTS)


def published(path: Path, task: str, **options: Any) -> Path:
    """A folder as other tools publish them, without what jinyi and sentence-transformers add."""
    options.setdefault("tokenizer", build_tokenizer(VOCAB, fold=False))
    if task == "pair":
        options.setdefault("outputs", 2)
    plain(path, task=task, **options)
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (path / name).unlink(missing_ok=True)
    shutil.rmtree(path / "1_Pooling", ignore_errors=True)
    return path


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, np.ndarray]]:
    root = tmp_path_factory.mktemp("clean")
    folders = {task: published(root / task, task) for task in HEADS}
    return {task: (path, scores(path, task)) for task, path in folders.items()}


def weights_file(path: Path) -> Path:
    return path / "model.safetensors"


def drop(*names: str) -> Quirk:
    return lambda path: [(path / name).unlink() for name in names]


def config(**changes: Any) -> Quirk:
    return lambda path: edit(path / "config.json", **changes)


def settings(**changes: Any) -> Quirk:
    return lambda path: edit(path / "tokenizer_config.json", **changes)


def rename(change: Callable[[str], str | None]) -> Quirk:
    return lambda path: rewrite_weights(weights_file(path), change)


def both(*quirks: Quirk) -> Quirk:
    return lambda path: [quirk(path) for quirk in quirks]


def add_heads(path: Path) -> None:
    """The heads and buffers of old pretraining checkpoints beside what the task needs."""
    tensors = load_file(weights_file(path))
    tensors |= {"cls.seq_relationship.weight": torch.ones(2, 32), "cls.seq_relationship.bias": torch.ones(2)}
    tensors |= {"bert.embeddings.position_ids": torch.arange(48)[None]}
    if not any(name.startswith("cls.predictions") for name in tensors):
        for name, array in random_weights(head="mlm", seed=9).items():
            if name.startswith("cls."):
                tensors[name] = torch.from_numpy(array)
    words = tensors["bert.embeddings.word_embeddings.weight"]
    tensors["cls.predictions.decoder.weight"] = words.clone()
    tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
    save_file(tensors, weights_file(path))


def shards(path: Path) -> None:
    tensors = load_file(weights_file(path))
    names, half = sorted(tensors), len(tensors) // 2
    places = {}
    for number, part in enumerate((names[:half], names[half:]), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, path / file)
        places |= dict.fromkeys(part, file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    weights_file(path).unlink()


def old_norms(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


ROBERTA = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "add_prefix_space": False}
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json")
QUIRKS: dict[str, Quirk] = {
    "config says roberta": config(model_type="roberta", architectures=["RobertaForMaskedLM"]),
    "config of an old release": config(
        model_type=None, torch_dtype=None, architectures=None, layer_norm_eps=None
    ),
    "dropout and keys nobody knows": config(
        directionality="bidi", pooler_fc_size=768, gradient_checkpointing=False
    ),
    "21128 entries in config.json": config(vocab_size=21128),
    "padding id of another vocabulary": config(pad_token_id=1),
    "vocab.txt alone": drop("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    "vocab.txt with settings": drop("tokenizer.json", "special_tokens_map.json"),
    "tokenizer.json alone": drop("vocab.txt", "tokenizer_config.json", "special_tokens_map.json"),
    "settings without case": both(drop("tokenizer.json"), settings(do_lower_case=None)),
    "RobertaTokenizer over vocab.txt": both(
        drop("tokenizer.json"), settings(tokenizer_class="RobertaTokenizer", **ROBERTA)
    ),
    "RobertaTokenizer over tokenizer.json": settings(tokenizer_class="RobertaTokenizer", **ROBERTA),
    "AlbertTokenizer over vocab.txt": both(
        drop("tokenizer.json"), settings(tokenizer_class="AlbertTokenizer")
    ),
    "no prefix": rename(lambda name: name.removeprefix("bert.")),
    "prefix of a wrapper": rename(lambda name: f"model.{name}"),
    "gamma and beta": rename(old_norms),
    "heads of pretraining": add_heads,
    "shards": shards,
    "another name of the file": lambda path: weights_file(path).rename(path / "pytorch_model.safetensors"),
}


@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("quirk", QUIRKS)
def test_a_quirk_changes_no_score(clean: Any, tmp_path: Path, task: str, quirk: str) -> None:
    source, expected = clean[task]
    path = shutil.copytree(source, tmp_path / "m")
    QUIRKS[quirk](path)
    np.testing.assert_array_equal(scores(path, task), expected)


@pytest.mark.parametrize("task", ["embed", "topic"])
def test_a_missing_pooler_changes_no_vector(clean: Any, tmp_path: Path, task: str) -> None:
    path = shutil.copytree(clean[task][0], tmp_path / "m")
    rewrite_weights(weights_file(path), lambda name: None if "pooler" in name else name)
    np.testing.assert_array_equal(scores(path, task), clean[task][1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("task", HEADS)
def test_half_precision_weights_are_read_as_they_are(
    clean: Any, tmp_path: Path, task: str, dtype: str
) -> None:
    half = shutil.copytree(clean[task][0], tmp_path / "half")
    rewrite_weights(weights_file(half), lambda name: name, dtype)
    rounded = shutil.copytree(half, tmp_path / "rounded")
    rewrite_weights(weights_file(rounded), lambda name: name, "float32")
    np.testing.assert_allclose(scores(half, task), scores(rounded, task), atol=1e-6)
    assert not np.array_equal(scores(half, task), clean[task][1]), "rounding shows"


def test_layer_norms_of_megatron_are_found_in_the_weights(tmp_path: Path) -> None:
    path = published(tmp_path / "m", "pair", config=MEGATRON)
    expected = scores(path, "pair")
    edit(path / "config.json", model_type="bert", architectures=["BertForSequenceClassification"])
    np.testing.assert_array_equal(scores(path, "pair"), expected)


# Segment ids.


@pytest.mark.parametrize("habit", ["pair", "zeros"])
def test_both_habits_of_segments_are_those_of_transformers(clean: Any, habit: str) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    path = clean["pair"][0]
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    inputs = AutoTokenizer.from_pretrained(path)(
        [list(pair) for pair in PAIRS], padding=True, return_tensors="pt"
    )
    if habit == "zeros":
        del inputs["token_type_ids"]  # the model takes zeros then, as the published snippets do
    with torch.no_grad():
        expected = torch.softmax(model(**inputs).logits, -1)[:, 1].numpy()
    scorer = PairScorer.load(path, segment_ids=habit, threads=1)
    assert scorer.segment_ids == habit
    np.testing.assert_allclose(scorer.predict(PAIRS, symmetric=False), expected, atol=1e-6)
    same = PairScorer.load(path, threads=1).predict(PAIRS, symmetric=False, segment_ids=habit)
    np.testing.assert_array_equal(scorer.predict(PAIRS, symmetric=False), same)


def test_a_folder_keeps_its_habit(clean: Any, tmp_path: Path) -> None:
    path = clean["pair"][0]
    zeros = PairScorer.load(path, segment_ids="zeros", threads=1)
    pair = PairScorer.load(path, threads=1)
    assert not np.allclose(zeros.predict(PAIRS), pair.predict(PAIRS))
    copy = update_record(path, target=tmp_path / "copy", segment_ids="zeros")
    kept = PairScorer.load(copy, threads=1)
    assert kept.segment_ids == "zeros"
    np.testing.assert_array_equal(kept.predict(PAIRS), zeros.predict(PAIRS))
    np.testing.assert_array_equal(kept.predict(PAIRS, segment_ids="pair"), pair.predict(PAIRS))
    assert kept.rank(*PAIRS[0][:1], [PAIRS[0][1]])[0]["score"] == pytest.approx(float(kept.predict(PAIRS)[0]))
    for scorer in (zeros, kept):
        again = pickle.loads(pickle.dumps(scorer))
        assert again.segment_ids == "zeros"
        np.testing.assert_array_equal(again.predict(PAIRS), zeros.predict(PAIRS))


def test_golden_scores_are_those_of_the_habit(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m", "pair", outputs=1, segment_ids="zeros", golden=make_golden)
    assert read_folder(path).record["segment_ids"] == "zeros"
    assert PairScorer.load(path, threads=1).segment_ids == "zeros"
    assert PairScorer.load(path, segment_ids="pair", threads=1).segment_ids == "pair"
    edit(path / "jinyi.json", segment_ids="pair")
    with pytest.raises(FolderError, match="golden"):
        PairScorer.load(path, threads=1)


def test_a_calibration_belongs_to_its_habit(clean: Any, tmp_path: Path) -> None:
    from jinyi.models.calibration import fit_platt

    logits = np.linspace(-3, 3, 60, dtype=np.float32)
    fitted = fit_platt(logits, (np.sin(5 * logits) + logits > 0.5).astype(int)).to_dict()
    fitted |= {"thresholds": {"rows": 60, "similar": 30, "points": [[0.5, 30, 25]]}}
    path = update_record(clean["pair"][0], target=tmp_path / "m", calibration=fitted, segment_ids="zeros")
    assert PairScorer.load(path, threads=1).calibration == "platt"
    assert PairScorer.load(path, segment_ids="zeros", threads=1).calibration == "platt"
    assert PairScorer.load(path, segment_ids="pair", threads=1).calibration is None


@pytest.mark.parametrize("habit", ["pair", "zeros"])
def test_a_teacher_keeps_its_habit(clean: Any, tmp_path: Path, habit: str) -> None:
    from jinyi.train.data.tensors import pad
    from jinyi.train.distill.teacher import Teacher

    path = update_record(clean["pair"][0], target=tmp_path / "m", segment_ids=habit)
    teacher = Teacher(str(path), "pair")
    encoded = teacher.tokenizer.encode_pairs(PAIRS)
    batch = pad([np.asarray(ids) for ids in encoded.ids], teacher.tokenizer.pad_id, encoded.splits)
    scores = torch.softmax(teacher.logits(teacher.states(batch)), -1)[:, 1]
    expected = PairScorer.load(path, threads=1).predict(PAIRS, symmetric=False)
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-6)


def test_weights_with_one_segment(tmp_path: Path) -> None:
    from dataclasses import replace

    one = replace(CONFIG, type_vocab_size=1)
    path = published(
        tmp_path / "m", "pair", config=one, weights=random_weights(one, head="classifier", labels=2)
    )
    scorer = PairScorer.load(path, threads=1)
    assert scorer.segment_ids == "zeros"
    assert np.isfinite(scorer.predict(PAIRS)).all()
    with pytest.raises(InputError, match="one segment alone"):
        PairScorer.load(path, segment_ids="pair")
    with pytest.raises(InputError, match="one segment alone"):
        scorer.predict(PAIRS, segment_ids="pair")


@pytest.mark.parametrize("value", ["both", 1, ""])
def test_unknown_habits_are_refused(clean: Any, tmp_path: Path, value: Any) -> None:
    with pytest.raises(InputError, match="segment_ids"):
        PairScorer.load(clean["pair"][0], segment_ids=value)
    with pytest.raises(InputError, match="segment_ids"):
        write_folder(
            tmp_path / "m",
            task="pair",
            config=CONFIG,
            weights=random_weights(head="classifier"),
            tokenizer=build_tokenizer(VOCAB),
            segment_ids=value,
        )
    path = write_small(tmp_path / "n", "pair")
    edit(path / "jinyi.json", segment_ids=value or "none")
    assert "segment_ids" in error_of(path).found


def test_the_command_takes_both_options(clean: Any, run: Any) -> None:
    path, (a, b) = clean["pair"][0], PAIRS[0]
    zeros = PairScorer.load(path, segment_ids="zeros", similar_label=0).predict((a, b))
    code, out, _ = run("score", a, b, "-m", path, "--segment-ids", "zeros", "--similar-label", "0", "--json")
    assert code == 0
    assert json.loads(out)["score"] == pytest.approx(zeros, abs=1e-6)
    code, _, err = run("score", a, b, "-m", path, "--segment-ids", "both")
    assert code == 2
    assert "'pair' or 'zeros'" in err


# Which output means similar.

NAMES: list[tuple[tuple[str, ...], int | None]] = [
    (("not similar", "similar"), 1),
    (("not similarity", "similarity"), 1),
    (("similar", "not similar"), 0),
    (("不相似", "相似"), 1),
    (("相似", "不相似"), 0),
    (("LABEL_0", "LABEL_1"), 1),
    (("LABEL_1", "LABEL_0"), 0),
    (("0", "1"), 1),
    (("different", "Paraphrase"), 1),
    (("NON-duplicate", "duplicate"), 1),
    (("dissimilar", "LABEL_1"), 1),
    (("无关", "相关"), 1),
    (("neutral", "similar"), 1),
    (("同义", "其他"), 0),
    (("否", "是"), 1),
    (("false", "true"), 1),
    (("anything",), 0),
    (("positive", "negative"), None),
    (("similar", "same"), None),
    (("no", "different"), None),
    (("0", "1", "2"), None),
]


@pytest.mark.parametrize(("names", "similar"), NAMES)
def test_which_output_means_similar(names: tuple[str, ...], similar: int | None) -> None:
    if similar is not None:
        assert find_similar(names, len(names), None, "m") == similar
        return
    with pytest.raises(FolderError, match="similar_label="):
        find_similar(names, len(names), None, "m")
    for index, name in enumerate(names):
        assert find_similar(names, len(names), name, "m") == index
        assert find_similar(names, len(names), index, "m") == index


def test_a_label_that_is_a_number_goes_before_an_index() -> None:
    assert find_similar(("1", "0"), 2, "1", "m") == 0
    assert find_similar(("a", "b"), 2, "1", "m") == 1
    with pytest.raises(FolderError, match="from 0 to 1"):
        find_similar(("a", "b"), 2, "2", "m")


@pytest.mark.parametrize(
    "labels",
    [
        {"id2label": None, "label2id": None},
        {"id2label": None},
        {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}},
        {"id2label": None, "label2id": {"不相似": 0, "相似": "1"}},
        {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"不相似": 0, "相似": 1}},
        {"id2label": {"0": "不相似", "1": "相似"}, "label2id": None},
        {"id2label": {"0": "not similar", "1": "LABEL_1"}},
        {"num_labels": 2, "id2label": {"0": 0, "1": 1}, "label2id": {"0": 0, "1": 1}},
    ],
)
def test_names_of_outputs_change_no_score(clean: Any, tmp_path: Path, labels: dict[str, Any]) -> None:
    path = shutil.copytree(clean["pair"][0], tmp_path / "m")
    edit(path / "config.json", **labels)
    np.testing.assert_array_equal(scores(path, "pair"), clean["pair"][1])


@pytest.mark.parametrize(
    "labels", [{"id2label": {"0": "相似", "1": "不相似"}}, {"label2id": {"相似": 0, "不相似": 1}}]
)
def test_outputs_in_the_other_order(clean: Any, tmp_path: Path, labels: dict[str, Any]) -> None:
    path = shutil.copytree(clean["pair"][0], tmp_path / "m")
    edit(path / "config.json", **({"id2label": None, "label2id": None} | labels))
    tensors = load_file(weights_file(path))
    for name in ("classifier.weight", "classifier.bias"):
        tensors[name] = tensors[name].flip(0).contiguous()
    save_file(tensors, weights_file(path))
    np.testing.assert_array_equal(scores(path, "pair"), clean["pair"][1])


@pytest.mark.parametrize("named", [None, {"0": "LABEL_0", "1": "LABEL_1"}])
def test_what_is_known_of_a_model_names_its_outputs(clean: Any, tmp_path: Path, named: Any) -> None:
    path = shutil.copytree(clean["pair"][0], tmp_path / "m")
    edit(path / "config.json", id2label=named, label2id=None)
    known = read_folder(path, facts={"labels": ["similar", "not similar"]})
    assert known.labels == ("similar", "not similar")
    assert known.similar == 0
    assert read_folder(path).labels == ("LABEL_0", "LABEL_1")
    edit(path / "config.json", id2label={"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"})
    assert "id2label" in error_of(path).found


def test_names_that_contradict_each_other_are_refused(clean: Any, tmp_path: Path) -> None:
    path = shutil.copytree(clean["pair"][0], tmp_path / "m")
    edit(path / "config.json", id2label={"0": "不相似", "1": "相似"}, label2id={"相似": 0, "不相似": 1})
    assert "label2id" in error_of(path).found


# Tokenizers that are missing or of another kind.


@pytest.mark.parametrize(
    ("files", "found", "fix"),
    [
        ((), "no tokenizer.json and no vocab.txt", f"of {len(VOCAB)} lines"),
        (("spiece.model",), "SentencePiece (spiece.model)", "other models"),
        (("vocab.json", "merges.txt"), "byte-pair encoding (vocab.json, merges.txt)", "other models"),
    ],
)
def test_what_a_folder_without_a_tokenizer_is_told(
    clean: Any, tmp_path: Path, files: tuple[str, ...], found: str, fix: str
) -> None:
    path = shutil.copytree(clean["pair"][0], tmp_path / "m")
    drop(*TOKENIZER_FILES)(path)
    for name in files:
        (path / name).write_bytes(b"x")
    error = error_of(path)
    assert found in error.found
    assert fix in error.fix
    with pytest.raises(FolderError) as caught:
        Tokenizer.from_folder(path)
    assert caught.value.found == error.found


@pytest.mark.parametrize("kind", ["Unigram", "BPE"])
def test_a_tokenizer_of_another_kind_is_named(clean: Any, tmp_path: Path, kind: str) -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    path = shutil.copytree(clean["pair"][0], tmp_path / "m")
    Backend(models.Unigram([("a", 0.0)], 0) if kind == "Unigram" else models.BPE()).save(
        str(path / "tokenizer.json")
    )
    assert kind in error_of(path).found
    with pytest.raises(FolderError, match=kind):
        Tokenizer.from_folder(path)


def test_a_vocabulary_of_21128_over_8021_rows(tmp_path: Path) -> None:
    from dataclasses import replace

    rows = replace(CONFIG, vocab_size=8021)
    entries = [*VOCAB, *(f"[unused{index}]" for index in range(8021 - len(VOCAB)))]
    path = published(tmp_path / "m", "embed", config=rows, tokenizer=build_tokenizer(entries, fold=False))
    edit(path / "config.json", vocab_size=21128)
    expected = scores(path, "embed")
    assert any("vocab_size 21128" in note for note in read_folder(path).notes)
    drop("tokenizer.json")(path)
    np.testing.assert_array_equal(scores(path, "embed"), expected)
    with open(path / "vocab.txt", "a", encoding="utf-8") as stream:
        stream.writelines(f"[more{index}]\n" for index in range(21128 - 8021))
    error = error_of(path)
    assert error.found == "21128 tokens"
    assert "at most 8021" in error.expected
    assert "vocab.txt of CLUE" in error.fix
    (path / "vocab.txt").unlink()
    assert "8,021 lines" in error_of(path).fix


def test_added_tokens_beside_a_vocab_file(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    size = len(VOCAB)
    (tmp_path / "vocab.txt").write_text("".join(f"{entry}\n" for entry in VOCAB), encoding="utf-8")
    edit(tmp_path / "config.json", model_type="bert")
    edit(tmp_path / "tokenizer_config.json", tokenizer_class="BertTokenizer")
    edit(tmp_path / "added_tokens.json", **{"<E1>": size, "天气": size + 1})
    texts = ["今天气<E1>a", "<e1>", "a<E1>b今天 天气很好", "天气天气"]
    ours = Tokenizer.from_folder(tmp_path)
    assert ours.encode(texts).ids == AutoTokenizer.from_pretrained(tmp_path)(texts)["input_ids"]
    assert size in ours.encode(texts).ids[0]
    edit(tmp_path / "added_tokens.json", **{"<E1>": size + 7, "天气": None})
    with pytest.raises(FolderError, match=f"the id {size + 7}"):
        Tokenizer.from_folder(tmp_path)


def test_an_added_token_needs_a_row(clean: Any, tmp_path: Path) -> None:
    path = shutil.copytree(clean["pair"][0], tmp_path / "m")
    drop("tokenizer.json")(path)
    edit(path / "added_tokens.json", **{"<E1>": len(VOCAB)})
    assert error_of(path).found == f"{len(VOCAB) + 1} tokens"
