"""Token shards: a tokenised corpus on disk, read through memory maps.

A shard folder holds `ids.npy` (uint16, or uint32 for a vocabulary above 65,536; no [CLS], no [SEP]), `starts.npy`
(uint8: the token begins a word), `sentences.npy` (int64 [S+1]: sentence s is ids[sentences[s]:sentences[s+1]]),
`documents.npy` (int64 [D+1]: document d is the sentences documents[d]..documents[d+1]), the `tokenizer.json` that made
the ids, `shards.json`, and checksums. It needs three bytes a token.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from jinyi.errors import FolderError, InputError, shorten
from jinyi.folder.atomic import StagedFolder
from jinyi.tokens import Tokenizer
from jinyi.train.corpus.words import Segmenter, WordEncoder, segmenter_name

FORMAT = 1
RECORD = "shards.json"
_BLOCK_CHARACTERS = 1 << 20
_READ_BYTES = 1 << 22
_REWRITE = "Write the shards again: jinyi corpus shard."


@dataclass(frozen=True, eq=False)
class Shards:
    """An opened shard folder.

    Args:
        path: the folder.
        ids: token ids of the whole corpus [T], memory-mapped.
        starts: 1 where a token begins a word [T], memory-mapped.
        sentences: bounds of the sentences in `ids` [S+1].
        documents: bounds of the documents in the sentences [D+1].
        vocabulary_size: number of ids the tokenizer has.
        tokenizer_sha256: checksum of the text of `tokenizer.json`.
        record: `shards.json`: counts, name of the word segmenter.
    """

    path: Path
    ids: npt.NDArray[Any]
    starts: npt.NDArray[np.uint8]
    sentences: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int64]
    vocabulary_size: int
    tokenizer_sha256: str
    record: dict[str, Any]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Shards:
        """Open a shard folder; nothing but headers is read, whatever its size.

        Raises:
            FolderError: no shard folder, one of a newer jinyi, or files that do not fit together.
        """
        root = Path(os.path.expanduser(path))
        record = _read_record(root)
        counts = record["counts"]
        arrays = {}
        for name, kinds, size in (
            ("ids", ("<u2", "<u4"), counts["tokens"]),
            ("starts", ("|u1",), counts["tokens"]),
            ("sentences", ("<i8",), counts["sentences"] + 1),
            ("documents", ("<i8",), counts["documents"] + 1),
        ):
            arrays[name] = _map(root / f"{name}.npy", kinds, size)
        if arrays["sentences"][-1] != counts["tokens"] or arrays["documents"][-1] != counts["sentences"]:
            raise _damaged(root, "bounds that do not end with the corpus", "all files of one shard folder")
        return cls(
            path=root,
            vocabulary_size=record["vocabulary_size"],
            tokenizer_sha256=record["tokenizer_sha256"],
            record=record,
            **arrays,
        )

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return len(self.ids)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the ids."""
        return Tokenizer.from_file(self.path / "tokenizer.json")

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Make sure that ids mean the same for `tokenizer` as here.

        Raises:
            FolderError: another vocabulary or another normaliser.
        """
        if tokenizer_hash(tokenizer) == self.tokenizer_sha256:
            return
        # Another release of the tokenizers library may write the same tokenizer in other words.
        own = self.tokenizer
        if own.to_str() == tokenizer.to_str():
            return
        ours, theirs = own.vocab, tokenizer.vocab
        moved = next(
            (i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None
        )
        if moved is not None:
            found = f"token {moved} is {ours[moved]!r} in the shards and {theirs[moved]!r} in the model"
        elif len(ours) != len(theirs):
            found = f"{len(ours)} tokens in the shards and {len(theirs)} in the model"
        else:
            found = "the same tokens, but another normaliser or other rules"
        raise FolderError(
            where=str(self.path),
            found=found,
            expected="shards made with the tokenizer of the model",
            fix="Shard the corpus with that tokenizer: jinyi corpus shard --tokenizer FOLDER, or start from the "
            "shards' own tokenizer.json.",
        )


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """SHA-256 of the text of `tokenizer.json`."""
    return hashlib.sha256(tokenizer.to_str().encode("utf-8")).hexdigest()


def write_shards(
    documents: Iterable[Sequence[str]],
    tokenizer: Tokenizer,
    path: str | os.PathLike[str],
    *,
    words: Segmenter | None = None,
    overwrite: bool = False,
) -> Path:
    """Tokenise a corpus and write a shard folder whole or not at all.

    Memory is flat but for the bounds (8 bytes a sentence); the ids lie twice on the disk for a moment. Sentences
    without a token and documents without a sentence are left out and counted.

    Args:
        documents: the sentences of each document, in their order.
        tokenizer: makes the ids; its `tokenizer.json` is kept with them.
        path: folder to create.
        words: word segmenter, see `WordEncoder`; None takes rjieba.
        overwrite: replace a shard folder that is there; nothing else is ever replaced.

    Returns:
        the absolute path of the folder.

    Raises:
        InputError: there is not a single token; or see `WordEncoder`.
        FolderError: something is at `path`, or the disk refuses a write. Nothing is left behind.
    """
    kind = np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
    name = segmenter_name(words)
    encode = WordEncoder(tokenizer, words)
    empty = characters = unknown = 0
    ends: list[npt.NDArray[np.int64]] = [np.zeros(1, np.int64)]
    per_document: list[int] = []
    staged = StagedFolder(path, overwrite=overwrite, marker=RECORD, kind="shard folder")
    with staged as stage, ExitStack() as stack:
        ids_spool, starts_spool = (
            stack.enter_context(tempfile.TemporaryFile(dir=stage.path)) for _ in range(2)
        )
        for block, sizes in _blocks(documents):
            ids, starts, counts = encode(block)
            ids_spool.write(ids.astype(kind).tobytes())
            starts_spool.write(starts.astype(np.uint8).tobytes())
            kept = counts > 0
            empty += int((~kept).sum())
            characters += sum(map(len, block))
            unknown += int((ids == tokenizer.unk_id).sum())
            ends.append(ends[-1][-1] + np.cumsum(counts[kept]))
            owners = np.repeat(np.arange(len(sizes)), sizes)
            per_document += np.bincount(owners[kept], minlength=len(sizes)).tolist()
        sentences = np.concatenate(ends)
        held = np.array([count for count in per_document if count], np.int64)
        total = int(sentences[-1])
        if total == 0:
            raise InputError(
                found="a corpus without a single token",
                expected="documents with text",
                fix="Check the input files and the column of the text.",
            )
        stage.put("ids.npy", _npy(ids_spool, kind, total))
        stage.put("starts.npy", _npy(starts_spool, np.dtype(np.uint8), total))
        stage.put("sentences.npy", _array_bytes(sentences))
        stage.put("documents.npy", _array_bytes(np.concatenate([[0], np.cumsum(held)]).astype(np.int64)))
        stage.put("tokenizer.json", tokenizer.to_str())
        record = {
            "format": FORMAT,
            "tokenizer_sha256": tokenizer_hash(tokenizer),
            "vocabulary_size": tokenizer.vocab_size,
            "words": name,
            "counts": {
                "tokens": total,
                "sentences": len(sentences) - 1,
                "documents": len(held),
                "characters": characters,
                "unknown": unknown,
                "empty_sentences": empty,
                "empty_documents": len(per_document) - len(held),
            },
        }
        stage.put(RECORD, json.dumps(record, ensure_ascii=False, indent=2) + "\n")
    return stage.target


def _blocks(documents: Iterable[Sequence[str]]) -> Iterator[tuple[list[str], list[int]]]:
    """Sentences of whole documents, about a megabyte at a time, with the number of sentences of each document."""
    block: list[str] = []
    sizes: list[int] = []
    characters = 0
    for document in documents:
        block += document
        sizes.append(len(document))
        characters += sum(map(len, document))
        if characters >= _BLOCK_CHARACTERS:
            yield block, sizes
            block, sizes, characters = [], [], 0
    if sizes:
        yield block, sizes


def _npy(spool: IO[bytes], kind: np.dtype[Any], count: int) -> Iterator[bytes]:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": kind.str, "fortran_order": False, "shape": (count,)}
    )
    yield header.getvalue()
    spool.seek(0)
    while piece := spool.read(_READ_BYTES):
        yield piece


def _array_bytes(array: npt.NDArray[np.int64]) -> bytes:
    out = io.BytesIO()
    np.save(out, array.astype("<i8"))
    return out.getvalue()


def _read_record(root: Path) -> dict[str, Any]:
    file = root / RECORD
    if not file.is_file():
        raise FolderError(
            where=str(root),
            found=f"no {RECORD}" if root.is_dir() else "no such folder",
            expected="a folder of token shards",
            fix="Make one from text: jinyi corpus shard --input corpus.txt --tokenizer FOLDER --output SHARDS.",
        )
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        version, counts = record["format"], record["counts"]
        sound = all(counts[name] > 0 for name in ("tokens", "sentences", "documents"))
        sound = sound and record["vocabulary_size"] > 0 and len(record["tokenizer_sha256"]) == 64
    except (ValueError, KeyError, TypeError) as fault:
        raise _damaged(root, f"{RECORD} that cannot be read ({shorten(str(fault))})", "its fields") from fault
    if version != FORMAT or not sound:
        raise _damaged(root, f"format {version!r}, counts {shorten(counts, 120)}", f"format {FORMAT}")
    whole: dict[str, Any] = record
    return whole


def _map(file: Path, kinds: Sequence[str], size: int) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as fault:
        raise _damaged(file, f"a file that cannot be read ({fault})", f"an array of {size}") from fault
    if array.shape != (size,) or array.dtype.str not in kinds:
        raise _damaged(file, f"{array.dtype} {list(array.shape)}", f"{' or '.join(kinds)} [{size}]")
    return array


def _damaged(place: Path, found: str, expected: str) -> FolderError:
    return FolderError(where=str(place), found=found, expected=expected, fix=_REWRITE)
