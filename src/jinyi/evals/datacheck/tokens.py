"""What a model would read of the texts: lengths in tokens, what is cut, what is unknown to its vocabulary."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from jinyi.folder import read_folder
from jinyi.registry import find_model
from jinyi.tokens import Tokenizer

_NO_LIMIT = 1 << 30


@dataclass(frozen=True, eq=False)
class Reader:
    """A model as far as reading goes.

    Args:
        name: as given.
        tokenizer: its tokenizer, without a limit.
        limit: most tokens it reads, [CLS] and [SEP] included.
        joint: it reads the two texts of a pair together.
    """

    name: str
    tokenizer: Tokenizer
    limit: int
    joint: bool

    @classmethod
    def open(cls, model: str) -> Reader:
        """Open the tokenizer of a model folder or a shipped model; its weights are not read.

        Raises:
            ModelNotFoundError: no such model on this disk.
            FolderError: the folder is damaged.
        """
        folder = read_folder(find_model(model))
        tokenizer = Tokenizer.from_folder(folder.tokenizer_file.parent, max_length=_NO_LIMIT)
        return cls(model, tokenizer, folder.config.max_position_embeddings, folder.task == "pair")


@dataclass(slots=True)
class TokenCount:
    """Counts of one file. `lengths`: tokens of each row (of its longest text, where texts are read one by one)."""

    reader: Reader
    lengths: array[int] = field(default_factory=lambda: array("i"))
    tokens: int = 0
    unknown: int = 0
    missing: Counter[str] = field(default_factory=Counter)

    def observe(self, rows: list[tuple[str, ...]]) -> None:
        """Count the tokens of some rows, [CLS] and [SEP] not among them but in the lengths."""
        texts = [text for row in rows for text in row]
        tokenizer = self.reader.tokenizer
        encoded = tokenizer.encode(texts, truncate="report", allow_empty=True).ids
        sizes = np.fromiter(map(len, encoded), np.int32, len(encoded)).reshape(len(rows), -1)
        if self.reader.joint and sizes.shape[1] == 2:
            self.lengths.extend((sizes.sum(1) - 1).tolist())  # one [CLS] for both
        else:
            self.lengths.extend(sizes.max(1).tolist())
        self.tokens += int(sizes.sum()) - 2 * len(texts)
        strange = [text for text, ids in zip(texts, encoded, strict=True) if tokenizer.unk_id in ids]
        for text, encoding in zip(
            strange, tokenizer.backend.encode_batch(strange, add_special_tokens=False), strict=True
        ):
            for token, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True):
                if token == tokenizer.unk_id:
                    self.unknown += 1
                    self.missing[text[start:stop]] += 1

    @property
    def cut(self) -> npt.NDArray[np.int64]:
        """Rows of which the model reads a part only."""
        return np.flatnonzero(np.frombuffer(self.lengths, np.int32) > self.reader.limit)

    @property
    def unknown_rate(self) -> float:
        """Share of tokens that are [UNK]."""
        return self.unknown / self.tokens if self.tokens else 0.0
