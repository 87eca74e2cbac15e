"""Masked language model from shards: what is learned, what a step is made of, what dev scores say."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from small_models import CONFIG, VOCAB

torch = pytest.importorskip("torch")

from jinyi import FolderError, InputError  # noqa: E402
from jinyi.tokens import Tokenizer, build_tokenizer  # noqa: E402
from jinyi.train.corpus import write_shards  # noqa: E402
from jinyi.train.network import Network  # noqa: E402
from jinyi.train.recipe import (  # noqa: E402
    Batch,
    Data,
    Evaluation,
    PretrainObjective,
    Recipe,
    Schedule,
    Source,
    Start,
)
from jinyi.train.task import Share  # noqa: E402
from jinyi.train.tasks.pretrain import PretrainTask  # noqa: E402
from train_toys import gradient  # noqa: E402

TOKENIZER = Tokenizer(build_tokenizer(VOCAB))
CHARACTERS = "怎么改密码如何修登录今天气很好不心情体育财经新闻的一则关于是下面"
QUIET = replace(CONFIG, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=64)


def twos(text: str) -> list[str]:
    return [text[i : i + 2] for i in range(0, len(text), 2)]


def write_corpus(path: Path, documents: int = 30, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    letters = np.array(list(CHARACTERS))
    corpus = [
        ["".join(rng.choice(letters, rng.integers(5, 15))) for _ in range(rng.integers(2, 7))]
        for _ in range(documents)
    ]
    return write_shards(corpus, TOKENIZER, path, words=twos)


def recipe(*train: Path, dev: tuple[Path, ...] = (), rows: int = 8, accumulate: int = 1, **options) -> Recipe:
    weight = options.pop("weight", 1.0)
    return Recipe(
        name="test",
        task="pretrain",
        data=Data(
            train=tuple(Source(str(path), weight=weight) for path in train),
            dev=tuple(Source(str(path)) for path in dev),
            max_length=options.pop("length", 32),
        ),
        start=Start(),
        batch=Batch(rows=rows, accumulate=accumulate),
        schedule=Schedule(steps=10),
        objective=PretrainObjective(**options),
        seed=5,
    )


def network(order: bool = False, config=QUIET) -> Network:
    torch.manual_seed(0)
    return Network(config, mlm=True, outputs=2 if order else 0)


def task_of(recipe: Recipe, config=QUIET) -> PretrainTask:
    return PretrainTask(recipe, network(recipe.objective.sentence_order, config), TOKENIZER, Share())


def enlarge(task: PretrainTask, scale: float) -> None:
    """Enlarge the random weights: features to choose from, where 0.02 leaves a small network near zero."""
    with torch.no_grad():
        for weight in task.network.parameters():
            weight *= scale if weight.ndim > 1 else 1.0


def fit(task: PretrainTask, steps: int, lr: float, warmup: int = 10) -> list[float]:
    """Train; the loss of each step."""
    optimizer = torch.optim.AdamW(task.network.parameters(), lr=lr)
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min((step + 1) / warmup, 1.0, 2 * (steps - step) / steps)
        loss, _ = gradient(task, step, (Share(),))
        optimizer.step()
        losses.append(loss)
    return losses


@pytest.mark.slow
def test_overfits_a_small_file_to_accuracy_one(tmp_path: Path) -> None:
    """The sample run of CLUE's pretraining: one small file, until every masked token is right."""
    shards = write_corpus(tmp_path / "shards", documents=3)
    config = replace(QUIET, hidden_size=64, intermediate_size=128)
    own = recipe(shards, dev=(shards,), length=64, rows=8, packing="lines", units="words")
    task = task_of(own, config=config)
    enlarge(task, 3.0)
    before = task.evaluate()["mlm_accuracy"]
    losses = fit(task, 300, 4e-3)
    scores = task.evaluate()
    assert before < 0.2 and losses[-1] < 0.5 < 3 < losses[0]
    assert scores["mlm_accuracy"] == 1.0


@pytest.mark.parametrize("options", [{}, {"packing": "lines"}, {"sentence_order": True}])
def test_parts_are_a_function_of_step_and_share(tmp_path: Path, options: dict) -> None:
    own = recipe(write_corpus(tmp_path / "a"), write_corpus(tmp_path / "b", seed=1), **options)
    one, two = task_of(own), task_of(own)
    for step in (7, 0, 7, 3 * one.epoch_steps + 1):
        for a, b in zip(one.parts(step, Share()), two.parts(step, Share()), strict=True):
            assert a.weight == b.weight and a.tokens == b.tokens
            for name, value in a.inputs.items():
                assert value is b.inputs[name] or np.array_equal(value, b.inputs[name])
    seen = {
        tuple(part.inputs["ids"].ravel().tolist()) for step in range(9) for part in one.parts(step, Share())
    }
    assert len(seen) == 9


@pytest.mark.parametrize("options", [{}, {"packing": "lines"}, {"sentence_order": True}])
def test_a_batch_cut_in_any_way_is_the_same_step(tmp_path: Path, options: dict) -> None:
    shards = write_corpus(tmp_path / "a"), write_corpus(tmp_path / "b", seed=1)
    whole = gradient(task_of(recipe(*shards, **options)), 3, (Share(),))
    assert whole[1].abs().max() > 1e-3
    for world, accumulate in ((2, 1), (1, 4), (2, 2)):
        task = task_of(recipe(*shards, accumulate=accumulate, **options))
        shares = tuple(Share(rank, world) for rank in range(world))
        assert all(len(task.parts(3, share)) == accumulate for share in shares)
        loss, grad = gradient(task, 3, shares)
        assert loss == pytest.approx(whole[0], rel=1e-6)
        torch.testing.assert_close(grad, whole[1], rtol=1e-4, atol=1e-6)


def test_what_a_part_holds(tmp_path: Path) -> None:
    task = task_of(recipe(write_corpus(tmp_path / "a"), rows=6))
    (part,) = task.parts(2, Share())
    ids, places, targets = (part.inputs[name] for name in ("ids", "places", "targets"))
    assert ids.shape == (5, 32) and part.tokens == 160 and part.inputs["lengths"] is None
    assert part.weight == len(places) == len(targets)
    assert 0.1 < len(places) / (5 * 30) < 0.2
    masked = ids.ravel()[places]
    assert (masked == TOKENIZER.mask_id).float().mean() > 0.5
    assert TOKENIZER.cls_id not in targets and TOKENIZER.sep_id not in targets
    loss, numbers = task.loss(part.inputs)
    # The definition: the whole vocabulary at every place, cross-entropy where something is masked.
    with torch.no_grad():
        logits = task.network.words(task.network(ids)[-1].reshape(-1, 32))
    expected = torch.nn.functional.cross_entropy(logits[places], targets)
    torch.testing.assert_close(loss.detach(), expected)
    assert float(numbers["mlm_accuracy"]) == (logits[places].argmax(1) == targets).float().mean()
    assert "rows" in task.describe(2, Share(), 0) and str(tmp_path) in task.describe(2, Share(), 0)


def test_lines_of_a_batch_have_nearly_one_length(tmp_path: Path) -> None:
    task = task_of(recipe(write_corpus(tmp_path / "a", 120), packing="lines", rows=8))
    padded = real = 0
    for step in range(task.epoch_steps):
        (part,) = task.parts(step, Share())
        real += part.tokens
        padded += part.inputs["ids"].numel()
    assert real / padded > 0.9
    assert task.rows == sum(
        len(task.parts(step, Share())[0].inputs["ids"]) for step in range(task.epoch_steps)
    )


def test_sentence_order_is_learned(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    opening, ending = (
        "".join(rng.choice(list(letters), (400, 6)).ravel()) for letters in ("怎么改密", "天气很好")
    )
    corpus = [[opening[i : i + 6], ending[i : i + 6]] for i in range(0, 2400, 6)]
    shards = write_shards(corpus, TOKENIZER, tmp_path / "shards", words=list)
    own = recipe(shards, dev=(shards,), sentence_order=True, units="tokens", rows=16)
    task = task_of(own)
    enlarge(task, 6.0)
    (part,) = task.parts(0, Share())
    assert set(part.inputs["swapped"].tolist()) == {0, 1}
    loss, numbers = task.loss(part.inputs)
    assert float(loss.detach()) == pytest.approx(
        float(numbers["mlm_loss"]) + float(numbers["order_loss"]), rel=1e-6
    )
    fit(task, 60, 3e-3)
    assert task.evaluate()["order_accuracy"] > 0.9


def test_dev_scores(tmp_path: Path) -> None:
    a, b = write_corpus(tmp_path / "a"), write_corpus(tmp_path / "b", seed=1)
    task = task_of(recipe(a, dev=(a, b)), config=replace(CONFIG, max_position_embeddings=64))
    state = torch.random.get_rng_state()
    task.network.train()
    scores = task.evaluate()
    assert task.network.training and (torch.random.get_rng_state() == state).all()
    assert scores == task.evaluate()
    assert scores["mlm_accuracy"] == pytest.approx((scores["a_mlm_accuracy"] + scores["b_mlm_accuracy"]) / 2)
    assert scores["mlm_loss"] == pytest.approx(np.log(len(VOCAB)), rel=0.1)
    assert task.metric in scores
    # The same masks with another seed: scores of runs can be compared.
    other = PretrainTask(replace(task.recipe, seed=6), task.network, TOKENIZER, Share())
    assert other.evaluate() == scores
    first = replace(task.recipe, evaluation=Evaluation(limit=2))
    assert PretrainTask(first, task.network, TOKENIZER, Share()).evaluate() != scores
    assert task_of(recipe(a)).evaluate() == {}


def test_two_dev_files_of_one_name(tmp_path: Path) -> None:
    a, b = write_corpus(tmp_path / "x" / "shards"), write_corpus(tmp_path / "y" / "shards")
    with pytest.raises(InputError, match="dev files called shards, shards"):
        task_of(recipe(a, dev=(a, b)))


def test_another_vocabulary(tmp_path: Path) -> None:
    shards = write_corpus(tmp_path / "a")
    other = Tokenizer(build_tokenizer([*VOCAB[:5], *reversed(VOCAB[5:])]))
    with pytest.raises(FolderError, match="token 5 is"):
        PretrainTask(recipe(shards), network(), other, Share())


def test_too_little_text(tmp_path: Path) -> None:
    shards = write_shards([["今天很好"]], TOKENIZER, tmp_path / "s", words=list)
    with pytest.raises(InputError, match="one row of 32 tokens"):
        task_of(recipe(shards))
    with pytest.raises(InputError, match="two sentences next to each other"):
        task_of(recipe(shards, sentence_order=True))


def test_limit(tmp_path: Path) -> None:
    own = recipe(write_corpus(tmp_path / "a"))
    limited = replace(own, data=replace(own.data, train=(replace(own.data.train[0], limit=5),)))
    assert task_of(limited).rows == 5 < task_of(own).rows


def test_folder_opens_as_a_language_model(tmp_path: Path) -> None:
    from jinyi.folder import read_folder, write_folder

    task = task_of(recipe(write_corpus(tmp_path / "a"), sentence_order=True))
    path = write_folder(
        tmp_path / "model",
        config=task.network.config,
        weights=task.network.weights(),
        tokenizer=TOKENIZER,
        **task.folder(),
    )
    folder = read_folder(path)
    assert folder.task == "mlm" and "classifier.weight" not in folder.weights()


def test_recipes_of_the_documentation() -> None:
    from jinyi.train.recipe.reading import parse

    text = (Path(__file__).parent.parent / "docs" / "pretraining.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    assert [parse(block).task for block in blocks] == ["pretrain", "topic"]
