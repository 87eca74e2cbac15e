"""Golden sentences: inputs a model folder carries with their outputs, so that a damaged copy is noticed at load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from jinyi.errors import InputError
from jinyi.folder import Golden
from jinyi.models.common import GOLDEN_TEXTS
from jinyi.models.pair_scorer import PairScorer
from jinyi.models.sentence_encoder import golden_vectors
from jinyi.models.source import Source
from jinyi.models.zero_shot import DEFAULT_PROMPT, label_log_probs, word_ids
from jinyi.runtime import Head
from jinyi.tokens import Tokenizer

PAIRS = (
    ("怎么修改登录密码？", "登录密码在哪里改"),
    ("今天的风很大", "明天我要去图书馆还书"),
    ("他把书借给了我。", "我把书借给了他。"),
)
WORDS = ("体育", "生活", "问答")
_PROMPTS = (DEFAULT_PROMPT, "关于{}：", "{}")


def known_words(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Words to score that a vocabulary can spell: `WORDS`, or the first three of its own where it lacks those."""

    def spelled(word: str) -> bool:
        ids = tokenizer.ids_of_word(word)
        return bool(ids) and tokenizer.unk_id not in ids

    usual = tuple(filter(spelled, WORDS))
    own = (entry for entry in tokenizer.vocab if entry and entry[0] not in "[#" and spelled(entry))
    return usual or tuple(islice(own, 3))


def _prompt(source: Source, words: Sequence[str]) -> str:
    """The first prompt behind which an encoder, if of few positions, has room for a text."""
    room = source.folder.max_length - 2 - max(len(word_ids(source, word)) for word in words)
    texts = {prompt: source.tokenizer.ids_of_word(prompt.replace("{}", "")) for prompt in _PROMPTS}
    return next((prompt for prompt, ids in texts.items() if len(ids) < room), _PROMPTS[-1])


def golden_for(task: str) -> Callable[[Path], Golden] | None:
    """Return what `write_folder` takes as `golden=` for a task: `make_golden`, or None where it knows no outputs."""
    return make_golden if task in ("embed", "pair", "topic", "mlm") else None


def make_golden(path: Path) -> Golden:
    """Compute the golden outputs of a finished folder, in float32; pass this as `golden=` to `write_folder`.

    Args:
        path: the folder; task embed, pair, topic or mlm.

    Raises:
        InputError: a folder of another task.
    """
    source = Source.open(path, "", precision="float32")
    folder = source.folder
    if folder.task == "embed":
        return golden_vectors(path)
    if folder.task == "pair":
        return Golden(
            "scores", PAIRS, PairScorer(source).predict(list(PAIRS), symmetric=False, calibrated=False)
        )
    if folder.task not in ("topic", "mlm"):
        raise InputError(
            found=f"a folder of task {folder.task!r}",
            expected="embed, pair, topic or mlm",
            fix="Write this folder without golden sentences.",
            where=str(path),
        )
    words = folder.labels[:3] or known_words(source.tokenizer)
    prompt = folder.prompts.get(folder.default_prompt_name or "") or _prompt(source, words)
    ids = [np.asarray(word_ids(source, word), np.int64) for word in words]
    known = np.unique(np.concatenate(ids))
    engine = source.engine(Head("mlm", label_ids=known, log_normalizer=True))
    columns = [np.searchsorted(known, value) for value in ids]
    values, _ = label_log_probs(source, engine, list(GOLDEN_TEXTS), columns, prompt, "report")
    return Golden("log_probs", GOLDEN_TEXTS, values, labels=tuple(words), prompt=prompt)
