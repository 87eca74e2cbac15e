"""One process of several that share the batches of a topic task: python topic_process.py RANK WORLD FOLDER.

Reads FOLDER/train.jsonl, computes its parts of the first steps and leaves losses and gradients in RANK.pt.
"""

from __future__ import annotations

from pathlib import Path

from jinyi.train.recipe import Batch, Source, TopicObjective
from jinyi.train.task import Share
from jinyi.train.tasks.topic import TopicTask
from train_toys import as_one_of_several, network, recipe, tokenizer

OBJECTIVE = TopicObjective(mlm=0.5, labels=1.0, contrastive=0.5, views=2, random_mlm=0.3)
WORDS = {"sport": "体育", "money": "财", "mood": "好心情"}


def task(folder: Path, share: Share) -> TopicTask:
    source = Source(str(folder / "train.jsonl"), prompts=("是{}的：", "关于{}，"), words=WORDS)
    made = recipe("topic", OBJECTIVE, [source], batch=Batch(rows=9))
    return TopicTask(made, network(mlm=True), tokenizer(), share)


if __name__ == "__main__":
    as_one_of_several(task)
