"""Students of teachers: vectors, similarities, classes of pairs, words at masks, hidden states."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from accelerate.utils import send_to_device  # noqa: E402

from jinyi import PairScorer, SentenceEncoder, TopicClassifier  # noqa: E402
from jinyi.errors import FolderError, InputError, TruncationWarning  # noqa: E402
from jinyi.folder import read_folder, write_folder  # noqa: E402
from jinyi.tokens import Tokenizer, build_tokenizer  # noqa: E402
from jinyi.train.build import build_task  # noqa: E402
from jinyi.train.corpus import write_shards  # noqa: E402
from jinyi.train.data.tensors import pad  # noqa: E402
from jinyi.train.distill.teacher import Teacher, shared_tokens  # noqa: E402
from jinyi.train.recipe import (  # noqa: E402
    Batch,
    Data,
    DistillObjective,
    Evaluation,
    Machine,
    Recipe,
    Schedule,
    Source,
    Start,
)
from jinyi.train.run import train  # noqa: E402
from jinyi.train.start import build  # noqa: E402
from jinyi.train.task import Share  # noqa: E402
from jinyi.train.tasks.distill import DistillTask  # noqa: E402
from small_models import CONFIG, MEGATRON, VOCAB, random_weights, whitening, write_small  # noqa: E402

TEXTS = [
    "怎么改密码", "如何修改登录密码", "今天天气很好", "今天心情不好", "体育新闻", "财经新闻的一则",
    "密码是0123", "关于天气，下面是新闻。", "登录不好", "很好很好", "如何改天气？", "abc的密码",
]  # fmt: skip
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 48,
    **NO_DROPOUT,
}
TARGETS = ("vectors", "similarities", "pair", "mlm")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Teachers, a tokenizer and rows."""
    root = tmp_path_factory.mktemp("distill")
    write_small(root / "embed", pooling="cls", normalize=True)
    write_small(root / "mean", config=MEGATRON, weights=random_weights(MEGATRON), dense=[whitening()])
    write_small(root / "prompted", prompts={"q": "关于新闻："}, default_prompt_name="q", pooling="first_last")
    write_small(root / "pair1", "pair", outputs=1)
    write_small(root / "pair3", "classes", outputs=3, labels=["不同", "相关", "相同"])
    write_small(root / "mlm", "mlm")
    build_tokenizer(VOCAB).save(str(root / "tokenizer.json"))
    (root / "texts.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    pairs = [
        {"sentence1": a, "sentence2": b, "label": number % 2}
        for number, (a, b) in enumerate(zip(TEXTS, TEXTS[1:], strict=False))
    ]
    rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in pairs)
    (root / "pairs.jsonl").write_text(rows, encoding="utf-8")
    write_shards([TEXTS[:6], TEXTS[6:]], Tokenizer(build_tokenizer(VOCAB)), root / "shards", words=list)
    return root


def recipe(place: Path, targets: str, teacher: str, *, start: Start | None = None, **options: Any) -> Recipe:
    kind = options.pop("kind", "pairs" if targets == "pair" else "texts")
    source = Source(
        file="pairs.jsonl" if kind == "pairs" else "shards" if kind == "shards" else "texts.txt", kind=kind
    )
    machine = Machine(precision=options.pop("precision", "float32"))
    batch = Batch(rows=options.pop("rows", 6), accumulate=options.pop("accumulate", 1), bucket=False)
    return Recipe(
        name="student",
        task="distill",
        data=Data(
            train=(source,), dev=(source,), folder=str(place), max_length=options.pop("max_length", 24)
        ),
        start=start or Start(config=TINY, tokenizer=str(place / "tokenizer.json")),
        batch=batch,
        schedule=Schedule(steps=50),
        objective=DistillObjective(teacher=str(place / teacher), targets=targets, **options),
        evaluation=Evaluation(),
        machine=machine,
    )


def make(recipe: Recipe) -> DistillTask:
    return DistillTask(recipe, *build(recipe), Share())


def first_loss(task: DistillTask) -> tuple[Any, Any]:
    return task.loss(task.parts(0, Share())[0].inputs)


TEACHER = {"vectors": "embed", "similarities": "embed", "pair": "pair3", "mlm": "mlm"}


@pytest.mark.parametrize("targets", TARGETS)
def test_a_copy_of_the_teacher_has_nothing_to_learn(place: Path, targets: str) -> None:
    teacher = TEACHER[targets]
    copy = Start(model=str(place / teacher), config=NO_DROPOUT)
    task = make(recipe(place, targets, teacher, start=copy, hidden=1.0))
    loss, numbers = first_loss(task)
    assert abs(loss.item()) < 1e-5
    assert numbers["hidden_loss"].item() < 1e-10
    scores = task.evaluate()
    own = {"vectors": "teacher_cosine", "similarities": "teacher_pearson"}.get(targets, "teacher_agreement")
    assert scores[own] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("targets", "teacher", "options"),
    [
        ("vectors", "embed", {}),
        ("vectors", "mean", {"pooling": "mean", "kind": "pairs", "hidden": 0.1}),
        ("similarities", "prompted", {"pooling": "first_last"}),
        ("pair", "pair1", {"temperature": 2.0}),
        ("pair", "pair3", {"hidden": 0.1}),
        ("mlm", "mlm", {"kind": "shards", "hard": 0.5}),
        ("mlm", "mlm", {"hidden": 0.1}),
    ],
)
def test_a_small_student_learns(place: Path, targets: str, teacher: str, options: dict[str, Any]) -> None:
    task = make(recipe(place, targets, teacher, **options))
    own = {"vectors": "teacher_cosine", "similarities": "teacher_pearson"}.get(targets, "teacher_agreement")
    optimizer = torch.optim.Adam(task.network.parameters(), lr=1e-2)
    before, losses = task.evaluate()[own], []
    for step in range(60):
        for part in task.parts(step, Share()):
            loss, _ = task.loss(part.inputs)
            loss.backward()
        missing = [name for name, weight in task.network.named_parameters() if weight.grad is None]
        assert not missing, "weights without a gradient would stop data-parallel training"
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    after = task.evaluate()
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert after[own] > min(before + 0.1, 0.9)
    assert task.metric in after
    assert all(weight.grad is None for weight in task.teacher._network.parameters())


def test_the_teacher_says_what_the_model_says(place: Path) -> None:
    for name in ("embed", "mean", "prompted"):
        teacher = Teacher(str(place / name), "vectors")
        ids = [[*ids[:1], *teacher.prefix, *ids[1:]] for ids in teacher.tokenizer.encode(TEXTS).ids]
        batch = pad(ids, teacher.tokenizer.pad_id)
        vectors = teacher.vectors(teacher.states(batch), batch.lengths)
        expected = SentenceEncoder.load(place / name).encode(TEXTS, normalize=False)
        np.testing.assert_allclose(vectors.numpy(), expected, atol=1e-4)
    teacher = Teacher(str(place / "pair1"), "pair")
    encoded = teacher.tokenizer.encode_pairs(list(zip(TEXTS, TEXTS[1:], strict=False)))
    batch = pad(encoded.ids, teacher.tokenizer.pad_id, encoded.splits)
    similar = torch.sigmoid(teacher.logits(teacher.states(batch)))[:, 0]
    scorer = PairScorer.load(place / "pair1")
    expected = scorer.predict(list(zip(TEXTS, TEXTS[1:], strict=False)), symmetric=False)
    np.testing.assert_allclose(similar.numpy(), expected, atol=1e-5)


def test_a_teacher_in_bfloat16_is_near(place: Path) -> None:
    exact, half = (make(recipe(place, "vectors", "mean", precision=p)) for p in ("float32", "bf16"))
    batch = exact.parts(0, Share())[0].inputs["student"]
    one, other = (t.teacher.vectors(t.teacher.states(batch), batch.lengths) for t in (exact, half))
    assert other.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(one, other).min() > 0.99
    assert not torch.equal(one, other)


@pytest.mark.parametrize("targets", TARGETS)
def test_parts_are_functions_of_the_step_and_cover_the_batch(place: Path, targets: str) -> None:
    options = {"hard": 1.0} if targets == "pair" else {}
    straight = make(recipe(place, targets, TEACHER[targets], **options))
    cut = make(recipe(place, targets, TEACHER[targets], accumulate=2, **options))
    straight.parts(0, Share())
    whole, again = (task.parts(3, Share())[0] for task in (straight, make(straight.recipe)))
    assert torch.equal(whole.inputs["student"].ids, again.inputs["student"].ids)
    pieces = [part for rank in (0, 1) for part in cut.parts(3, Share(rank, 2))]
    assert len(pieces) == 4
    assert sum(part.weight for part in pieces) == whole.weight
    assert sum(part.tokens for part in pieces) == whole.tokens
    if targets == "similarities":  # looks at a part as a whole
        return
    loss = straight.loss(whole.inputs)[0]
    cut.network.load_state_dict(straight.network.state_dict())
    total = sum(cut.loss(part.inputs)[0] * part.weight for part in pieces) / whole.weight
    torch.testing.assert_close(total, loss, rtol=1e-5, atol=1e-6)


def test_own_labels(place: Path) -> None:
    task = make(recipe(place, "pair", "pair1", hard=0.5))
    inputs = task.parts(0, Share())[0].inputs
    loss, numbers = task.loss(inputs)
    logits = task.network.classify(task._imitation.states(inputs)[0][-1][:, 0])[:, 0]
    truth = torch.nn.functional.binary_cross_entropy_with_logits(logits, inputs["labels"])
    torch.testing.assert_close(numbers["hard_loss"], truth)
    torch.testing.assert_close(loss, numbers["imitation_loss"] + 0.5 * truth)
    assert task.metric == "accuracy" and {"accuracy", "teacher_agreement"} <= set(task.evaluate())
    # Without hard, the labels of training rows are not even looked at: three classes are no 0 and 1.
    assert first_loss(make(recipe(place, "pair", "pair3")))[1] == {}
    graded = make(recipe(place, "vectors", "embed", kind="pairs", hard=1.0))
    assert first_loss(graded)[1]["hard_loss"].item() > 0
    assert graded.metric == "spearman" and "spearman" in graded.evaluate()


def test_files_with_and_without_labels_mix(place: Path, tmp_path: Path) -> None:
    rows = [{"sentence1": a, "sentence2": b} for a, b in zip(TEXTS, TEXTS[2:], strict=False)]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "plain.jsonl").write_text(text, encoding="utf-8")
    base = recipe(place, "pair", "pair1", hard=1.0, rows=21)
    plain = Source(file=str(tmp_path / "plain.jsonl"), kind="pairs")
    task = make(replace(base, data=replace(base.data, train=(*base.data.train, plain))))
    inputs = task.parts(0, Share())[0].inputs
    assert len(inputs["student"].ids) == 21 and len(inputs["labelled"]) == len(inputs["labels"]) == 11
    logits = task.network.classify(task._imitation.states(inputs)[0][-1][:, 0])[:, 0]
    truth = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[inputs["labelled"]], inputs["labels"], reduction="sum"
    )
    torch.testing.assert_close(task.loss(inputs)[1]["hard_loss"], truth / 21)


def test_a_label_that_is_no_class(place: Path, tmp_path: Path) -> None:
    rows = [{"sentence1": "怎么改", "sentence2": "改密码", "label": label} for label in ("相同", "相似")]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "bad.jsonl").write_text(text, encoding="utf-8")
    base = recipe(place, "pair", "pair3", hard=1.0)
    source = Source(file=str(tmp_path / "bad.jsonl"), kind="pairs")
    with pytest.raises(InputError, match=r"bad\.jsonl.*2.*相似"):
        make(replace(base, data=replace(base.data, train=(source,))))


@pytest.mark.parametrize("targets", TARGETS)
def test_the_folder_is_the_student(place: Path, targets: str, tmp_path: Path) -> None:
    teacher = TEACHER[targets] if targets != "pair" else "pair1"
    task = make(recipe(place, targets, teacher))
    folder = write_folder(
        tmp_path / "student",
        config=task.network.config,
        weights=task.network.weights(),
        tokenizer=task.tokenizer,
        **task.folder(),
    )
    if targets == "mlm":
        topics = TopicClassifier.load(folder, labels=["体育", "财经"], prompt="关于{}的新闻：")
        assert topics.predict_proba(TEXTS).shape == (len(TEXTS), 2)
        return
    task.network.eval()
    with torch.no_grad():
        ours = task._imitation._answers(task._imitation._train[0].student, teacher=False)
    if targets == "pair":
        pairs = list(zip(TEXTS, TEXTS[1:], strict=False))
        scores = PairScorer.load(folder).predict(pairs, symmetric=False)
        np.testing.assert_allclose(scores, 1 / (1 + np.exp(-ours[:, 0])), atol=1e-5)
    else:
        vectors = SentenceEncoder.load(folder).encode(TEXTS)
        assert vectors.shape[1] == (32 if targets == "vectors" else 16)
        np.testing.assert_allclose(vectors, ours, atol=1e-5)


def test_students_with_another_vocabulary(place: Path, tmp_path: Path) -> None:
    vocabulary = tmp_path / "vocab.txt"
    smaller = [token for token in VOCAB if token not in ("财", "体", "##a", "g")] + ["龙"]
    vocabulary.write_text("\n".join(smaller) + "\n", encoding="utf-8")
    start = Start(config=TINY, tokenizer=str(vocabulary))
    task = make(recipe(place, "mlm", "mlm", start=start))
    inputs = task.parts(0, Share())[0].inputs
    ours, theirs = inputs["student"].ids.flatten().tolist(), inputs["teacher"].flatten().tolist()
    for mine, its in zip(ours, theirs, strict=True):
        assert VOCAB[its] == (smaller[mine] if smaller[mine] in VOCAB else "[UNK]")
    assert first_loss(task)[0].item() > 0
    vectors = make(recipe(place, "vectors", "embed", start=start))
    inputs = vectors.parts(0, Share())[0].inputs
    assert inputs["teacher"] is not None
    unknown = [(inputs[side].ids == VOCAB.index("[UNK]")).sum() for side in ("student", "teacher")]
    assert unknown[0] > unknown[1]
    assert first_loss(vectors)[0].item() > 0
    with pytest.raises(InputError, match="reads other tokens than the student"):
        make(recipe(place, "vectors", "embed", start=start, hidden=1.0))
    with pytest.raises(InputError, match="% of the student's tokens"):
        shared_tokens(Tokenizer(build_tokenizer([*VOCAB[:5], *"龙凤龟虎牛马羊"])), task.teacher.tokenizer)


def test_a_prompt_of_the_teacher_is_read_by_it_alone(place: Path) -> None:
    task = make(recipe(place, "vectors", "prompted"))
    inputs = task.parts(0, Share())[0].inputs
    prompt = task.tokenizer.ids_of_word("关于新闻：")
    assert inputs["teacher"].ids[:, 1 : 1 + len(prompt)].tolist() == [prompt] * 6
    assert inputs["student"].ids.shape[1] + len(prompt) == inputs["teacher"].ids.shape[1]


def test_long_texts_are_cut_for_both(place: Path, tmp_path: Path) -> None:
    with pytest.warns(TruncationWarning):
        task = make(recipe(place, "pair", "pair3", max_length=8))
    for step in range(2):
        ids = task.parts(step, Share())[0].inputs["student"].ids
        assert ids.shape[1] <= 8
        assert ((ids == task.tokenizer.sep_id).sum(1) == 2).all()
    short = replace(CONFIG, max_position_embeddings=7)
    prompt = {"prompts": {"q": "关于新闻："}, "default_prompt_name": "q"}
    write_small(tmp_path / "short", config=short, weights=random_weights(short), **prompt)
    with pytest.raises(InputError, match=r"7 tokens, of which \[CLS\], \[SEP\] and the teacher's prompt"):
        make(recipe(place, "vectors", str(tmp_path / "short")))


def test_evaluation_leaves_no_trace(place: Path) -> None:
    task = make(recipe(place, "mlm", "mlm"))
    state = torch.random.get_rng_state()
    first = task.evaluate()
    assert torch.equal(torch.random.get_rng_state(), state) and task.network.training
    assert task.evaluate() == first
    base = task.recipe
    two = (base.data.dev[0], replace(base.data.dev[0], name="other", limit=3))
    many = make(replace(base, data=replace(base.data, dev=two))).evaluate()
    assert {"mlm_accuracy", "texts_mlm_accuracy", "other_mlm_accuracy"} <= set(many)
    none = make(replace(base, data=replace(base.data, dev=())))
    assert none.evaluate() == {}
    with pytest.raises(InputError, match="two dev files called texts"):
        make(replace(base, data=replace(base.data, dev=(base.data.dev[0],) * 2)))


def test_inputs_travel(place: Path) -> None:
    """Parts are moved by the loop: named tuples and missing parts must come through."""
    part = make(recipe(place, "vectors", "embed")).parts(0, Share())[0]
    moved = send_to_device(part.inputs, torch.device("cpu"))
    assert moved["teacher"] is None and torch.equal(moved["student"].ids, part.inputs["student"].ids)


def test_wrong_teachers(place: Path, tmp_path: Path) -> None:
    for name, targets in (("embed", "mlm"), ("mlm", "pair")):
        with pytest.raises(FolderError):
            make(recipe(place, targets, name))
    write_small(tmp_path / "max", pooling="max")
    with pytest.raises(FolderError, match="pooling 'max'"):
        Teacher(str(tmp_path / "max"), "vectors")
    with pytest.raises(FolderError, match="no word on pooling"):
        Teacher(str(place / "mlm"), "vectors")
    short = replace(CONFIG, max_position_embeddings=20)
    write_small(tmp_path / "short", "mlm", config=short, weights=random_weights(short, head="mlm"))
    with pytest.raises(InputError, match="positions of the teacher"):
        make(recipe(place, "mlm", str(tmp_path / "short")))


def test_describe_names_rows(place: Path) -> None:
    texts = make(recipe(place, "vectors", "embed"))
    assert "texts.txt" in texts.describe(0, Share(), 0)
    assert "shards: rows" in make(recipe(place, "mlm", "mlm", kind="shards")).describe(0, Share(), 0)


def test_a_teacher_cut_smaller_becomes_a_student(place: Path, tmp_path: Path) -> None:
    """The way of docs/distillation.md: chosen layers, a pruned vocabulary, a run, a model that opens."""
    vocabulary = tmp_path / "vocab.txt"
    kept = [token for token in VOCAB if not token.startswith("##")]
    vocabulary.write_text("\n".join(kept) + "\n", encoding="utf-8")
    start = Start(model=str(place / "pair1"), layers=(1,), tokenizer=str(vocabulary))
    plan = recipe(place, "pair", "pair1", start=start, hard=0.3, hidden=0.0, precision="bf16")
    plan = replace(plan, schedule=Schedule(steps=3), machine=replace(plan.machine, device="cpu", threads=1))
    result = train(plan, build_task(plan), folder=tmp_path / "run", progress=False)
    assert result.why == "finished" and result.model is not None
    scorer = PairScorer.load(result.model)
    assert scorer.predict([("怎么改密码", "如何修改登录密码")]).shape == (1,)
    assert read_folder(result.model).config.vocab_size == len(kept)


def test_settings_that_teach_nothing_or_cannot_be_written(place: Path) -> None:
    make(recipe(place, "similarities", "embed", rows=6, accumulate=3))
    with pytest.raises(InputError, match="a single row for similarities"):
        make(recipe(place, "similarities", "embed", rows=6, accumulate=6))
    wider = recipe(place, "vectors", "embed")
    with pytest.raises(InputError, match="with machine.fsdp"):
        make(replace(wider, machine=Machine(fsdp=True)))
