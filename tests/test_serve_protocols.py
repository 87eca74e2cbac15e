"""Every route gives the numbers of the Python classes, in the form its clients know."""

from __future__ import annotations

import base64
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jinyi
from jinyi.errors import FolderError, InputError, TruncationWarning
from jinyi.models.source import FolderEngine
from jinyi.models.work import run
from jinyi.serve.models import ServedModel, ServedModels, open_model
from jinyi.serve.problems import ModelNotFound, WrongModel
from jinyi.serve.protocols import tei, topics
from jinyi.serve.settings import ModelSetting, Settings
from jinyi.tokens import Tokenizer
from serve_app import running_app
from serve_process import Server
from small_models import CONFIG, random_weights, write_small

TEXTS = ["怎么改密码？", "如何修改登录密码", "今天天气很好", "怎么改密码？", "a1 b2"]
LONG = "今天天气很好" * 20
CLOSE = {"rtol": 0, "atol": 2e-6}


@pytest.fixture(scope="module")
def encoder(folders: dict[str, Path]) -> jinyi.SentenceEncoder:
    return jinyi.SentenceEncoder.load(folders["embed"])


@pytest.fixture(scope="module")
def scorer(folders: dict[str, Path]) -> jinyi.PairScorer:
    return jinyi.PairScorer.load(folders["pair"])


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


class TestRerank:
    QUERY = "怎么改密码"

    def test_texts_as_tei_has_them(self, served: Server, scorer: jinyi.PairScorer) -> None:
        body = {"query": self.QUERY, "texts": TEXTS, "return_text": True}
        got = served.post("/rerank", body).json
        expected = scorer.rank(self.QUERY, TEXTS)
        assert [(row["index"], row["text"]) for row in got] == [
            (row["corpus_id"], row["text"]) for row in expected
        ]
        np.testing.assert_allclose([row["score"] for row in got], [row["score"] for row in expected], **CLOSE)
        bare = served.post("/rerank", body | {"return_text": False}).json
        assert [set(row) for row in bare] == [{"index", "score"}] * len(TEXTS)
        raw = served.post("/rerank", body | {"raw_scores": True}).json
        logits = scorer.predict([(self.QUERY, text) for text in TEXTS], raw_scores=True)
        np.testing.assert_allclose([row["score"] for row in raw], np.sort(logits)[::-1], rtol=0, atol=1e-5)

    @pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
    def test_documents_as_cohere_has_them(self, served: Server, scorer: jinyi.PairScorer, path: str) -> None:
        documents = [TEXTS[0], {"text": TEXTS[1]}, *TEXTS[2:]]
        got = served.post(path, {"query": self.QUERY, "documents": documents, "top_n": 3}).json
        expected = scorer.rank(self.QUERY, TEXTS, top_k=3)
        assert [row["index"] for row in got["results"]] == [row["corpus_id"] for row in expected]
        scores = [row["relevance_score"] for row in got["results"]]
        np.testing.assert_allclose(scores, [row["score"] for row in expected], **CLOSE)
        assert all(set(row) == {"index", "relevance_score"} for row in got["results"])
        assert got["id"] and got["model"] == "pair" and got["truncated"] == []
        assert got["meta"]["billed_units"] == {"search_units": 1}
        whole = {
            "query": self.QUERY,
            "documents": documents,
            "return_documents": True,
            "max_tokens_per_doc": 4096,
        }
        found = served.post(path, whole).json["results"]
        assert len(found) == len(TEXTS)
        assert all(row["document"] == {"text": TEXTS[row["index"]]} for row in found)

    def test_a_limit_of_tokens_that_would_cut_is_refused(self, served: Server) -> None:
        body = {"query": self.QUERY, "documents": TEXTS, "max_tokens_per_doc": 10}
        error = served.post("/v2/rerank", body).json["error"]
        assert error["param"] == "max_tokens_per_doc" and "expected 48 or more" in error["message"]

    def test_pairs_too_long(self, served: Server) -> None:
        reply = served.post("/v1/rerank", {"query": self.QUERY, "documents": [TEXTS[0], LONG]})
        assert reply.headers["x-truncated-inputs"] == "1"
        (cut,) = reply.json["truncated"]
        assert cut["index"] == 1 and cut["tokens_lost"] > 0
        assert served.post("/rerank", {"query": LONG, "texts": [TEXTS[0]], "truncate": False}).status == 422

    def test_a_model_with_one_output(self, served: Server, folders: dict[str, Path]) -> None:
        one = jinyi.PairScorer.load(folders["pair1"])
        got = served.post("/rerank", {"query": self.QUERY, "texts": TEXTS, "model": "pair1"}).json
        expected = one.rank(self.QUERY, TEXTS)
        assert [row["index"] for row in got] == [row["corpus_id"] for row in expected]


class TestPredict:
    PAIRS = [("怎么改密码", "如何修改登录密码"), ("今天", "天气很好"), ("a", "b")]

    def test_pairs(self, served: Server, scorer: jinyi.PairScorer) -> None:
        got = served.post("/predict", {"inputs": [list(pair) for pair in self.PAIRS]}).json
        expected = scorer.predict(self.PAIRS, symmetric=False, calibrated=False)
        for row, score in zip(got, expected, strict=True):
            by_label = {entry["label"]: entry["score"] for entry in row}
            assert by_label["similar"] == pytest.approx(score, abs=2e-6)
            assert sum(by_label.values()) == pytest.approx(1, abs=1e-6)
            assert row == sorted(row, key=lambda entry: -entry["score"])

    def test_one_pair_is_no_batch(self, served: Server) -> None:
        pair = list(self.PAIRS[0])
        assert (
            served.post("/predict", {"inputs": pair}).json
            == served.post("/predict", {"inputs": [pair]}).json[0]
        )

    def test_texts_and_pairs_in_one_batch(self, served: Server) -> None:
        batch = [["今天"], list(self.PAIRS[0]), ["怎么改密码"]]
        together = served.post("/predict", {"inputs": batch, "model": "nli"}).json
        for row, alone in zip(together, batch, strict=True):
            single = served.post("/predict", {"inputs": alone, "model": "nli"}).json
            assert [entry["label"] for entry in row] == [entry["label"] for entry in single]
            np.testing.assert_allclose(
                [entry["score"] for entry in row], [entry["score"] for entry in single], **CLOSE
            )

    def test_classes_of_texts(self, served: Server, folders: dict[str, Path]) -> None:
        classifier = jinyi.TopicClassifier.load(folders["classes"])
        got = served.post("/predict", {"inputs": [[text] for text in TEXTS], "model": "classes"}).json
        for row, expected in zip(got, classifier.predict_proba(TEXTS), strict=True):
            by_label = [next(e["score"] for e in row if e["label"] == label) for label in classifier.classes_]
            np.testing.assert_allclose(by_label, expected, **CLOSE)

    def test_raw_scores_are_logits(self, served: Server) -> None:
        body = {"inputs": TEXTS[0], "model": "classes"}
        raw, sure = (served.post("/predict", body | {"raw_scores": flag}).json for flag in (True, False))
        logits = np.asarray([row["score"] for row in raw])
        assert [row["label"] for row in raw] == [row["label"] for row in sure]
        np.testing.assert_allclose(
            np.exp(logits) / np.exp(logits).sum(), [r["score"] for r in sure], rtol=1e-5
        )

    def test_topics_of_a_language_model(self, served: Server, folders: dict[str, Path]) -> None:
        classifier = jinyi.TopicClassifier.load(folders["topic"])
        got = served.post("/predict", {"inputs": TEXTS[0], "model": "topic"}).json
        proba = dict(zip(classifier.classes_, classifier.predict_proba(TEXTS[0]), strict=True))
        assert {row["label"]: pytest.approx(row["score"], abs=2e-6) for row in got} == proba
        pair = served.post("/predict", {"inputs": ["a", "b"], "model": "topic"})
        assert pair.status == 422 and "found a pair of texts" in pair.json["error"]
        assert served.post("/predict", {"inputs": "a", "raw_scores": True, "model": "topic"}).status == 422


class TestTopics:
    LABELS = ["体育", "财经", "新闻"]

    def ask(self, served: Server, **body: Any) -> dict[str, Any]:
        reply = served.post("/v1/classify", {"input": TEXTS} | body)
        assert reply.status == 200, reply.body
        return reply.json

    def proba(self, reply: dict[str, Any], labels: list[str]) -> np.ndarray:
        rows = [{entry["label"]: entry["score"] for entry in row["scores"]} for row in reply["data"]]
        return np.asarray([[row[label] for label in labels] for row in rows], np.float32)

    def test_labels_of_the_request(self, served: Server, folders: dict[str, Path]) -> None:
        reply = self.ask(served, labels=self.LABELS)
        classifier = jinyi.TopicClassifier.load(folders["topic"], labels=self.LABELS)
        np.testing.assert_allclose(
            self.proba(reply, self.LABELS), classifier.predict_proba(TEXTS), rtol=0, atol=1e-5
        )
        assert [row["label"] for row in reply["data"]] == classifier.predict(TEXTS).tolist()
        assert [row["index"] for row in reply["data"]] == list(range(len(TEXTS)))
        for row in reply["data"]:
            assert row["object"] == "classification" and row["label"] == row["scores"][0]["label"]
            scores = [entry["score"] for entry in row["scores"]]
            assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1, abs=1e-5)
        assert reply["model"] == "topic" and reply["usage"]["total_tokens"] > 0

    def test_words_of_labels_prompt_and_lengths(self, served: Server, folders: dict[str, Path]) -> None:
        words = {"sport": "体", "money": "财经", "rest": "新闻"}
        prompt = "这是关于{}的："
        reply = self.ask(served, labels=words, prompt=prompt)
        classifier = jinyi.TopicClassifier.load(folders["topic"], labels=words, prompt=prompt)
        np.testing.assert_allclose(
            self.proba(reply, list(words)), classifier.predict_proba(TEXTS), rtol=0, atol=1e-5
        )

    def test_labels_for_which_too_much_is_computed(
        self, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(topics, "MOST_NUMBERS", 3 * 2 * 4)
        with running_app(Settings(models=(ModelSetting(str(folders["topic"])),))) as app:
            body = {"labels": ["体育", "财经"], "top_k": 1}  # two characters each: 2 masks, 4 words
            assert app.ask("POST", "/v1/classify", body | {"input": TEXTS[:3]}).status == 200
            reply = app.ask("POST", "/v1/classify", body | {"input": TEXTS[:4]})
            assert reply.status == 413
            assert "4 texts, for which 32 scores" in reply.json["error"]["message"]

    def test_best_labels_alone(self, served: Server) -> None:
        whole, best = (self.ask(served, labels=self.LABELS, top_k=k) for k in (None, 2))
        for row, short in zip(whole["data"], best["data"], strict=True):
            assert [e["label"] for e in short["scores"]] == [e["label"] for e in row["scores"][:2]]

    def test_each_label_for_itself(self, served: Server) -> None:
        both = self.proba(self.ask(served, labels=self.LABELS[:2], multi_label=True), self.LABELS[:2])
        three = self.proba(self.ask(served, labels=self.LABELS, multi_label=True), self.LABELS)
        np.testing.assert_allclose(both, three[:, :2], rtol=0, atol=1e-5)
        assert not np.allclose(three.sum(axis=1), 1, atol=1e-3)
        alone = self.proba(self.ask(served, labels=["体育"], multi_label=True), ["体育"])
        np.testing.assert_allclose(alone, three[:, :1], rtol=0, atol=1e-5)

    def test_the_models_own_topics(self, served: Server, folders: dict[str, Path]) -> None:
        classifier = jinyi.TopicClassifier.load(folders["topic"])
        reply = self.ask(served, model="topic")
        np.testing.assert_allclose(
            self.proba(reply, classifier.classes_.tolist()), classifier.predict_proba(TEXTS), **CLOSE
        )

    def test_a_fitted_classifier(self, served: Server, folders: dict[str, Path]) -> None:
        classifier = jinyi.TopicClassifier.load(folders["fitted"])
        reply = self.ask(served, model="fitted")
        np.testing.assert_allclose(
            self.proba(reply, classifier.classes_.tolist()),
            classifier.predict_proba(TEXTS),
            rtol=0,
            atol=1e-5,
        )

    def test_truncated(self, served: Server) -> None:
        reply = served.post("/v1/classify", {"input": ["今天", LONG], "labels": self.LABELS})
        assert reply.headers["x-truncated-inputs"] == "1" and reply.json["truncated"][0]["index"] == 1

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({"labels": ["体育"]}, "found one label"),
            ({"labels": []}, "1 to 1000 label words"),
            ({"labels": "体育"}, "1 to 1000 label words"),
            ({"labels": ["体育", 3]}, "a label word that is not text"),
            ({"labels": ["体育", "体育 "]}, "a label word twice"),
            ({"labels": ["体育", "龘"]}, "outside this model's vocabulary"),
            ({"labels": ["体育", "改" * 33]}, "at most 32 characters"),
            ({"labels": ["体育", "财经"], "prompt": "没有"}, 'one "{}"'),
            ({"labels": ["体育", "财经"], "top_k": 0}, "top_k: found 0"),
            ({"labels": [" "], "multi_label": True}, "expected a word"),
            ({"prompt": "{}"}, "without labels"),
            ({"multi_label": True}, "without labels"),
            ({"labels": ["a" * 3] * 1001}, "of 1001"),
        ],
    )
    def test_refused(self, served: Server, body: dict[str, Any], words: str) -> None:
        reply = served.post("/v1/classify", {"input": "今天"} | body)
        assert reply.status == 422
        assert words in reply.json["error"]["message"]
        assert reply.json["error"]["param"] in body

    def test_labels_need_a_language_model(self, served: Server) -> None:
        reply = served.post("/v1/classify", {"input": "今天", "labels": self.LABELS, "model": "classes"})
        assert reply.status == 424
        assert (
            "gives" not in reply.json["error"]["message"] and "topic does" in reply.json["error"]["message"]
        )


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


def _open(path: Path, name: str | None = None) -> ServedModel:
    return open_model(ModelSetting(str(path), name), Settings(), FolderEngine)


class TestServedModels:
    def test_names(self, folders: dict[str, Path]) -> None:
        one, two = _open(folders["embed"]), _open(folders["pair"], "own")
        assert (one.name, two.name) == ("embed", "own")
        models = ServedModels([one, two])
        assert models.names == ["embed", "own"] and len(models) == 2 and list(models) == [one, two]
        for wrong in ([], [one, one], [_open(folders["embed"], "default")]):
            with pytest.raises(InputError, match="each of another name"):
                ServedModels(wrong)

    def test_choice(self, folders: dict[str, Path]) -> None:
        first, second, pair = (
            _open(folders["embed"], "a"),
            _open(folders["embed"], "b"),
            _open(folders["pair"]),
        )
        models = ServedModels([first, second, pair])
        assert (
            models.choose("embed") is models.choose("embed", "default") is models.choose("embed", "") is first
        )
        assert models.choose("embed", "b") is second and models.choose("rerank") is pair
        with pytest.raises(ModelNotFound, match="'c' is not served here; served: a, b, pair"):
            models.choose("embed", "c")
        with pytest.raises(WrongModel, match="the model a does not give scores of pairs; pair does"):
            models.choose("rerank", "a")
        with pytest.raises(WrongModel, match="no model served here .a, b, pair. gives topics of its own"):
            models.choose("classify")

    def test_parts_of_a_pair_model_share_an_engine(self, folders: dict[str, Path]) -> None:
        opened: list[Any] = []

        def opener(source: Any, head: Any) -> FolderEngine:
            opened.append(head.kind)
            return FolderEngine(source, head)

        model = open_model(ModelSetting(str(folders["pair"])), Settings(), opener)
        assert opened == ["classes"] and model.operations == ("rerank", "predict", "tokenize")

    def test_works_run_every_engine(self, folders: dict[str, Path]) -> None:
        for name, count in (("embed", 1), ("pair", 1), ("classes", 1), ("topic", 2)):
            results = [run(work) for work in _open(folders[name]).works("今天" * 100)]
            assert len(results) == count
            assert all(np.isfinite(result).all() for result in results)

    def test_a_folder_for_nothing(self, tmp_path: Path) -> None:
        folder = write_small(tmp_path / "bare", "encoder")
        with pytest.raises(FolderError, match="pooling"):
            _open(folder)

    @pytest.mark.parametrize("problem", ["multi_label_classification", "regression", None])
    def test_how_outputs_relate(self, tmp_path: Path, problem: str | None) -> None:
        weights = random_weights(CONFIG, head="classifier", labels=3)
        folder = write_small(tmp_path / "m", "classes", weights=weights, outputs=3, labels=["a", "b", "c"])
        from folder_tools import edit

        edit(folder / "config.json", problem_type=problem)
        (folder / "MANIFEST.sha256").unlink()
        outputs = _open(folder).outputs
        assert outputs is not None
        logits = run(outputs.prepare(TEXTS, raw_scores=True))
        got = run(outputs.prepare(TEXTS))
        expected = {
            "multi_label_classification": 1 / (1 + np.exp(-logits)),
            "regression": logits,
            None: np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True),
        }[problem]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
