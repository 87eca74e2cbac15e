"""CLUE's data by their official addresses.

The one file of jinyi that opens a connection by itself (models come through huggingface-hub); it does so only in
`download`, which only `jinyi clue download` and a caller's own code call.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Final

from jinyi.clue.places import UNREADABLE
from jinyi.clue.tasks import ClueTask
from jinyi.errors import InputError, shorten
from jinyi.files.write import cannot_write
from jinyi.hashes import file_sha256

Progress = Callable[[int, int | None], None]
"""Called with bytes on disk, and how many there will be, if that is known."""

_BUCKET: Final = "https://storage.googleapis.com/cluebenchmark/tasks/"
_BLOCK: Final = 1 << 16
_TIMEOUT: Final = 60.0
_TRIES: Final = 4
_IN_ADDRESSES: Final = "%/:?#[]@!$&'()*+,;="
"""Characters that mean something in an address; all but these, letters and digits are written as %XX."""
_BROKEN: Final = (
    urllib.error.URLError,
    http.client.HTTPException,
    TimeoutError,
    ConnectionError,
    ssl.SSLError,
)

# Size and SHA-256 of CLUE's zips since July 2021 (which brought the test sets of 1.1), as recorded by the data set
# index of Hugging Face (huggingface/datasets, datasets/clue/dataset_infos.json).
_KNOWN: Final = {
    "afqmc_public.zip": (1195044, "5a4cb1556b833010c329fa2ad2207d9e98fc94071b7e474015e9dd7c385db4dc"),
    "tnews_public.zip": (5123575, "77c476e70cfe0b014a81b84c6e1db2142a8a2f52f4ae0a8216aa75e673933462"),
    "iflytek_public.zip": (6505938, "c59b961b29f1d0bad0c5e01aa62e4a61a80e9cfb980ce89b06c000851fbb3b06"),
    "cmnli_public.zip": (31404066, "3a3f3b1d3d27134cf11e585156f07fa050bd0a0836821c02696af0dbaa14513b"),
    "cluewsc2020_public.zip": (281384, "ebe5f357b19392d601be401b2fd4246983f534809a078eab7bda1de418fb3ffe"),
    "csl_public.zip": (3234594, "795d1a2e475d59acad8236f6c5baba7a0b43d3e0508cb60f15ffbc76d5f437c4"),
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where the data of a task come from.

    Args:
        url: official address.
        name: of the zip on the disk.
        size: in bytes, if known.
        sha256: if known.
    """

    url: str
    name: str
    size: int | None = None
    sha256: str | None = None


def source_of(task: ClueTask) -> Source:
    """Return where the data of a task come from; FewCLUE's tasks share one zip, that of the repository."""
    if task.benchmark == "fewclue":
        return Source("https://github.com/CLUEbenchmark/FewCLUE/archive/HEAD.zip", "FewCLUE.zip")
    if task.benchmark == "qbqtc":
        return Source("https://github.com/CLUEbenchmark/QBQTC/archive/HEAD.zip", "QBQTC.zip")
    name = f"{task.folders[0]}.zip"
    size, sha256 = _KNOWN.get(name, (None, None))
    return Source(_BUCKET + name, name, size, sha256)


def download(
    source: Source,
    folder: str | os.PathLike[str],
    *,
    mirror: str | None = None,
    verify: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Fetch a zip; a broken download goes on where it was, also in a later call.

    What is there already and passes the checks is kept, without a connection.

    Args:
        source: see `source_of`.
        folder: where the zip goes; made if need be.
        mirror: address of a folder that has the zip under the same name, in place of the official one.
        verify: refuse a zip whose size or SHA-256 are not the known ones.
        progress: called after every block.

    Returns:
        the zip.

    Raises:
        InputError: no connection, a refusal by the server, a zip that fails the checks, a disk that refuses.
    """
    target = Path(folder) / source.name
    if target.exists():
        _check(target, source, verify)
        return target
    url = source.url if mirror is None else f"{mirror.rstrip('/')}/{source.name}"
    if not _is_address(url):
        raise InputError(
            found=f"address {shorten(url)}",
            expected="https://...",
            fix="Give the address of a folder that holds the zips.",
            where="mirror",
        )
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, progress)
        _check(part, source, verify)
        os.replace(part, target)
    except OSError as fault:
        raise cannot_write(target, fault) from fault
    finally:
        if target.exists():
            _tag_file(part).unlink(missing_ok=True)
    return target


def _is_address(url: str) -> bool:
    try:
        return urllib.parse.urlsplit(url).scheme in ("http", "https")
    except ValueError:  # brackets that are no IPv6 address
        return False


def _fetch(url: str, part: Path, progress: Progress | None) -> None:
    """Bring `part` to its whole length, over as many connections as it takes."""
    fault: Exception | None = None
    for _ in range(_TRIES):
        before = part.stat().st_size if part.exists() else 0
        try:
            if _one_connection(url, part, progress):
                return
            fault = None
        except urllib.error.HTTPError as error:
            raise _unreachable(url, f"HTTP status {error.code} {error.reason}") from error
        except _BROKEN as error:
            fault = error
        if fault is not None and (part.stat().st_size if part.exists() else 0) == before:
            break
    size = part.stat().st_size if part.exists() else 0
    reason = getattr(fault, "reason", fault)
    raise _unreachable(url, f"{reason or 'a connection that broke'}, after {size:,} bytes") from fault


def _one_connection(url: str, part: Path, progress: Progress | None) -> bool:
    """Fetch what is missing; return whether the file is whole now."""
    from jinyi import __version__

    have = part.stat().st_size if part.exists() else 0
    tag = _read_tag(part, url) if have else None
    headers = {"User-Agent": f"jinyi/{__version__}", "Accept-Encoding": "identity"}
    if have and tag:
        # If-Range: a file that changed on the server comes whole, not as the rest of another one.
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    try:
        # Built anew each time: it reads the proxies of the environment.
        opener = urllib.request.build_opener(_Redirects)
        address = urllib.parse.quote(url, safe=_IN_ADDRESSES)
        response = opener.open(urllib.request.Request(address, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing behind our last byte: longer than the file, or whole
            total = _after_slash(error.headers)
            if total == have:
                return True
            part.unlink()
            return False
        raise
    with response:
        start = have if response.status == 206 and _begins_at(response.headers, have) else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        _write_tag(part, url, response.headers)
        with part.open("r+b" if start else "wb") as stream:
            stream.seek(start)
            stream.truncate()
            while block := response.read1(_BLOCK):  # what is there, so that a break loses nothing
                stream.write(block)
                if progress is not None:
                    progress(stream.tell(), total)
            stream.flush()
            os.fsync(stream.fileno())
            return total is None or stream.tell() == total


def _begins_at(headers: Message, have: int) -> bool:
    return str(headers.get("Content-Range", "")).startswith(f"bytes {have}-")


def _after_slash(headers: Message) -> int | None:
    total = str(headers.get("Content-Range", "")).rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _tag_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_tag(part: Path, url: str) -> str | None:
    try:
        entry = json.loads(_tag_file(part).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    tag = entry.get("tag") if isinstance(entry, dict) and entry.get("url") == url else None
    return tag if isinstance(tag, str) else None


def _write_tag(part: Path, url: str, headers: Message) -> None:
    tag = headers.get("ETag")
    if not tag or tag.startswith("W/"):  # a weak tag does not promise equal bytes
        tag = headers.get("Last-Modified")
    _tag_file(part).write_text(json.dumps({"url": url, "tag": tag}), encoding="utf-8")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from https to something that anyone on the way can change."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise urllib.error.URLError(f"a redirect to {shorten(newurl)}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check(path: Path, source: Source, verify: bool) -> None:
    """Raise unless the file is a whole zip, the known one if one is known."""
    fault = ""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        fault = f"a damaged member {damaged}" if damaged else ""
    except UNREADABLE as error:
        fault = f"no zip ({error})"
    if not fault and verify and source.sha256 is not None:
        digest = file_sha256(path)
        if digest != source.sha256:
            fault = f"{path.stat().st_size:,} bytes with SHA-256 {digest}"
    if not fault:
        return
    size = path.stat().st_size
    advice = "Delete it and start again."
    if path.suffix == ".part":  # what was fetched is of no use for going on
        advice = "Try again or another --mirror."
        path.unlink()
        _tag_file(path).unlink(missing_ok=True)
    known = f"the zip of {source.size:,} bytes with SHA-256 {source.sha256}" if source.sha256 else "a zip"
    raise InputError(
        found=f"{fault}, {size:,} bytes" if source.sha256 is None else fault,
        expected=known,
        fix=f"{advice} If its owners have changed the file and you trust it: --no-verify.",
        where=str(path),
    )


def _unreachable(url: str, reason: str) -> InputError:
    return InputError(
        found=reason,
        expected="the file",
        fix="Start again: the download goes on where it was. Or give a --mirror, or put the zip there yourself.",
        where=url,
    )
