"""The files of a model folder but for its encoder weights: what stands in each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinyi.config import EncoderConfig
from jinyi.errors import FolderError, InputError
from jinyi.folder.atomic import MANIFEST
from jinyi.folder.model import ARCHITECTURES, RECORD, Dense
from jinyi.folder.modules import OLD_POOLING
from jinyi.folder.tensors import safetensors_chunks, torch_state_bytes
from jinyi.tokens.words import WORD_TOKENIZERS, cuts_words

_SPECIAL = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
_CLASSES = {"bert": "Bert", "megatron-bert": "MegatronBert", "albert": "Albert", "roformer": "RoFormer"}
_SIGMOID = "torch.nn.modules.activation.Sigmoid"
_IDENTITY = "torch.nn.modules.linear.Identity"
# The oldest release that reads this form: readers warn about folders from releases newer than themselves.
_WRITTEN_FOR = {"sentence_transformers": "2.2.2", "transformers": "4.30.0", "pytorch": "2.0.0"}


def tokenizer_files(backend: Mapping[str, Any], max_length: int) -> dict[str, str]:
    """Return the four tokenizer files of a folder, by name, made from one `tokenizer.json`.

    transformers 5 rebuilds the normaliser of a `BertTokenizer` from its few options and would drop any other
    step, so a tokenizer that has more than BERT's own normaliser is declared as `PreTrainedTokenizerFast`,
    which every release takes from `tokenizer.json` as it is. One that cuts words is a `RoFormerTokenizer`.

    Args:
        backend: parsed `tokenizer.json` of a WordPiece tokenizer.
        max_length: longest input in tokens.

    Raises:
        FolderError: it is no WordPiece tokenizer with the special tokens, or ids have holes.
    """
    model = backend.get("model") or {}
    vocabulary = model.get("vocab") if model.get("type", "WordPiece") == "WordPiece" else None
    added = {token["content"]: token["id"] for token in backend.get("added_tokens") or ()}
    tokens = sorted((index, token) for token, index in {**(vocabulary or {}), **added}.items())
    missing = [token for token in _SPECIAL.values() if token not in {token for _, token in tokens}]
    if missing or [index for index, _ in tokens] != list(range(len(tokens))):
        raise FolderError(
            where="tokenizer.json",
            found=f"no {', '.join(missing)}" if missing else "ids that are not 0, 1, 2... without a hole",
            expected="a WordPiece vocabulary with BERT's special tokens",
            fix="Build it with jinyi.tokens.build_tokenizer, or take the tokenizer.json of this very model.",
        )
    normalizer = backend.get("normalizer") or {}
    plain = normalizer.get("type") == "BertNormalizer"
    steps = [normalizer, *normalizer.get("normalizers", ())]
    bert: dict[str, Any] = next((step for step in steps if step.get("type") == "BertNormalizer"), {})
    named = {f"{key}_token": token for key, token in _SPECIAL.items()}
    plain_class = WORD_TOKENIZERS[0] if cuts_words(normalizer, vocabulary or ()) else "BertTokenizer"
    settings: dict[str, Any] = {
        "tokenizer_class": plain_class if plain else "PreTrainedTokenizerFast",
        "do_lower_case": bool(bert.get("lowercase", False)),
        "model_max_length": max_length,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **named,
    }
    if plain:
        settings["strip_accents"] = bert.get("strip_accents")
        settings["tokenize_chinese_chars"] = bert.get("handle_chinese_chars", True)
    # Truncation and padding are the reader's choice; a tokenizer.json that states them cuts silently.
    whole = {**backend, "truncation": None, "padding": None}
    return {
        "tokenizer.json": json.dumps(whole, ensure_ascii=False, indent=2) + "\n",
        "vocab.txt": "".join(f"{token}\n" for _, token in tokens),
        "tokenizer_config.json": to_json(settings),
        "special_tokens_map.json": to_json(named),
    }


def module_files(
    config: EncoderConfig,
    *,
    pooling: str,
    normalize: bool,
    dense: Sequence[Dense],
    max_length: int,
    prompts: Mapping[str, str],
    default_prompt_name: str | None,
) -> dict[str, str | bytes | Iterable[bytes]]:
    """Return the files by which sentence-transformers makes vectors; arguments as for `write_folder`.

    By name, in the form of sentence-transformers before 5.4: the only one that every release and TEI read.
    """
    chain = [("", "Transformer"), ("1_Pooling", "Pooling")]
    chain += [(f"{index}_Dense", "Dense") for index in range(2, 2 + len(dense))]
    chain += [(f"{len(chain)}_Normalize", "Normalize")] if normalize else []
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(chain)
    ]
    modes: dict[str, Any] = {key: mode == pooling for key, mode in OLD_POOLING.items()}
    if pooling not in OLD_POOLING.values():
        # Stated so that sentence-transformers and TEI refuse the folder: without it they would take the mean.
        modes = {"pooling_mode": pooling}
    settings = {
        "__version__": _WRITTEN_FOR,
        "prompts": dict(prompts),
        "default_prompt_name": default_prompt_name,
        "similarity_fn_name": "cosine",
    }
    files: dict[str, str | bytes | Iterable[bytes]] = {
        "modules.json": to_json(modules),
        "1_Pooling/config.json": to_json(
            {"word_embedding_dimension": config.hidden_size, **modes, "include_prompt": True}
        ),
        "sentence_bert_config.json": to_json({"max_seq_length": max_length, "do_lower_case": False}),
        "config_sentence_transformers.json": to_json(settings),
    }
    for index, (weight, bias) in enumerate(dense, start=2):
        outer, inner = weight.shape
        layer = {"linear.weight": weight} | ({} if bias is None else {"linear.bias": bias})
        sizes = {"in_features": inner, "out_features": outer, "bias": bias is not None}
        files[f"{index}_Dense/config.json"] = to_json(sizes | {"activation_function": _IDENTITY})
        files[f"{index}_Dense/model.safetensors"] = safetensors_chunks(layer)
        files[f"{index}_Dense/pytorch_model.bin"] = torch_state_bytes(layer)
    return files


def config_json(
    config: EncoderConfig, task: str, names: Sequence[str], problem_type: str | None = None
) -> dict[str, Any]:
    """Return config.json for a task; `names` are a classifier's outputs, `problem_type` as for `write_folder`."""
    body = {
        "architectures": [_CLASSES[config.model_type] + ARCHITECTURES[task]],
        **config.to_dict(),
        "initializer_range": 0.02,
        **({} if config.rotary else {"position_embedding_type": "absolute"}),
        # The type to compute in. transformers 5 would otherwise run a model stored as float16 in float16,
        # which is slow and inexact on processors.
        "torch_dtype": "float32",
    }
    if task in ("pair", "classes"):
        body["id2label"] = {str(index): label for index, label in enumerate(names)}
        body["label2id"] = {label: index for index, label in enumerate(names)}
        usual = "single_label_classification" if len(names) > 1 else "multi_label_classification"
        body["problem_type"] = problem_type or usual
    if task == "pair" and len(names) == 1:
        body["problem_type"] = usual  # P(similar) is a sigmoid in every reader
        body["sentence_transformers"] = {"activation_fn": _SIGMOID, "version": "4.0.0"}
        body["sbert_ce_default_activation_function"] = _SIGMOID
    return body


def model_card(record: Mapping[str, Any], config: EncoderConfig) -> str:
    """Return a short README.md with the fields model hubs read, from the entries of `jinyi.json`."""
    tags = {"embed": "sentence-similarity", "pair": "text-classification", "classes": "text-classification"}
    fields = {
        "language": "zh",
        "license": record["licence"],
        "pipeline_tag": tags.get(record["task"], "fill-mask"),
        "library_name": "sentence-transformers" if record["task"] == "embed" else None,
    }
    head = "".join(f"{key}: {value}\n" for key, value in fields.items() if value)
    shape = f"{config.num_hidden_layers} layers, {config.hidden_size} wide"
    classes = {"embed": "SentenceEncoder", "pair": "PairScorer", "topic": "TopicClassifier"}
    lines = [
        f"---\n{head}---\n\n# {record['name']}\n",
        f"Chinese model for the task `{record['task']}`: {shape}, {config.vocab_size} tokens, "
        f"{record['parameters'] / 1e6:.1f}M parameters; reads up to {record['max_length']} tokens.",
    ]
    if record["summary"]:
        lines.insert(1, f"{record['summary']}\n")
    if record["pooling"]:
        unit = ", L2-normalised" if record["normalize"] else ""
        lines.append(f"Sentence vectors: {record['pooling']} pooling{unit}.")
    if record["task"] in classes:
        call = f"jinyi.{classes[record['task']]}.load(folder)"
        lines.append(f"\n```python\nimport jinyi\n\nmodel = {call}\n```\n")
    lines.append(f"Training record, results and golden outputs: `{RECORD}`. Checksums: `{MANIFEST}`.\n")
    return "\n".join(lines)


def to_json(body: Any) -> str:
    """Return strict, readable JSON text.

    Raises:
        InputError: a value that JSON cannot hold.
    """
    try:
        return json.dumps(body, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InputError(
            where=RECORD,
            found=f"a value that JSON cannot hold ({error})",
            expected="texts, finite numbers, lists and dictionaries",
            fix="Convert numpy values with .tolist() or float().",
        ) from error
