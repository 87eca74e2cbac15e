"""The shapes of mteb and LangChain, checked by mteb's own evaluation and with LangChain's abstract class."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
import types
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jinyi import PairScorer, SentenceEncoder
from jinyi.adapters import LangChainEmbeddings, MtebCrossEncoder, MtebEncoder
from jinyi.errors import FolderError, InputError, ModelNotFoundError, TruncationWarning
from small_models import whitening, write_small

TEXTS = ["怎么改密码", "如何修改登录密码？", "今天天气很好", "心情不好，abc 123", "新闻"]
NOWHERE: dict[str, Any] = {"task_metadata": None, "hf_split": "test", "hf_subset": "default"}
PROMPTS = {"query": "问：", "document": "文：", "STS": "比：", "T2-query": "查：", "T2": "搜："}


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("p") / "m", prompts=PROMPTS)


def batches(texts: list[str], size: int = 2) -> list[dict[str, list[str]]]:
    return [{"text": texts[start : start + size]} for start in range(0, len(texts), size)]


# ------------------------------------------------------------------------------------------------- LangChain


def test_langchain(small_folders: Path) -> None:
    embeddings, encoder = (
        LangChainEmbeddings(small_folders / "embed"),
        SentenceEncoder.load(small_folders / "embed"),
    )
    vectors = embeddings.embed_documents(TEXTS)
    assert vectors == encoder.encode(TEXTS).tolist()
    assert all(type(value) is float for value in vectors[0])
    query = embeddings.embed_query(TEXTS[0])
    assert query == pytest.approx(vectors[0], abs=1e-6) and embeddings(TEXTS[0]) == query
    assert json.loads(json.dumps(query)) == query
    assert embeddings.embed_documents([]) == []
    assert asyncio.run(embeddings.aembed_documents(TEXTS)) == vectors
    assert asyncio.run(embeddings.aembed_query(TEXTS[0])) == query
    with pytest.raises(InputError, match="row 1: found an empty text"):
        embeddings.embed_documents([TEXTS[0], ""])
    with pytest.raises(InputError, match="nothing but blanks"):
        embeddings.embed_query(" ")
    with pytest.raises(InputError, match="found None"):
        embeddings.embed_query(None)  # type: ignore[arg-type]


def test_the_event_loop_runs_on(small_folders: Path) -> None:
    embeddings = LangChainEmbeddings(small_folders / "embed")
    embeddings.embed_query(TEXTS[0])  # compiled now
    order: list[str] = []

    async def count() -> None:
        order.append("other")

    async def embed() -> list[list[float]]:
        task = asyncio.create_task(count())
        vectors = await embeddings.aembed_documents(TEXTS * 50)
        order.append("embedded")
        await task
        return vectors

    assert len(asyncio.run(embed())) == 250 and order == ["other", "embedded"]


def test_langchain_options(small_folders: Path, prompted: Path) -> None:
    encoder = SentenceEncoder.load(prompted)
    own = LangChainEmbeddings(encoder)
    assert own.encoder is encoder
    assert own.embed_query(TEXTS[0]) == encoder.encode(["问：" + TEXTS[0]])[0].tolist()
    assert own.embed_documents(TEXTS) == encoder.encode(["文：" + text for text in TEXTS]).tolist()
    given = LangChainEmbeddings(encoder, query_prompt="查", document_prompt="", normalize=False)
    assert given.embed_query(TEXTS[0]) == encoder.encode(["查" + TEXTS[0]], normalize=False)[0].tolist()
    assert given.embed_documents(TEXTS) == encoder.encode(TEXTS, normalize=False).tolist()
    long = ["今天天气很好" * 20]
    with pytest.warns(TruncationWarning):
        LangChainEmbeddings(encoder, query_prompt="").embed_query(long[0])
    window = LangChainEmbeddings(encoder, document_prompt="", truncate="window").embed_documents(long)
    assert window == encoder.encode(long, truncate="window").tolist()
    cls = LangChainEmbeddings(small_folders / "embed", pooling="cls", threads=1)
    assert cls.embed_query(TEXTS[0]) != LangChainEmbeddings(small_folders / "embed").embed_query(TEXTS[0])
    with pytest.raises(TypeError, match="threads is an option for opening a model"):
        LangChainEmbeddings(encoder, threads=1)
    with pytest.raises(InputError, match="truncate"):
        LangChainEmbeddings(encoder, truncate="cut")
    with pytest.raises(InputError, match="embed_query"):
        own.embed_documents(TEXTS[0])
    with pytest.raises(ModelNotFoundError):
        LangChainEmbeddings("no-such-model")
    with pytest.raises(FolderError, match="pooling"):
        LangChainEmbeddings(small_folders / "pair")
    assert pickle.loads(pickle.dumps(own)).embed_documents(TEXTS) == own.embed_documents(TEXTS)


def test_stores_that_ask_for_their_class(small_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAISS of LangChain calls an object as a function where it is no `Embeddings`."""

    class Embeddings(ABC):
        @abstractmethod
        def embed_documents(self, texts: list[str]) -> list[list[float]]: ...

        @abstractmethod
        def embed_query(self, text: str) -> list[float]: ...

    before = LangChainEmbeddings(small_folders / "embed")
    assert not isinstance(before, Embeddings)
    loaded = types.ModuleType("langchain_core.embeddings.embeddings")
    loaded.Embeddings = Embeddings  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, loaded.__name__, loaded)
    assert isinstance(LangChainEmbeddings(small_folders / "embed"), Embeddings)


def test_neither_library_is_imported(small_folders: Path) -> None:
    code = (
        "import sys; from jinyi.adapters import *\n"
        f"LangChainEmbeddings({str(small_folders / 'embed')!r}).embed_query('新闻')\n"
        f"assert MtebEncoder({str(small_folders / 'embed')!r}).mteb_model_meta is None\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"mteb", "langchain_core", "torch", "datasets"} & set(done.stdout.split())


def test_names() -> None:
    import jinyi.adapters

    assert dir(jinyi.adapters) == ["LangChainEmbeddings", "MtebCrossEncoder", "MtebEncoder"]
    with pytest.raises(AttributeError, match="nothing"):
        _ = jinyi.adapters.nothing


# ------------------------------------------------------------------------------------ mteb, without mteb


def test_encode_of_mteb(small_folders: Path) -> None:
    encoder = SentenceEncoder.load(small_folders / "embed")
    for ours in (
        MtebEncoder(small_folders / "embed"),
        MtebEncoder(encoder),
        MtebEncoder(str(small_folders / "embed"), "r"),
    ):
        vectors = ours.encode(
            batches(TEXTS), batch_size=2, show_progress_bar=False, precision="float32", **NOWHERE
        )
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, encoder.encode(TEXTS), atol=1e-6)
    np.testing.assert_allclose(ours.similarity(vectors, vectors[:2]), vectors @ vectors[:2].T, atol=1e-6)
    np.testing.assert_allclose(ours.similarity(vectors[0], vectors), vectors[:1] @ vectors.T, atol=1e-6)
    np.testing.assert_allclose(ours.similarity_pairwise(vectors, vectors), np.ones(5), atol=1e-6)
    with pytest.raises(InputError, match="precision"):
        ours.encode(batches(TEXTS), precision="int8", **NOWHERE)
    with pytest.raises(TypeError, match="colour"):
        ours.encode(batches(TEXTS), colour=1, **NOWHERE)


def test_empty_texts_of_a_corpus(small_folders: Path) -> None:
    ours = MtebEncoder(small_folders / "embed")
    rows = ["", TEXTS[0], " \t", "\u200b", TEXTS[1]]
    with pytest.warns(UserWarning, match="3 texts with nothing to read got the vector of zeros"):
        vectors = ours.encode(batches(rows), **NOWHERE)
    assert not vectors[[0, 2, 3]].any()
    np.testing.assert_allclose(vectors[[1, 4]], ours.encoder.encode(TEXTS[:2]), atol=1e-6)
    assert ours.similarity(vectors, vectors)[0].tolist() == [0] * 5
    with pytest.warns(UserWarning, match="1 texts"):
        assert ours.encode(batches([""]), **NOWHERE).shape == (1, 32)
    assert ours.encode([], **NOWHERE).shape == (0, 32)


@pytest.mark.parametrize(
    ("name", "kind", "prompt_type", "prompt"),
    [
        ("T2", "Retrieval", "query", "查："),
        ("T2", "Retrieval", "document", "搜："),
        ("T2", "STS", None, "搜："),
        ("Other", "STS", "query", "比："),
        ("Other", "Retrieval", "query", "问："),
        ("Other", "Retrieval", "document", "文："),
        ("Other", "Retrieval", None, ""),
    ],
)
def test_prompts_by_task(prompted: Path, name: str, kind: str, prompt_type: str | None, prompt: str) -> None:
    ours = MtebEncoder(prompted)
    task, asked = SimpleNamespace(name=name, type=kind), prompt_type and SimpleNamespace(value=prompt_type)
    for given in (prompt_type, asked):  # mteb's PromptType is an enum
        vectors = ours.encode(batches(TEXTS), **{**NOWHERE, "task_metadata": task}, prompt_type=given)
        np.testing.assert_allclose(vectors, ours.encoder.encode([prompt + text for text in TEXTS]), atol=1e-6)
    plain = MtebEncoder(prompted, prompts={}).encode(batches(TEXTS), **NOWHERE, prompt_type="query")
    np.testing.assert_allclose(plain, ours.encoder.encode(TEXTS), atol=1e-6)


def test_predict_of_mteb(small_folders: Path) -> None:
    scorer = PairScorer.load(small_folders / "pair")
    queries, documents = [TEXTS[0]] * 4 + TEXTS[1:], [*TEXTS, *TEXTS[:3]]
    pairs = list(zip(queries, documents, strict=True))
    for ours in (MtebCrossEncoder(small_folders / "pair"), MtebCrossEncoder(scorer)):
        scores = ours.predict(batches(queries), batches(documents, 3), batch_size=4, **NOWHERE)
        np.testing.assert_allclose(scores, scorer.predict(pairs, raw_scores=True), atol=1e-5)
    one_order = MtebCrossEncoder(scorer, symmetric=False).predict(
        batches(queries), batches(documents), **NOWHERE
    )
    np.testing.assert_allclose(one_order, scorer.predict(pairs, raw_scores=True, symmetric=False), atol=1e-5)
    with pytest.raises(InputError, match="8 and 5 texts"):
        ours.predict(batches(queries), batches(TEXTS), **NOWHERE)
    with pytest.raises(InputError, match="precision"):
        ours.predict(batches(queries), batches(documents), precision="binary", **NOWHERE)


def test_options_of_a_call_and_of_opening(small_folders: Path, prompted: Path) -> None:
    encoder, scorer = SentenceEncoder.load(prompted), PairScorer.load(small_folders / "pair")
    vectors = MtebEncoder(encoder).encode(batches(TEXTS), prompt="查", **NOWHERE)
    np.testing.assert_allclose(vectors, encoder.encode(TEXTS, prompt="查"), atol=1e-6)
    options = {"raw_scores": False, "symmetric": False}
    scores = MtebCrossEncoder(scorer).predict(batches(TEXTS), batches(TEXTS[::-1]), **options, **NOWHERE)
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    np.testing.assert_allclose(scores, scorer.predict(pairs, **options), atol=1e-6)
    with pytest.raises(TypeError, match="precision is an option for opening a model"):
        MtebEncoder(encoder, precision="bfloat16")
    with pytest.raises(TypeError, match="device is an option for opening a model"):
        MtebCrossEncoder(scorer, device="cuda")
    with pytest.raises(TypeError, match="found a PairScorer"):
        MtebEncoder(scorer)  # type: ignore[type-var]


def test_empty_documents_come_last(small_folders: Path) -> None:
    ours = MtebCrossEncoder(small_folders / "pair")
    with pytest.warns(UserWarning, match="2 pairs with nothing to read got the lowest score"):
        scores = ours.predict(batches([TEXTS[0]] * 4 + [" "]), batches(["", *TEXTS[:4]]), **NOWHERE)
    assert scores[0] == scores[4] < scores[1:4].min()
    with pytest.warns(UserWarning, match="1 pairs"):
        assert np.isfinite(ours.predict(batches([""]), batches([""]), **NOWHERE)).all()


def test_fingerprints_tell_models_apart(tmp_path: Path, small_folders: Path) -> None:
    embed, pair = small_folders / "embed", small_folders / "pair"
    encoder = SentenceEncoder.load(embed)
    white = write_small(tmp_path / "white", dense=[whitening()])
    prints = [
        encoder.fingerprint(),
        SentenceEncoder.load(embed, pooling="cls").fingerprint(),
        SentenceEncoder.load(white).fingerprint(),
        encoder.fit_whitening(TEXTS, 3).fingerprint(),
        encoder.fit_whitening(TEXTS, 2).fingerprint(),
        PairScorer.load(pair).fingerprint(),
        PairScorer.load(pair, similar_label=0).fingerprint(),
        PairScorer.load(pair, segment_ids="zeros").fingerprint(),
        PairScorer.load(small_folders / "pair1").fingerprint(),
    ]
    assert len(set(prints)) == len(prints)
    again = SentenceEncoder.load(write_small(tmp_path / "copy"))
    assert again.fingerprint() == prints[0] == pickle.loads(pickle.dumps(encoder)).fingerprint()


# ----------------------------------------------------------------------------- mteb, by its own evaluation

CORPUS = {
    "d0": "登录密码可以在安全设置里修改",
    "d1": "注销账号之前请先提取余额",
    "d2": "花呗账单每月一号出账",
    "d3": "今天白天多云，夜里有小雨",
    "d4": "",
}
QUERIES = {"q0": "怎么修改登录密码", "q1": "账号怎么注销", "q2": "花呗什么时候出账单"}
RELEVANT = {"q0": {"d0": 1}, "q1": {"d1": 1}, "q2": {"d2": 1}}


@pytest.fixture(scope="module")
def mteb() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_DATASETS_OFFLINE", "1")
        import mteb

        return mteb


def task(mteb: Any, base: str, kind: str, main_score: str, dataset: Any) -> Any:
    """One of mteb's tasks over rows of ours."""
    from mteb import abstasks
    from mteb.abstasks.task_metadata import TaskMetadata

    described = TaskMetadata(
        name=f"Local{kind}",
        description="rows written by a test",
        dataset={"path": "local", "revision": "0"},
        type=kind,
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["cmn-Hans"],
        main_score=main_score,
    )
    made = type(described.name, (getattr(abstasks, base),), {"metadata": described})()
    made.dataset, made.data_loaded = dataset, True
    return made


def retrieval(mteb: Any, kind: str, main_score: str) -> Any:
    from datasets import Dataset
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData

    ranked = {query: list(CORPUS) for query in QUERIES} if kind == "Reranking" else None
    split = RetrievalSplitData(
        corpus=Dataset.from_list([{"id": key, "text": text, "title": ""} for key, text in CORPUS.items()]),
        queries=Dataset.from_list([{"id": key, "text": text} for key, text in QUERIES.items()]),
        relevant_docs=RELEVANT,
        top_ranked=ranked,
    )
    return task(mteb, "AbsTaskRetrieval", kind, main_score, {"default": {"test": split}})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mteb_evaluates_the_shipped_models(mteb: Any, tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict
    from mteb.cache import ResultCache
    from mteb.models import CrossEncoderProtocol, EncoderProtocol, SearchProtocol
    from scipy.stats import spearmanr

    encoder, scorer = MtebEncoder(), MtebCrossEncoder()
    assert isinstance(encoder, EncoderProtocol) and not isinstance(
        encoder, CrossEncoderProtocol | SearchProtocol
    )
    assert isinstance(scorer, CrossEncoderProtocol) and not isinstance(
        scorer, EncoderProtocol | SearchProtocol
    )
    meta = encoder.mteb_model_meta
    assert meta.name == "jinyi/jinyi-tiny-embed" and meta.revision == encoder.encoder.fingerprint()[:16]
    assert (meta.embed_dim, meta.max_tokens, str(meta.similarity_fn_name.value)) == (312, 128, "cosine")
    assert scorer.mteb_model_meta.is_cross_encoder and not meta.is_cross_encoder
    assert MtebEncoder(encoder.encoder, "v7").mteb_model_meta.revision == "v7"

    a, b = TEXTS * 2, [*TEXTS[1:], TEXTS[0], *TEXTS[2:], *TEXTS[:2]]  # no pair twice, none of equal texts
    scores = [float(number % 6) for number in range(10)]
    rows = DatasetDict({"test": Dataset.from_dict({"sentence1": a, "sentence2": b, "score": scores})})
    sts = task(mteb, "AbsTaskSTS", "STS", "cosine_spearman", rows)
    cache = ResultCache(tmp_path)
    results = mteb.evaluate(encoder, [sts], cache=cache, encode_kwargs={"batch_size": 4}, co2_tracker=False)
    (found,) = results.task_results[0].scores["test"]
    expected = spearmanr(encoder.encoder.similarity_pairwise(a, b), scores).statistic
    assert found["cosine_spearman"] == found["spearman"] == pytest.approx(expected, abs=1e-6)
    assert list(tmp_path.rglob(f"jinyi__jinyi-tiny-embed/{meta.revision}/LocalSTS.json"))

    for model, kind, score in (
        (encoder, "Retrieval", "ndcg_at_10"),
        (encoder, "Reranking", "map_at_1000"),
        (scorer, "Reranking", "map_at_1000"),
    ):
        made = retrieval(mteb, kind, score)
        results = mteb.evaluate(model, [made], cache=None, co2_tracker=False)
        (found,) = results.task_results[0].scores["test"]
        assert found["main_score"] == pytest.approx(_reciprocal(model, score), abs=1e-5)
        assert found["main_score"] > 0.8


def _reciprocal(model: Any, score: str) -> float:
    """The score of one relevant document a query, from its rank by the model's own call."""
    readable = {key: text for key, text in CORPUS.items() if text}
    gains = []
    for query, text in QUERIES.items():
        documents = list(readable.values())
        if isinstance(model, MtebEncoder):
            scores = model.encoder.similarity([text], documents)[0]
        else:
            scores = model.scorer.predict([(text, document) for document in documents])
        ranked = [list(readable)[place] for place in np.argsort(-scores)]
        rank = 1 + ranked.index(next(iter(RELEVANT[query])))
        gains.append(1 / rank if score.startswith("map") else 1 / np.log2(1 + rank))
    return float(np.mean(gains))


@pytest.mark.slow
def test_a_folder_of_an_owner_keeps_its_name(
    mteb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JINYI_HOME", str(tmp_path))
    write_small(tmp_path / "models" / "someone" / "chinese-model")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert MtebEncoder("someone/chinese-model").mteb_model_meta.name == "someone/chinese-model"
    assert MtebEncoder(write_small(tmp_path / "mine")).mteb_model_meta.name == "jinyi/mine"
