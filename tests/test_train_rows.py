"""Training files to tokenised rows: kinds, columns, labels, limits, keys, and errors that name the line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import normalizers

torch = pytest.importorskip("torch")

from jinyi.errors import InputError, TruncationWarning  # noqa: E402
from jinyi.tokens import Tokenizer, build_tokenizer  # noqa: E402
from jinyi.train.data.rows import read_rows, source_name, source_path  # noqa: E402
from jinyi.train.data.tensors import pad, runs  # noqa: E402
from jinyi.train.recipe import Data, Source  # noqa: E402
from small_models import VOCAB  # noqa: E402


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(build_tokenizer(VOCAB), max_length=48)


def jsonl(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path, tokenizer: Tokenizer, reads: str = "pairs", *, max_length: int = 20, **options):
    limit = options.pop("limit_rows", None)
    source = Source(path.name, **options)
    return read_rows(
        source, Data((source,), folder=str(path.parent), max_length=max_length), tokenizer, reads, limit=limit
    )


PAIRS = [
    {"premise": "怎么改密码", "hypothesis": "如何修改密码", "label": "entailment"},
    {"premise": "今天天气很好", "hypothesis": "怎么改密码", "label": "contradiction"},
    {"premise": "怎么改密码", "hypothesis": "今天", "label": "-"},
]


def test_pairs_with_columns_and_a_label_map(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = jsonl(tmp_path / "nli.jsonl", PAIRS)
    labels = {"entailment": 1, "contradiction": 0.0, "-": None}
    rows = read(path, tokenizer, columns={"a": "hypothesis", "b": "premise"}, labels=labels)
    assert len(rows) == 2 and rows.name == "nli" and rows.labelled
    assert rows.texts[0][0].tolist() == tokenizer.ids_of_word("如何修改密码")
    assert rows.texts[1][1].tolist() == tokenizer.ids_of_word("今天天气很好")
    assert rows.lengths.tolist() == [11, 11]
    assert rows.scores(0, 1).tolist() == [1.0, 0.0]
    # Equal texts have equal keys, whichever side they are on; others differ.
    assert rows.keys[0, 1] == rows.keys[1, 0] and len(set(rows.keys.ravel().tolist())) == 3


def test_keys_follow_what_the_model_reads(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = jsonl(tmp_path / "p.jsonl", [{"texta": "ABC 密码", "textb": "abc密码"}])
    keys = read(path, tokenizer).keys
    assert keys[0, 0] == keys[0, 1]
    assert keys.tolist() == read(path, tokenizer).keys.tolist()


@pytest.mark.parametrize(
    "row", [{"anchor": "怎么", "positive": "如何", "negative": "天气"}, ["怎么", "如何", "天气"]]
)
def test_triplets(tmp_path: Path, tokenizer: Tokenizer, row: object) -> None:
    rows = read(jsonl(tmp_path / "t.jsonl", [row]), tokenizer, "triplets")
    assert [side[0].tolist() for side in rows.texts] == [
        tokenizer.ids_of_word(t) for t in ("怎么", "如何", "天气")
    ]
    assert not rows.labelled


def test_triplets_of_a_table_with_and_without_header(tmp_path: Path, tokenizer: Tokenizer) -> None:
    for name, text in (("a.csv", "sent0,sent1,hard_neg\n怎么,如何,天气\n"), ("b.tsv", "怎么\t如何\t天气\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        rows = read(tmp_path / name, tokenizer, "triplets")
        assert len(rows) == 1 and rows.texts[2][0].tolist() == tokenizer.ids_of_word("天气")


def test_texts_topics_and_limits(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"sentence": "怎么改密码", "label": k} for k in (100, 101, 102)])
    assert read(path, tokenizer, "topics").labels == [100, 101, 102]
    assert len(read(path, tokenizer, "texts", limit=2)) == 2
    assert len(read(path, tokenizer, "texts", limit=2, limit_rows=1)) == 1
    assert read(path, tokenizer, kind="topics").labels == [100, 101, 102]


def test_classes_by_name_and_by_number(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"a": "怎么", "b": "如何", "label": k} for k in ("0", 1, 2.0)])
    rows = read(path, tokenizer, columns={"a": "a", "b": "b"})
    assert rows.classes(["no", "some", "yes"]).tolist() == [0, 1, 2]
    assert rows.classes(["2", "1", "0"]).tolist() == [2, 1, 0]  # names that are numbers win
    with pytest.raises(InputError, match=r"x\.jsonl:3: found label 2\.0; expected one of \['no', 'yes'\]"):
        rows.classes(["no", "yes"])
    with pytest.raises(InputError, match=r"x\.jsonl:3: .*a number from 0 to 1"):
        rows.scores(0, 1)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            [{"texta": "怎么", "textb": "如何", "label": "maybe"}],
            {"labels": {"yes": 1}},
            r":1: found label 'maybe'",
        ),
        ([{"texta": "怎么", "textb": "如何", "label": 1}], {"labels": {1: None}}, "no row that is left"),
        ([{"texta": "怎么", "textb": " "}], {}, r":1, textb: found a text of nothing"),
        ([{"texta": "怎么"}], {}, r":1: found columns texta"),
        ([{"texta": "怎么", "textb": "如何"}], {"columns": {"a": "texta"}}, "all of a, b"),
        ([{"texta": "怎么", "textb": "如何"}], {"columns": {"c": "texta"}}, "all of a, b"),
        ([], {}, "an empty file"),
    ],
)
def test_bad_rows_name_their_place(
    tmp_path: Path, tokenizer: Tokenizer, rows: list, options: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(jsonl(tmp_path / "bad.jsonl", rows), tokenizer, **options)


def test_a_text_that_only_the_tokenizer_finds_empty(tmp_path: Path) -> None:
    backend = build_tokenizer(VOCAB)
    backend.normalizer = normalizers.Sequence([normalizers.Replace("天", ""), backend.normalizer])
    path = jsonl(tmp_path / "x.jsonl", [{"text": "怎么"}, {"text": "天天"}])
    with pytest.raises(InputError, match=r"x\.jsonl:2: found a text of nothing"):
        read(path, Tokenizer(backend, max_length=48), "texts")


def test_a_triplet_of_two_texts(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = jsonl(tmp_path / "t.jsonl", [["怎么", "如何", "天气"], ["怎么", "如何"]])
    with pytest.raises(InputError, match=r"t\.jsonl:2: found 2 texts; expected an anchor"):
        read(path, tokenizer, "triplets")
    path = jsonl(tmp_path / "u.jsonl", [{"anchor": "怎么", "positive": "如何"}])
    with pytest.raises(InputError, match=r"u\.jsonl:1: found columns anchor, positive; expected an anchor"):
        read(path, tokenizer, "triplets")


def test_long_texts_are_cut_and_counted(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"text": "改" * 30}, {"text": "改"}])
    with pytest.warns(TruncationWarning, match="1 of 2 texts cut, 22 tokens not read: data.max_length is 10"):
        rows = read(path, tokenizer, "texts", max_length=10)
    assert rows.lengths.tolist() == [8, 1]
    with pytest.raises(InputError, match="max_length: found 64; expected a whole number from 1 to 48"):
        read(path, tokenizer, "texts", max_length=64)


def test_names_and_paths_of_sources() -> None:
    assert source_name(Source("bq/train.jsonl.xz")) == "bq"
    assert source_name(Source("train.jsonl")) == "train"
    assert source_name(Source("data/lcqmc.tsv")) == "lcqmc"
    assert source_name(Source("bq/dev.jsonl", name="x")) == "x"
    assert source_path(Source("bq/dev.tsv"), Data((), folder="/data")) == Path("/data/bq/dev.tsv")
    assert source_path(Source("/other/dev.tsv"), Data((), folder="/data")) == Path("/other/dev.tsv")


def test_pad_and_runs() -> None:
    padded = pad([[2, 5, 3], np.array([2, 6, 7, 8, 3], np.uint16)], 0, [2, 3])
    assert padded.ids.tolist() == [[2, 5, 3, 0, 0], [2, 6, 7, 8, 3]]
    assert padded.lengths is not None and padded.lengths.tolist() == [3, 5]
    assert padded.segments is not None and padded.segments.tolist() == [[0, 0, 1, 0, 0], [0, 0, 0, 1, 1]]
    assert pad([[2, 3], [2, 3]], 0).lengths is None and pad([[2, 3]], 0).segments is None
    rng = np.random.default_rng(0)
    rows = [rng.integers(5, 30, size) for size in rng.integers(2, 40, 60)]
    seen = []
    for numbers, batch in runs(rows, 0, tokens=128):
        assert batch.ids.numel() <= 128
        for place, number in enumerate(numbers.tolist()):
            length = batch.ids.shape[1] if batch.lengths is None else int(batch.lengths[place])
            assert batch.ids[place, :length].tolist() == rows[number].tolist()
            seen.append(number)
    assert sorted(seen) == list(range(60))
