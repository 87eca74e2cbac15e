"""Files of a repository of ModelScope, by ModelScope's own client (`pip install modelscope`)."""

from __future__ import annotations

from pathlib import Path

from jinyi.convert.hub.snapshot import GOES_ON, SMALL, missing_package
from jinyi.errors import InputError, shorten


def fetch(repository: str, folder: Path, revision: str | None) -> None:
    """Fetch the files that jinyi reads: PyTorch's .bin only where there are no safetensors.

    The client goes on where it was and compares checksums itself.

    Args:
        repository: `owner/name` on ModelScope.
        folder: where the files go.
        revision: branch, tag or commit; None is the newest.

    Raises:
        InputError: no such repository, no connection, a wrong checksum.
        MissingExtraError: the client is not installed.
    """
    try:
        from modelscope import snapshot_download
    except ImportError as error:
        raise missing_package("modelscope", "pip install modelscope") from error

    def get(patterns: list[str]) -> None:
        try:
            snapshot_download(
                repository, revision=revision, local_dir=str(folder), allow_file_pattern=patterns
            )
        except Exception as error:  # its releases share no base class for what can go wrong
            raise InputError(
                where=f"{repository} on ModelScope",
                found=f"{type(error).__name__}: {shorten(str(error), 300)}",
                expected="the model's files",
                fix=f"Check name, revision and connection. {GOES_ON}",
            ) from error

    get([*SMALL, *(f"*/{name}" for name in SMALL), "*.safetensors", "*.safetensors.index.json"])
    if not any(folder.glob("*.safetensors")):
        get(["pytorch_model*.bin", "pytorch_model.bin.index.json"])
