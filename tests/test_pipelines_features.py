"""The feature-extraction pipeline, beside that of transformers on the same folder."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from jinyi import SentenceEncoder
from jinyi.errors import InputError, TruncationWarning
from pipeline_tools import LONG, TEXTS, assert_same, opened, theirs


@pytest.mark.parametrize("model", ["embed", "megatron", "topic", "pair"])
def test_feature_extraction(folders: dict[str, Path], model: str) -> None:
    expected, ours = (
        theirs("feature-extraction", folders[model]),
        opened("feature-extraction", folders[model]),
    )
    for given in (TEXTS[0], TEXTS, [TEXTS[1]], [TEXTS[0], TEXTS[0]]):
        assert_same(ours(given), expected(given))
    tensors, their_tensors = ours(TEXTS, return_tensors=True), expected(TEXTS, return_tensors=True)
    for own, other in zip(tensors, their_tensors, strict=True):
        assert own.shape == other.shape and own.dtype == other.dtype
        np.testing.assert_allclose(own, other, atol=1e-5)
    arrays = ours(TEXTS, return_tensors="np")
    assert all(isinstance(array, np.ndarray) and array.dtype == np.float32 for array in arrays)
    assert [array.tolist() for array in arrays] == ours(TEXTS)
    assert ours(TEXTS[0], return_tensors="np").shape == (1, 7, 32)


def test_the_pipelines_share_the_first_token_with_the_encoder(folders: dict[str, Path]) -> None:
    states = opened("feature-extraction", folders["embed"])(TEXTS, return_tensors="np")
    encoder = SentenceEncoder.load(folders["embed"], pooling="cls")
    first = np.stack([state[0, 0] for state in states])
    np.testing.assert_allclose(encoder.encode(TEXTS, normalize=False), first, atol=1e-5)


def test_arrays_of_equal_texts_are_not_shared(folders: dict[str, Path]) -> None:
    one, two = opened("feature-extraction", folders["embed"])([TEXTS[0]] * 2, return_tensors="np")
    one[:] = 0
    assert np.abs(two).max() > 0.1


def test_long_texts_of_feature_extraction(folders: dict[str, Path]) -> None:
    ours = opened("feature-extraction", folders["embed"])
    rows = [LONG, TEXTS[0], LONG]
    with pytest.warns(TruncationWarning, match="2 of 3 texts cut"):
        cut = ours(rows)
    assert [len(row[0]) for row in cut] == [48, 7, 48]
    expected = theirs("feature-extraction", folders["embed"])
    options = {"truncation": True, "tokenize_kwargs": {"max_length": 10}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        assert_same(ours(rows, **options), expected(rows, **options))
    with pytest.raises(InputError, match="row 0 has .*row 2 has"):
        ours(rows, truncate="error")
    with pytest.raises(InputError, match="no one row"):
        ours(rows, truncate="window")
    with pytest.raises(InputError, match="return_tensors"):
        ours(rows, return_tensors="tf")
