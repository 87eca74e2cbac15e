"""Prompts and label words: what a batch holds, what its losses are, what is learned, what the folder says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from small_models import CONFIG, VOCAB

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from forked import succeed  # noqa: E402
from jinyi import InputError, TopicClassifier, TruncationWarning  # noqa: E402
from jinyi.folder import read_folder, write_folder  # noqa: E402
from jinyi.label_words import label_words  # noqa: E402
from jinyi.models.seen import knows  # noqa: E402
from jinyi.models.source import Source as OpenedSource  # noqa: E402
from jinyi.tokens import Tokenizer, build_tokenizer  # noqa: E402
from jinyi.train.data.topics import Prompt  # noqa: E402
from jinyi.train.losses import supcon  # noqa: E402
from jinyi.train.network import Network  # noqa: E402
from jinyi.train.recipe import (  # noqa: E402
    Batch,
    Data,
    Evaluation,
    Recipe,
    Schedule,
    Source,
    Start,
    TopicObjective,
)
from jinyi.train.task import Share  # noqa: E402
from jinyi.train.tasks.topic import TopicTask  # noqa: E402
from topic_process import task as process_task  # noqa: E402
from train_toys import gradient, shares_of_steps  # noqa: E402

TOKENIZER = Tokenizer(build_tokenizer(VOCAB))
QUIET = replace(CONFIG, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
PROMPTS = ("下面是一则关于{}的新闻：", "是{}的：")
WORDS = {"sport": "体育", "money": "财经", "mood": "心情"}
UNEQUAL = {"sport": "体育", "money": "财", "mood": "好心情"}
TEXTS = {"sport": "怎么改密", "money": "登录今天", "mood": "如何修好"}


def write_rows(path: Path, rows: int = 60, seed: int = 0, names: tuple[str, ...] = tuple(TEXTS)) -> Path:
    """Texts whose characters tell their topic."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as stream:
        for row in range(rows):
            name = names[row % len(names)]
            text = "".join(rng.choice(list(TEXTS[name]), rng.integers(4, 12)))
            stream.write(json.dumps({"text": text, "label": name}, ensure_ascii=False) + "\n")
    return path


def recipe(
    *train: Path, dev: tuple[Path, ...] = (), rows: int = 12, accumulate: int = 1, length: int = 32, **options
) -> Recipe:
    words, prompts = options.pop("words", WORDS), options.pop("prompts", PROMPTS)
    return Recipe(
        name="test",
        task="topic",
        data=Data(
            train=tuple(Source(str(path), prompts=prompts, words=words) for path in train),
            dev=tuple(Source(str(path)) for path in dev),
            max_length=length,
        ),
        start=Start(),
        batch=Batch(rows=rows, accumulate=accumulate),
        schedule=Schedule(steps=10),
        objective=TopicObjective(**options),
        seed=5,
    )


def network(config=QUIET, scale: float = 1.0) -> Network:
    torch.manual_seed(0)
    made = Network(config, mlm=True)
    with torch.no_grad():
        for weight in made.parameters():
            weight *= scale if weight.ndim > 1 else 1.0
    return made


def task_of(own: Recipe, **options) -> TopicTask:
    return TopicTask(own, network(**options), TOKENIZER, Share())


def fit(task: TopicTask, steps: int, lr: float = 5e-3) -> None:
    optimizer = torch.optim.AdamW(task.network.parameters(), lr=lr)
    task.network.train()
    for step in range(steps):
        gradient(task, step, (Share(),))
        optimizer.step()


@pytest.mark.parametrize("prompt", [*PROMPTS, "{text}是{}", "今天{text}，{}的新闻"])
@pytest.mark.parametrize("masks", [1, 2])
def test_prompts_are_those_of_the_tokenizer(prompt: str, masks: int) -> None:
    texts = ["今天天气很好", "密码", "怎么改密码如何修登录今天气很好"]
    expected = TOKENIZER.encode_prompt(texts, prompt, masks, max_length=20, truncate="report")
    made = Prompt(prompt, TOKENIZER, masks, 20)
    for text, ids, places in zip(texts, expected.ids, expected.masks, strict=True):
        own, at, text_at = made.build(np.array(TOKENIZER.ids_of_word(text), np.uint16), masks)
        assert own.tolist() == ids and at.tolist() == places
        assert own[text_at] == TOKENIZER.ids_of_word(text)[0]


@pytest.mark.parametrize("words", [WORDS, UNEQUAL])
def test_losses_by_their_definition(tmp_path: Path, words: dict[str, str]) -> None:
    own = recipe(
        write_rows(tmp_path / "news" / "train.jsonl"),
        words=words,
        mlm=0.5,
        labels=2.0,
        contrastive=0.25,
        views=2,
        temperature=0.1,
    )
    task = task_of(own, scale=5.0)
    (part,) = task.parts(3, Share())
    loss, numbers = task.loss(part.inputs)
    rows = task._sampler.rows(3)[1]
    topics = task._train[0]
    names = [topics.rows.labels[row] for row in rows]
    texts = [topics.rows.texts[0][row] for row in rows]
    first = next(p for p in range(2) if _shown(part, PROMPTS[p]) == 0)
    mlm, labels, vectors = [], [], []
    with torch.no_grad():
        for view in range(2):
            prompt = Prompt(PROMPTS[(first + view) % 2], TOKENIZER, 3, 32)
            for name, text in zip(names, texts, strict=True):
                scores = []
                for word in words.values():
                    answer = TOKENIZER.ids_of_word(word)
                    ids, masks, _ = prompt.build(text, len(answer))
                    states = task.network(torch.from_numpy(ids)[None])[-1]
                    log_p = F.log_softmax(task.network.words(states[0, masks]), 1)
                    scores.append(log_p[range(len(answer)), answer].mean())
                    if word == words[name]:
                        mlm.append(-scores[-1])
                        vectors.append(states[0].mean(0))
                labels.append(F.cross_entropy(torch.stack(scores), torch.tensor(list(words).index(name))))
    expected = {
        "mlm": torch.stack(mlm).mean(),
        "labels": torch.stack(labels).mean(),
        "contrastive": supcon(
            torch.stack(vectors), torch.tensor([list(words).index(n) for n in names * 2]), temperature=0.1
        ),
    }
    for name, value in expected.items():
        torch.testing.assert_close(numbers[name], value, rtol=1e-4, atol=1e-5)
    total = 0.5 * expected["mlm"] + 2.0 * expected["labels"] + 0.25 * expected["contrastive"]
    torch.testing.assert_close(loss.detach(), total, rtol=1e-4, atol=1e-5)
    assert part.weight == len(rows)


def _shown(part, prompt: str) -> int:
    """In which view the prompt is, by its first token behind [CLS]."""
    begin = TOKENIZER.ids_of_word(prompt.split("{}")[0])[0]
    own = part.inputs["own"]
    views = part.inputs["ids"][own].reshape(2, -1, part.inputs["ids"].shape[1])
    return next(view for view in range(2) if views[view, 0, 1] == begin)


def test_a_text_is_shown_with_its_own_masks_alone_where_labels_are_not_scored(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "news" / "train.jsonl")
    (few,) = task_of(recipe(path, words=UNEQUAL)).parts(0, Share())
    (all_sizes,) = task_of(recipe(path, words=UNEQUAL, labels=1.0)).parts(0, Share())
    assert 3 * len(few.inputs["ids"]) == len(all_sizes.inputs["ids"]) == 36
    assert few.inputs["scores"] == [] and len(all_sizes.inputs["scores"]) == 3
    for part in (few, all_sizes):
        own, ids = part.inputs["own"], part.inputs["ids"]
        masks = (ids[own] == TOKENIZER.mask_id).sum(1).tolist()
        assert masks == [(2, 1, 3)[topic] for topic in part.inputs["topics"].tolist()]
    # Equal lengths: scored at no cost.
    (equal,) = task_of(recipe(path)).parts(0, Share())
    assert len(equal.inputs["scores"]) == 1 and len(equal.inputs["ids"]) == 12


@pytest.mark.parametrize("options", [{}, {"words": UNEQUAL, "labels": 1.0, "random_mlm": 1.0, "views": 2}])
def test_a_batch_cut_in_any_way_is_the_same_step(tmp_path: Path, options: dict) -> None:
    path = write_rows(tmp_path / "news" / "train.jsonl")
    whole = gradient(task_of(recipe(path, **options), scale=3.0), 3, (Share(),))
    for world, accumulate in ((2, 1), (1, 3), (2, 2)):
        task = task_of(recipe(path, accumulate=accumulate, **options), scale=3.0)
        loss, grad = gradient(task, 3, tuple(Share(rank, world) for rank in range(world)))
        assert loss == pytest.approx(whole[0], rel=1e-5)
        torch.testing.assert_close(grad, whole[1], rtol=1e-3, atol=1e-6)


def test_random_masks_are_in_the_text_and_the_same_in_every_input_of_it(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "news" / "train.jsonl")
    task = task_of(recipe(path, words=UNEQUAL, labels=1.0, random_mlm=1.0))
    (part,) = task.parts(2, Share())
    (plain,) = task_of(recipe(path, words=UNEQUAL, labels=1.0)).parts(2, Share())
    inputs, words = part.inputs, part.inputs["words"]
    places, targets = inputs["places"][words:], inputs["targets"][words:]
    assert len(places) >= 12 and (plain.inputs["ids"].ravel()[places] == targets).all()
    assert set((places // inputs["ids"].shape[1]).tolist()) == set(inputs["own"].tolist())
    for weights in (inputs["weights"][words:], inputs["weights"][:words]):
        torch.testing.assert_close(weights.sum(), torch.tensor(1.0))
    # The text behind the prompt is the same with one, two and three masks, and changed in some places.
    lengths = [len(task._train[0].rows.texts[0][row]) for row in task._sampler.rows(2)[1]]
    ends = (inputs["ids"] == TOKENIZER.sep_id).int().argmax(1).tolist()
    texts = [
        inputs["ids"][number][end - lengths[number % 12] : end].tolist() for number, end in enumerate(ends)
    ]
    assert len(texts) == 36 and texts[:12] == texts[12:24] == texts[24:]
    assert sum(TOKENIZER.mask_id in text for text in texts[:12]) >= 6


@pytest.mark.parametrize("words", [WORDS, UNEQUAL])
def test_learns_topics_by_label_words(tmp_path: Path, words: dict[str, str]) -> None:
    train = write_rows(tmp_path / "news" / "train.jsonl")
    dev = write_rows(tmp_path / "news" / "dev.jsonl", 30, seed=1)
    task = task_of(recipe(train, dev=(dev,), words=words, labels=1.0))
    fit(task, 40 if words is WORDS else 100)
    scores = task.evaluate()
    assert scores == {"accuracy": 1.0, "macro_f1": 1.0}
    assert task.network.training


def test_scores_are_those_of_the_classifier(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "news" / "train.jsonl", 12)
    task = task_of(recipe(train, words=UNEQUAL), scale=8.0)
    path = write_folder(
        tmp_path / "model",
        config=task.network.config,
        weights=task.network.weights(),
        tokenizer=TOKENIZER,
        **task.folder(),
    )
    folder = read_folder(path)
    assert folder.task == "topic" and list(folder.labels) == list(UNEQUAL.values())
    assert dict(folder.prompts) == {"news": PROMPTS[0], "news_2": PROMPTS[1]}
    assert folder.default_prompt_name == "news" and folder.pooling == "mean"
    classifier = TopicClassifier.load(path)
    texts = [json.loads(line)["text"] for line in train.read_text(encoding="utf-8").splitlines()]
    expected = classifier.decision_function(texts)
    scores = torch.log_softmax(torch.from_numpy(task.label_scores(task._train[0])), 1).numpy()
    np.testing.assert_allclose(scores, expected, atol=2e-3)
    assert expected.std() > 0.1


def test_rows_of_one_kind_in_two_files_name_the_prompts_once(tmp_path: Path) -> None:
    files = [write_rows(tmp_path / name / "train.jsonl", 12) for name in ("news", "more")]
    assert task_of(recipe(*files)).folder()["prompts"] == {"news": PROMPTS[0], "news_2": PROMPTS[1]}
    other = replace(recipe(files[1], prompts=PROMPTS[:1]).data.train[0], name="less")
    own = recipe(*files)
    own = replace(own, data=replace(own.data, train=(*own.data.train, other)))
    assert task_of(own).folder()["prompts"] == {"news": PROMPTS[0], "news_2": PROMPTS[1], "less": PROMPTS[0]}


def test_folder_tells_the_texts_that_it_was_trained_on(tmp_path: Path) -> None:
    train, other = (
        write_rows(tmp_path / "news" / "train.jsonl", 24),
        write_rows(tmp_path / "dev.jsonl", 24, seed=1),
    )
    own = recipe(train)
    source = OpenedSource.open(made(own, tmp_path / "model"), "topic", threads=1)
    known, new = (
        [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]
        for file in (train, other)
    )
    assert knows(source, known) and not knows(source, new)
    silent = replace(own, output=replace(own.output, seen_texts=False))
    assert not knows(OpenedSource.open(made(silent, tmp_path / "silent"), "topic", threads=1), known)


def made(own: Recipe, path: Path) -> Path:
    """The folder that a run of this recipe ends with, of random weights."""
    task = task_of(own)
    weights, config = task.network.weights(), task.network.config
    return write_folder(path, config=config, weights=weights, tokenizer=TOKENIZER, **task.folder())


def test_embedding_family(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "news" / "train.jsonl")
    dev = write_rows(tmp_path / "news" / "dev.jsonl", 30, seed=1)
    own = recipe(train, dev=(dev,), family="embedding", mlm=0.0, contrastive=1.0, views=2)
    task = task_of(own)
    fit(task, 40)
    scores = task.evaluate()
    assert scores["accuracy"] == scores["prompted_accuracy"] == 1.0
    told = task.folder()
    assert told.pop("seen_texts") and told == {"task": "embed", "pooling": "mean", "normalize": True}
    vectors = task.vectors(task._train[0], np.arange(60))
    with torch.no_grad():
        ids = torch.tensor([[2, *task._train[0].rows.texts[0][7].tolist(), 3]])
        np.testing.assert_allclose(vectors[7], task.network(ids)[-1][0].mean(0), atol=1e-5)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    same = task._train[0].targets[:, None] == task._train[0].targets
    assert (unit @ unit.T)[same].min() > (unit @ unit.T)[~same].max()


def test_batches_are_of_one_file_and_views_have_different_prompts(tmp_path: Path) -> None:
    paths = [write_rows(tmp_path / name / "train.jsonl", 24, seed) for seed, name in enumerate("ab")]
    task = task_of(recipe(*paths, views=2))
    assert task.rows == 48 and task.epoch_steps == 4
    orders = set()
    for step in range(12):
        assert len(set(task._sampler.rows(step)[0].tolist())) == 1
        (part,) = task.parts(step, Share())
        orders.add(_shown(part, PROMPTS[0]))
        assert {_shown(part, prompt) for prompt in PROMPTS} == {0, 1}
        assert "train.jsonl:" in task.describe(step, Share(), 0)
    assert orders == {0, 1}


def test_packaged_label_words(tmp_path: Path) -> None:
    news = label_words("tnews")
    vocab = sorted(set("".join((*news.words.values(), *news.prompts))) - set("{}"))
    tokenizer = Tokenizer(build_tokenizer([*VOCAB[:5], *vocab]))
    path = tmp_path / "train.jsonl"
    rows = [("新闻", 103), ("房产", "news_house"), ("汽车", 6), ("故事", "100")]
    path.write_text(
        "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows), encoding="utf-8"
    )
    own = recipe(path, words=None, prompts=(), rows=4)
    source = Source(str(path), label_words="tnews")
    own = replace(own, data=replace(own.data, train=(source,), dev=(source,)))
    made = Network(replace(QUIET, vocab_size=tokenizer.vocab_size), mlm=True)
    task = TopicTask(own, made, tokenizer, Share())
    topics = task._train[0]
    assert [topics.words[target] for target in topics.targets] == ["体育", "房产", "汽车", "故事"]
    assert tuple(prompt.text for prompt in topics.prompts) == news.prompts
    assert len(topics.labels) == 15 and 0.0 <= task.evaluate()["accuracy"] <= 1.0


def test_bad_files(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "news" / "train.jsonl")
    with pytest.raises(InputError, match=r"train.jsonl:3: found label 'mood'; expected one of \['sport'"):
        task_of(recipe(train, words={"sport": "体育", "money": "财经"}))
    with pytest.raises(InputError, match="label word '游戏' with characters outside the vocabulary"):
        task_of(recipe(train, words={**WORDS, "mood": "游戏"}))
    with pytest.raises(InputError, match="no prompts"):
        task_of(recipe(train, prompts=()))
    with pytest.raises(InputError, match="one {} where the label goes"):
        task_of(recipe(train, prompts=("新闻：",)))
    with pytest.raises(InputError, match="the prompt take 15"):
        task_of(recipe(train, length=15))
    blank = tmp_path / "blank.jsonl"
    blank.write_text('{"text": "今天"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="blank.jsonl:1: found label None"):
        task_of(recipe(blank))
    with pytest.raises(InputError, match="no training file called other"):
        dev = write_rows(tmp_path / "other" / "dev.jsonl")
        own = recipe(train, dev=(dev,), family="embedding", contrastive=1.0)
        own = replace(own, data=replace(own.data, dev=(replace(own.data.train[0], file=str(dev)),)))
        task_of(own)


def test_what_is_cut_is_told_once_and_whole(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "news" / "train.jsonl")
    lines = train.read_text(encoding="utf-8").splitlines()
    lengths = np.array([len(json.loads(line)["text"]) for line in lines])
    for length in (20, 17):  # with and without texts that are too long even without the prompt
        room = length - 2 - 2 - len(PROMPTS[0].replace("{}", ""))
        lost = np.maximum(lengths - room, 0)
        with pytest.warns(TruncationWarning) as told:
            task_of(recipe(train, length=length))
        assert len(told) == 1
        assert f"{(lost > 0).sum()} of 60 texts cut, {lost.sum()} tokens not read" in str(told[0].message)


def test_evaluation_leaves_no_trace(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "news" / "train.jsonl")
    dev = write_rows(tmp_path / "news" / "dev.jsonl", 30, seed=1)
    own = replace(recipe(train, dev=(dev,)), evaluation=Evaluation(limit=7))
    task = task_of(own, config=CONFIG)
    task.network.train()
    state = torch.random.get_rng_state()
    assert task.evaluate() == task.evaluate()
    assert (torch.random.get_rng_state() == state).all() and task.network.training
    assert len(task._dev["news"].rows) == 7
    assert task_of(recipe(train)).evaluate() == {}


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Texts of the other process are partners and negatives of the contrastive loss, with their gradients."""
    write_rows(tmp_path / "train.jsonl", 18)
    succeed("topic_process.py", [(rank, 2, tmp_path) for rank in range(2)])
    expected = shares_of_steps(process_task(tmp_path, Share()), Share())
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for (loss, whole), (one, first), (two, second) in zip(expected, *parts, strict=True):
        assert one + two == pytest.approx(loss, rel=1e-5)
        assert whole["encoder.embeddings.word_embeddings.weight"].abs().max() > 1e-4
        for name in whole:
            torch.testing.assert_close(
                first[name] + second[name], whole[name], rtol=1e-3, atol=1e-5, msg=name
            )


def test_parts_and_names_that_cannot_be(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a" / "train.jsonl", 6)
    with pytest.raises(InputError, match="a batch of 6 rows; expected at least 8"):  # before the first step
        task_of(recipe(path, accumulate=8))
    task_of(recipe(path, accumulate=6))
    with pytest.raises(InputError, match="a single row for contrastive"):
        task_of(recipe(path, accumulate=6, contrastive=1.0, views=2))
    with pytest.raises(InputError, match="two train files called a"):
        task_of(recipe(path, write_rows(tmp_path / "b" / "a" / "train.jsonl")))
