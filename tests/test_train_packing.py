"""Documents, lines and sentence pairs to rows: every token where it belongs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jinyi import InputError
from jinyi.tokens import Tokenizer, build_tokenizer
from jinyi.train.corpus import Shards, write_shards
from jinyi.train.data.packing import SHORTEST_LINE, DocumentRows, LineRows, OrderRows
from small_models import VOCAB

PAD, CLS, SEP = 0, 2, 3
CHARACTERS = "怎么改密码如何修登录今天气很好不心情体育财经新闻的一则关于是下面"
TOKENIZER = Tokenizer(build_tokenizer(VOCAB))


def twos(text: str) -> list[str]:
    """A segmenter: words of two characters."""
    return [text[i : i + 2] for i in range(0, len(text), 2)]


def corpus(documents: int = 40, longest: int = 12, most: int = 9, seed: int = 0) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    letters = np.array(list(CHARACTERS))
    return [
        ["".join(rng.choice(letters, rng.integers(1, longest + 1))) for _ in range(rng.integers(1, most + 1))]
        for _ in range(documents)
    ]


def shards(path: Path, documents: list[list[str]]) -> Shards:
    return Shards.open(write_shards(documents, TOKENIZER, path / "shards", words=twos))


def ids_of(text: str) -> list[int]:
    return TOKENIZER.ids_of_word(text)


def test_documents_fill_rows_exactly(tmp_path: Path) -> None:
    documents = corpus()
    stream = [token for document in documents for token in [*ids_of("".join(document)), SEP]]
    begins = [
        begin
        for document in documents
        for begin in [*(i % 2 == 0 for sentence in document for i in range(len(sentence))), False]
    ]
    rows = DocumentRows(shards(tmp_path, documents), 32, TOKENIZER, seed=3)
    count = len(stream) // 30
    assert rows.lengths.tolist() == [32] * count
    read = rows.read(np.arange(count), None)
    assert (read.lengths == 32).all() and read.segments is None and read.swapped is None
    assert (read.ids[:, 0] == CLS).all() and (read.ids[:, -1] == SEP).all() and not (read.ids == PAD).any()
    assert read.ids[:, 1:-1].ravel().tolist() == stream[: count * 30]
    assert (read.text == (read.ids > 4)).all()
    assert read.starts[:, 1:-1].ravel().tolist() == begins[: count * 30]


def test_epochs_cut_the_same_stream_at_other_places(tmp_path: Path) -> None:
    documents = corpus()
    circle = [token for document in documents for token in [*ids_of("".join(document)), SEP]]
    rows = DocumentRows(shards(tmp_path, documents), 32, TOKENIZER, seed=3)
    everything = np.arange(len(rows.lengths))
    firsts = []
    for epoch in range(3):
        flat = rows.read(everything, epoch).ids[:, 1:-1].ravel().tolist()
        shift = next(s for s in range(len(circle)) if flat == (circle[s:] + circle[:s])[: len(flat)])
        firsts.append(shift)
        # Any rows alone, in any order, are those of the whole.
        some = np.array([5, 2, 9])
        assert (rows.read(some, epoch).ids == rows.read(everything, epoch).ids[some]).all()
    assert len(set(firsts)) == 3
    other = DocumentRows(shards(tmp_path / "again", documents), 32, TOKENIZER, seed=4)
    assert (other.read(everything, 0).ids != rows.read(everything, 0).ids).any()


def test_lines_are_rows(tmp_path: Path) -> None:
    documents = corpus(longest=25)
    rows = LineRows(shards(tmp_path, documents), 12, TOKENIZER)
    expected = []
    for line in (line for document in documents for line in document):
        pieces = [line[i : i + 10] for i in range(0, len(line), 10)]
        expected += [(piece, i * 10) for i, piece in enumerate(pieces) if len(piece) >= SHORTEST_LINE]
    assert rows.lengths.tolist() == [len(piece) + 2 for piece, _ in expected]
    read = rows.read(np.arange(len(expected)), 5)
    for row, (piece, place) in enumerate(expected):
        length = len(piece) + 2
        assert read.lengths[row] == length
        assert read.ids[row].tolist() == [CLS, *ids_of(piece), SEP] + [PAD] * (read.ids.shape[1] - length)
        assert read.text[row].sum() == len(piece)
        words = [(place + i) % 2 == 0 for i in range(len(piece))]
        assert read.starts[row, 1 : length - 1].tolist() == words and not read.starts[row, length - 1 :].any()
    same = np.flatnonzero(rows.lengths == 9)
    assert rows.read(same, None).ids.shape == (len(same), 9)


def test_order_rows_are_runs_of_sentences_of_one_document(tmp_path: Path) -> None:
    documents = corpus(documents=60, longest=14)
    rows = OrderRows(shards(tmp_path, documents), 24, TOKENIZER, seed=1)
    everything = np.arange(len(rows.lengths))
    sentences = [[tuple(ids_of(sentence)) for sentence in document] for document in documents]
    runs = {}
    for document in sentences:
        for first in range(len(document)):
            for last in range(first + 2, len(document) + 1):
                for cut in range(first + 1, last):
                    pair = sum(document[first:cut], ()), sum(document[cut:last], ())
                    runs[pair] = last - first
    swaps = []
    for epoch in (None, 0, 1):
        read = rows.read(everything, epoch)
        assert read.segments is not None and read.swapped is not None
        swaps.append(read.swapped)
        for row in everything:
            length = int(read.lengths[row])
            ids = read.ids[row].tolist()
            assert length == rows.lengths[row] <= 24 and ids[0] == CLS and ids[length - 1] == SEP
            assert set(ids[length:]) <= {PAD} and not read.segments[row, length:].any()
            middle = ids.index(SEP)
            assert read.segments[row, :length].tolist() == [0] * (middle + 1) + [1] * (length - middle - 1)
            one, two = tuple(ids[1:middle]), tuple(ids[middle + 1 : length - 1])
            assert ((two, one) if read.swapped[row] else (one, two)) in runs
            assert read.text[row].sum() == length - 3
    assert (swaps[0] != swaps[1]).any() and (swaps[1] != swaps[2]).any()
    assert 0.3 < np.mean(swaps) < 0.7
    expected = []
    for document in sentences:  # as many sentences as fit, one after the other
        first = 0
        while first < len(document):
            last = first
            while last < len(document) and sum(map(len, document[first : last + 1])) <= 21:
                last += 1
            if last - first >= 2:
                expected.append(sum(map(len, document[first:last])) + 3)
            first = max(last, first + 1)
    assert rows.lengths.tolist() == expected


def test_order_rows_cut_next_to_the_middle(tmp_path: Path) -> None:
    document = ["怎么改", "密码如何", "修登录今天气", "很好"]  # 3, 4, 6, 2 tokens: the middle is 7.5
    rows = OrderRows(shards(tmp_path, [document]), 18, TOKENIZER, seed=1)
    read = rows.read(np.array([0]), None)
    assert rows.lengths.tolist() == [18] and read.segments is not None and read.swapped is not None
    first = int(read.ids[0].tolist().index(SEP)) - 1
    assert first == (8 if read.swapped[0] else 7)


def test_too_little_text(tmp_path: Path) -> None:
    small = shards(tmp_path, [["今天", "很好"], ["心情"]])
    with pytest.raises(InputError, match="enough for one row of 16 tokens"):
        DocumentRows(small, 16, TOKENIZER, seed=0)
    with pytest.raises(InputError, match="a line of 4 tokens"):
        LineRows(small, 16, TOKENIZER)
    with pytest.raises(InputError, match="two sentences next to each other that fit into 6 tokens"):
        OrderRows(small, 6, TOKENIZER, seed=0)
    assert OrderRows(small, 7, TOKENIZER, seed=0).lengths.tolist() == [7]
