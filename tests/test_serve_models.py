"""Which models a server has, under which names, and which of them answers what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jinyi.errors import FolderError, InputError
from jinyi.models.source import FolderEngine
from jinyi.models.work import run
from jinyi.serve.models import ServedModel, ServedModels, open_model
from jinyi.serve.problems import ModelNotFound, WrongModel
from jinyi.serve.settings import ModelSetting, Settings
from small_models import CONFIG, random_weights, write_small

TEXTS = ["怎么改密码？", "如何修改登录密码", "今天天气很好", "怎么改密码？", "a1 b2"]

LONG = "今天天气很好" * 20

CLOSE = {"rtol": 0, "atol": 2e-6}


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
