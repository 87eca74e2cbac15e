"""Models in other processes: pickled, copied, forked."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jinyi import PairScorer, SentenceEncoder, TopicClassifier
from jinyi.errors import FolderError, ModelNotFoundError
from small_models import CONFIG, random_weights, write_small

TEXTS = ["怎么改密码", "如何修改登录密码？", "今天天气很好", "心情不好"]
PAIRS = [("怎么改密码", "如何修改密码"), ("今天天气很好", "心情不好")]


def again(model):
    return pickle.loads(pickle.dumps(model))


def test_pickles_hold_no_weights(small_folders: Path) -> None:
    encoder = SentenceEncoder.load(small_folders / "embed", threads=1)
    scorer = PairScorer.load(small_folders / "pair")
    assert np.array_equal(again(encoder).encode(TEXTS), encoder.encode(TEXTS))
    assert again(encoder).info() == encoder.info()
    assert np.array_equal(again(scorer).predict(PAIRS), scorer.predict(PAIRS))
    assert len(pickle.dumps(encoder)) < 1000 and len(pickle.dumps(scorer)) < 1000


def test_pickled_options(small_folders: Path, tmp_path: Path) -> None:
    folder = write_small(tmp_path / "pair", "pair", outputs=2, labels=["a", "b"], similar_label=np.int64(1))
    scorer = PairScorer.load(folder, similar_label="a")
    assert np.array_equal(again(scorer).predict(PAIRS), scorer.predict(PAIRS))
    assert not np.allclose(PairScorer.load(folder).predict(PAIRS), scorer.predict(PAIRS))
    cls = SentenceEncoder.load(small_folders / "embed", pooling="cls")
    assert np.array_equal(again(cls).encode(TEXTS), cls.encode(TEXTS))


def test_a_whitening_survives(small_folders: Path) -> None:
    encoder = SentenceEncoder.load(small_folders / "embed")
    whitened = encoder.fit_whitening([f"{text}{number}" for text in TEXTS for number in range(9)], 8)
    assert whitened.dimension == again(whitened).dimension == 8
    assert np.array_equal(again(whitened).encode(TEXTS), whitened.encode(TEXTS))
    twice = whitened.fit_whitening([f"{text}{number}" for text in TEXTS for number in range(9)], 3)
    assert again(twice).encode(TEXTS).shape == (4, 3)


def test_a_topic_classifier_survives(small_folders: Path) -> None:
    zero_shot = TopicClassifier.load(small_folders / "topic")
    fitted = TopicClassifier.load(small_folders / "embed").fit(TEXTS, ["a", "a", "b", "b"])
    for classifier in (zero_shot, fitted):
        for other in (again(classifier), copy.deepcopy(classifier)):
            assert np.allclose(other.predict_proba(TEXTS), classifier.predict_proba(TEXTS), atol=1e-6)
            assert other.classes_.tolist() == classifier.classes_.tolist()


def test_a_copy_is_the_model(small_folders: Path) -> None:
    encoder, scorer = SentenceEncoder.load(small_folders / "embed"), PairScorer.load(small_folders / "pair")
    assert copy.copy(encoder) is copy.deepcopy(encoder) is encoder
    assert copy.copy(scorer) is copy.deepcopy(scorer) is scorer


def test_another_model_or_none_at_the_place(tmp_path: Path) -> None:
    data = pickle.dumps(SentenceEncoder.load(write_small(tmp_path / "model")))
    write_small(tmp_path / "model", weights=random_weights(CONFIG, seed=1), overwrite=True)
    with pytest.raises(FolderError, match="other weights"):
        pickle.loads(data)
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(ModelNotFoundError, match="no weights") as caught:
        pickle.loads(data)
    assert str(tmp_path / "model") in str(caught.value)


def test_a_relative_path_is_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_small(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    encoder = SentenceEncoder.load("model")
    monkeypatch.chdir("/")
    assert np.array_equal(again(encoder).encode(TEXTS), encoder.encode(TEXTS))


def test_a_spawned_process(small_folders: Path) -> None:
    encoder = SentenceEncoder.load(small_folders / "embed")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.abs(pool.map(encoder.encode, [TEXTS])[0] - encoder.encode(TEXTS)).max() < 1e-5


FORKS = """
import os, signal, sys
from jinyi import SentenceEncoder
encoder = SentenceEncoder.load(sys.argv[1])
many = [f"今天{number}" for number in range(600)]
signal.alarm(100)  # a child that waits for threads left behind would wait for ever

def fork(work):
    child = os.fork()
    if not child:
        signal.alarm(60)
        work()
        sys.exit(0)  # not os._exit: taking everything down must not wait either
    assert os.waitpid(child, 0)[1] == 0

def encode():
    assert abs(encoder.encode(many) - before).max() < 1e-5
    assert abs(encoder.encode("今天0") - before[0]).max() < 1e-5

def refused():
    try:
        SentenceEncoder.load(sys.argv[1])
    except ValueError as error:
        assert "spawn" in str(error)
        os._exit(0)
    raise AssertionError

if sys.argv[2] == "used":
    before = encoder.encode(many)
    fork(lambda: None)
    fork(encode)
    encode()
    fork(encode)
    fork(lambda: (encode(), fork(encode)))
else:
    del encoder
    fork(refused)
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("how", ["used", "gone"])
def test_a_forked_process(small_folders: Path, how: str) -> None:
    command = [sys.executable, "-c", FORKS, str(small_folders / "embed"), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "done\n", done.stderr
