"""Published models downloaded from a hub of these tests."""

from __future__ import annotations

import json
import os
import signal
import socketserver
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import ModuleType
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file

from folder_tools import edit
from hub_server import Hub, running_hub, sha256
from jinyi import PairScorer, SentenceEncoder
from jinyi.convert.hub import download
from jinyi.convert.hub.snapshot import needed
from jinyi.errors import FolderError, InputError, MissingExtraError, ModelNotFoundError
from jinyi.folder import read_folder, verify_folder
from jinyi.registry import find_model, models_home
from small_models import random_weights, write_small

SIMCSE = "IDEA-CCNL/Erlangshen-SimCSE-110M-Chinese"
NAME = Hub.repository
SAVED = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, an empty models folder, an empty cache of the library, and no settings of this machine."""
    for name in ("HF_ENDPOINT", "HF_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JINYI_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # of 10 MB: files are small here
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    with running_hub() as running:
        yield running


@pytest.fixture(scope="module")
def embed_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return files_of(write_small(tmp_path_factory.mktemp("models") / "embed", pooling="cls"))


def files_of(folder: Path) -> dict[str, bytes]:
    """A folder as its authors would have put it on a hub: no word on pooling, nothing of jinyi's."""
    files = {name: (folder / name).read_bytes() for name in SAVED}
    return files | {"README.md": b"---\nlicense: apache-2.0\n---\n"}


def pickled(files: dict[str, bytes], tmp_path: Path) -> dict[str, bytes]:
    """The same model in PyTorch's .bin."""
    (tmp_path / "model.safetensors").write_bytes(files["model.safetensors"])
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    others = {name: data for name, data in files.items() if name != "model.safetensors"}
    return others | {"pytorch_model.bin": (tmp_path / "pytorch_model.bin").read_bytes()}


def left_over() -> list[str]:
    """What a download left behind in the models folder, but for its lock."""
    return sorted(
        file.name
        for file in models_home().rglob("*")
        if file.is_file() and file.suffix != ".lock" and ".downloads" in file.parts
    )


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


def test_a_pickle_that_would_run_is_refused(hub: Hub, embed_files: dict[str, bytes], tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"embeddings.word_embeddings.weight": Malicious()}, tmp_path / "evil.bin")
    hub.files = pickled(embed_files, tmp_path) | {"pytorch_model.bin": (tmp_path / "evil.bin").read_bytes()}
    with pytest.raises(FolderError):
        download(NAME, endpoint=hub.url)
    assert not (tmp_path / "ran").exists() and not (models_home() / NAME).exists()


def test_a_broken_connection_goes_on(hub: Hub, embed_files: dict[str, bytes]) -> None:
    hub.files = embed_files
    hub.cut = [20_000, 1_000]
    path = download(NAME, endpoint=hub.url)
    assert (path / "model.safetensors").read_bytes() == embed_files["model.safetensors"]
    first, *spans = hub.fetched("model.safetensors")
    starts = [int(str(span).removeprefix("bytes=")[:-1]) for span in spans]
    assert first is None and 0 < starts[0] <= 20_000 and starts[0] < starts[1] <= 21_000


def test_a_stopped_download_goes_on_in_the_next_call(hub: Hub, embed_files: dict[str, bytes]) -> None:
    hub.files = embed_files
    begin(hub)
    (part,) = (name for name in left_over() if name.endswith(".part"))
    assert sha256(embed_files["model.safetensors"])[:16] in part
    said: list[str] = []
    path = download(NAME, endpoint=hub.url, say=said.append)
    assert (path / "model.safetensors").read_bytes() == embed_files["model.safetensors"]
    (span,) = hub.fetched("model.safetensors")
    assert span is not None and 0 < int(span.removeprefix("bytes=")[:-1]) <= 20_000
    assert "going on after" in said[0]
    assert not [place for _, place, _, _ in hub.requests if place.endswith("vocab.txt")]  # it was whole


def begin(hub: Hub) -> None:
    """Leave the first bytes of the weights behind; the server then goes down."""

    class Last(list):  # type: ignore[type-arg]
        def pop(self, *_: Any) -> int:
            hub.refuses_large = True
            return int(super().pop(0))

    hub.cut = Last([20_000])
    with pytest.raises(InputError, match=r"503.*goes on where it was"):
        download(NAME, endpoint=hub.url)
    hub.refuses_large = False
    hub.requests.clear()


def test_another_file_is_not_gone_on_with(hub: Hub, embed_files: dict[str, bytes], tmp_path: Path) -> None:
    hub.files = dict(embed_files)
    begin(hub)
    newer = write_small(tmp_path / "newer", weights=random_weights(seed=7), pooling="cls")
    edit(newer / "config.json", note="another commit")
    hub.files = files_of(newer)
    path = download(NAME, endpoint=hub.url)
    assert (path / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert hub.fetched("model.safetensors") == [None]
    assert json.loads((path / "config.json").read_text(encoding="utf-8"))["note"] == "another commit"


@pytest.mark.slow
def test_a_killed_process_goes_on(hub: Hub, embed_files: dict[str, bytes], tmp_path: Path) -> None:
    hub.files = embed_files
    script = (
        "import sys, huggingface_hub.file_download as files\n"
        "from jinyi.convert.hub import download\n"
        "get = files.http_get\n"
        "def stall(url, stream, **options):\n"
        "    if 'safetensors' in url:\n"
        "        stream.write(open(sys.argv[2], 'rb').read()[:12345]); stream.flush()\n"
        "        print('there', flush=True); import time; time.sleep(60)\n"
        "    get(url, stream, **options)\n"
        "files.http_get = stall\n"
        "download(sys.argv[3], endpoint=sys.argv[1])\n"
    )
    (tmp_path / "weights").write_bytes(embed_files["model.safetensors"])
    command = [sys.executable, "-c", script, hub.url, str(tmp_path / "weights"), NAME]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        with pytest.raises(InputError, match="another download"):
            download(NAME, endpoint=hub.url)
        process.send_signal(signal.SIGKILL)
    time.sleep(0.05)
    path = download(NAME, endpoint=hub.url)
    assert hub.fetched("model.safetensors") == ["bytes=12345-"]
    verify_folder(path)


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.txt"])
def test_wrong_bytes_are_refused(name: str, hub: Hub, embed_files: dict[str, bytes]) -> None:
    hub.files = embed_files
    data = bytearray(embed_files[name])
    data[len(data) // 2] ^= 1
    hub.served = {name: bytes(data)}
    with pytest.raises(InputError, match=rf"{name}: found other bytes.*checksum"):
        download(NAME, endpoint=hub.url)
    assert not (models_home() / NAME).exists() and name not in left_over()
    hub.served = {name: bytes(data[:-5])}
    with pytest.raises(InputError, match="no answer|other bytes"):
        download(NAME, endpoint=hub.url)
    hub.served = {}
    said: list[str] = []
    verify_folder(download(NAME, endpoint=hub.url, say=said.append))
    damaged = name == "model.safetensors"  # its wrong beginning was kept to go on with
    assert [line for line in said if "damaged, fetched again" in line] == [
        f"{name}: its beginning was damaged, fetched again"
    ] * damaged


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((404, {"X-Error-Code": "RepoNotFound"}), "no such repository, or a private one"),
        ((401, {}), "HTTP status 401.*owner and name.*token"),
        ((403, {"X-Error-Code": "GatedRepo"}), ".*authors ask for consent.*terms"),
        ((403, {}), "HTTP status 403.*token"),
        ((500, {}), "HTTP status 500.*goes on"),
    ],
)
def test_refusals(refusal: tuple[int, dict[str, str]], words: str, hub: Hub) -> None:
    hub.refusal = refusal
    with pytest.raises(InputError, match=rf"{NAME} at http://127\.0\.0\.1:\d+: found {words}"):
        download(NAME, endpoint=hub.url)
    assert not (models_home() / NAME).exists()


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


def test_nobody_there(hub: Hub) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as unused:
        port = unused.server_address[1]
    with pytest.raises(InputError, match=r"no answer: .*a mirror: endpoint="):
        download(NAME, endpoint=f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    "answer", [b"<html>please log in</html>", b"[]", b"{}", b'{"id": "somebody/some-model"}']
)
def test_an_answer_that_is_no_list(answer: bytes, hub: Hub) -> None:
    hub.answer = answer
    with pytest.raises(InputError, match="no list of files|without a commit"):
        download(NAME, endpoint=hub.url)


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


def test_files_that_are_no_model(hub: Hub, embed_files: dict[str, bytes]) -> None:
    hub.files = {"README.md": b"", "bert_model.ckpt.index": b""}
    with pytest.raises(InputError, match=r"without config\.json.*jinyi convert"):
        download(NAME, endpoint=hub.url)
    hub.files = {name: data for name, data in embed_files.items() if name != "model.safetensors"}
    with pytest.raises(InputError, match="without weights that can be read"):
        download(NAME, endpoint=hub.url)
    hub.files = {
        name: data for name, data in embed_files.items() if "vocab" not in name and "token" not in name
    }
    with pytest.raises(FolderError, match="tokenizer"):
        download(NAME, endpoint=hub.url)
    assert not (models_home() / NAME).exists()
    hub.files = embed_files  # what was fetched is not fetched again
    hub.requests.clear()
    download(NAME, endpoint=hub.url)
    assert hub.fetched("model.safetensors") == []


def test_no_room(hub: Hub, embed_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    hub.files = embed_files
    free = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("jinyi.convert.hub.snapshot.shutil.disk_usage", lambda _: free)
    with pytest.raises(InputError, match="GB of room"):
        download(NAME, endpoint=hub.url)
    assert hub.fetched("model.safetensors") == []


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
