"""Downloads of CLUE's data, from a server of these tests."""

from __future__ import annotations

import hashlib
import io
import socketserver
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from clue_data import lines, rows
from jinyi.clue.download import Source, _Redirects, download, source_of
from jinyi.clue.reading import read_split
from jinyi.clue.tasks import task_by_name, tasks
from jinyi.errors import InputError


class Server:
    """What the server has and how it behaves; `requests` are the Range headers it saw."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str | None] = []
        self.ranges = True
        self.tag: str | None = '"one"'
        self.cut: list[int] = []  # bytes to send before hanging up, one for each of the next requests
        self.chunked = False
        self.status = 200
        self.move_to: str | None = None
        self.url = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.requests.append(self.headers.get("Range"))
            self.close_connection = True
            data = state.files.get(self.path.lstrip("/"))
            if state.move_to is not None and not self.path.startswith("/moved"):
                self.send_response(302)
                self.send_header("Location", state.move_to)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if data is None or state.status != 200:
                self.send_error(404 if data is None else state.status)
                return
            start = self._start(len(data))
            if start is not None and start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200 if start is None else 206)
            if state.tag is not None:
                self.send_header("ETag", state.tag)
            if start is not None:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            body = data[start or 0 :]
            whole = len(body)
            if state.cut:
                body = body[: state.cut.pop(0)]
            if state.chunked:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
                if len(body) == whole:
                    self.wfile.write(b"0\r\n\r\n")
                return
            self.send_header("Content-Length", str(whole))
            self.end_headers()
            self.wfile.write(body)

        def _start(self, size: int) -> int | None:
            wanted = self.headers.get("Range")
            if not state.ranges or wanted is None or self.headers.get("If-Range") != state.tag:
                return None
            return int(wanted.removeprefix("bytes=").removesuffix("-"))

        def log_message(self, *_: object) -> None:
            pass

    class Threads(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Threads(("127.0.0.1", 0), Handler) as listening:
        state.url = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        listening.shutdown()
        thread.join()


def packed(size: int = 200_000) -> bytes:
    """A zip of AFQMC, large enough to come in many blocks."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for split in ("train", "dev", "test"):
            archive.writestr(f"{split}.json", lines(rows(task_by_name("afqmc"), split)))
        archive.writestr("filling", bytes(range(256)) * (size // 256))
    return out.getvalue()


ZIP = packed()
AFQMC = Source(
    "https://nowhere.invalid/afqmc_public.zip", "afqmc_public.zip", len(ZIP), hashlib.sha256(ZIP).hexdigest()
)


def parts(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_addresses() -> None:
    known = {task.name: source_of(task) for task in tasks().values()}
    assert known["wsc"].url == "https://storage.googleapis.com/cluebenchmark/tasks/cluewsc2020_public.zip"
    assert known["ocnli"].url == "https://storage.googleapis.com/cluebenchmark/tasks/ocnli_public.zip"
    assert known["tnewsf"] == known["bustm"] != known["qbqtc"]
    assert all(source.url.startswith("https://") for source in known.values())
    assert {name for name, source in known.items() if source.sha256} == {
        *("afqmc", "tnews", "iflytek", "cmnli", "wsc", "csl")
    }


def test_download(server: Server, tmp_path: Path) -> None:
    server.files["sets/afqmc_public.zip"] = ZIP
    seen: list[tuple[int, int | None]] = []
    path = download(
        AFQMC,
        tmp_path / "new" / "data",
        mirror=f"{server.url}/sets/",
        progress=lambda size, total: seen.append((size, total)),
    )
    assert path.read_bytes() == ZIP and parts(path.parent) == ["afqmc_public.zip"]
    assert seen[-1] == (len(ZIP), len(ZIP)) and len(seen) > 2
    assert len(read_split(task_by_name("afqmc"), path.parent, "train").records) == 12
    server.files.clear()
    assert download(AFQMC, path.parent, mirror=server.url) == path  # kept without a connection
    assert len(server.requests) == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_a_broken_connection_goes_on(chunked: bool, server: Server, tmp_path: Path) -> None:
    server.files[AFQMC.name] = ZIP
    server.chunked = chunked
    server.cut = [70_000, 1_000]
    path = download(AFQMC, tmp_path, mirror=server.url)
    assert path.read_bytes() == ZIP
    assert server.requests[0] is None and len(server.requests) == 3
    first, second = (int(str(wanted).removeprefix("bytes=")[:-1]) for wanted in server.requests[1:])
    assert 0 < first <= 70_000 and first < second <= first + 1_000


def test_a_killed_download_goes_on_in_the_next_run(server: Server, tmp_path: Path) -> None:
    server.files[AFQMC.name] = ZIP

    def stop(size: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(AFQMC, tmp_path, mirror=server.url, progress=stop)
    assert parts(tmp_path) == ["afqmc_public.zip.part", "afqmc_public.zip.part.json"]
    have = (tmp_path / "afqmc_public.zip.part").stat().st_size
    assert 0 < have < len(ZIP)
    assert download(AFQMC, tmp_path, mirror=server.url).read_bytes() == ZIP
    assert server.requests == [None, f"bytes={have}-"]
    assert parts(tmp_path) == ["afqmc_public.zip"]


def begun(server: Server, folder: Path) -> None:
    """Leave the first 70,000 bytes of a download behind."""
    server.cut = [70_000, 0, 0, 0]
    with pytest.raises(InputError, match="goes on where it was"):
        download(AFQMC, folder, mirror=server.url)
    server.cut.clear()
    server.requests.clear()


def test_a_file_that_changed_comes_whole(server: Server, tmp_path: Path) -> None:
    server.files[AFQMC.name] = ZIP
    begun(server, tmp_path)
    new = packed(300_000)
    server.files[AFQMC.name], server.tag = new, '"two"'
    source = replace(AFQMC, size=None, sha256=None)
    assert download(source, tmp_path, mirror=server.url).read_bytes() == new


@pytest.mark.parametrize("without", ["ranges", "tag"])
def test_servers_that_cannot_go_on(without: str, server: Server, tmp_path: Path) -> None:
    server.files[AFQMC.name] = ZIP
    if without == "ranges":
        server.ranges = False
    else:
        server.tag = None
    begun(server, tmp_path)
    assert download(AFQMC, tmp_path, mirror=server.url).read_bytes() == ZIP


@pytest.mark.parametrize("extra", [0, 5])
def test_a_part_as_long_as_the_file(extra: int, server: Server, tmp_path: Path) -> None:
    """Stopped between the last byte and the rename; or a part that is longer than the file."""
    server.files[AFQMC.name] = ZIP
    begun(server, tmp_path)
    (tmp_path / "afqmc_public.zip.part").write_bytes(ZIP + b"\0" * extra)
    assert download(AFQMC, tmp_path, mirror=server.url).read_bytes() == ZIP


def test_a_part_from_another_address_is_not_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.files |= {AFQMC.name: ZIP, f"b/{AFQMC.name}": ZIP}
    begun(server, tmp_path)
    assert download(AFQMC, tmp_path, mirror=f"{server.url}/b").read_bytes() == ZIP
    assert server.requests == [None]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html>please log in</html>", "no zip"),
        (ZIP[:-1000], "no zip"),
        (ZIP.replace(b"sentence1", b"sentenceX", 1), "damaged member train.json"),
        (packed(1024), "SHA-256"),
    ],
)
def test_a_wrong_file_is_refused(data: bytes, message: str, server: Server, tmp_path: Path) -> None:
    server.files[AFQMC.name] = data
    with pytest.raises(InputError, match=message):
        download(AFQMC, tmp_path, mirror=server.url)
    assert parts(tmp_path) == []
    (tmp_path / AFQMC.name).write_bytes(data)  # nor is one that lies there used, or removed
    with pytest.raises(InputError, match="Delete it and start again"):
        download(AFQMC, tmp_path, mirror=server.url)
    assert parts(tmp_path) == [AFQMC.name]


def test_a_changed_file_on_demand(server: Server, tmp_path: Path) -> None:
    server.files[AFQMC.name] = new = packed(1024)
    assert download(AFQMC, tmp_path, mirror=server.url, verify=False).read_bytes() == new


def test_refusals(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="HTTP status 404"):
        download(AFQMC, tmp_path, mirror=server.url)
    server.files[AFQMC.name], server.status = ZIP, 503
    with pytest.raises(InputError, match="HTTP status 503"):
        download(AFQMC, tmp_path, mirror=server.url)
    assert len(server.requests) == 2
    for address in ("file:///etc", "ftp://127.0.0.1", "data", "http://[bad"):
        with pytest.raises(InputError, match=r"expected https://"):
            download(AFQMC, tmp_path, mirror=address)
    assert parts(tmp_path) == []
    blocked = tmp_path / "blocked"
    blocked.write_text("a file", encoding="utf-8")
    with pytest.raises(InputError, match="folder that can be written"):
        download(AFQMC, blocked / "data", mirror=server.url)
    (tmp_path / "there" / AFQMC.name).mkdir(parents=True)
    with pytest.raises(InputError, match="no zip .*directory"):
        download(AFQMC, tmp_path / "there", mirror=server.url)


def test_an_address_with_chinese_and_blanks(server: Server, tmp_path: Path) -> None:
    path = "%E6%95%B0%E6%8D%AE%20a/" + AFQMC.name
    server.files[path] = ZIP
    assert download(AFQMC, tmp_path, mirror=f"{server.url}/数据 a").read_bytes() == ZIP


def test_nobody_there(server: Server, tmp_path: Path) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as unused:
        port = unused.server_address[1]
    with pytest.raises(InputError, match="put the zip there yourself"):
        download(AFQMC, tmp_path, mirror=f"http://127.0.0.1:{port}")


def test_redirects(server: Server, tmp_path: Path) -> None:
    server.files["moved.zip"] = ZIP
    server.move_to = "/moved.zip"
    assert download(AFQMC, tmp_path, mirror=server.url).read_bytes() == ZIP
    request = urllib.request.Request("https://github.com/a.zip")
    follow = _Redirects().redirect_request
    with pytest.raises(urllib.error.URLError, match="not https"):
        follow(request, io.BytesIO(), 302, "Found", HTTPMessage(), "http://github.com/a.zip")
    new = follow(request, io.BytesIO(), 302, "Found", HTTPMessage(), "https://codeload.github.com/a.zip")
    assert new is not None and new.full_url == "https://codeload.github.com/a.zip"


def test_command(run, server: Server, tmp_path: Path) -> None:
    for name in ("FewCLUE.zip", "QBQTC.zip"):
        server.files[name] = ZIP
    code, out, err = run(
        *("clue", "download", "--tasks", "bustm,tnewsf,qbqtc", "--data", tmp_path, "--mirror", server.url)
    )
    assert code == 0 and "FewCLUE.zip" in err and "QBQTC.zip" in err and not out
    assert len(server.requests) == 2
    code, out, _ = run("clue", "download", "--tasks", "qbqtc", "--data", tmp_path, "--json")
    assert code == 0 and f'"bytes": {len(ZIP)}' in out and len(server.requests) == 2
    code, _, err = run("clue", "download", "--tasks", "afqcm", "--data", tmp_path)
    assert code == 2 and "Did you mean afqmc" in err
    code, _, err = run("clue", "download", "--tasks", "afqmc", "--data", tmp_path, "--mirror", server.url)
    assert code == 2 and "404" in err
