"""From raw text to what pretraining reads: clean, without duplicates, as token shards with word boundaries."""

from __future__ import annotations

from jinyi.train.corpus.shards import Shards, write_shards

__all__ = ["Shards", "write_shards"]
