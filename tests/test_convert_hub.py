"""Published models downloaded from a hub of these tests."""

from __future__ import annotations

import json
import os
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants

from folder_tools import edit
from hub_server import NAME, SIMCSE, Hub, left_over, pickled, sha256
from jinyi import SentenceEncoder
from jinyi.convert.hub import download
from jinyi.convert.hub.snapshot import needed
from jinyi.errors import FolderError, InputError, ModelNotFoundError
from jinyi.folder import read_folder, verify_folder
from jinyi.registry import find_model, models_home
from small_models import write_small


def test_download(hub: Hub, embed_files: dict[str, bytes]) -> None:
    hub.files = embed_files | {
        **{"pytorch_model.bin": b"pickle", "tf_model.h5": b"keras", "flax_model.msgpack": b"flax"},
        **{"onnx/model.onnx": b"onnx", ".gitattributes": b"", "1_Pooling/notes.txt": b""},
    }
    said: list[str] = []
    path = download(NAME, endpoint=hub.url, say=said.append)
    assert path == models_home() / NAME == find_model(NAME)
    asked = {Path(place).name for _, place, _, _ in hub.requests}
    assert not asked & {"pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "model.onnx", "notes.txt"}
    for name, data in embed_files.items():
        assert (path / name).read_bytes() == data
    assert len(verify_folder(path).checked) == len(embed_files) + 1  # and jinyi.json
    record = json.loads((path / "jinyi.json").read_text(encoding="utf-8"))
    source = {"hub": "huggingface", "repository": NAME, "revision": Hub.commit}
    assert record == {"format": 1, "name": NAME, "source": source}
    assert left_over() == [] and said == []
    # Nobody else is asked, and no version of anything but Python and the library is told.
    assert {place.split("/")[1] for _, place, _, _ in hub.requests} == {"api", "large", "somebody"}
    assert hub.programs and not any("torch" in program for program in hub.programs)
    seen = len(hub.requests)
    assert download(NAME, endpoint=hub.url, say=said.append) == path  # kept without a connection
    assert len(hub.requests) == seen and "there already" in said[0]


def test_what_the_registry_knows_comes_with_it(
    hub: Hub, embed_files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "repository", SIMCSE)
    hub.files = embed_files
    path = download("Erlangshen-SimCSE-110M-Chinese", endpoint=hub.url)
    assert path == models_home() / SIMCSE
    record = json.loads((path / "jinyi.json").read_text(encoding="utf-8"))
    assert (record["task"], record["pooling"], record["licence"]) == ("embed", "cls", "apache-2.0")
    vectors = SentenceEncoder.load(SIMCSE).encode(["怎么改密码", "今天天气很好"])
    moved = download(SIMCSE, endpoint=hub.url, output=tmp_path / "elsewhere")
    assert np.array_equal(SentenceEncoder.load(moved).encode(["怎么改密码", "今天天气很好"]), vectors)


def test_pytorch_weights_are_converted(hub: Hub, embed_files: dict[str, bytes], tmp_path: Path) -> None:
    hub.files = embed_files
    plain = download(NAME, endpoint=hub.url, output=tmp_path / "plain")
    hub.files = pickled(embed_files, tmp_path)
    said: list[str] = []
    path = download(NAME, endpoint=hub.url, say=said.append)
    assert not list(path.rglob("*.bin")) and (path / "model.safetensors").is_file()
    assert any("converting" in line for line in said)
    assert read_folder(path).record["source"]["repository"] == NAME
    verify_folder(path)
    texts = ["怎么改密码", "今天天气很好"]
    one, other = (SentenceEncoder.load(folder, pooling="cls").encode(texts) for folder in (plain, path))
    assert np.abs(one - other).max() < 1e-6
    assert left_over() == []


def test_revisions(hub: Hub, embed_files: dict[str, bytes], tmp_path: Path) -> None:
    hub.files = embed_files
    with pytest.raises(InputError, match="no revision 'other'"):
        download(NAME, endpoint=hub.url, revision="other")
    path = download(NAME, endpoint=hub.url, revision="main")
    with pytest.raises(InputError, match=f"of revision {Hub.commit}.*--overwrite"):
        download(NAME, endpoint=hub.url, revision="fedcba")
    assert download(NAME, endpoint=hub.url, revision=Hub.commit) == path
    hub.files = embed_files | {"README.md": b"newer"}
    assert download(NAME, endpoint=hub.url, overwrite=True) == path
    assert (path / "README.md").read_bytes() == b"newer"


def test_the_cache_of_the_library(
    hub: Hub, embed_files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What transformers has downloaded is not fetched again, and is enough without a connection."""
    with pytest.raises(InputError, match=r"nothing of it in .*cache"):
        download(NAME, offline=True)
    hub.files = embed_files | {"pytorch_model.bin": b"not asked for"}
    with monkeypatch.context() as quiet:
        quiet.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)  # else it asks huggingface.co
        for name in embed_files:
            huggingface_hub.hf_hub_download(NAME, name, endpoint=hub.url)
    hub.requests.clear()
    path = download(NAME, offline=True)
    assert hub.requests == [] and read_folder(path).record["source"]["revision"] == Hub.commit
    verify_folder(path)
    assert download(NAME, endpoint=hub.url, overwrite=True) == path
    assert hub.fetched("model.safetensors") == []
    (blob,) = (file for file in (tmp_path / "cache").rglob(sha256(embed_files["model.safetensors"])))
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.unlink()
    blob.write_bytes(data)
    with pytest.raises(InputError, match=r"damaged copy of model\.safetensors"):
        download(NAME, offline=True, overwrite=True)
    verify_folder(download(NAME, endpoint=hub.url, overwrite=True))
    assert hub.fetched("model.safetensors") == [None]


def test_a_place_that_is_taken(hub: Hub, embed_files: dict[str, bytes], tmp_path: Path) -> None:
    hub.files = embed_files
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(FolderError, match="not a model folder"):
        download(NAME, endpoint=hub.url, output=tmp_path / "mine", overwrite=True)
    assert os.listdir(tmp_path / "mine") == ["notes.txt"]
    assert hub.requests == []  # known before anything is fetched


def test_another_model_in_the_named_place(hub: Hub, embed_files: dict[str, bytes], tmp_path: Path) -> None:
    hub.files = embed_files
    mine = write_small(tmp_path / "mine", pooling="cls")
    with pytest.raises(InputError, match=r"of unknown origin.*--overwrite"):
        download(NAME, endpoint=hub.url, output=mine)
    edit(mine / "jinyi.json", source={"repository": "hfl/rbt3"})
    with pytest.raises(InputError, match="of hfl/rbt3"):
        download(NAME, endpoint=hub.url, output=mine)
    assert hub.requests == []
    assert download(NAME, endpoint=hub.url, output=mine, overwrite=True) == mine
    asked = len(hub.requests)
    assert download(NAME, endpoint=hub.url, output=mine) == mine
    assert len(hub.requests) == asked  # there already


def test_names_and_options(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelNotFoundError, match="Did you mean IDEA-CCNL/Erlangshen-SimCSE"):
        download("erlangshen-simcse-110m")
    for name in ("../etc", "somebody/../else", "a/b/c", "/etc", ""):
        with pytest.raises((InputError, ModelNotFoundError)):
            download(name, endpoint=hub.url)
    with pytest.raises(InputError, match="lies in the package"):
        download("jinyi-tiny-pair")
    for address in ("hf-mirror.com", "file:///etc", "http://[bad", "http://a b"):
        with pytest.raises(InputError, match=r"expected https://"):
            download(NAME, endpoint=address)
    with pytest.raises(InputError, match="huggingface, modelscope"):
        download(NAME, source="github")
    with pytest.raises(InputError, match="no name on ModelScope"):
        download(SIMCSE, source="modelscope")
    for options in ({"endpoint": hub.url}, {"token": "t"}, {"offline": True}):
        with pytest.raises(InputError, match="with ModelScope"):
            download(NAME, source="modelscope", **options)  # type: ignore[arg-type]
    assert hub.requests == []


BASE = ["config.json", "vocab.txt"]


@pytest.mark.parametrize(
    ("names", "weights"),
    [
        (["model.safetensors", "pytorch_model.bin"], ["model.safetensors"]),
        (["model.safetensors", "model_fp16.safetensors"], ["model.safetensors"]),
        (["weights.safetensors", "pytorch_model.bin"], ["weights.safetensors"]),
        (["a.safetensors", "b.safetensors", "pytorch_model.bin"], ["pytorch_model.bin"]),
        (
            ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "pytorch_model.bin"],
            ["model-00001-of-00002.safetensors", "model.safetensors.index.json"],
        ),
        (
            ["pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin", "training_args.bin"],
            ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"],
        ),
        (
            [
                "model.safetensors",
                "2_Dense/model.safetensors",
                "2_Dense/pytorch_model.bin",
                "onnx/model.onnx",
            ],
            ["2_Dense/model.safetensors", "model.safetensors"],
        ),
        (
            ["model.safetensors", "int8_ranges.safetensors", "topic.safetensors"],
            ["int8_ranges.safetensors", "model.safetensors", "topic.safetensors"],
        ),
        (
            [
                "model.safetensors",
                "../x.safetensors",
                "/etc/vocab.txt",
                "..\\model.safetensors",
                "x/config.json",
            ],
            ["model.safetensors"],
        ),
    ],
)
def test_needed_files(names: list[str], weights: list[str]) -> None:
    chosen = needed([*BASE, *names, "merges.txt", "1_Pooling/config.json"])
    assert sorted(chosen) == sorted([*BASE, *weights, "1_Pooling/config.json"])


def test_command(run, hub: Hub, embed_files: dict[str, bytes]) -> None:
    hub.files = embed_files
    code, out, err = run("models", "download", NAME, "--endpoint", hub.url)
    assert code == 0 and not out and str(models_home() / NAME) in err
    code, out, _ = run("models", "download", NAME, "--endpoint", hub.url, "--json")
    assert code == 0 and json.loads(out)["path"] == str(models_home() / NAME)
    code, out, _ = run("models", "list", "--here", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["here"] for row in rows if row["name"] == NAME] == [str(models_home() / NAME)]
    code, out, _ = run("models", "show", NAME)
    assert code == 0 and Hub.commit in out
    code, _, err = run("models", "download", "erlangshen-simcse-110m")
    assert code == 2 and "Did you mean" in err
    code, _, err = run("models", "download", f"{NAME}x", "--endpoint", hub.url)
    assert code == 2 and "no such repository" in err


def test_commands_on_models_that_are_not_here(run, hub: Hub) -> None:
    code, out, err = run("models", "show", SIMCSE)
    assert code == 0 and "cls" in out and f"`jinyi models download {SIMCSE}`" in err
    code, out, _ = run("models", "show", "ALBERT-tiny", "--json")
    facts = json.loads(out)
    assert code == 0 and facts["name"] == "voidful/albert_chinese_tiny" and facts["here"] is None
    assert facts["licence"] == "none stated on its card" and facts["tensorflow"].endswith(".zip")
    code, _, err = run("models", "show", SIMCSE, "--verify")
    assert code == 2 and f"jinyi models download {SIMCSE}" in err
    code, out, _ = run("models", "list", "--task", "pair", "--json")
    assert {json.loads(line)["task"] for line in out.splitlines()} == {"pair"}
    code, _, err = run("models", "list", "--task", "cook")
    assert code == 2 and "cook" in err
    code, _, err = run("embed", "-m", SIMCSE, "怎么改密码")
    assert code == 2 and f"jinyi models download {SIMCSE}" in err
    assert hub.requests == []
