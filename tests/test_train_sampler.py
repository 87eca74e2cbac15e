"""Batches as a function of seed and step: every row once, mixes, buckets, slices of processes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from jinyi.errors import InputError  # noqa: E402
from jinyi.train.data.sampler import Sampler  # noqa: E402
from jinyi.train.recipe import Batch  # noqa: E402
from jinyi.train.task import Share  # noqa: E402


def some_lengths(*counts: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(3, 60, count) for count in counts]


def epoch_of(sampler: Sampler, epoch: int = 0) -> list[tuple[int, int]]:
    steps = range(epoch * sampler.epoch_steps, (epoch + 1) * sampler.epoch_steps)
    return [pair for step in steps for pair in zip(*map(np.ndarray.tolist, sampler.rows(step)), strict=True)]


@given(
    counts=st.lists(st.integers(1, 90), min_size=1, max_size=4),
    size=st.one_of(
        st.integers(1, 40).map(lambda n: Batch(rows=n)), st.integers(20, 900).map(lambda n: Batch(tokens=n))
    ),
    bucket=st.booleans(),
    together=st.booleans(),
)
def test_every_row_once_in_every_epoch(counts: list[int], size: Batch, bucket: bool, together: bool) -> None:
    batch = Batch(rows=size.rows, tokens=size.tokens, bucket=bucket)
    sampler = Sampler(some_lengths(*counts), batch=batch, together=together)
    everything = sorted((source, row) for source, count in enumerate(counts) for row in range(count))
    for epoch in (0, 1):
        assert sorted(epoch_of(sampler, epoch)) == everything
    sizes = [len(sampler.rows(step)[0]) for step in range(sampler.epoch_steps)]
    assert min(sizes) >= 1
    if size.rows is not None:
        assert max(sizes) <= size.rows
    if not together:
        assert all(len(set(sampler.rows(step)[0].tolist())) == 1 for step in range(sampler.epoch_steps))


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("mix", ["proportional", "temperature", "round_robin"])
def test_a_step_does_not_depend_on_the_steps_before(mix: str, together: bool) -> None:
    options = {
        "batch": Batch(rows=8),
        "mix": mix,
        "temperature": 2.0,
        "together": together,
        "weights": [1.0, 2.5],
    }
    straight = Sampler(some_lengths(50, 21), seed=7, **options)
    steps = 3 * straight.epoch_steps
    seen = [straight.rows(step) for step in range(steps)]
    for step in np.random.default_rng(1).permutation(steps):
        fresh = Sampler(some_lengths(50, 21), seed=7, **options).rows(int(step))
        assert all(np.array_equal(x, y) for x, y in zip(fresh, seen[step], strict=True))
    other = Sampler(some_lengths(50, 21), seed=8, **options)
    assert any(not np.array_equal(other.rows(step)[1], seen[step][1]) for step in range(steps))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_shares_and_parts_are_the_batch(world: int) -> None:
    sampler = Sampler(some_lengths(100, 40), batch=Batch(rows=20, accumulate=2))
    for step in range(5):
        parts = [part for rank in range(world) for part in sampler.parts(step, Share(rank, world))]
        assert len(parts) == 2 * world
        sources, rows = sampler.rows(step)
        assert np.array_equal(np.concatenate([part[0] for part in parts]), sources)
        assert np.array_equal(np.concatenate([part[1] for part in parts]), rows)
        sizes = [len(part[0]) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_too_few_rows_for_the_processes() -> None:
    sampler = Sampler(some_lengths(3), batch=Batch(rows=8, accumulate=2))
    with pytest.raises(InputError, match="a batch of 3 rows; expected at least 4: 2 processes with 2 parts"):
        sampler.parts(0, Share(1, 2))


def test_buckets_hold_rows_of_nearly_equal_length() -> None:
    lengths = some_lengths(2000)

    def padding(bucket: bool) -> float:
        sampler = Sampler(lengths, batch=Batch(rows=32, bucket=bucket))
        batches = [lengths[0][sampler.rows(step)[1]] for step in range(sampler.epoch_steps)]
        return 1 - sum(map(np.sum, batches)) / sum(len(batch) * batch.max() for batch in batches)

    assert padding(True) < 0.1 < 0.3 < padding(False)
    # Epochs differ, and short rows do not come first.
    sampler = Sampler(lengths, batch=Batch(rows=32))
    assert set(sampler.rows(0)[1].tolist()) != set(sampler.rows(sampler.epoch_steps)[1].tolist())
    means = [lengths[0][sampler.rows(step)[1]].mean() for step in range(sampler.epoch_steps)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5


def test_batches_by_tokens() -> None:
    lengths = some_lengths(3000)
    sampler = Sampler(lengths, batch=Batch(tokens=1000))
    tokens = [int(lengths[0][sampler.rows(step)[1]].sum()) for step in range(sampler.epoch_steps)]
    assert abs(np.mean(tokens) - 1000) < 20 and max(tokens) < 1100 and min(tokens) > 900
    # A row longer than the budget is a batch of its own, and none is empty.
    huge = Sampler([np.array([5000, 3, 3, 3, 4000, 3])], batch=Batch(tokens=100))
    assert huge.epoch_steps == 6 and [len(huge.rows(step)[0]) for step in range(6)] == [1] * 6


def counts_of(sampler: Sampler, sources: int, epochs: int = 1) -> list[int]:
    drawn = [source for epoch in range(epochs) for source, _ in epoch_of(sampler, epoch)]
    return np.bincount(drawn, minlength=sources).tolist()


def test_mixes_together() -> None:
    lengths = some_lengths(400, 100)
    options = {"batch": Batch(rows=20), "together": True}
    assert counts_of(Sampler(lengths, weights=[1, 3], **options), 2) == [400, 300]
    assert counts_of(Sampler(lengths, mix="round_robin", **options), 2) == [250, 250]
    two = Sampler(lengths, mix="temperature", temperature=2.0, **options)
    assert counts_of(two, 2) == [333, 167]
    assert np.allclose(two.drawn(), [333 / 400, 167 / 100])
    # Half of the rows an epoch: the other half in the next one.
    half = Sampler(lengths, weights=[0.5, 1], **options)
    rows = [{row for source, row in epoch_of(half, epoch) if source == 0} for epoch in (0, 1)]
    assert len(rows[0]) == 200 and rows[0] | rows[1] == set(range(400))


def test_mixes_apart() -> None:
    lengths = some_lengths(400, 100)
    options = {"batch": Batch(rows=20), "together": False}
    turns = Sampler(lengths, mix="round_robin", **options)
    order = [int(turns.rows(step)[0][0]) for step in range(turns.epoch_steps)]
    assert order[:6] == [0, 1, 0, 1, 0, 1] and turns.epoch_steps == 25
    assert counts_of(Sampler(lengths, weights=[1, 3], **options), 2) == [400, 300]
    two = Sampler(lengths, mix="temperature", temperature=2.0, **options)
    assert counts_of(two, 2) == [340, 160]
    # Each file goes on where its last batch was: rows come equally often.
    often = np.bincount([row for epoch in range(4) for source, row in epoch_of(turns, epoch) if source == 1])
    assert often.max() - often.min() <= 1


def test_bad_arguments() -> None:
    with pytest.raises(InputError, match="no rows"):
        Sampler([], batch=Batch(rows=2))
    with pytest.raises(InputError, match="no rows"):
        Sampler([np.array([3]), np.array([], int)], batch=Batch(rows=2))
    with pytest.raises(InputError, match="a weight of 0"):
        Sampler(some_lengths(3, 3), weights=[0, 1], batch=Batch(rows=2))
