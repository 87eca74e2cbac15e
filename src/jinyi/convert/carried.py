"""What goes from a model folder into one that is written of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jinyi.errors import InputError, shorten
from jinyi.folder import ModelFolder


def carried(folder: ModelFolder) -> dict[str, Any]:
    """Return all but weights and tokenizer, as arguments of `write_folder`.

    What was made for another task or pooling than the folder is opened for stays behind: calibration, results and the
    ranges for 8 bits; labels and prompts for words, of an encoder alone.

    Args:
        folder: as it was opened.
    """
    task, record = folder.task, folder.record
    same = record.get("task") == task and record.get("pooling") in (None, folder.asked_pooling)
    vectors, words = task not in ("pair", "classes"), task not in ("embed", "encoder")
    prompts = {key: text for key, text in folder.prompts.items() if words or "{}" not in text}
    return {
        "task": task,
        "config": folder.config,
        "pooling": folder.pooling if vectors else None,
        "normalize": vectors and folder.normalize,
        "dense": folder.dense if vectors else (),
        "labels": folder.labels if words else (),
        "similar_label": folder.similar_label if task == "pair" else None,
        "segment_ids": record.get("segment_ids") if task == "pair" else None,
        "problem_type": folder.problem_type,
        "prompts": prompts,
        "default_prompt_name": folder.default_prompt_name if folder.default_prompt_name in prompts else None,
        "trained_words": (record.get("trained_words") or ()) if same and words else (),
        "seen_texts": record.get("seen_texts") if same else None,
        "max_length": folder.max_length,
        "summary": record.get("summary") if same else None,
        "licence": record.get("licence") or _licence_of_card(folder.path),
        "calibration": record.get("calibration") if same else None,
        "ranges": folder.ranges() if same else None,
        "int8": record.get("int8") if same else None,
        "training": record.get("training"),
        "results": (record.get("results") or ()) if same else (),
    }


def refuse_idle(
    folder: ModelFolder, *, pooling: str | None, similar_label: int | str | None, vectors: bool
) -> None:
    """Refuse options that would have no effect on what is written.

    Args:
        folder: as it was opened with them.
        pooling: as it was given.
        similar_label: as it was given.
        vectors: whether vectors are written.

    Raises:
        InputError: pooling without vectors, or a similar label for a model that takes no pairs.
    """
    for name, value, fix in (
        ("pooling", None if vectors else pooling, "Leave it out, or open it for its vectors: task embed."),
        ("similar_label", None if folder.task == "pair" else similar_label, "Leave it out."),
    ):
        if value is not None:
            raise InputError(
                where=name,
                found=f"{shorten(value)} for a model of task {folder.task!r}",
                expected="a model that makes vectors" if name == "pooling" else "a model of task 'pair'",
                fix=fix,
            )


def _licence_of_card(root: Path) -> str | None:
    """The licence in the head of README.md, as model hubs read it."""
    card = root / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    head = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^licen[sc]e:[ \t]*([\w.+-]+)[ \t]*$", head[1], re.MULTILINE) if head else None
    return found[1] if found else None
