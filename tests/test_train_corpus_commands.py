"""`jinyi corpus clean | shard`, and the benchmark."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from corpus_tools import TOKENIZER, write
from jinyi.train.corpus import Shards
from small_models import VOCAB

# Commands


RAW = (
    "今天天气很好。心情不好！\n版权所有的一句话。\n\n今天天气很好。心情不好！\n\n怎么改密码，如何修改密码？\n"
)


def test_clean_then_shard(run, tmp_path: Path) -> None:
    pytest.importorskip("rjieba")
    raw, cleaned, account = write(tmp_path / "raw.txt", RAW), tmp_path / "clean.txt.gz", tmp_path / "r.json"
    code, out, err = run("corpus", "clean", "-i", raw, "-o", cleaned, "--report", account)
    assert code == 0 and "boilerplate" in out and "2 of 3 documents" in err
    text = gzip.decompress(cleaned.read_bytes()).decode("utf-8")
    assert text == "今天天气很好。\n心情不好！\n\n怎么改密码，如何修改密码？\n\n"
    assert json.loads(account.read_text(encoding="utf-8"))["dropped"]["repeated"]["lines"] == 2

    tokenizer = write(tmp_path / "vocab.txt", "".join(f"{token}\n" for token in VOCAB))
    shards = tmp_path / "shards"
    code, out, err = run("corpus", "shard", "-i", cleaned, "--tokenizer", tokenizer, "-o", shards, "--json")
    assert code == 0, err
    assert json.loads(out)["counts"]["sentences"] == 3 and json.loads(out)["words"].startswith("rjieba ")
    assert Shards.open(shards).documents.tolist() == [0, 2, 3]
    short = tmp_path / "short"
    options = ("--documents", "lines", "--longest", 7)
    code, _, err = run("corpus", "shard", "-i", cleaned, "--tokenizer", tokenizer, "-o", short, *options)
    assert code == 0 and "3 documents, 4 sentences" in err
    again = ("corpus", "shard", "-i", cleaned, "--tokenizer", tokenizer, "-o", short)
    code, _, err = run(*again)
    assert code == 2 and "a shard folder there already" in err
    code, _, err = run(*again, "--overwrite")
    assert code == 0 and "2 documents, 3 sentences" in err


def test_options_reach_the_rules(run, tmp_path: Path) -> None:
    raw = write(tmp_path / "raw.txt", "今天 {很好}\n今天 {很好}\n坏词在这一句里。\n")
    bad = write(tmp_path / "bad.txt", "坏词\n")
    lax = ("--no-code", "--no-ended", "--span", 0, "--near", 0, "--characters", 1, "--no-split", "--json")
    out_file = tmp_path / "out.txt"
    code, out, _ = run(
        *("corpus", "clean", "-i", raw, "-o", out_file, "--documents", "lines", "--bad-words", bad, *lax)
    )
    assert code == 0 and json.loads(out)["kept_documents"] == 2
    assert list(json.loads(out)["dropped"]) == ["bad words"]
    assert out_file.read_text(encoding="utf-8") == "今天 {很好}\n\n" * 2


def test_faults_end_with_two(run, tmp_path: Path) -> None:
    raw = write(tmp_path / "raw.txt", "一\n二\n三\n")
    code, _, err = run("corpus", "clean", "-i", raw, "-o", tmp_path / "out.txt")
    assert code == 2 and "no blank line" in err and not (tmp_path / "out.txt").exists()
    code, _, err = run("corpus", "clean", "-i", raw, "-o", tmp_path / "out.jsonl")
    assert code == 2 and "a jsonl file for the text" in err
    options = ("--documents", "lines", "--bad-words", tmp_path / "none.txt")
    code, _, err = run("corpus", "clean", "-i", raw, "-o", tmp_path / "out.txt", *options)
    assert code == 2 and "no such file" in err
    code, _, err = run("corpus", "shard", "-i", raw, "--tokenizer", "no-such-model", "-o", tmp_path / "s")
    assert code == 2 and "no-such-model" in err
    assert sorted(os.listdir(tmp_path)) == ["raw.txt"]


@pytest.mark.slow
def test_the_input_is_not_written_over(run, tmp_path: Path) -> None:
    text = "今天天气很好。\n\n明天天气不好。\n"
    (tmp_path / "raw.txt").write_text(text, encoding="utf-8")
    code, _, err = run("corpus", "clean", "-i", tmp_path / "raw.txt", "-o", tmp_path / "raw.txt")
    assert code == 2 and "the same file" in err
    assert (tmp_path / "raw.txt").read_text(encoding="utf-8") == text
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n天\n", encoding="utf-8")
    code, _, err = run("vocab", "prune", tmp_path / "vocab.txt", "-o", tmp_path / "vocab.txt")
    assert code == 2 and "the same file" in err


def test_benchmark_prints_its_table(tmp_path: Path) -> None:
    pytest.importorskip("rjieba")
    pytest.importorskip("opencc")
    texts = write(tmp_path / "texts.txt", "".join(f"第{i}天的天气很好，心情也很好。\n" for i in range(300)))
    tokenizer = write(tmp_path / "tokenizer.json", TOKENIZER.to_str())
    script = Path(__file__).resolve().parent.parent / "benchmarks" / "corpus.py"
    command = [sys.executable, str(script), str(texts), str(tokenizer)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert "300 different lines" in done.stdout and done.stdout.count("characters/s") == 4
    assert done.stdout.count(" bytes a ") == 2
