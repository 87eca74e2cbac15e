from __future__ import annotations

from pathlib import Path

import pytest

import jinyi.registry as registry
from jinyi.errors import InputError, ModelNotFoundError
from jinyi.registry import DEFAULTS, PUBLISHED, default_model, find_model, list_models, models_home
from small_models import write_small


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own package folder with one shipped model, an own models folder, an own working directory."""
    (tmp_path / "package" / "pretrained").mkdir(parents=True)
    write_small(
        tmp_path / "package" / "pretrained" / "jinyi-tiny-embed",
        licence="apache-2.0",
        summary="For sentences.",
    )
    monkeypatch.setattr(registry.resources, "files", lambda _: tmp_path / "package")
    monkeypatch.setenv("JINYI_HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def test_shipped_model_by_name(places: Path) -> None:
    shipped = places / "package" / "pretrained" / "jinyi-tiny-embed"
    assert find_model("jinyi-tiny-embed") == shipped
    entry = list_models()[0]
    assert (entry.name, entry.task, entry.shipped, entry.path) == ("jinyi-tiny-embed", "embed", True, shipped)
    assert (entry.layers, entry.width, entry.pooling, entry.licence) == (2, 32, "mean", "apache-2.0")
    assert entry.note == "For sentences."


def test_a_path_counts_first_if_it_is_a_model(places: Path) -> None:
    (places / "work" / "jinyi-tiny-embed").mkdir()
    assert find_model("jinyi-tiny-embed").is_absolute(), "an empty folder of that name hides nothing"
    (places / "work" / "jinyi-tiny-embed").rmdir()
    write_small(places / "work" / "jinyi-tiny-embed")
    assert find_model("jinyi-tiny-embed") == Path("jinyi-tiny-embed")
    assert find_model(places / "work" / "jinyi-tiny-embed") == places / "work" / "jinyi-tiny-embed"


def test_published_model_in_the_models_folder(places: Path) -> None:
    name = "IDEA-CCNL/Erlangshen-SimCSE-110M-Chinese"
    with pytest.raises(ModelNotFoundError) as caught:
        find_model(name)
    assert str(models_home() / name) in caught.value.fix
    assert "Nothing is downloaded" in caught.value.fix
    path = write_small(models_home() / name)
    assert find_model(name) == find_model(name.split("/")[1]) == path
    assert [entry.path for entry in list_models() if entry.name == name] == [path]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("jinyi-tiny-embe", "Did you mean jinyi-tiny-embed"),
        ("erlangshen-simcse-110m", "Did you mean IDEA-CCNL/Erlangshen-SimCSE-110M-Chinese"),
        ("zzz", "jinyi models list"),
        ("", "jinyi models list"),
        ("../home/models", "jinyi models list"),
        ("~nobody-of-that-name", "jinyi models list"),
        ("\udc80", "jinyi models list"),
        ("\0", "jinyi models list"),
        ("x" * 5000, "jinyi models list"),
    ],
)
def test_unknown_names(places: Path, name: str, words: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        find_model(name)
    assert words in caught.value.fix
    assert "jinyi-tiny-embed" in caught.value.expected
    assert len(str(caught.value)) < 700


def test_neither_text_nor_path(places: Path) -> None:
    with pytest.raises(InputError, match="None"):
        find_model(None)  # type: ignore[arg-type]


def test_a_file_is_no_model(places: Path) -> None:
    (places / "work" / "notes").write_text("x", encoding="utf-8")
    with pytest.raises(ModelNotFoundError, match="a file"):
        find_model("notes")


def test_defaults() -> None:
    assert default_model("pair") == "jinyi-tiny-pair"
    assert set(DEFAULTS) == {"embed", "pair", "topic"}
    with pytest.raises(InputError, match="cook"):
        default_model("cook")


def test_published_table_is_consistent() -> None:
    assert len({entry.name for entry in PUBLISHED}) == len(PUBLISHED)
    for entry in PUBLISHED:
        assert entry.note.endswith(".")
        assert entry.pooling is not None or entry.task != "embed"
        assert not entry.shipped
        assert entry.path is None
