"""A hub of one repository on this machine: it answers huggingface_hub as huggingface.co does."""

from __future__ import annotations

import hashlib
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import torch
from safetensors.torch import load_file

from jinyi.registry import models_home

SIMCSE = "IDEA-CCNL/Erlangshen-SimCSE-110M-Chinese"
SAVED = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
LARGE = (".safetensors", ".bin", ".h5")
"""Files in large file storage: known by their SHA-256, and served from another address."""


class Hub:
    """What the hub has, and how it behaves.

    Attributes:
        files: the files of the repository.
        served: other bytes than the listed ones, for files that this server gets wrong.
        cut: how many bytes of a large file to send before hanging up, one number for each of the next requests.
        refusal: status and headers of the answer to everything.
        refuses_large: whether large files are out of service.
        token: what is asked for.
        lists_names_only: as mirrors do that know no checksums.
        answer: what the list of files is in place of one.
        requests: (method, path, range, token) of each request.
        programs: what called itself what (User-Agent).
    """

    repository = "somebody/some-model"
    commit = "0123456789abcdef0123456789abcdef01234567"
    etags = True

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.served: dict[str, bytes] = {}
        self.cut: list[int] = []
        self.refusal: tuple[int, dict[str, str]] | None = None
        self.refuses_large = False
        self.token: str | None = None
        self.lists_names_only = False
        self.answer: bytes | None = None
        self.requests: list[tuple[str, str, str | None, str | None]] = []
        self.programs: set[str] = set()
        self.url = ""
        self.large_url = ""

    def fetched(self, name: str) -> list[str | None]:
        """The ranges in which a large file was asked for."""
        return [
            span for method, path, span, _ in self.requests if method == "GET" and path == f"/large/{name}"
        ]

    def listing(self) -> bytes:
        siblings = []
        for name, data in self.files.items():
            entry: dict[str, object] = {"rfilename": name}
            if not self.lists_names_only:
                entry |= {"size": len(data), "blobId": git_id(data)}
                if name.endswith(LARGE):
                    entry["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
            siblings.append(entry)
        return json.dumps({"id": self.repository, "sha": self.commit, "siblings": siblings}).encode()


NAME = Hub.repository


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


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Serve a hub on 127.0.0.1."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = urlsplit(self.path).path
            token = self.headers.get("Authorization")
            hub.programs.add(str(self.headers.get("User-Agent")))
            hub.requests.append((self.command, path, self.headers.get("Range"), token))
            self.close_connection = True
            if hub.refusal is not None:
                return self._end(*hub.refusal)
            if hub.token is not None and token != f"Bearer {hub.token}" and not path.startswith("/large/"):
                return self._end(401, {"X-Error-Message": "Invalid username or password."})
            api, pages = f"/api/models/{hub.repository}", f"/{hub.repository}/resolve/"
            if path in (api, f"{api}/revision/main", f"{api}/revision/{hub.commit}"):
                body = hub.listing() if hub.answer is None else hub.answer
                return self._send(body, {"Content-Type": "application/json"})
            if path.startswith(f"{api}/revision/") or path.startswith(f"{pages}other/"):
                return self._end(404, {"X-Error-Code": "RevisionNotFound"})
            name = path.removeprefix("/large/").removeprefix(f"{pages}{hub.commit}/")
            name = name.removeprefix(f"{pages}main/")
            if name not in hub.files:
                return self._end(404, {"X-Error-Code": "RepoNotFound"})
            data = hub.served.get(name, hub.files[name])
            if path.startswith("/large/"):
                if hub.refuses_large:
                    return self._end(503, {})
                return self._send(data, {}, spans=True)
            headers = {"X-Repo-Commit": hub.commit}
            if hub.etags:
                headers["ETag"] = f'"{git_id(data)}"'
            if name.endswith(LARGE):
                tag = {"X-Linked-Etag": f'"{sha256(hub.files[name])}"'} if hub.etags else {}
                return self._end(
                    302,
                    headers
                    | tag
                    | {
                        "X-Linked-Size": str(len(hub.files[name])),
                        "Location": f"{hub.large_url}/large/{name}",
                    },
                )
            return self._send(data, headers)

        def _end(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()

        def _send(self, data: bytes, headers: dict[str, str], *, spans: bool = False) -> None:
            wanted = self.headers.get("Range") if spans else None
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
            self.send_response(206 if wanted else 200)
            for name, value in headers.items():
                self.send_header(name, value)
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            body = data[start:]
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[: hub.cut.pop(0)] if spans and hub.cut else body)

        def log_message(self, *_: object) -> None:
            pass

    class Threads(socketserver.ThreadingTCPServer):
        daemon_threads = True

    # Large files come from another host, which must not see the token.
    with Threads(("127.0.0.1", 0), Handler) as pages, Threads(("127.0.0.1", 0), Handler) as large:
        hub.url, hub.large_url = (f"http://127.0.0.1:{one.server_address[1]}" for one in (pages, large))
        threads = [
            threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
            for one in (pages, large)
        ]
        for thread in threads:
            thread.start()
        try:
            yield hub
        finally:
            for one, thread in zip((pages, large), threads, strict=True):
                one.shutdown()
                thread.join()
