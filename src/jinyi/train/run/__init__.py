"""A training run: the loop over steps, and its folder with log, curves, checkpoints and models."""

from jinyi.train.run.whole import RECIPE, RunResult, train

__all__ = ["RECIPE", "RunResult", "train"]
