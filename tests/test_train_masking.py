"""Dynamic masking: how often, what together, by which numbers."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest

from jinyi.tokens import Tokenizer, build_tokenizer
from jinyi.train.data.chance import below, uniform
from jinyi.train.data.masking import Masking, ordinary_tokens

MASK = 4
TOKENS = np.arange(10, 1000)


def batch(rows: int = 400, length: int = 66, seed: int = 0):
    """Rows with [CLS], [SEP] and padding around words of one to four tokens."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(10, 1000, (rows, length))
    sizes = rng.integers(20, length - 1, rows)
    text = (np.arange(length) > 0) & (np.arange(length) <= sizes[:, None])
    starts = (rng.random((rows, length)) < 0.55) & text
    return ids, text, starts, np.arange(rows)


def masking(**options) -> Masking:
    return Masking(MASK, TOKENS, **options)


def units_of(text: np.ndarray, starts: np.ndarray) -> list[list[int]]:
    """The words of one row as lists of columns, by a loop."""
    words: list[list[int]] = []
    for column in np.flatnonzero(text):
        if starts[column] or not words or not text[column - 1]:
            words.append([])
        words[-1].append(int(column))
    return words


@pytest.mark.parametrize("units", ["tokens", "words", "ngrams"])
def test_rate(units: str) -> None:
    _, text, starts, rows = batch()
    chosen = np.mean(
        [masking(rate=0.15, units=units).choose(text, starts, (1, step), rows)[text] for step in range(40)],
        axis=0,
    )
    assert abs(chosen.mean() - 0.15) < 0.003
    # Every token has the same chance, those of long words too: 40 draws of 0.15 spread by 0.056.
    long = np.concatenate([[len(w)] * len(w) for r in rows for w in units_of(text[r], starts[r])])
    for size in (1, 2, 3, 4):
        assert abs(chosen[long == size].mean() - 0.15) < 0.01
    assert chosen.std() < 0.075


def test_number_of_units_in_each_row_is_the_rate_rounded() -> None:
    _, text, starts, rows = batch()
    chosen = masking(rate=0.2).choose(text, starts, (1, 2), rows)
    for row in rows:
        words = units_of(text[row], starts[row])
        hit = sum(bool(chosen[row, word[0]]) for word in words)
        assert hit in {max(1, int(0.2 * len(words))), int(0.2 * len(words)) + 1}


@pytest.mark.parametrize("units", ["words", "ngrams"])
def test_words_stay_whole(units: str) -> None:
    _, text, starts, rows = batch()
    chosen = masking(units=units).choose(text, starts, (3, 3), rows)
    assert chosen.any() and not chosen[~text].any()
    for row in rows:
        for word in units_of(text[row], starts[row]):
            assert len(set(chosen[row, word])) == 1


def test_ngrams_have_lengths_in_proportion_to_their_inverse() -> None:
    rows, length = 600, 102
    text = np.ones((rows, length), bool)
    text[:, [0, -1]] = False
    numbers = np.arange(rows)
    groups = masking(units="ngrams", ngram=3)._groups(text.shape, (0, 0), numbers)
    counts = Counter()
    for row in groups:
        counts.update(np.unique(row, return_counts=True)[1][:-1].tolist())  # the last one may be cut off
    total = sum(counts.values())
    for n, share in ((1, 6 / 11), (2, 3 / 11), (3, 2 / 11)):
        assert abs(counts[n] / total - share) < 0.01
    assert set(counts) == {1, 2, 3}


def test_at_least_one_in_each_row_and_none_without_text() -> None:
    text = np.zeros((3, 8), bool)
    text[0, 1:3] = True
    text[1, 1:2] = True
    chosen = masking(rate=0.01).choose(text, text, (5, 5), np.arange(3))
    assert chosen.sum(axis=1).tolist() == [1, 1, 0]
    everything = masking(rate=1.0).choose(text, text, (5, 5), np.arange(3))
    assert (everything == text).all()


def test_mask_random_and_kept() -> None:
    ids, text, starts, rows = batch(2000)
    masked = masking(rate=0.3, units="tokens", kept=0.1, random=0.2)(ids, text, starts, (0, 1), rows)
    flat = masked.ids.ravel()[masked.places]
    assert (masked.targets == ids.ravel()[masked.places]).all()
    assert (np.diff(masked.places) > 0).all()
    untouched = np.delete(masked.ids.ravel(), masked.places)
    assert (untouched == np.delete(ids.ravel(), masked.places)).all()
    other = (flat != MASK) & (flat != masked.targets)
    assert abs((flat == MASK).mean() - 0.7) < 0.01
    assert abs((flat == masked.targets).mean() - 0.1) < 0.01
    assert abs(other.mean() - 0.2) < 0.01
    assert np.isin(flat[other], TOKENS).all() and len(np.unique(flat[other])) > 900


def test_a_function_of_seed_step_and_row_alone() -> None:
    ids, text, starts, rows = batch()
    draw = masking(units="ngrams")
    whole = draw(ids, text, starts, (7, 3), rows)
    part = slice(100, 150)
    own = draw(ids[part], text[part], starts[part], (7, 3), rows[part])
    assert (whole.ids[part] == own.ids).all()
    again = draw(ids, text, starts, (7, 3), rows)
    assert (whole.ids == again.ids).all() and (whole.places == again.places).all()
    for key in ((7, 4), (8, 3)):
        assert (draw(ids, text, starts, key, rows).ids != whole.ids).any(axis=1).mean() > 0.9


def test_wider_padding_changes_nothing() -> None:
    ids, text, starts, rows = batch()
    wider = [np.pad(array, ((0, 0), (0, 9))) for array in (ids, text, starts)]
    a = masking(units="ngrams")(ids, text, starts, (0, 0), rows)
    b = masking(units="ngrams")(*wider, (0, 0), rows)
    assert (b.ids[:, : ids.shape[1]] == a.ids).all() and (a.targets == b.targets).all()


def test_a_row_that_begins_inside_a_word() -> None:
    text = np.array([[False, True, True, True, False, True, True, False]])
    starts = np.zeros_like(text)
    starts[0, 3] = True
    for step in range(50):
        chosen = masking(rate=0.4).choose(text, starts, (0, step), np.arange(1))[0]
        assert chosen[1] == chosen[2] and chosen[5] == chosen[6]
    columns = {
        tuple(np.flatnonzero(masking(rate=0.3).choose(text, starts, (0, s), np.arange(1))[0]))
        for s in range(50)
    }
    assert columns == {(1, 2), (3,), (5, 6)}


def test_uniform_numbers() -> None:
    numbers = uniform((1, 2, 3), np.arange(1000)[:, None], np.arange(200))
    assert numbers.shape == (1000, 200) and numbers.min() >= 0 and numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.003 and abs(numbers.var() - 1 / 12) < 0.001
    counts = np.bincount((numbers.ravel() * 256).astype(int), minlength=256)
    expected = numbers.size / 256
    assert ((counts - expected) ** 2 / expected).sum() < 350  # chi-square, 255 degrees: p < 1e-4
    centred = numbers - 0.5
    neighbour = uniform((1, 2, 4), np.arange(1000)[:, None], np.arange(200)) - 0.5
    for other in (np.roll(centred, 1, 0), np.roll(centred, 1, 1), neighbour):
        assert abs((centred * other).mean() * 12) < 0.01
    assert len(np.unique(numbers)) == numbers.size
    drawn = below(7, (0,), np.arange(70_000))
    assert np.abs(np.bincount(drawn) - 10_000).max() < 400


def test_ordinary_tokens() -> None:
    vocab = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[", "]", "[]", "天", "##a", "<S>"]
    tokenizer = Tokenizer(build_tokenizer(vocab))
    assert [vocab[i] for i in ordinary_tokens(tokenizer)] == ["[", "]", "[]", "天", "##a", "<S>"]


@pytest.mark.slow
def test_cost() -> None:
    ids, text, starts, rows = batch(512, 128)
    draw = masking(units="ngrams")
    draw(ids, text, starts, (0, 0), rows)
    begin = time.process_time()
    draw(ids, text, starts, (0, 1), rows)
    assert time.process_time() - begin < 5e-6 * ids.size
