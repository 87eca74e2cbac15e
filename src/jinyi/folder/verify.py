"""Full check of a model folder: every byte against the checksums, every weight for being a number."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jinyi.errors import FolderError, shorten
from jinyi.folder.atomic import MANIFEST, read_manifest
from jinyi.folder.model import ModelFolder
from jinyi.folder.read import read_folder, read_vocab_text, read_vocabulary
from jinyi.hashes import file_sha256


@dataclass(frozen=True)
class Verification:
    """What `verify_folder` looked at.

    Args:
        folder: the opened folder.
        checked: files whose checksum was right; empty if the folder has no `MANIFEST.sha256`.
        unlisted: files the manifest does not name (added later by other tools), which is no fault.
    """

    folder: ModelFolder
    checked: tuple[str, ...]
    unlisted: tuple[str, ...]


def verify_folder(path: str | os.PathLike[str]) -> Verification:
    """Check a model folder completely; reads all of it (about a second per gigabyte).

    Beyond the checks of `read_folder`: the SHA-256 of each file listed in `MANIFEST.sha256` (also
    `sha256sum -c MANIFEST.sha256`), finite values in every weight, and a `vocab.txt` that says the same as
    `tokenizer.json`.

    Args:
        path: the folder.

    Raises:
        FolderError: a file is missing or has changed, weights hold NaN or infinity, or the checks of
            `read_folder` fail.
    """
    root = Path(os.path.expanduser(path))
    sums = read_manifest(root)
    for name, digest in sums.items():
        file = root / name
        if not file.is_file():
            raise FolderError(
                where=str(root),
                found=f"no {name}, which {MANIFEST} lists",
                expected="all files that were written",
                fix="Copy the whole folder again.",
            )
        if file_sha256(file) != digest:
            raise FolderError(
                where=str(file),
                found="other bytes than were written (its SHA-256 differs)",
                expected=f"SHA-256 {digest[:16]}…",
                fix="The file was damaged or edited: copy it again.",
            )
    folder = read_folder(root)
    weights = folder.weights()
    for name in weights:
        if not np.isfinite(weights[name]).all():
            raise FolderError(
                where=str(root),
                found=f"{name} with values that are not finite numbers",
                expected="finite weights",
                fix="The training diverged or the file is damaged: take the model again.",
            )
    _compare_vocabularies(folder)
    present = {entry.relative_to(root).as_posix() for entry in root.rglob("*") if entry.is_file()}
    return Verification(folder, tuple(sums), tuple(sorted(present - set(sums) - {MANIFEST})) if sums else ())


def _compare_vocabularies(folder: ModelFolder) -> None:
    text = folder.tokenizer_file.with_name("vocab.txt")
    if folder.tokenizer_file == text or not text.is_file():
        return
    ours, theirs = read_vocabulary(folder.tokenizer_file.parent)[1], read_vocab_text(text)
    other = next((token for token, index in theirs.items() if ours.get(token) != index), None)
    if other is not None:
        raise FolderError(
            where=str(text),
            found=f"{shorten(other)} with the id {theirs[other]}",
            expected=f"the id {ours.get(other, 'none')} that tokenizer.json gives it",
            fix="Readers would disagree: take both files from one source, or remove vocab.txt.",
        )
