"""Every route gives the numbers of the Python classes, in the form its clients know."""

from __future__ import annotations

import base64
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jinyi
from jinyi.errors import TruncationWarning
from jinyi.serve.protocols import tei
from jinyi.serve.settings import ModelSetting, Settings
from jinyi.tokens import Tokenizer
from serve_app import running_app
from serve_process import Server

TEXTS = ["怎么改密码？", "如何修改登录密码", "今天天气很好", "怎么改密码？", "a1 b2"]

LONG = "今天天气很好" * 20

CLOSE = {"rtol": 0, "atol": 2e-6}


@pytest.fixture(scope="module")
def encoder(folders: dict[str, Path]) -> jinyi.SentenceEncoder:
    return jinyi.SentenceEncoder.load(folders["embed"])


def embed(served: Server, **body: Any) -> np.ndarray:
    reply = served.post("/embed", body)
    assert reply.status == 200, reply.body
    return np.asarray(reply.json, np.float32)


class TestVectors:
    def test_embed_is_encode(self, served: Server, encoder: jinyi.SentenceEncoder) -> None:
        np.testing.assert_allclose(embed(served, inputs=TEXTS), encoder.encode(TEXTS), **CLOSE)
        np.testing.assert_allclose(embed(served, inputs=TEXTS[0]), encoder.encode(TEXTS[:1]), **CLOSE)

    def test_options_of_embed(self, served: Server, encoder: jinyi.SentenceEncoder) -> None:
        for body, options in (
            ({"normalize": False}, {"normalize": False}),
            ({"dimensions": 5}, {"truncate_dim": 5}),
            ({"dimensions": 32, "normalize": False}, {"normalize": False}),
            ({"truncate": None, "truncation_direction": "right", "prompt_name": None}, {}),
            ({"encoding_format": "float", "model": "embed"}, {}),
            ({"model": "default"}, {}),
            ({"model": ""}, {}),
        ):
            expected = encoder.encode(TEXTS, **options)
            np.testing.assert_allclose(embed(served, inputs=TEXTS, **body), expected, rtol=0, atol=1e-5)

    def test_prompts_by_name_and_by_default(self, served: Server, folders: dict[str, Path]) -> None:
        prompted = jinyi.SentenceEncoder.load(folders["prompted"])
        for name in (None, "query", "plain"):
            got = embed(served, inputs=TEXTS, model="prompted", prompt_name=name)
            np.testing.assert_allclose(got, prompted.encode(TEXTS, prompt_name=name), **CLOSE)
        assert not np.allclose(prompted.encode(TEXTS), prompted.encode(TEXTS, prompt_name="plain"))
        reply = served.post("/embed", {"inputs": "今天", "model": "prompted", "prompt_name": "other"})
        assert reply.status == 422 and "prompt_name: found 'other'" in reply.json["error"]

    def test_token_ids_are_the_texts_they_came_from(
        self, served: Server, encoder: jinyi.SentenceEncoder
    ) -> None:
        framed = [[token["id"] for token in row] for row in served.post("/tokenize", {"inputs": TEXTS}).json]
        bare = [row[1:-1] for row in framed]
        for ids in (framed, bare, [framed[0], *bare[1:]]):
            np.testing.assert_allclose(embed(served, inputs=ids), encoder.encode(TEXTS), **CLOSE)
        np.testing.assert_allclose(embed(served, inputs=bare[1]), encoder.encode(TEXTS[1:2]), **CLOSE)
        tokens = served.post("/embed_all", {"inputs": bare}).json
        assert [len(row) for row in tokens] == [len(row) for row in framed]

    def test_token_ids_with_a_prompt(self, served: Server, folders: dict[str, Path]) -> None:
        prompted = jinyi.SentenceEncoder.load(folders["prompted"])
        ids = [[token["id"] for token in row] for row in served.post("/tokenize", {"inputs": TEXTS}).json]
        got = embed(served, inputs=ids, model="prompted", prompt_name="query")
        np.testing.assert_allclose(got, prompted.encode(TEXTS, prompt_name="query"), **CLOSE)

    def test_texts_too_long_are_cut_and_told(self, served: Server, encoder: jinyi.SentenceEncoder) -> None:
        texts = [TEXTS[0], LONG, TEXTS[1], LONG + "a"]
        reply = served.post("/embed", {"inputs": texts})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            vectors, report = encoder.encode(texts, return_report=True)
        np.testing.assert_allclose(reply.json, vectors, **CLOSE)
        assert reply.headers["x-truncated-inputs"] == "2"
        body = {"input": texts, "truncate": True}
        lost = [
            {"index": 1, "tokens_lost": int(report.lost[0])},
            {"index": 3, "tokens_lost": int(report.lost[1])},
        ]
        assert served.post("/v1/embeddings", body).json["truncated"] == lost
        ids = [7] * 100
        reply = served.post("/embed", {"inputs": [ids, ids[:9]]})
        assert (reply.status, reply.headers["x-truncated-inputs"]) == (200, "1")

    def test_texts_too_long_are_refused_on_request(self, served: Server) -> None:
        reply = served.post("/embed", {"inputs": [TEXTS[0], LONG], "truncate": False})
        assert reply.status == 422
        assert reply.json["error"] == (
            "row 1: found 122 tokens; expected at most 48 tokens, [CLS] and [SEP] included. Shorten the texts, or "
            "send truncate: true to have them cut."
        )
        reply = served.post("/v1/embeddings", {"input": LONG, "truncate": False})
        assert (reply.status, reply.json["error"]["type"]) == (422, "invalid_request_error")

    def test_headers_say_what_it_cost(self, served: Server) -> None:
        headers = served.post("/embed", {"inputs": TEXTS}).headers
        assert headers["x-compute-characters"] == str(sum(map(len, TEXTS)))
        assert headers["x-compute-tokens"] == str(
            sum(len(row) for row in served.post("/tokenize", {"inputs": TEXTS}).json)
        )
        assert headers["x-compute-type"] == "cpu" and headers["x-truncated-inputs"] == "0"
        stages = [float(headers[f"x-{name}-time"]) for name in ("tokenization", "queue", "inference")]
        assert min(stages) >= 0 and sum(stages) <= float(headers["x-total-time"])
        assert headers["content-type"] == "application/json"

    def test_embed_all_is_what_embed_pools(self, served: Server, encoder: jinyi.SentenceEncoder) -> None:
        rows = served.post("/embed_all", {"inputs": TEXTS}).json
        counts = [len(row) for row in served.post("/tokenize", {"inputs": TEXTS}).json]
        assert [np.shape(row) for row in rows] == [(count, 32) for count in counts]
        means = [np.mean(row, axis=0) for row in rows]  # this model pools by the mean
        np.testing.assert_allclose(means, encoder.encode(TEXTS, normalize=False), rtol=0, atol=1e-5)
        assert len(served.post("/embed_all", {"inputs": LONG}).json[0]) == encoder.max_length
        assert served.post("/embed_all", {"inputs": LONG, "truncate": False}).status == 422

    def test_vectors_of_too_many_tokens(
        self, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tei, "MOST_NUMBERS", 32 * 100)
        with running_app(Settings(models=(ModelSetting(str(folders["embed"])),))) as app:
            reply = app.ask("POST", "/embed_all", {"inputs": [LONG] * 3})
            assert reply.status == 413
            assert "found 144 tokens; expected at most 100" in reply.json["error"]
            assert app.ask("POST", "/embed_all", {"inputs": [LONG] * 2}).status == 200

    def test_similarity(self, served: Server, encoder: jinyi.SentenceEncoder) -> None:
        inputs = {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}
        reply = served.post("/similarity", {"inputs": inputs, "parameters": {"truncate": True}})
        np.testing.assert_allclose(reply.json, encoder.similarity(TEXTS[:1], TEXTS[1:])[0], **CLOSE)
        long = {"inputs": {"source_sentence": LONG, "sentences": TEXTS}, "parameters": {"truncate": False}}
        assert served.post("/similarity", long).status == 422

    def test_a_model_with_a_dense_layer(self, served: Server, folders: dict[str, Path]) -> None:
        whitened = jinyi.SentenceEncoder.load(folders["whitened"])
        got = embed(served, inputs=TEXTS, model="whitened")
        assert got.shape == (5, 12)
        np.testing.assert_allclose(got, whitened.encode(TEXTS), **CLOSE)


class TestOpenAI:
    def test_floats_and_base64_are_the_same_numbers(
        self, served: Server, encoder: jinyi.SentenceEncoder
    ) -> None:
        body = {"input": TEXTS, "model": "embed", "user": "somebody"}
        numbers = served.post("/v1/embeddings", body).json
        packed = served.post("/v1/embeddings", body | {"encoding_format": "base64"}).json
        for place, (row, same) in enumerate(zip(numbers["data"], packed["data"], strict=True)):
            assert row["index"] == same["index"] == place
            assert row["object"] == same["object"] == "embedding"
            decoded = np.frombuffer(base64.b64decode(same["embedding"]), "<f4")
            np.testing.assert_allclose(decoded, encoder.encode(TEXTS[place]), **CLOSE)
            np.testing.assert_allclose(row["embedding"], decoded, **CLOSE)
        assert numbers["object"] == "list" and numbers["model"] == "embed" and numbers["truncated"] == []
        count = sum(len(row) for row in served.post("/tokenize", {"inputs": TEXTS}).json)
        assert numbers["usage"] == {"prompt_tokens": count, "total_tokens": count}

    def test_dimensions_are_of_unit_length_again(
        self, served: Server, encoder: jinyi.SentenceEncoder
    ) -> None:
        reply = served.post("/v1/embeddings", {"input": TEXTS, "dimensions": 7, "encoding_format": "base64"})
        rows = [np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in reply.json["data"]]
        np.testing.assert_allclose(rows, encoder.encode(TEXTS, truncate_dim=7), **CLOSE)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)

    def test_token_ids(self, served: Server, encoder: jinyi.SentenceEncoder) -> None:
        ids = [token["id"] for token in served.post("/tokenize", {"inputs": TEXTS[1]}).json[0]]
        for given in (ids, [ids], ids[1:-1]):
            got = served.post("/v1/embeddings", {"input": given}).json["data"][0]["embedding"]
            np.testing.assert_allclose(got, encoder.encode(TEXTS[1]), **CLOSE)

    def test_models(self, served: Server) -> None:
        cards = served.get("/v1/models").json
        assert cards["object"] == "list"
        assert [card["id"] for card in cards["data"]] == served.names
        assert {(card["object"], card["owned_by"]) for card in cards["data"]} == {("model", "jinyi")}
        assert served.get("/v1/models/pair").json == cards["data"][served.names.index("pair")]
        missing = served.get("/v1/models/some/other")
        assert missing.status == 404
        assert missing.json["error"]["code"] == "model_not_found"
        assert "'some/other' is not served here; served: embed, " in missing.json["error"]["message"]

    def test_the_address_without_v1(self, served: Server) -> None:
        assert served.post("/embeddings", {"input": "今天"}).json["data"][0]["index"] == 0


class TestTokens:
    def test_tokens_are_those_that_are_computed(self, served: Server, folders: dict[str, Path]) -> None:
        tokenizer = Tokenizer.from_folder(folders["embed"])
        texts = [*TEXTS, "[MASK] ab　，A\u0301 😀 x"]
        got = served.post("/tokenize", {"inputs": texts}).json
        assert [[token["id"] for token in row] for row in got] == tokenizer.encode(texts).ids
        for text, row in zip(texts, got, strict=True):
            assert (row[0]["text"], row[-1]["text"]) == ("[CLS]", "[SEP]")
            assert row[0]["special"] and row[-1]["special"] and row[0]["start"] is row[0]["stop"] is None
            for token in row[1:-1]:
                assert not token["special"] and text[token["start"] : token["stop"]] == token["text"]
        bare = served.post("/tokenize", {"inputs": texts, "add_special_tokens": False}).json
        assert bare == [row[1:-1] for row in got]

    def test_a_prompt_is_part_of_the_tokens(self, served: Server) -> None:
        body = {"inputs": "今天", "model": "prompted", "prompt_name": "query"}
        assert (
            "".join(token["text"] for token in served.post("/tokenize", body).json[0])
            == "[CLS]关于：今天[SEP]"
        )
        assert served.post("/tokenize", body | {"prompt_name": "x"}).status == 422

    def test_decode(self, served: Server) -> None:
        ids = [[token["id"] for token in row] for row in served.post("/tokenize", {"inputs": TEXTS[:2]}).json]
        got = served.post("/decode", {"ids": ids}).json
        assert [text.replace(" ", "") for text in got] == TEXTS[:2]
        assert served.post("/decode", {"ids": ids[0]}).json == got[:1]
        whole = served.post("/decode", {"ids": ids[0], "skip_special_tokens": False}).json[0]
        assert whole.startswith("[CLS] ") and whole.endswith(" [SEP]")


class TestOneAddress:
    @pytest.mark.parametrize("path", ["/", "/invocations"])
    def test_the_body_says_what_is_asked(self, served: Server, path: str) -> None:
        for same, body in (
            ("/embed", {"inputs": TEXTS}),
            ("/rerank", {"query": "今天", "texts": TEXTS}),
            ("/similarity", {"inputs": {"source_sentence": "今天", "sentences": TEXTS}}),
            ("/predict", {"inputs": [["今天", "天气"]], "model": "pair"}),
        ):
            there, here = served.post(same, body), served.post(path, body)
            assert here.status == there.status == 200
            assert str(here.json)[:60] == str(there.json)[:60]
        reply = served.post(path, {"query": "今天", "documents": TEXTS, "top_n": 1})
        assert len(reply.json["results"]) == 1
        assert served.post(path, {"inputs": "今天", "model": "none"}).status == 404
        assert served.post(path, {"inputs": "今天", "model": 3}).status == 422

    def test_the_default_is_no_model_of_its_own(self, folders: dict[str, Path]) -> None:
        models = tuple(ModelSetting(str(folders[name]), name) for name in ("pair", "embed"))
        with running_app(Settings(models=models)) as app:
            for named in ({}, {"model": "default"}, {"model": ""}, {"model": None}):
                assert np.shape(app.ask("POST", "/", {"inputs": TEXTS[:2]} | named).json) == (2, 32)
            assert app.ask("POST", "/", {"inputs": TEXTS[:2], "model": "pair"}).json[0]["label"]


class TestInfo:
    def test_the_first_model_as_tei_describes_it(self, served: Server) -> None:
        info = served.get("/info").json
        assert info["model_id"] == "embed" and info["model_type"] == {"embedding": {"pooling": "mean"}}
        assert info["max_input_length"] == 48 and info["max_client_batch_size"] == 2048
        assert info["version"] == jinyi.__version__ and info["model_dtype"] == "float32"
        assert info["limits"]["payload_limit"] == 8_000_000
        assert [model["name"] for model in info["models"]] == served.names

    def test_another_model(self, served: Server) -> None:
        info = served.get("/info?model=pair").json
        labels = {"0": "not similar", "1": "similar"}
        assert info["model_type"]["reranker"]["id2label"] == labels
        assert served.get("/info?model=classes").json["model_type"]["classifier"]["label2id"]["财经"] == 1
        assert served.get("/info?model=x").status == 404

    def test_what_each_can_be_asked(self, served: Server) -> None:
        operations = {model["name"]: model["operations"] for model in served.get("/info").json["models"]}
        assert operations["embed"] == ["embed", "embed_all", "tokenize"]
        assert operations["pair"] == ["rerank", "predict", "tokenize"]
        assert operations["topic"] == ["embed_all", "predict", "classify", "zero_shot", "tokenize"]
        assert operations["classes"] == ["predict", "classify", "tokenize"]
        assert operations["fitted"] == ["embed", "embed_all", "predict", "classify", "tokenize"]
