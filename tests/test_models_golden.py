"""Golden sentences of encoders that read little."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jinyi import TopicClassifier
from jinyi.errors import InputError
from jinyi.folder import read_folder
from jinyi.models.golden import make_golden
from small_models import CONFIG, random_weights, write_small


@pytest.mark.parametrize(
    ("positions", "prompt"),
    [(48, "下面是一则关于{}的新闻："), (17, "下面是一则关于{}的新闻："), (14, "关于{}："), (6, "{}")],
)
def test_the_prompt_leaves_room_for_text(tmp_path: Path, positions: int, prompt: str) -> None:
    config = replace(CONFIG, max_position_embeddings=positions)
    weights = random_weights(config, head="mlm")
    path = write_small(tmp_path / "m", "mlm", config=config, weights=weights, golden=make_golden)
    golden = read_folder(path).golden
    assert golden is not None and golden.prompt == prompt and golden.values.shape == (3, len(golden.labels))
    topics = TopicClassifier.load(path, labels=["体育", "财经"], prompt="{}")  # checks them
    assert topics.predict("今天") in ("体育", "财经")


def test_a_prompt_of_the_folder_has_to_fit(tmp_path: Path) -> None:
    own = {"prompts": {"a": "下面是一则关于{}的新闻："}, "default_prompt_name": "a", "max_length": 14}
    with pytest.raises(InputError, match="14, of which"):
        write_small(tmp_path / "m", "topic", labels=["体育", "财经"], golden=make_golden, **own)
