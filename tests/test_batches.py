from __future__ import annotations

import io
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jinyi.batches import Batch, chunks, deduplicate, make_batches, padded_length, padded_rows, progress

PAD = 9


def encoded(lengths: list[int], *, masks: int = 0, halves: bool = False) -> SimpleNamespace:
    """Rows of ids in which every token is the row's number plus 10."""
    return SimpleNamespace(
        ids=[[10 + row] * length for row, length in enumerate(lengths)],
        splits=[length // 2 if halves else length for length in lengths],
        masks=[list(range(masks)) for _ in lengths] if masks else None,
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 80), max_size=60), st.integers(1, 300))
def test_every_row_once_and_whole(lengths: list[int], budget: int) -> None:
    rows = []
    for batch in make_batches(encoded(lengths), pad_id=PAD, token_budget=budget):
        assert (
            batch.ids.dtype == np.int32 and batch.lengths.dtype == np.int32 and batch.rows.dtype == np.int64
        )
        assert batch.ids.size <= max(budget, batch.ids.shape[1])
        assert batch.segments is None and batch.positions is None
        for row, ids, length in zip(batch.rows, batch.ids, batch.lengths, strict=True):
            assert length == lengths[row]
            assert ids.tolist() == [10 + row] * length + [PAD] * (len(ids) - length)
            rows.append(int(row))
    assert sorted(rows) == list(range(len(lengths)))


@pytest.mark.parametrize("coarse", [None, True, False])
@pytest.mark.parametrize("masks", [0, 2])
@pytest.mark.parametrize("halves", [True, False])
def test_a_single_row_makes_the_batch_that_it_makes_beside_others(
    coarse: bool | None, masks: int, halves: bool
) -> None:
    for length in (1, 7, 32, 33, 100, 200, 600):
        several = encoded([length, 1], masks=masks, halves=halves)
        expected = next(make_batches(several, pad_id=PAD, most_rows=1, coarse=coarse))
        single = encoded([length], masks=masks, halves=halves)
        (batch,) = make_batches(single, pad_id=PAD, coarse=coarse)
        for name in ("rows", "ids", "lengths", "segments", "positions"):
            found, wanted = getattr(batch, name), getattr(expected, name)
            np.testing.assert_array_equal(found, wanted)
            assert found is wanted is None or found.dtype == wanted.dtype


def test_most_rows() -> None:
    batches = list(make_batches(encoded([5, 5, 5, 6, 7]), pad_id=PAD, most_rows=2))
    assert [len(batch.rows) for batch in batches] == [2, 2, 1]
    assert sorted(row for batch in batches for row in batch.rows.tolist()) == [0, 1, 2, 3, 4]


def test_long_lists_have_little_padding_and_few_shapes() -> None:
    lengths = np.random.default_rng(0).integers(6, 30, 4000).tolist()
    batches = list(make_batches(encoded(lengths), pad_id=PAD))
    assert sum(batch.ids.size for batch in batches) < 1.03 * sum(lengths)
    assert len({batch.ids.shape for batch in batches}) <= 30
    assert [batch.ids.shape[1] for batch in batches] == sorted(
        (batch.ids.shape[1] for batch in batches), reverse=True
    )


def test_many_small_calls_may_ask_for_few_widths() -> None:
    lengths = np.random.default_rng(0).integers(6, 60, 300).tolist()
    for coarse, fewest, most in ((None, 13, 60), (True, 2, 12)):
        batches = list(make_batches(encoded(lengths), pad_id=PAD, coarse=coarse))
        assert fewest <= len({batch.ids.shape[1] for batch in batches}) <= most
        assert sum(len(batch.rows) for batch in batches) == 300


def test_numbers_of_rows() -> None:
    assert [padded_rows(rows) for rows in (1, 2, 7, 8, 9, 16, 17, 33, 100)] == [
        1,
        2,
        7,
        8,
        10,
        16,
        20,
        40,
        112,
    ]
    assert all(rows <= padded_rows(rows) < 1.25 * rows for rows in range(1, 2000))
    assert len({padded_rows(rows) for rows in range(1, 257)}) == 28


def test_short_lists_use_the_widths_that_are_warm() -> None:
    for length in range(1, 200):
        (batch,) = make_batches(encoded([length]), pad_id=PAD)
        assert batch.ids.shape == (1, padded_length(length, coarse=True))
        assert batch.ids.shape[1] >= length
    assert len({padded_length(length, coarse=True) for length in range(1, 65)}) == 12


def test_one_long_row_does_not_widen_the_others() -> None:
    shapes = [batch.ids.shape for batch in make_batches(encoded([500] + [10] * 50), pad_id=PAD)]
    assert shapes == [(1, 512), (50, 10)]


def test_segments_and_mask_positions() -> None:
    (batch,) = make_batches(encoded([4, 7], masks=2, halves=True), pad_id=PAD)
    assert batch.rows.tolist() == [1, 0]
    assert batch.segments is not None and batch.positions is not None
    assert batch.segments.tolist() == [[0, 0, 0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0, 0, 0]]
    assert batch.positions.tolist() == [[0, 1], [0, 1]]


def test_no_rows_no_batches() -> None:
    assert list(make_batches(encoded([]), pad_id=PAD)) == []


@given(st.lists(st.text(max_size=2)))
def test_deduplicate_restores(items: list[str]) -> None:
    unique, inverse = deduplicate(items)
    assert len(set(unique)) == len(unique)
    assert [unique[place] for place in inverse] == items
    assert unique == list(dict.fromkeys(items))


def test_chunks_are_drawn_one_at_a_time() -> None:
    drawn = 0

    def source() -> Iterator[int]:
        nonlocal drawn
        while True:
            drawn += 1
            yield drawn

    stream = chunks(source(), 5)
    assert next(stream) == [1, 2, 3, 4, 5]
    assert drawn == 5
    assert list(chunks(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize(
    ("show", "after", "shown"),
    [(True, 0.0, True), (True, 60.0, False), (False, 0.0, False), (None, 0.0, False)],
)
def test_progress_shows_long_work_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, show: bool | None, after: float, shown: bool
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with progress("sentences", 4, show=show, after=after) as advance:
        advance(3)
        advance(1)
    assert ("sentences" in stream.getvalue()) == shown


def test_batches_are_frozen() -> None:
    batch = next(make_batches(encoded([3]), pad_id=PAD))
    assert isinstance(batch, Batch)
    with pytest.raises(AttributeError):
        batch.ids = batch.ids  # type: ignore[misc]
