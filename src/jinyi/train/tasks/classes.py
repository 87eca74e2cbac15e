"""Classifier of single texts: [CLS] text [SEP], BERT's pooler, a classifier."""

from __future__ import annotations

from typing import Any

from jinyi.train.recipe import ClassesObjective, PairObjective, Recipe
from jinyi.train.tasks.pair import PairTask


class ClassesTask(PairTask):
    """Texts with classes, rows of all files mixed in each batch; all else as for pairs of several outputs.

    Labels are names of `objective.labels`, or numbers of classes where no name is a number. Dev metrics: accuracy,
    which decides, and macro_f1; of two classes also f1, auc and average_precision, of the second or of the one that
    is called "true", "1" or the like.
    """

    kind = "texts"

    def folder(self) -> dict[str, Any]:
        """See `Task.folder`; `TopicClassifier` opens such a folder."""
        return {"task": "classes", "labels": self.objective.labels}

    def _as_pairs(self, recipe: Recipe) -> PairObjective:
        own = recipe.objective
        assert isinstance(own, ClassesObjective)
        return PairObjective(
            outputs=len(own.labels),
            labels=own.labels,
            loss=own.loss,
            smoothing=own.smoothing,
            gamma=own.gamma,
            prior=own.prior,
            dropout=own.dropout,
            both_orders=False,
        )
