"""One corpus out of several: so many characters of each file, drawn at random."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from jinyi.errors import InputError
from jinyi.files.formats import repeated
from jinyi.train.corpus.read import Form, read_documents


def mix(
    takes: Sequence[tuple[Path, int]],
    *,
    form: Form = "blank",
    column: str | None = None,
    encoding: str = "utf-8",
    scale: float = 1.0,
    block: int = 50,
    seed: int = 0,
) -> Iterator[list[str]]:
    """Yield documents of some files, from each about as many characters as asked for, the files in their order.

    Whole blocks of neighbouring documents are drawn, so that what belongs together stays together; a file that has
    less gives all it has, in random order of its blocks. A file's share depends on the arguments alone.

    Args:
        takes: files and characters wanted of each.
        form: how a txt file is cut into documents, as in `read_documents`.
        column: of the text in files with columns.
        encoding: of the text formats.
        scale: multiplies all the characters.
        block: documents that are drawn together.
        seed: of the draw.

    Raises:
        InputError: nothing to take, a number below 1, a file twice, or one that cannot be read or is empty.

    Memory: the documents of one file.
    """
    for name, number in (("scale", scale), ("block", block), *((str(path), count) for path, count in takes)):
        if not number > 0:
            raise InputError(
                found=f"{number:g}",
                expected="a number above 0",
                fix="Correct it, or leave the file out.",
                where=name,
            )
    if twice := repeated(path for path, _ in takes):
        raise InputError(
            found="the same file twice",
            expected="each file once: what it gives twice would be in the corpus twice",
            fix="Take it once, with as many characters as both together.",
            where=str(twice),
        )
    chance = random.Random(seed)
    for path, characters in takes:
        documents = list(read_documents([path], form=form, column=column, encoding=encoding))
        blocks = [documents[start : start + block] for start in range(0, len(documents), block)]
        chance.shuffle(blocks)
        taken = 0
        for each in blocks:
            if taken >= characters * scale:
                break
            yield from each
            taken += sum(len(line) for document in each for line in document)
