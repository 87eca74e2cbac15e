"""Downloads that break off, and hubs that refuse, are not there or send other bytes."""

from __future__ import annotations

import json
import os
import signal
import socketserver
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import torch

from folder_tools import edit
from hub_server import NAME, Hub, files_of, left_over, pickled, sha256
from jinyi.convert.hub import download
from jinyi.errors import FolderError, InputError
from jinyi.folder import verify_folder
from jinyi.registry import models_home
from small_models import random_weights, write_small


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
