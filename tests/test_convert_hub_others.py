"""Downloads from mirrors of a hub and from ModelScope."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from folder_tools import edit
from hub_server import NAME, Hub, files_of, pickled
from jinyi import PairScorer
from jinyi.convert.hub import download
from jinyi.errors import InputError, MissingExtraError
from jinyi.folder import read_folder, verify_folder
from jinyi.registry import models_home
from small_models import write_small


def test_a_mirror_is_not_handed_the_token(
    hub: Hub, embed_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    hub.files = embed_files
    path = download(NAME)
    assert hub.requests and not any(token for *_, token in hub.requests)
    hub.token = "hf_given"
    with pytest.raises(InputError, match="private"):
        download(NAME, overwrite=True)
    hub.requests.clear()
    assert download(NAME, overwrite=True, token="hf_given") == path
    handed = {(place.startswith("/large/"), token) for _, place, _, token in hub.requests}
    assert handed == {(False, "Bearer hf_given"), (True, None)}


def test_a_mirror_that_lists_names_alone(
    hub: Hub, embed_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.files = embed_files
    hub.lists_names_only = True
    path = download(NAME, endpoint=hub.url)
    verify_folder(path)
    data = embed_files["model.safetensors"]
    hub.served = {"model.safetensors": data[:-1] + bytes([data[-1] ^ 1])}
    with pytest.raises(InputError, match="other bytes"):
        download(NAME, endpoint=hub.url, output=tmp_path / "again")
    monkeypatch.setattr(Hub, "etags", False)
    with pytest.raises(InputError, match="no checksum of"):
        download(NAME, endpoint=hub.url, output=tmp_path / "again")


@pytest.mark.parametrize(("source", "package"), [("huggingface", "jinyi"), ("modelscope", "modelscope")])
def test_without_the_package(source: str, package: str, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "modelscope", None)
    with pytest.raises(MissingExtraError, match=rf"pip install \"?{package}"):
        download(NAME, source=source)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_modelscope(
    kind: str, hub: Hub, embed_files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in that has the signature of ModelScope's `snapshot_download`, and its way with patterns."""
    from fnmatch import fnmatch

    files = embed_files if kind == "safetensors" else pickled(embed_files, tmp_path)
    files = files | {"configuration.json": b"{}"} | ({"pytorch_model.bin": b"no"} if kind != "bin" else {})
    calls: list[str | None] = []

    def snapshot_download(
        model_id: str, revision: str | None = None, *, local_dir: str, allow_file_pattern: list[str]
    ) -> str:
        assert model_id == "Fengshenbang/Erlangshen-RoBERTa-110M-Similarity"
        calls.append(revision)
        for name, data in files.items():
            if any(fnmatch(name, pattern) for pattern in allow_file_pattern):
                (Path(local_dir) / name).write_bytes(data)
        (Path(local_dir) / ".msc").write_bytes(b"its own notes")
        return local_dir

    module = ModuleType("modelscope")
    module.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modelscope", module)
    pair = write_small(tmp_path / "pair", "pair", outputs=2, labels=["a", "b"], similar_label=1)
    edit(pair / "config.json", id2label=None, label2id=None)
    files |= files_of(pair) if kind == "safetensors" else pickled(files_of(pair), tmp_path)
    name = "IDEA-CCNL/Erlangshen-Roberta-110M-Similarity"
    path = download(name, source="modelscope", revision="v1.0")
    assert path == models_home() / name and set(calls) == {"v1.0"}
    assert len(calls) == (1 if kind == "safetensors" else 2)
    assert not list(path.rglob("*.bin")) and not (path / ".msc").exists()
    folder = read_folder(path)
    assert folder.labels == ("not similar", "similar") and folder.similar == 1
    assert folder.record["source"] == {
        "hub": "modelscope",
        "repository": "Fengshenbang/Erlangshen-RoBERTa-110M-Similarity",
        "revision": "v1.0",
    }
    assert 0 <= PairScorer.load(name).predict(("怎么改密码", "如何登录")) <= 1


def test_modelscope_that_fails(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(*_: object, **__: object) -> str:
        raise RuntimeError("the hub is down")

    module = ModuleType("modelscope")
    module.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modelscope", module)
    with pytest.raises(InputError, match="RuntimeError: 'the hub is down'"):
        download(NAME, source="modelscope")
