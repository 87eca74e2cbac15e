"""A folder that is either whole or not there, whatever happens while it is written."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import Final

from jinyi.errors import FolderError, shorten
from jinyi.hashes import file_sha256

MANIFEST: Final = "MANIFEST.sha256"
_ABANDONED_SECONDS = 3600.0
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux and RENAME_SWAP of macOS
_AT_FDCWD = -100


class StagedFolder:
    """Collects files in a hidden directory beside the target and puts it in place in one step.

    Every file is synced to the disk before the directory is renamed, and the directory entries are synced
    too, so after a crash or a power failure the target is the old folder (or absent) or the whole new one. On
    Linux and macOS an existing folder is exchanged with the new one in a single system call; where the system
    or the file system cannot do that, the old folder is moved aside first, and for that moment the target is
    absent.

    Leaving the `with` block normally puts the folder in place; leaving it by an exception removes everything.

    Args:
        target: folder to create.
        overwrite: replace an existing folder of the same kind. Anything else that exists is never replaced.
        marker: file by which an existing folder is known to be of that kind.
        kind: what messages call it.

    Raises:
        FolderError: the target exists, or the disk refuses a write (full, read-only, failing).
    """

    def __init__(
        self,
        target: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        marker: str = "config.json",
        kind: str = "model folder",
    ) -> None:
        self.target = Path(os.path.expanduser(target)).resolve()
        self.overwrite = overwrite
        self.marker, self.kind = marker, kind
        self.path = self.target.parent / f".{self.target.name}.{secrets.token_hex(4)}.tmp"
        self._sums: dict[str, str] = {}

    def __enter__(self) -> StagedFolder:
        self.check_target()
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()
            self.path.mkdir()
        except OSError as error:
            raise self._refused(error) from error
        return self

    def put(self, name: str, data: str | bytes | Iterable[bytes]) -> None:
        """Write one file and sync it.

        Args:
            name: path inside the folder, with forward slashes.
            data: text (stored as UTF-8), bytes, or pieces of bytes written one after the other.
        """
        pieces = (
            [data.encode("utf-8")] if isinstance(data, str) else [data] if isinstance(data, bytes) else data
        )
        digest = hashlib.sha256()
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "xb") as stream:
            for piece in pieces:
                stream.write(piece)
                digest.update(piece)
            stream.flush()
            os.fsync(stream.fileno())
        self._sums[name] = digest.hexdigest()

    def replace(self, name: str, data: str | bytes | Iterable[bytes]) -> None:
        """Write a file again; arguments as for `put`."""
        (self.path / name).unlink()
        self.put(name, data)

    def link(self, source: Path, name: str, sha256: str | None = None) -> None:
        """Take over an unchanged file of another folder: a hard link where possible, else a copy.

        Args:
            source: the file, or a symbolic link to it as in the hub's cache.
            name: path inside the folder, with forward slashes.
            sha256: its checksum; None reads the file for it.
        """
        file, source = self.path / name, source.resolve()
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, file)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(source, file)
            with open(file, "rb+") as stream:
                os.fsync(stream.fileno())
        self._sums[name] = sha256 or file_sha256(file)

    def take_over(self, root: Path, *, without: Collection[str] = ()) -> None:
        """Take over the files of another folder, with the checksums that it has of them.

        Args:
            root: the folder.
            without: names of files that are left out, as its manifest always is.
        """
        sums = read_manifest(root)
        for file in sorted(entry for entry in root.rglob("*") if entry.is_file()):
            name = file.relative_to(root).as_posix()
            if name != MANIFEST and name not in without:
                self.link(file, name, sums.get(name))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.put(MANIFEST, "".join(f"{self._sums[name]}  {name}\n" for name in sorted(self._sums)))
                self._install()
        except OSError as failure:
            raise self._refused(failure) from failure
        finally:
            shutil.rmtree(self.path, ignore_errors=True)
        if isinstance(error, OSError):
            raise self._refused(error) from error

    def _install(self) -> None:
        for folder, _, _ in os.walk(self.path, topdown=False):
            _sync_directory(Path(folder))
        self.check_target()
        if self.target.is_dir() and any(self.target.iterdir()):
            if not _exchange(self.path, self.target):
                aside = self.path.with_suffix(".old")
                os.rename(self.target, aside)
                try:
                    os.rename(self.path, self.target)
                except OSError:
                    os.rename(aside, self.target)
                    raise
                os.rename(aside, self.path)
        else:
            os.rename(self.path, self.target)
        _sync_directory(self.target.parent)

    def check_target(self) -> None:
        """Refuse a target that may not be written, before any work is done for it.

        Raises:
            FolderError: there is something that is not replaced.
        """
        if not self.target.name:
            raise FolderError(
                where=str(self.target),
                found="the root of the file system",
                expected="a folder to create",
                fix="Give the path of a new folder.",
            )
        if not os.path.lexists(self.target) or (self.target.is_dir() and not any(self.target.iterdir())):
            return
        if not self.target.is_dir() or not (self.target / self.marker).is_file():
            raise FolderError(
                where=str(self.target),
                found=f"something there that is not a {self.kind}",
                expected="a path that is free",
                fix=f"Choose another path; only a {self.kind} is replaced.",
            )
        if not self.overwrite:
            raise FolderError(
                where=str(self.target),
                found=f"a {self.kind} there already",
                expected="a path that is free",
                fix="Choose another path, or pass overwrite=True to replace it.",
            )

    def _remove_abandoned(self) -> None:
        for leftover in self.target.parent.glob(f".{self.target.name}.????????.tmp"):
            # Age, not a process id, tells a dead writer from a living one: ids say nothing across machines.
            with contextlib.suppress(FileNotFoundError):
                newest = max(entry.stat().st_mtime for entry in [leftover, *leftover.rglob("*")])
                if time.time() - newest > _ABANDONED_SECONDS:
                    shutil.rmtree(leftover, ignore_errors=True)

    def _refused(self, error: OSError) -> FolderError:
        return FolderError(
            where=str(self.target),
            found=f"a disk that refuses the write: {error}",
            expected="a place with room where files may be written",
            fix="What was at the target is still whole. Free space, check permissions, or choose another path.",
        )


def read_manifest(root: Path) -> dict[str, str]:
    """Return the SHA-256 of each file as `MANIFEST.sha256` lists them; empty without such a file.

    Raises:
        FolderError: a line is not in the form of `sha256sum`.
    """
    file = root / MANIFEST
    sums: dict[str, str] = {}
    if file.is_file():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            digest, gap, name = line.partition("  ")
            if len(digest) != 64 or not gap or not name:
                raise FolderError(
                    where=str(file),
                    found=shorten(line),
                    expected="lines of sha256sum",
                    fix="The file is damaged: copy the folder again.",
                )
            sums[name] = digest
    return sums


def _sync_directory(path: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two directories in one step; False where the system cannot."""
    if os.name != "posix":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    a, b = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        return bool(library.renamex_np(a, b, ctypes.c_uint(_EXCHANGE)) == 0)
    if hasattr(library, "renameat2"):
        return bool(library.renameat2(_AT_FDCWD, a, _AT_FDCWD, b, ctypes.c_uint(_EXCHANGE)) == 0)
    return False
