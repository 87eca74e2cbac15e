"""Reads model folders: recognised by content and weight names, checked before anything runs.

`config.json` may say "roberta" over BERT weights (most Chinese "RoBERTa" models are BERT), name a vocabulary
size that the weights do not have, or say nothing on pooling. What the weights can tell is taken from them;
what nothing can tell, pooling above all, is asked for and never guessed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinyi.config import EncoderConfig
from jinyi.errors import FolderError, InputError, shorten
from jinyi.folder.jsonfile import optional_json, parse_json, read_json
from jinyi.folder.labels import output_labels
from jinyi.folder.model import FORMAT, RECORD, SEGMENT_IDS, TASKS, Golden, ModelFolder
from jinyi.folder.modules import POOLER, STATED_POOLINGS, Modules, read_dense, read_pooler
from jinyi.folder.tensors import TensorMap
from jinyi.folder.weights import (
    CLASSIFIER,
    MLM_BIAS,
    check_shapes,
    drop_decoder,
    fit_config,
    read_weights,
    refuse_roberta,
)
from jinyi.tokens.read import CLUE_ROWS, no_tokenizer, not_wordpiece, read_added, states_lowercase

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_MLM_TASKS = ("topic", "mlm")
_CLASSIFIER_TASKS = ("pair", "classes")
# Entries of jinyi.json that are no plain values.
_KINDS = {
    "labels": list,
    "trained_words": list,
    "seen_texts": str,
    "prompts": dict,
    "calibration": dict,
    "topic": dict,
    "int8": dict,
}
_NAMES = {list: "list", dict: "object", str: "string"}


def read_folder(
    path: str | os.PathLike[str],
    *,
    task: str | None = None,
    pooling: str | None = None,
    similar_label: int | str | None = None,
    facts: Mapping[str, Any] | None = None,
) -> ModelFolder:
    """Open a model folder and check it without reading the weights themselves.

    Reads what jinyi, transformers and sentence-transformers (old and new form) write: BERT, MegatronBERT,
    ALBERT and RoFormer in float32, float16 or bfloat16, in one or several safetensors files.

    Args:
        path: the folder.
        task: what it is opened for (one of `TASKS`); None takes what the folder says or holds.
        pooling: `"cls"`, `"mean"`, `"max"`, `"first_last"`, or `"pooler"` for [CLS] through the stored pooler as a
            linear layer; needed if `task` is `"embed"` and the folder does not state it, and stronger than what it
            states.
        similar_label: index or name of the classifier output that means similar, if the names do not tell.
        facts: what is known of this very model from elsewhere (`ModelEntry.facts`), as entries of `jinyi.json`:
            pooling, labels, prompts, segment_ids. They count where the folder itself is silent.

    Returns:
        The folder, after a few milliseconds (most of them for the vocabulary). Weights stay on the disk until
        asked for, except that a stored MLM decoder is compared with the word embeddings.

    Raises:
        FolderError: something is missing, damaged or contradictory; the message says what to do.
        InputError: an unknown task or pooling.
    """
    root = Path(os.path.expanduser(path))
    for name, value, known in (("task", task, TASKS), ("pooling", pooling, STATED_POOLINGS)):
        if value is not None and value not in known:
            raise InputError(
                where=name,
                found=shorten(value),
                expected=f"one of {', '.join(known)}",
                fix="Choose one of them.",
            )
    if not os.path.isdir(root):
        raise FolderError(
            where=shorten(str(root), 200),
            found="a file" if os.path.isfile(root) else "nothing there",
            expected="a model folder",
            fix="Give the folder that holds config.json and model.safetensors.",
        )
    record = _read_record(root)
    modules = Modules(root)
    raw_config = read_json(modules.transformer / "config.json", "a model folder, which holds config.json")
    tensors, ignored = read_weights(modules.transformer)
    config, notes = fit_config(raw_config, tensors)
    check_shapes(config, tensors.places(), str(modules.transformer))
    refuse_roberta(raw_config, config, tensors, str(modules.transformer))

    purpose = task or _recognise(record, modules, tensors)
    _check_head(purpose, tensors, root)
    tensors = drop_decoder(tensors, check=purpose in _MLM_TASKS, root=root)
    tokenizer_file, vocabulary = read_vocabulary(modules.transformer, config.vocab_size)
    config, more = _check_vocabulary(config, vocabulary, tokenizer_file, masks=purpose in _MLM_TASKS)

    lowercase = states_lowercase(optional_json(modules.transformer / "tokenizer_config.json"))
    _check_case(modules.transformer / "sentence_bert_config.json", lowercase)
    stated = _agree(root, "pooling", record.get("pooling"), modules.pooling)
    normalize = _agree(root, "normalize", record.get("normalize"), modules.normalize)
    facts = facts or {}
    asked, layer = pooling or stated or facts.get("pooling"), None
    if asked == POOLER:
        layer = read_pooler(modules.transformer, tensors, config)
        if layer is None:
            if pooling == POOLER or (stated == POOLER and purpose == "embed"):
                raise FolderError(
                    where=str(modules.transformer),
                    found="weights without a pooler",
                    expected="the linear layer that pooling 'pooler' puts on [CLS]",
                    fix="Take a copy of the model with its pooler, or another pooling.",
                )
            stated = asked = None  # another vector than the authors' only where it is asked for
    if asked and not (pooling or stated):
        more = (*more, f"The folder does not state its pooling; {asked} is what the model's authors say.")
        record = {**record, "pooling": asked}
    if "segment_ids" in facts:
        record = {"segment_ids": facts["segment_ids"], **record}
    if purpose == "embed" and not asked:
        raise FolderError(
            where=str(root),
            found="no word on pooling (no 1_Pooling/config.json, none in jinyi.json)",
            expected="to know how token vectors become one sentence vector",
            fix=f"Pass pooling= (--pooling) with one of {', '.join(STATED_POOLINGS)}, as the model's authors say; "
            "a wrong choice gives other vectors without any error.",
        )
    golden = Golden.from_dict(record["golden"], str(root / RECORD)) if record.get("golden") else None
    return ModelFolder(
        path=root,
        config=config,
        raw_config=raw_config,
        task=purpose,
        pooling="cls" if layer else asked,
        asked_pooling=asked,
        normalize=bool(normalize),
        dense=(*((layer,) if layer else ()), *_dense_chain(modules, config)),
        labels=output_labels(
            raw_config, record, tensors, root, record.get("labels") or facts.get("labels", ())
        ),
        similar_label=record.get("similar_label") if similar_label is None else similar_label,
        prompts={
            **facts.get("prompts", {}),
            **(modules.settings.get("prompts") or {}),
            **(record.get("prompts") or {}),
        },
        default_prompt_name=record.get("default_prompt_name") or modules.settings.get("default_prompt_name"),
        tokenizer_file=tokenizer_file,
        lowercase=lowercase,
        max_length=_max_length(record, modules.transformer, config),
        tensors=tensors,
        record=record,
        golden=golden if pooling in (None, stated) else None,
        ignored=ignored,
        notes=(*notes, *more),
    )


def _read_record(root: Path) -> dict[str, Any]:
    record = optional_json(root / RECORD)
    where, written = str(root / RECORD), record.get("format", FORMAT)
    if not isinstance(written, int) or written > FORMAT:
        raise FolderError(
            where=where,
            found=f"format {written!r}",
            expected=f"format {FORMAT} or older",
            fix="The folder was written by a newer jinyi: upgrade with pip install -U jinyi.",
        )
    for key, known in (("task", TASKS), ("pooling", STATED_POOLINGS), ("segment_ids", SEGMENT_IDS)):
        if record.get(key) is not None and record[key] not in known:
            raise FolderError(
                where=where,
                found=f"{key} = {shorten(record[key])}",
                expected=f"one of {', '.join(known)}",
                fix="Correct the file.",
            )
    for key, kind in _KINDS.items():
        value = record.get(key)
        sound = value is None or isinstance(value, kind)
        if sound and key == "prompts":
            sound = all(isinstance(text, str) for text in (value or {}).values())
        if not sound:
            raise FolderError(
                where=where,
                found=f"{key} = {shorten(value)}",
                expected="texts by their names" if key == "prompts" else f"a JSON {_NAMES[kind]}",
                fix="Correct the file.",
            )
    return record


def _agree(root: Path, what: str, ours: Any, theirs: Any) -> Any:
    if ours is not None and theirs is not None and ours != theirs:
        raise FolderError(
            where=str(root),
            found=f"{what} {ours!r} in {RECORD} but {theirs!r} in modules.json",
            expected="both to say the same",
            fix="One of them was edited by hand: make them agree, or take the folder again.",
        )
    return theirs if ours is None else ours


def _recognise(record: Mapping[str, Any], modules: Modules, tensors: TensorMap) -> str:
    if record.get("task"):
        return str(record["task"])
    if CLASSIFIER in tensors:
        return "pair" if tensors.shape(CLASSIFIER)[0] <= 2 else "classes"
    if modules.pooling is not None:
        return "embed"
    return "mlm" if MLM_BIAS in tensors else "encoder"


def _check_head(task: str, tensors: TensorMap, root: Path) -> None:
    names = {CLASSIFIER: "a sequence classifier", MLM_BIAS: "a masked language model"}
    needed = CLASSIFIER if task in _CLASSIFIER_TASKS else MLM_BIAS if task in _MLM_TASKS else None
    if needed is not None and needed not in tensors:
        held = [names[key] for key in names if key in tensors] or ["an encoder without a head"]
        raise FolderError(
            where=str(root),
            found=f"{held[0]} (no {needed})",
            expected=f"{names[needed]}, for the task {task!r}",
            fix="Take a model made for this task; `jinyi models list` names the ones at hand.",
        )


def _dense_chain(modules: Modules, config: EncoderConfig) -> tuple[Any, ...]:
    layers, width = [], config.hidden_size
    for folder in modules.dense:
        weight, bias = read_dense(folder)
        if weight.shape[1] != width:
            raise FolderError(
                where=str(folder),
                found=f"a Dense module that takes vectors of {weight.shape[1]}",
                expected=f"it to take vectors of {width}, the step before",
                fix="The modules of this folder do not belong together: take it again.",
            )
        layers.append((weight, bias))
        width = weight.shape[0]
    return tuple(layers)


def _check_case(file: Path, lowercase: bool) -> None:
    """Refuse texts lower-cased by sentence-transformers itself, before a tokenizer that would keep the case."""
    if optional_json(file).get("do_lower_case") and not lowercase:
        raise FolderError(
            where=str(file),
            found="do_lower_case = true over a tokenizer that keeps capital letters",
            expected="the tokenizer alone to decide on the case",
            fix="Write the same do_lower_case into tokenizer_config.json, and into tokenizer.json as lowercase.",
        )


def _max_length(record: Mapping[str, Any], folder: Path, config: EncoderConfig) -> int:
    stated = (
        record.get("max_length"),
        optional_json(folder / "sentence_bert_config.json").get("max_seq_length"),
        optional_json(folder / "tokenizer_config.json").get("model_max_length"),
    )
    lengths = [
        value for value in stated if isinstance(value, int) and not isinstance(value, bool) and value > 2
    ]
    # A tokenizer without a limit states a number like 1e30; the position embeddings bound it in any case.
    return min([*lengths[:1], config.max_position_embeddings])


def read_vocabulary(root: Path, rows: int | None = None) -> tuple[Path, dict[str, int]]:
    """Read the vocabulary of a folder: `tokenizer.json`, or `vocab.txt` where that is all there is.

    Args:
        root: the folder.
        rows: rows of the word embedding, for the message where there is none.

    Returns:
        The file and the id of each token.

    Raises:
        FolderError: there is none, or it is of another kind than WordPiece.
    """
    file = root / "tokenizer.json"
    if file.is_file():
        body = parse_json(file)
        model, added = body.get("model"), body.get("added_tokens") or ()
        kind = model.get("type", "WordPiece") if isinstance(model, dict) else None
        vocabulary = model.get("vocab") if kind == "WordPiece" else None
        if not isinstance(vocabulary, dict):
            raise not_wordpiece(kind, str(file))
        tokens = [token if isinstance(token, dict) else {} for token in added]
        ids = {**vocabulary, **{token.get("content"): token.get("id") for token in tokens}}
        if not all(isinstance(index, int) for index in ids.values()):
            raise FolderError(
                where=str(file),
                found="tokens without a number",
                expected="a tokenizer.json",
                fix="The file was edited or is damaged: copy it again.",
            )
        return file, ids
    file = root / "vocab.txt"
    if file.is_file():
        return file, {**read_vocab_text(file), **read_added(root)}
    raise no_tokenizer(root, rows)


def read_vocab_text(file: Path) -> dict[str, int]:
    """Read `vocab.txt`: one token per line, its line number (from 0) is its id.

    Raises:
        FolderError: the file is not UTF-8.
    """
    try:
        with open(file, encoding="utf-8", newline="\n") as stream:
            lines = stream.read().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise FolderError(
            where=str(file),
            found=f"bytes that are not UTF-8 ({error})",
            expected="UTF-8 text",
            fix="Copy the file again.",
        ) from error
    return {line.rstrip("\r"): index for index, line in enumerate(lines)}


def _check_vocabulary(
    config: EncoderConfig, vocabulary: Mapping[str, int], file: Path, *, masks: bool
) -> tuple[EncoderConfig, tuple[str, ...]]:
    missing = [token for token in (*_SPECIAL, *(["[MASK]"] if masks else [])) if token not in vocabulary]
    if missing:
        raise FolderError(
            where=str(file),
            found=f"a vocabulary without {', '.join(missing)}",
            expected="the special tokens of BERT",
            fix="Take the tokenizer files of this very model.",
        )
    tokens, rows = max(vocabulary.values()) + 1, config.vocab_size
    if tokens > rows:
        raise FolderError(
            where=str(file),
            found=f"{tokens} tokens",
            expected=f"at most {rows}, the rows of the word embedding",
            fix="Vocabulary and weights are of different models: take both from one source"
            + (", here the vocab.txt of CLUE's small models." if rows == CLUE_ROWS else "."),
        )
    notes = (f"{rows - tokens} rows of the word embedding have no token.",) if tokens < rows else ()
    return replace(config, pad_token_id=vocabulary["[PAD]"]), notes
