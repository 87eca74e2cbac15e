"""The three model classes on small random models: forms of input, order, duplicates, truncation, bad input."""

from __future__ import annotations

import json
import re
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jinyi
from jinyi import PairScorer, SentenceEncoder
from jinyi.batches import CHUNK
from jinyi.errors import FolderError, InputError, ModelNotFoundError, TruncationWarning
from jinyi.models.whitening import Whitening
from jinyi.models.work import run
from small_models import CONFIG, random_texts, whitening, write_small

TEXTS = ["怎么改密码", "如何修改登录密码？", "今天天气很好", "心情不好", "abc 123", "😀🎉", "a\x00b"]
BAD_TEXTS = [None, 3, 2.5, float("nan"), b"text", "", "  \n", "\u200b", "\ud83d", ["今天"], True]


@pytest.fixture(scope="module")
def encoder(small_folders: Path) -> SentenceEncoder:
    return SentenceEncoder.load(small_folders / "embed")


@pytest.fixture(scope="module")
def pair(small_folders: Path) -> PairScorer:
    return PairScorer.load(small_folders / "pair")


class CountingEngine:
    """Counts the rows that are really computed."""

    def __init__(self, engine) -> None:
        self.engine, self.rows = engine, 0

    def run(self, batches):
        for batch, values in self.engine.run(batches):
            self.rows += len(batch.rows)
            yield batch, values


def test_shapes(encoder: SentenceEncoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), encoder.dimension) == (len(TEXTS), 32)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.allclose(encoder.encode(TEXTS[0]), vectors[0], atol=1e-6)
    assert encoder.encode([]).shape == (0, 32)
    raw = encoder.encode(TEXTS, normalize=False)
    assert np.allclose(raw / np.linalg.norm(raw, axis=1, keepdims=True), vectors, atol=1e-6)
    assert encoder.info()["precision"] == "float32"
    assert encoder.max_length == CONFIG.max_position_embeddings


@pytest.mark.parametrize(
    "form",
    [
        tuple,
        np.array,
        iter,
        lambda texts: (text for text in texts),
        lambda texts: dict.fromkeys(texts).keys(),
    ],
)
def test_forms_of_input(encoder: SentenceEncoder, form) -> None:
    assert np.allclose(encoder.encode(form(TEXTS)), encoder.encode(TEXTS), atol=1e-6)


@pytest.mark.parametrize("bad", BAD_TEXTS, ids=repr)
def test_bad_texts(encoder: SentenceEncoder, bad) -> None:
    with pytest.raises(InputError) as caught:
        encoder.encode(["今天", bad])
    assert "row 1" in caught.value.where
    assert caught.value.found and caught.value.expected and caught.value.fix
    if not isinstance(bad, (str, list)):
        with pytest.raises(InputError):
            encoder.encode(bad)


@pytest.mark.parametrize("bad", [{"a": "b"}, {"今天"}, b"abc"], ids=repr)
def test_bad_collections(encoder: SentenceEncoder, bad) -> None:
    with pytest.raises(InputError, match="in a list"):
        encoder.encode(bad)


def test_same_vector_in_any_company(encoder: SentenceEncoder) -> None:
    texts = random_texts(300, longest=45)
    together = encoder.encode(texts, truncate="window")
    order = np.random.default_rng(1).permutation(len(texts))
    shuffled = encoder.encode([texts[place] for place in order], truncate="window")
    assert np.abs(shuffled - together[order]).max() < 1e-5
    some = order[:20]
    alone = np.stack([encoder.encode(texts[place], truncate="window") for place in some])
    assert np.abs(alone - together[some]).max() < 1e-5


def test_equal_texts_are_computed_once(small_folders: Path) -> None:
    encoder = SentenceEncoder.load(small_folders / "embed")
    counting = encoder._engine = CountingEngine(encoder._engine)
    texts = [TEXTS[number % 3] for number in range(50)]
    vectors = encoder.encode(texts)
    assert counting.rows == 3
    assert np.array_equal(vectors, vectors[:3][np.arange(50) % 3])


def test_chunks_keep_the_order(small_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = SentenceEncoder.load(small_folders / "embed")
    texts = random_texts(100, longest=20)
    texts += texts[::-1]
    expected = encoder.encode(texts)
    monkeypatch.setattr("jinyi.models.common.CHUNK", 7)
    assert np.abs(encoder.encode(texts) - expected).max() < 1e-6


def test_truncation_is_told(encoder: SentenceEncoder) -> None:
    long = "今天天气" * 30
    texts = ["今天", long, "好", long, long + "好"]
    with pytest.warns(TruncationWarning, match="3 of 5") as caught:
        vectors, report = encoder.encode(texts, return_report=True)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert report.rows.tolist() == [1, 3, 4]
    assert report.lost.tolist() == [120 - 46, 120 - 46, 121 - 46]
    assert np.allclose(vectors[1], encoder.encode(long[:46]), atol=1e-6)
    with pytest.raises(InputError, match="row 1"):
        encoder.encode(texts, truncate="error")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        windows, report = encoder.encode(texts, truncate="window", return_report=True)
    assert report.cut == 0
    assert not np.allclose(windows[1], vectors[1], atol=1e-3)
    assert np.allclose(windows[0], vectors[0], atol=1e-6)
    with pytest.raises(InputError, match="truncate"):
        encoder.encode("今天", truncate="silent")
    with pytest.warns(TruncationWarning, match="reads 10 tokens"):
        assert np.allclose(encoder.encode(long, max_length=10), encoder.encode(long[:8]), atol=1e-6)
    for wrong in (0, 2, 10**6, "10"):
        with pytest.raises(InputError, match="max_length"):
            encoder.encode("今天", max_length=wrong)


def test_windows_are_averaged_by_length(encoder: SentenceEncoder) -> None:
    text = "".join(random_texts(1, seed=5, longest=40)) * 5
    encoded = encoder._source.tokenizer.encode([text], max_length=48, truncate="window")
    parts = [encoder._source.tokenizer.vocab[token] for row in encoded.ids for token in row]
    assert len(encoded.ids) > 2 and parts
    from jinyi.models.common import run_rows

    vectors = run_rows(encoder._engine, encoded, 0)
    weights = np.array([len(row) for row in encoded.ids])
    mean = (vectors * weights[:, None]).sum(0) / weights.sum()
    assert np.allclose(encoder.encode(text, truncate="window"), mean / np.linalg.norm(mean), atol=1e-5)


def test_every_window_has_the_prompt(encoder: SentenceEncoder) -> None:
    tokenizer, prompt = encoder._source.tokenizer, "关于："
    text = "今天天气好" * 30
    rows = tokenizer.encode_ids(tokenizer.read([text]), max_length=48, truncate="window", prefix=prompt)
    ahead = [tokenizer.cls_id, *tokenizer.ids_of_word(prompt)]
    assert len(rows.ids) > 2 and all(list(row[: len(ahead)]) == ahead for row in rows.ids)
    parts = [encoder.prepare([row], normalize=False) for row in rows.ids]
    parts = [run(part)[0] for part in parts]
    mean = np.average(parts, axis=0, weights=[len(row) for row in rows.ids])
    found = encoder.encode(text, truncate="window", prompt=prompt)
    assert np.allclose(found, mean / np.linalg.norm(mean), atol=1e-5)
    short = encoder.encode("天气", truncate="window", prompt=prompt)
    assert np.allclose(short, encoder.encode("天气", prompt=prompt), atol=1e-6)


def test_a_megabyte_of_one_character(encoder: SentenceEncoder, pair: PairScorer) -> None:
    text = "好" * (1 << 20)
    start = time.perf_counter()
    with pytest.warns(TruncationWarning):
        assert np.isfinite(encoder.encode(text)).all()
    with pytest.warns(TruncationWarning):
        assert 0 <= pair.predict((text, "今天")) <= 1
    assert time.perf_counter() - start < 60


def unreadable(encoder: SentenceEncoder, texts: list[str], refused: InputError) -> None:
    """The row that is refused is half a character, or nothing that a tokenizer reads."""
    found = re.search(r"row (\d+)", refused.where)
    assert found, refused
    text = texts[int(found[1])]
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert encoder._source.tokenizer.read([text], allow_empty=True) == [[]], refused


@settings(max_examples=200)
@given(st.lists(st.text(st.characters(exclude_categories=())), min_size=1, max_size=4))
def test_any_unicode(encoder: SentenceEncoder, pair: PairScorer, texts: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        try:
            vectors = encoder.encode(texts)
        except InputError as refused:
            unreadable(encoder, texts, refused)
            with pytest.raises(InputError):
                pair.predict([(text, "今天") for text in texts])
            return
        assert np.isfinite(vectors).all() and len(vectors) == len(texts)
        scores = pair.predict([(text, "今天") for text in texts])
        assert ((scores >= 0) & (scores <= 1)).all() and len(scores) == len(texts)


def test_numpy_integers(encoder: SentenceEncoder, pair: PairScorer) -> None:
    long = "今天天气" * 5
    with pytest.warns(TruncationWarning):
        cut = encoder.encode(long, max_length=np.int64(10), truncate_dim=np.int8(4), batch_size=np.uint8(1))
    assert cut.shape == (4,)
    assert len(list(encoder.encode_stream(TEXTS, chunk=np.int32(3)))) == 3
    assert len(pair.rank("今天", TEXTS, top_k=np.int64(2))) == 2
    assert encoder.fit_whitening(random_texts(40, longest=9), np.int64(4)).dimension == 4
    for wrong in (True, 2.0, "3", np.float32(3)):
        with pytest.raises(InputError, match="top_k"):
            pair.rank("今天", TEXTS, top_k=wrong)


def test_a_prompt_leaves_room(encoder: SentenceEncoder) -> None:
    with pytest.raises(InputError, match="prompt: found 46 tokens") as caught:
        encoder.encode("好", prompt="今" * 46)
    assert "Shorten" in caught.value.fix
    with pytest.raises(InputError, match="max_length"):
        encoder.encode("好", prompt="今" * 8, max_length=10)
    assert encoder.encode("好", prompt="今" * 45).shape == (32,)


def test_names_of_sentence_transformers(encoder: SentenceEncoder, pair: PairScorer) -> None:
    torch = pytest.importorskip("torch")
    raw = encoder.encode(TEXTS, normalize=False)
    options = {"batch_size": 2, "show_progress_bar": False, "convert_to_numpy": True}
    assert np.abs(encoder.encode(TEXTS, normalize_embeddings=False, **options) - raw).max() < 1e-5
    tensor = encoder.encode(TEXTS, convert_to_tensor=True, convert_to_numpy=False)
    assert isinstance(tensor, torch.Tensor) and tensor.shape == (len(TEXTS), 32)
    short = encoder.encode(TEXTS, truncate_dim=5)
    expected = raw[:, :5] / np.linalg.norm(raw[:, :5], axis=1, keepdims=True)
    assert np.abs(short - expected).max() < 1e-6
    pairs = [(text, "今天") for text in TEXTS]
    assert np.abs(pair.predict(pairs, **options) - pair.predict(pairs)).max() < 1e-6
    assert pair.predict(pairs, convert_to_tensor=True).shape == (len(TEXTS),)
    ranked = pair.rank("今天", TEXTS, return_documents=False, top_k=1, batch_size=3)
    assert set(ranked[0]) == {"corpus_id", "score"}
    with pytest.raises(TypeError, match="'output_value'"):
        encoder.encode(TEXTS, output_value="token_embeddings")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="'normalize_embeddings'"):
        pair.predict(pairs, normalize_embeddings=True)  # type: ignore[call-arg]
    for wrong in ({"batch_size": 0}, {"convert_to_numpy": False}, {"truncate_dim": 33}):
        with pytest.raises(InputError):
            encoder.encode(TEXTS, **wrong)
    with pytest.raises(InputError, match="normalize_embeddings"):
        encoder.encode(TEXTS, normalize=False, normalize_embeddings=True)


def test_whitening_of_equal_texts(encoder: SentenceEncoder) -> None:
    with pytest.raises(InputError, match="1 different vectors among 400"):
        encoder.fit_whitening(["今天天气很好"] * 400)
    with pytest.raises(InputError, match="3 different vectors among 90"):
        encoder.fit_whitening(["今天", "天气", "很好"] * 30, 4)


def test_stream(encoder: SentenceEncoder) -> None:
    texts = random_texts(50, longest=20)
    blocks = list(encoder.encode_stream(iter(texts), chunk=16))
    assert [len(block) for block in blocks] == [16, 16, 16, 2]
    assert np.abs(np.concatenate(blocks) - encoder.encode(texts)).max() < 1e-6
    with pytest.raises(InputError, match="row 20"):
        list(encoder.encode_stream([*texts[:20], "", *texts], chunk=16))
    with pytest.raises(InputError, match="row 18"):
        list(encoder.encode_stream([*texts[:18], "好" * 99], chunk=16, truncate="error"))
    with pytest.warns(TruncationWarning, match="2 of 52.*rows 50, 51"):
        list(encoder.encode_stream([*texts, "好" * 99, "好" * 98], chunk=16))
    assert list(encoder.encode_stream([])) == []

    drawn = 0

    def endless():
        nonlocal drawn
        while True:
            drawn += 1
            yield f"今天{drawn}"

    assert next(encoder.encode_stream(endless())).shape == (CHUNK, 32)
    assert drawn == CHUNK


@pytest.mark.slow
def test_memory_stays_flat(encoder: SentenceEncoder) -> None:
    psutil = pytest.importorskip("psutil")
    process = psutil.Process()
    sizes = []
    for number, block in enumerate(encoder.encode_stream(f"今天{n}密码{n % 977}" for n in range(24 * CHUNK))):
        assert block.shape == (CHUNK, 32)
        if number >= 8:
            sizes.append(process.memory_info().rss)
    assert max(sizes) - sizes[0] < 16 << 20


def test_prompts(tmp_path: Path) -> None:
    write_small(tmp_path / "m", prompts={"query": "如何"}, default_prompt_name="query")
    encoder = SentenceEncoder.load(tmp_path / "m")
    assert encoder.prompts == {"query": "如何"}
    plain = encoder.encode("如何今天", prompt="")
    for given_prompt in ({}, {"prompt": "如何"}, {"prompt_name": "query"}):
        assert np.allclose(encoder.encode("今天", **given_prompt), plain, atol=1e-6)
    assert not np.allclose(encoder.encode("今天", prompt=""), plain, atol=1e-3)
    with pytest.raises(InputError, match="query"):
        encoder.encode("今天", prompt_name="passage")
    with pytest.raises(InputError):
        encoder.encode("今天", prompt="x", prompt_name="query")


def test_similarity(encoder: SentenceEncoder) -> None:
    vectors = encoder.encode(TEXTS)
    matrix = encoder.similarity(TEXTS, TEXTS[:3])
    assert matrix.shape == (len(TEXTS), 3) and matrix.dtype == np.float32
    assert np.allclose(matrix, vectors @ vectors[:3].T, atol=1e-6)
    assert np.allclose(encoder.similarity(vectors * 7, TEXTS[:3]), matrix, atol=1e-6)
    assert encoder.similarity("今天", vectors[0]).shape == (1, 1)
    assert np.allclose(encoder.similarity_pairwise(TEXTS, TEXTS), 1, atol=1e-6)
    with pytest.raises(InputError, match="as many"):
        encoder.similarity_pairwise(TEXTS, TEXTS[:2])
    assert np.allclose(encoder.similarity(np.zeros((1, 32)), vectors[:1]), 0)


def test_whitening_of_an_encoder(encoder: SentenceEncoder, tmp_path: Path) -> None:
    texts = random_texts(200, longest=20)
    white = encoder.fit_whitening(texts, 8)
    vectors = white.encode(texts, normalize=False)
    assert vectors.shape == (200, 8) and white.dimension == 8
    assert np.abs(np.cov(vectors.T) - np.eye(8)).max() < 1e-2
    white.save(tmp_path / "white")
    again = SentenceEncoder.load(tmp_path / "white")
    assert np.abs(again.encode(texts) - white.encode(texts)).max() < 1e-5
    assert (
        json.loads((tmp_path / "white/jinyi.json").read_text(encoding="utf-8"))["golden"]["kind"] == "vectors"
    )
    with pytest.raises(FolderError):
        white.save(tmp_path / "white")
    white.save(tmp_path / "white", overwrite=True)


def test_whitening() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 12)) @ rng.normal(size=(12, 12)) + 3
    fitted = Whitening(5).fit(vectors)
    assert np.abs(np.cov(fitted.transform(vectors).T) - np.eye(5)).max() < 1e-4
    weight, bias = fitted.dense()
    assert np.allclose(vectors @ weight.T + bias, fitted.transform(vectors), atol=1e-4)
    whole = Whitening()
    assert np.allclose(whole.inverse_transform(whole.fit_transform(vectors)), vectors, atol=1e-3)
    # The definition in Su et al. 2021, up to the sign of each direction.
    u, values, _ = np.linalg.svd(np.cov(vectors.T))
    expected = (vectors - vectors.mean(0)) @ (u @ np.diag(values**-0.5))[:, :5]
    assert np.allclose(np.abs(fitted.transform(vectors)), np.abs(expected), atol=1e-3)
    with pytest.raises(jinyi.NotFittedError):
        Whitening().transform(vectors)
    for wrong in (Whitening(13), Whitening(0)):
        with pytest.raises(InputError, match="dimension"):
            wrong.fit(vectors)
    with pytest.raises(InputError, match="more than the 12"):
        Whitening().fit(vectors[:12])
    with pytest.raises(InputError, match="shape"):
        Whitening().fit(vectors[0])
    assert Whitening(5).set_params(dimension=3).get_params() == {"dimension": 3}
    with pytest.raises(InputError, match="dimension"):
        Whitening().set_params(width=3)


def test_whitening_names_what_it_cannot_take() -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 6))
    fitted = Whitening(4).fit(vectors)
    one = fitted.transform(vectors[0])
    assert one.shape == (4,) and np.allclose(one, fitted.transform(vectors)[0], atol=1e-6)
    assert fitted.inverse_transform(one).shape == (6,)
    texts = [["今天", "天气"], ["1", "2"], None, [[1.0, 2.0], [3.0]], vectors * 1j]
    for wrong in texts:
        for call in (Whitening().fit, Whitening().fit_transform, fitted.transform, fitted.inverse_transform):
            with pytest.raises(InputError, match=r"expected vectors \[n, "):
                call(wrong)
    for value in (np.nan, np.inf, -np.inf, 1e300):
        holed = vectors.copy()
        holed[[3, 5], 2] = value
        for call in (Whitening().fit, fitted.transform):
            with pytest.raises(InputError, match="row 3, row 5: found NaN, infinity") as caught:
                call(holed)
            assert caught.value.rows == (3, 5)
    with pytest.raises(
        InputError, match=r"shape \(40, 5\); expected vectors \[n, 6\]. Give vectors of the model"
    ):
        fitted.transform(vectors[:, :5])
    with pytest.raises(InputError, match=r"shape \(40, 6\); expected vectors \[n, 4\]. Give what transform"):
        fitted.inverse_transform(vectors)
    for wrong in (vectors[None], vectors[0, 0], vectors[:, :0]):
        for call in (Whitening().fit, fitted.transform):
            with pytest.raises(InputError, match="shape"):
                call(wrong)
    for call in (Whitening().transform, Whitening().inverse_transform):
        with pytest.raises(jinyi.NotFittedError):
            call(vectors)
    with pytest.raises(jinyi.NotFittedError):
        Whitening().dense()


def test_folders_that_do_not_fit(small_folders: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        SentenceEncoder.load("no-such-model")
    with pytest.raises(FolderError, match="classifier"):
        PairScorer.load(small_folders / "embed")
    write_small(tmp_path / "bare", "encoder")
    with pytest.raises(FolderError, match="pooling="):
        SentenceEncoder.load(tmp_path / "bare")
    mean = SentenceEncoder.load(tmp_path / "bare", pooling="mean")
    assert np.allclose(
        mean.encode(TEXTS), SentenceEncoder.load(small_folders / "embed").encode(TEXTS), atol=1e-6
    )
    with pytest.raises(InputError, match="pooling"):
        SentenceEncoder.load(tmp_path / "bare", pooling="average")
    with pytest.raises(InputError, match="precision"):
        SentenceEncoder.load(small_folders / "embed", precision="float64")
    with pytest.raises(InputError, match="threads"):
        SentenceEncoder.load(small_folders / "embed", threads=0)


def test_megatron_and_dense_layers(small_folders: Path, tmp_path: Path) -> None:
    assert SentenceEncoder.load(small_folders / "megatron").encode(TEXTS).shape == (len(TEXTS), 32)
    weight, bias = whitening()
    write_small(tmp_path / "dense", dense=[(weight, bias)])
    plain = SentenceEncoder.load(small_folders / "embed").encode(TEXTS, normalize=False)
    dense = SentenceEncoder.load(tmp_path / "dense").encode(TEXTS, normalize=False)
    assert np.allclose(dense, plain @ weight.T + bias, atol=1e-5)


class _Frame:
    """Like a pandas data frame: iterating it gives the names of its columns."""

    columns = ("texta", "textb")

    def __iter__(self):
        return iter(self.columns)


def test_a_data_frame_is_not_read_as_its_column_names(encoder: SentenceEncoder, pair: PairScorer) -> None:
    for call in (encoder.encode, pair.predict):
        with pytest.raises(InputError, match="columns"):
            call(_Frame())


def test_a_stream_takes_no_bare_text(encoder: SentenceEncoder) -> None:
    for texts in ("今天", None, 5):
        with pytest.raises(InputError, match="iterable of texts"):
            list(encoder.encode_stream(texts))
    with pytest.raises(InputError, match="chunk"):
        list(encoder.encode_stream(["今天"], chunk=0))


def test_similarity_of_arrays_of_text_and_of_unfit_vectors(encoder: SentenceEncoder) -> None:
    texts = ["今天", "天气"]
    expected = encoder.similarity(texts, texts)
    assert np.array_equal(encoder.similarity(np.array(texts), np.array(texts, object)), expected)
    assert encoder.similarity([], texts).shape == (0, 2)
    for bad in (None, [1, "今天"], [[1.0, 2.0], [3.0]], np.ones((2, 3))):
        for call in (encoder.similarity, encoder.similarity_pairwise):
            with pytest.raises(InputError):
                call(bad, texts)
    with pytest.raises(InputError, match="prompt"):
        encoder.encode(texts, prompt=5)
    for call in (encoder.similarity, encoder.similarity_pairwise):
        with pytest.raises(InputError, match="row 0: found None"):
            call([None], ["今天"])


@pytest.mark.parametrize(("dtype", "stored"), [("float16", "F16"), ("bfloat16", "BF16"), ("float32", "F32")])
def test_saving_keeps_the_type_of_the_weights(tmp_path: Path, dtype: str, stored: str) -> None:
    encoder = jinyi.SentenceEncoder.load(write_small(tmp_path / "model", dtype=dtype))
    saved = jinyi.SentenceEncoder.load(encoder.save(tmp_path / "saved"))
    assert saved.source.folder.dtype == stored
    assert np.array_equal(saved.encode(["怎么改密码"]), encoder.encode(["怎么改密码"]))
