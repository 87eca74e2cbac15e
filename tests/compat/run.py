"""Proves that jinyi's folders open elsewhere: sentence-transformers and transformers of today and of 2024.

    python tests/compat/run.py [--current-only] [--libraries .compat]

Random small folders of every kind are written by jinyi and opened by reader.py in one process for each release.
Compared are token ids, sentence vectors (cosine at least 0.99999 with the formula on the hidden states, and with
jinyi's own engine), pair probabilities and rankings, and masked-word probabilities; nothing may be warned about or
logged while loading, and no socket may be opened. The old release is installed (once, with pip) beside the
environment that runs this script and shares its PyTorch and numpy.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import jinyi  # noqa: E402
from jinyi.batches import Batch  # noqa: E402
from jinyi.folder import read_folder  # noqa: E402
from jinyi.runtime import Head, open_engine  # noqa: E402
from jinyi.tokens import Tokenizer, build_tokenizer  # noqa: E402
from small_models import CONFIG, MEGATRON, VOCAB, random_weights, whitening, write_small  # noqa: E402

# sentence-transformers 2.7.0 with the libraries of its days; requests and what it needs, because
# huggingface-hub used it then.
OLD = "st2.7"
OLD_LIBRARIES = (
    "sentence-transformers==2.7.0",
    "transformers==4.41.2",
    "tokenizers==0.19.1",
    "huggingface-hub==0.23.5",
    "requests==2.34.2",
    "urllib3==2.8.0",
    "charset-normalizer==3.5.2",
    "certifi",
)
ALBERT, ROFORMER = replace(CONFIG, num_hidden_groups=1), replace(CONFIG, rotary=True)
TEXTS = [
    "怎么修改登录密码？",
    "如何改密码",
    "今天天气很好，心情不好。",
    "体育新闻：财经 12 21ab",
    "ＡＢ１２全角？！",
    "一则关于财经的新闻" * 9,  # cut at 48 tokens by every reader
    "甲乙丙😀 Cafe\u0301 \u3000 de",
    "……“引号”‘单’—～",
]
PAIRS = [
    ("怎么改密码", "如何修改登录密码"),
    ("今天天气", "体育财经"),
    ("Ａ１", "a1"),
    ("密码" * 20, "新闻" * 20),
]


def write_folders(root: Path) -> None:
    """Write one folder of each kind."""
    write_small(root / "embed-cls", pooling="cls")
    write_small(root / "embed-mean-half", pooling="mean", dtype="float16", normalize=True)
    write_small(root / "embed-max", pooling="max", max_length=20)
    write_small(root / "embed-whitened", pooling="mean", dense=[whitening()], normalize=True, dtype="float16")
    write_small(root / "embed-megatron", pooling="cls", config=MEGATRON, weights=random_weights(MEGATRON))
    write_small(root / "embed-plain", tokenizer=build_tokenizer(VOCAB, fold=False))
    write_small(root / "pair-one-logit", "pair", dtype="float16")
    write_small(root / "pair-two-logits", "pair", outputs=2)
    write_small(root / "pair-megatron", "pair", config=MEGATRON)
    write_small(root / "topic", "topic", pooling="mean", labels=["体育", "财经"])
    write_small(root / "topic-megatron", "topic", config=MEGATRON)
    for name, config in (("albert", ALBERT), ("roformer", ROFORMER)):
        write_small(root / f"embed-{name}", pooling="max", config=config)
        write_small(root / f"pair-{name}", "pair", config=config)
        write_small(root / f"topic-{name}", "topic", config=config)
    (root / "inputs.json").write_text(json.dumps({"texts": TEXTS, "pairs": PAIRS}), encoding="utf-8")


def install_old(libraries: Path) -> Path:
    """Install the old release into its own directory, once."""
    target, stamp = libraries / OLD, libraries / f"{OLD}.txt"
    wanted = "\n".join(OLD_LIBRARIES)
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        target.mkdir(parents=True, exist_ok=True)
        (libraries / ".gitignore").write_text("*\n", encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--upgrade", "--target", str(target), *OLD_LIBRARIES], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return target


def read_elsewhere(root: Path, output: Path, libraries: Path | None) -> dict[str, Any]:
    """Run reader.py, with other libraries in front if given, and return its report."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if libraries is not None:
        environment["PYTHONPATH"] = str(libraries)
    command = [sys.executable, str(HERE / "reader.py"), str(root), str(output)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8")
    if run.returncode:
        raise SystemExit(f"the reader failed:\n{run.stderr[-3000:]}")
    report: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return report


def cosines(a: Any, b: Any) -> np.ndarray:
    """Cosine of each row of `a` with the same row of `b`."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.asarray((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))


def compare(root: Path, report: dict[str, Any]) -> list[tuple[str, str, float, bool]]:
    """Hold a report against the formula and against jinyi; rows are (folder, what, value, passed)."""
    rows: list[tuple[str, str, float, bool]] = []
    for name, out in report["folders"].items():
        path = root / name
        folder = read_folder(path)
        rows += [(name, f"warned: {text}", 1.0, False) for text in out["warnings"]]
        ids = Tokenizer.from_folder(path).encode(TEXTS, truncate="report").ids
        differing = sum(list(ours) != theirs for ours, theirs in zip(ids, out["ids"], strict=True))
        rows.append((name, "texts with other token ids", float(differing), differing == 0))
        if "vectors" in out:
            vectors = np.asarray(out["hidden"])
            for weight, bias in folder.dense:
                vectors = vectors @ weight.T + (0 if bias is None else bias)
            rows.append(_at_least(name, "cosine, formula on AutoModel", cosines(out["vectors"], vectors)))
            model = jinyi.SentenceEncoder.load(path, precision="float32")
            ours = model.encode(TEXTS, normalize=False)
            rows.append(_at_least(name, "cosine, jinyi's engine", cosines(out["vectors"], ours)))
            other = float(cosines(ours[1:], ours[:-1]).max())
            rows.append((name, "cosine of different texts", other, other < 0.999))
        if folder.task == "pair":
            assert out["pair_segments"].count(1) == len(PAIRS[0][1]) + 1, "segments of pairs are lost"
            model = jinyi.PairScorer.load(path, precision="float32")
            ours = model.predict(PAIRS, symmetric=False)
            for what in ("scores", "pipeline"):
                rows.append(_at_most(name, f"P(similar), {what} - jinyi", np.asarray(out[what]) - ours, 1e-6))
            if "rank" in out:
                given = model.predict([(TEXTS[0], text) for text in TEXTS[1:]], symmetric=False)
                rank = [(row["corpus_id"], row["text"], row["score"]) for row in out["rank"]]
                assert [text for _, text, _ in rank] == [TEXTS[1:][place] for place, _, _ in rank]
                scores = np.asarray([score for _, _, score in rank])
                falling = bool((np.diff(scores) <= 0).all()) and len(rank) == len(TEXTS) - 1
                rows.append((name, "rank, best first", float(falling), falling))
                difference = scores - given[[place for place, _, _ in rank]]
                rows.append(_at_most(name, "P(similar), rank - jinyi", difference, 1e-6))
        if folder.task == "topic":
            expected = np.asarray(out["log_probs"])
            rows.append(
                _at_most(name, "log-probabilities - jinyi", masked_words(folder, ids) - expected, 1e-4)
            )
    return rows


def masked_words(folder: Any, ids: list[list[int]]) -> np.ndarray:
    """Log-probabilities of every word at position 1 of each text, by jinyi's engine."""
    engine = open_engine(
        folder.config, folder.weights(), Head("mlm", log_normalizer=True), precision="float32"
    )
    rows = []
    for row in ids:
        one = np.array([row], np.int32)
        batch = Batch(np.array([0]), one, np.array([len(row)], np.int32), None, np.array([[1]], np.int32))
        [(_, (scores, normalizer))] = engine.run([batch])
        rows.append(scores[0, 0] - normalizer[0, 0])
    return np.stack(rows)


def _at_most(name: str, what: str, differences: np.ndarray, limit: float) -> tuple[str, str, float, bool]:
    largest = float(np.abs(differences).max())
    return name, what, largest, largest <= limit


def _at_least(name: str, what: str, values: np.ndarray) -> tuple[str, str, float, bool]:
    return name, what, float(values.min()), bool(values.min() >= 0.99999)


def main() -> int:
    """Run all comparisons and print them; 1 if any fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--libraries", type=Path, default=HERE.parent.parent / ".compat", help="old releases")
    parser.add_argument("--current-only", action="store_true", help="leave the old release out")
    arguments = parser.parse_args()
    failed = 0
    warnings.simplefilter("ignore", jinyi.TruncationWarning)  # one text is meant to be cut
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "models"
        root.mkdir()
        write_folders(root)
        for old in (False,) if arguments.current_only else (False, True):
            libraries = install_old(arguments.libraries) if old else None
            report = read_elsewhere(root, Path(folder) / "report.json", libraries)
            print(", ".join(f"{library} {release}" for library, release in report["versions"].items()))
            for name, what, value, passed in compare(root, report):
                failed += not passed
                print(f"  {'ok  ' if passed else 'FAIL'} {name:16} {what:32} {value:.8g}")
    print("failed" if failed else "all equal")
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
