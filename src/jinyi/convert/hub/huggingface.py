"""Files of a repository of Hugging Face, or of a mirror of it.

The library huggingface_hub is imported here alone. Files are fetched by its `http_get` and not by its
`hf_hub_download`, which since release 2 begins a file anew after its process was killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinyi.convert.hub.snapshot import GOES_ON, Say, check_room, check_sum, files_in, missing_package, needed
from jinyi.errors import InputError, shorten
from jinyi.files.write import cannot_write

OFFICIAL: Final = "https://huggingface.co"
_TIMEOUT: Final = 30.0  # seconds until a server has to begin its answer
_TRIES: Final = 20  # connections for one file, as long as each brings something
_SUM: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO, errno.EACCES)


@dataclass(frozen=True)
class _Remote:
    """A file as the hub describes it: its size in bytes, and its SHA-256 (git's SHA-1 for small files)."""

    name: str
    size: int | None
    checksum: str

    def is_in(self, file: Path) -> bool:
        """Return whether that file is this one, whole."""
        return file.is_file() and self.size in (None, file.stat().st_size) and check_sum(file, self.checksum)


class HuggingFace:
    """Brings the needed files of one repository into a folder: whole files with the right checksums only.

    Args:
        repository: `owner/name`.
        folder: where the files go; what a broken fetch left there is gone on with.
        revision: branch, tag or commit; None is the newest.
        endpoint: address of a mirror; None takes HF_ENDPOINT, else huggingface.co.
        token: None takes the library's own for huggingface.co, and none for other servers.
        say: called with a line for people.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
    """

    def __init__(
        self,
        repository: str,
        folder: Path,
        revision: str | None,
        endpoint: str | None,
        token: str | None,
        say: Say,
    ) -> None:
        self._hub = _library()
        self.repository, self.folder, self.revision = repository, folder, revision
        self.endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or OFFICIAL).rstrip("/")
        # Someone else's server is not handed the token that is kept for huggingface.co.
        self._token: str | bool | None = token or (None if self.endpoint == OFFICIAL else False)
        self._say = say

    def fetch(self) -> tuple[str, dict[str, str]]:
        """Fetch from the hub or a mirror.

        Returns:
            the commit, and the SHA-256 of those files whose the hub states.

        Raises:
            InputError: no such repository or revision, no connection, a refusal, a wrong checksum, no room.
        """
        commit, listed = self._listed()
        wanted = [self._remote(listed[name], commit) for name in needed(listed)]
        self._forget(remote.name for remote in wanted)
        missing = [remote for remote in wanted if not remote.is_in(self.folder / remote.name)]
        check_room(self.folder, sum(remote.size or 0 for remote in missing))
        for remote in missing:
            self._fetch_one(remote, commit)
        return commit, {remote.name: remote.checksum for remote in wanted if len(remote.checksum) == 64}

    def _listed(self) -> tuple[str, dict[str, Any]]:
        """Return the commit and what the hub says of each file."""
        api = self._hub.HfApi(endpoint=self.endpoint, token=self._token)
        with self._explained():
            try:
                info = api.model_info(
                    self.repository, revision=self.revision, files_metadata=True, timeout=_TIMEOUT
                )
            except (ValueError, KeyError, TypeError) as error:  # a page for people in place of a list
                raise self._refused(
                    "an answer that is no list of files", "Check the address of the mirror."
                ) from error
        if not info.sha:
            raise self._refused("a list of files without a commit", "Check the address of the mirror.")
        return info.sha, {sibling.rfilename: sibling for sibling in info.siblings or ()}

    def _remote(self, listed: Any, commit: str) -> _Remote:
        size, checksum = listed.size, listed.blob_id
        if listed.lfs is not None:
            size, checksum = listed.lfs.size, listed.lfs.sha256
        if not checksum:  # a mirror whose list holds names alone says it file by file
            with self._explained():
                stated = self._hub.get_hf_file_metadata(
                    self._url(listed.rfilename, commit), token=self._token, timeout=_TIMEOUT
                )
            size, checksum = stated.size, stated.etag
        if not _SUM.fullmatch(checksum or ""):
            raise self._refused(
                f"no checksum of {listed.rfilename}",
                "Take another endpoint: files that cannot be checked are not taken.",
            )
        return _Remote(listed.rfilename, size, checksum)

    def _url(self, name: str, commit: str) -> str:
        return str(self._hub.hf_hub_url(self.repository, name, revision=commit, endpoint=self.endpoint))

    def _forget(self, wanted: Iterable[str]) -> None:
        """Remove files of another revision, which this one does not have."""
        kept = set(wanted)
        for name in files_in(self.folder):
            if name not in kept:
                (self.folder / name).unlink()

    def _fetch_one(self, remote: _Remote, commit: str) -> None:
        """Fetch one file: from the library's cache on this disk if it is there, else from where a fetch broke off."""
        file = self.folder / remote.name
        file.parent.mkdir(parents=True, exist_ok=True)
        cached = self._hub.try_to_load_from_cache(self.repository, remote.name, revision=commit)
        if isinstance(cached, str) and remote.is_in(Path(cached)):
            _link(Path(cached), file)
            return
        # Named by its content: only what is left of this very file is gone on with.
        part = file.with_name(f"{file.name}.{remote.checksum[:16]}.part")
        have = part.stat().st_size if part.exists() else 0
        if have:
            self._say(f"{remote.name}: going on after {have:,} bytes")
        for attempt in range(_TRIES):
            before = part.stat().st_size if part.exists() else 0
            try:
                self._go_on(remote, commit, part)
                break
            except InputError:
                if part.stat().st_size == before or attempt == _TRIES - 1:  # nothing came
                    raise
        if not remote.is_in(part):
            part.unlink()
            if have:  # what was there may have been the wrong bytes: once more from the first one
                self._say(f"{remote.name}: its beginning was damaged, fetched again")
                return self._fetch_one(remote, commit)
            raise InputError(
                where=f"{self.repository}/{remote.name}",
                found="other bytes than the hub's list says (size or checksum)",
                expected=f"checksum {remote.checksum[:16]}…",
                fix=f"It was not kept; try again. If it comes again, {self.endpoint} serves a wrong file: take another "
                "endpoint.",
            )
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())  # the folder made of it is to be whole after a power failure too
        os.replace(part, file)

    def _go_on(self, remote: _Remote, commit: str, part: Path) -> None:
        """Fetch what a part of a file lacks."""
        from huggingface_hub.file_download import http_get

        with self._explained(), part.open("ab") as stream:
            have = stream.tell()
            if remote.size is not None and have > remote.size:
                stream.truncate(have := 0)
            if have and have == remote.size:
                return
            headers = self._hub.utils.build_hf_headers(token=self._token, library_name="jinyi")
            http_get(
                self._url(remote.name, commit),
                stream,
                resume_size=have,
                # Uncompressed: only then does a range begin at the byte it names.
                headers=headers | {"Accept-Encoding": "identity"},
                expected_size=remote.size,
                displayed_filename=remote.name,
            )

    def take_cached(self) -> tuple[str, dict[str, str]]:
        """Take the model from the library's cache on this disk, without a connection; returns as `fetch` does.

        Raises:
            InputError: it is not there, not whole, or damaged.
        """
        config = self._hub.try_to_load_from_cache(
            self.repository, "config.json", revision=self.revision or "main"
        )
        if not isinstance(config, str):
            raise InputError(
                where=self.repository,
                found=f"nothing of it in Hugging Face's cache, {self._hub.constants.HF_HUB_CACHE}",
                expected="a model that was downloaded before",
                fix="Leave out offline (--offline), or set HF_HUB_CACHE to the cache's folder.",
            )
        snapshot = Path(config).parent
        names = needed(files_in(snapshot))
        self._forget(names)
        sums: dict[str, str] = {}
        for name in names:
            # The cache names a file's content by its checksum, where the system has symbolic links.
            blob = (snapshot / name).resolve()
            named = _SUM.fullmatch(blob.name) is not None
            if named and len(blob.name) == 64:
                sums[name] = blob.name
            if named and not check_sum(blob, blob.name):
                raise InputError(
                    where=str(blob),
                    found=f"a damaged copy of {name} (its checksum differs)",
                    expected=f"checksum {blob.name[:16]}…",
                    fix="Delete the file and download the model again.",
                )
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            _link(blob, self.folder / name)
        return snapshot.name, sums

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the library's errors into ours, and keep its telemetry out.

        With telemetry it asks huggingface.co, whatever the endpoint is, for a list of programs that may have started
        it, and tells the server of them and of PyTorch's version.
        """
        errors, constants = self._hub.errors, self._hub.constants
        telemetry = constants.HF_HUB_DISABLE_TELEMETRY
        constants.HF_HUB_DISABLE_TELEMETRY = True
        try:
            yield
        except errors.GatedRepoError as error:
            raise self._refused(
                "a model whose authors ask for consent",
                f"Accept its terms on {OFFICIAL}/{self.repository}, then give a token: `hf auth login`, or token= "
                "(--token).",
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise self._refused(
                "no such repository, or a private one",
                "Check owner and name (`jinyi models list`); a private model needs a token= (--token).",
            ) from error
        except errors.RevisionNotFoundError as error:
            raise self._refused(
                f"no revision {shorten(self.revision)}", "Leave it out for the newest."
            ) from error
        except errors.HfHubHTTPError as error:
            status = getattr(error.response, "status_code", None)
            denied = status in (401, 403)  # 401 also stands for names that nobody has
            raise self._refused(
                f"HTTP status {status}",
                "Check owner and name; a private or gated model needs a valid token= (--token)."
                if denied
                else f"Try again later. {GOES_ON}",
            ) from error
        # Its bases: whatever library of HTTP this release stands on raises them for connections too.
        except (*errors.HfHubHTTPError.__bases__, OSError) as error:
            if getattr(error, "errno", None) in _DISK:
                raise cannot_write(self.folder, error) from error
            raise self._refused(
                f"no answer: {shorten(str(error) or type(error).__name__, 200)}",
                f"Check the connection, or name a mirror: endpoint= (--endpoint) or HF_ENDPOINT. {GOES_ON}",
            ) from error
        finally:
            constants.HF_HUB_DISABLE_TELEMETRY = telemetry

    def _refused(self, found: str, fix: str) -> InputError:
        return InputError(
            where=f"{self.repository} at {self.endpoint}", found=found, expected="the model's files", fix=fix
        )


def _library() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise missing_package("huggingface-hub", 'pip install "jinyi[hub]"') from error
    return huggingface_hub


def _link(source: Path, target: Path) -> None:
    """Hard-link a file where the file system can, else copy it."""
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
