"""Scores of pairs and topics: those of the Python classes, in the form each client knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jinyi
from jinyi.serve.protocols import topics
from jinyi.serve.settings import ModelSetting, Settings
from serve_app import running_app
from serve_process import Server

TEXTS = ["怎么改密码？", "如何修改登录密码", "今天天气很好", "怎么改密码？", "a1 b2"]

LONG = "今天天气很好" * 20

CLOSE = {"rtol": 0, "atol": 2e-6}


@pytest.fixture(scope="module")
def scorer(folders: dict[str, Path]) -> jinyi.PairScorer:
    return jinyi.PairScorer.load(folders["pair"])


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
