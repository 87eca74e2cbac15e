"""The clients people have, unmodified, against a real server on this machine."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cohere
import numpy as np
import openai
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from langchain_huggingface import HuggingFaceEndpointEmbeddings
from langchain_openai import OpenAIEmbeddings

import jinyi
from serve_process import Server

TEXTS = ["怎么改密码？", "如何修改登录密码", "今天天气很好", "a1 b2"]
CLOSE = {"rtol": 0, "atol": 2e-6}


@pytest.fixture(scope="module", autouse=True)
def no_telemetry() -> Iterator[None]:
    """What HF_HUB_DISABLE_TELEMETRY=1 does: else the Hub's client asks huggingface.co who calls it."""
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        yield


@pytest.fixture(scope="module")
def vectors(folders: dict[str, Path]) -> np.ndarray:
    return jinyi.SentenceEncoder.load(folders["embed"]).encode(TEXTS)


class TestOpenAI:
    @pytest.fixture
    def client(self, served: Server) -> Iterator[openai.OpenAI]:
        with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
            yield client

    def test_embeddings(self, client: openai.OpenAI, vectors: np.ndarray) -> None:
        # The client asks for base64 where nothing is said, and decodes it.
        for options in ({}, {"encoding_format": "float"}, {"user": "somebody"}):
            answer = client.embeddings.create(model="embed", input=TEXTS, **options)
            np.testing.assert_allclose([row.embedding for row in answer.data], vectors, **CLOSE)
            assert [row.index for row in answer.data] == [0, 1, 2, 3]
            assert answer.model == "embed" and answer.usage.total_tokens > len(TEXTS)
        one = client.embeddings.create(model="embed", input=TEXTS[0])
        np.testing.assert_allclose(one.data[0].embedding, vectors[0], **CLOSE)
        packed = client.embeddings.create(model="embed", input=TEXTS, encoding_format="base64")
        raw: Any = packed.data[0].embedding
        np.testing.assert_allclose(np.frombuffer(base64.b64decode(raw), "<f4"), vectors[0], **CLOSE)

    def test_dimensions_and_token_ids(
        self, client: openai.OpenAI, vectors: np.ndarray, served: Server
    ) -> None:
        short = client.embeddings.create(model="embed", input=TEXTS, dimensions=6)
        expected = vectors[:, :6] / np.linalg.norm(vectors[:, :6], axis=1, keepdims=True)
        np.testing.assert_allclose([row.embedding for row in short.data], expected, **CLOSE)
        rows = served.post("/tokenize", {"inputs": TEXTS, "add_special_tokens": False}).json
        ids = [[token["id"] for token in row] for row in rows]
        same = client.embeddings.create(model="embed", input=ids)
        np.testing.assert_allclose([row.embedding for row in same.data], vectors, **CLOSE)

    def test_what_was_cut_can_be_read(self, client: openai.OpenAI) -> None:
        answer = client.embeddings.with_raw_response.create(model="embed", input=["今天", "今天" * 40])
        assert answer.headers["x-truncated-inputs"] == "1"
        assert answer.parse().model_extra == {"truncated": [{"index": 1, "tokens_lost": 34}]}

    def test_models(self, client: openai.OpenAI, served: Server) -> None:
        assert [model.id for model in client.models.list()] == served.names
        assert client.models.retrieve("pair").owned_by == "jinyi"

    def test_errors(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as missing:
            client.embeddings.create(model="text-embedding-3-small", input="今天")
        assert missing.value.code == "model_not_found" and missing.value.param == "model"
        with pytest.raises(openai.UnprocessableEntityError) as empty:
            client.embeddings.create(model="embed", input=["今天", ""])
        assert empty.value.type == "invalid_request_error" and empty.value.param == "input"
        assert "input[1]: found an empty text" in str(empty.value)
        with pytest.raises(openai.UnprocessableEntityError, match=r"ids from 0 to 62"):
            client.embeddings.create(model="embed", input=[[100_000]])
        with pytest.raises(openai.BadRequestError, match="empty array"):
            client.embeddings.create(model="embed", input=[])

    def test_an_address_without_v1(self, served: Server, vectors: np.ndarray) -> None:
        with openai.OpenAI(base_url=served.url, api_key="none", max_retries=0) as client:
            got = client.embeddings.create(model="default", input=TEXTS)
            np.testing.assert_allclose([row.embedding for row in got.data], vectors, **CLOSE)
            with pytest.raises(openai.NotFoundError) as missing:
                client.embeddings.create(model="other", input=TEXTS)
            assert missing.value.code == "model_not_found"

    def test_async(self, served: Server, vectors: np.ndarray) -> None:
        async def ask() -> Any:
            async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
                asked = [client.embeddings.create(model="embed", input=text) for text in TEXTS * 5]
                return [answer.data[0].embedding for answer in await asyncio.gather(*asked)]

        np.testing.assert_allclose(asyncio.run(ask()), np.tile(vectors, (5, 1)), **CLOSE)


class TestCohere:
    QUERY = "怎么改密码"

    @pytest.fixture
    def ranked(self, folders: dict[str, Path]) -> list[dict[str, Any]]:
        return jinyi.PairScorer.load(folders["pair"]).rank(self.QUERY, TEXTS)

    def test_rerank_of_version_2(self, served: Server, ranked: list[dict[str, Any]]) -> None:
        with cohere.ClientV2(api_key="none", base_url=served.url) as client:
            answer = client.rerank(model="pair", query=self.QUERY, documents=TEXTS, top_n=3)
        assert [row.index for row in answer.results] == [row["corpus_id"] for row in ranked[:3]]
        scores = [row.relevance_score for row in answer.results]
        np.testing.assert_allclose(scores, [row["score"] for row in ranked[:3]], **CLOSE)
        assert answer.id and answer.meta is not None and answer.meta.billed_units is not None
        assert answer.meta.billed_units.search_units == 1

    def test_rerank_of_version_1(self, served: Server, ranked: list[dict[str, Any]]) -> None:
        documents = [{"text": text} for text in TEXTS]
        with cohere.Client(api_key="none", base_url=served.url) as client:
            answer = client.rerank(model="pair", query=self.QUERY, documents=documents, return_documents=True)
        assert [row.index for row in answer.results] == [row["corpus_id"] for row in ranked]
        assert all(
            row.document is not None and row.document.text == TEXTS[row.index] for row in answer.results
        )

    def test_errors(self, served: Server) -> None:
        with cohere.ClientV2(api_key="none", base_url=served.url) as client:
            with pytest.raises(cohere.NotFoundError) as missing:
                client.rerank(model="rerank-v3.5", query=self.QUERY, documents=TEXTS)
            assert missing.value.body["error"]["code"] == "model_not_found"
            with pytest.raises(cohere.UnprocessableEntityError, match="documents"):
                client.rerank(model="pair", query=self.QUERY, documents=["今天", " "])


class TestHuggingFace:
    def test_vectors(self, served: Server, vectors: np.ndarray) -> None:
        for address in (served.url, f"{served.url}/embed"):
            client = InferenceClient(address)
            np.testing.assert_allclose(client.feature_extraction(TEXTS), vectors, **CLOSE)
            options = {"normalize": True, "truncate": True, "truncation_direction": "right"}
            np.testing.assert_allclose(client.feature_extraction(TEXTS[0], **options), vectors[:1], **CLOSE)
        short = InferenceClient(served.url).feature_extraction(TEXTS, dimensions=6, normalize=False)
        assert short.shape == (4, 6)

    def test_similarity(self, served: Server, vectors: np.ndarray) -> None:
        for address in (served.url, f"{served.url}/similarity"):
            got = InferenceClient(address).sentence_similarity(TEXTS[0], other_sentences=TEXTS[1:])
            np.testing.assert_allclose(got, vectors[1:] @ vectors[0], **CLOSE)

    def test_endpoint(self, served: Server) -> None:
        client = InferenceClient(served.url, provider="hf-inference")
        assert client.health_check()
        assert client.get_endpoint_info()["model_id"] == "embed"

    def test_async(self, served: Server, vectors: np.ndarray) -> None:
        async def ask() -> Any:
            async with AsyncInferenceClient(served.url) as client:
                return await asyncio.gather(*(client.feature_extraction(text) for text in TEXTS))

        np.testing.assert_allclose(np.concatenate(asyncio.run(ask())), vectors, **CLOSE)

    def test_errors(self, served: Server) -> None:
        with pytest.raises(HfHubHTTPError) as refused:
            InferenceClient(served.url).feature_extraction(TEXTS, prompt_name="none")
        assert refused.value.response.status_code == 422
        assert "prompt_name: found 'none'" in json.loads(refused.value.response.content)["error"]


class TestLangChain:
    def test_openai_embeddings(self, served: Server, vectors: np.ndarray) -> None:
        # Otherwise the class sends token ids of OpenAI's own vocabulary.
        model = OpenAIEmbeddings(
            model="embed", base_url=f"{served.url}/v1", api_key="none", check_embedding_ctx_length=False
        )
        np.testing.assert_allclose(model.embed_documents(TEXTS), vectors, **CLOSE)
        np.testing.assert_allclose(model.embed_query(TEXTS[0]), vectors[0], **CLOSE)
        np.testing.assert_allclose(asyncio.run(model.aembed_documents(TEXTS)), vectors, **CLOSE)

    def test_tei_embeddings(self, served: Server, vectors: np.ndarray) -> None:
        model = HuggingFaceEndpointEmbeddings(model=served.url)
        np.testing.assert_allclose(model.embed_documents(TEXTS), vectors, **CLOSE)
        np.testing.assert_allclose(model.embed_query(TEXTS[0]), vectors[0], **CLOSE)
        np.testing.assert_allclose(asyncio.run(model.aembed_documents(TEXTS)), vectors, **CLOSE)
