"""The command line: what it prints, its exit codes, files in and out, resuming."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import jinyi

PAIRS = [("怎么改密码", "如何修改登录密码"), ("今天天气很好", "心情不好"), ("怎么改密码", "如何修改登录密码")]


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.tsv"
    path.write_text("texta\ttextb\tlabel\n" + "".join(f"{a}\t{b}\t1\n" for a, b in PAIRS), encoding="utf-8")
    return path


@pytest.fixture
def texts_file(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"{a}\n" for pair in PAIRS for a in pair), encoding="utf-8")
    return path


def rows_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_score(run, small_folders: Path) -> None:
    expected = jinyi.PairScorer.load(small_folders / "pair").predict(PAIRS[0])
    code, out, err = run("score", *PAIRS[0], "--model", small_folders / "pair")
    assert code == 0 and err == ""
    assert f"{expected:.4f}" in out and PAIRS[0][0] in out
    code, out, err = run("score", "[SEP]".join(PAIRS[0]), "--model", small_folders / "pair", "--json")
    assert code == 0
    (row,) = rows_of(out)
    assert row == {"texta": PAIRS[0][0], "textb": PAIRS[0][1], "score": pytest.approx(expected, abs=1e-6)}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "jsonl.gz"])
def test_score_files(run, small_folders: Path, pairs_file: Path, tmp_path: Path, kind: str) -> None:
    output = tmp_path / f"scores.{kind}"
    code, out, err = run("score", "-i", pairs_file, "-o", output, "-m", small_folders / "pair")
    assert code == 0 and out == "" and "3 rows" in err
    expected = jinyi.PairScorer.load(small_folders / "pair").predict(PAIRS)
    data = output.read_bytes()
    text = (gzip.decompress(data) if kind.endswith("gz") else data).decode("utf-8")
    if kind.startswith("jsonl"):
        assert [row["score"] for row in rows_of(text)] == pytest.approx(expected, abs=1e-6)
    else:
        lines = text.splitlines()
        assert lines[0].replace(",", "\t") == "texta\ttextb\tscore" and len(lines) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.tsv", output.name]


def test_score_a_file_to_the_screen(run, small_folders: Path, pairs_file: Path) -> None:
    code, out, _ = run("score", "-i", pairs_file, "-m", small_folders / "pair", "--json")
    assert code == 0 and len(rows_of(out)) == 3
    code, out, _ = run("score", "-i", pairs_file, "-m", small_folders / "pair", "--columns", "textb,texta")
    assert code == 0 and out.count("登录密码") == 2


def test_embed(run, small_folders: Path, texts_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "vectors.npy"
    code, out, err = run("embed", "-i", texts_file, "-o", output, "-m", small_folders / "embed", "--json")
    assert code == 0
    assert json.loads(out) == {"output": str(output), "rows": 6, "dimension": 32, "cut": 0}
    texts = [text for pair in PAIRS for text in pair]
    expected = jinyi.SentenceEncoder.load(small_folders / "embed").encode(texts)
    vectors = np.load(output)
    assert vectors.dtype == np.float32 and np.abs(vectors - expected).max() < 1e-6
    code, *_ = run(
        "embed", "-i", texts_file, "-o", tmp_path / "v.jsonl", "-m", small_folders / "embed", "--no-normalize"
    )
    assert code == 0
    rows = rows_of((tmp_path / "v.jsonl").read_text(encoding="utf-8"))
    assert rows[0]["text"] == texts[0] and len(rows[0]["vector"]) == 32
    code, out, _ = run("embed", "今天", "明天", "-m", small_folders / "embed", "--json")
    assert code == 0 and len(rows_of(out)) == 2
    code, out, _ = run("embed", "今天", "-m", small_folders / "embed")
    assert code == 0 and "32 numbers" in out


def test_classify(run, small_folders: Path, texts_file: Path, tmp_path: Path) -> None:
    code, out, _ = run(
        "classify", "今天天气很好", "--labels", "体育，财经,新闻的", "-m", small_folders / "topic", "--json"
    )
    assert code == 0
    (row,) = rows_of(out)
    assert set(row["scores"]) == {"体育", "财经", "新闻的"} and row["score"] == max(row["scores"].values())
    code, out, _ = run("classify", "今天[b]", "-m", small_folders / "topic", "--top", "1")
    assert code == 0 and "今天[b]" in out
    output = tmp_path / "topics.tsv"
    code, _, err = run("classify", "-i", texts_file, "-o", output, "-m", small_folders / "topic")
    assert code == 0 and "6 rows" in err
    assert output.read_text(encoding="utf-8").startswith("text\tlabel\tscore\tscores\n")


def test_models(run, small_folders: Path, tmp_path: Path) -> None:
    code, out, _ = run("models", "list")
    assert code == 0 and "Erlangshen" in out
    code, out, _ = run("models", "list", "--json")
    assert code == 0 and {"name", "task", "here"} <= set(rows_of(out)[0])
    code, out, _ = run("models", "show", small_folders / "embed", "--verify")
    assert code == 0 and "mean" in out and "verified_files" in out
    code, out, _ = run("models", "show", small_folders / "pair", "--json")
    assert code == 0 and json.loads(out)["labels"] == ["not similar", "similar"]
    code, out, _ = run("models", "show", "jinyi-tiny-embed")
    assert code == 0 and len(out.splitlines()) < 80 and "lcqmc/train" in out and "data.train.0" not in out
    code, out, _ = run("models", "show", "jinyi-tiny-embed", "--json")
    runs = [part["training"] for part in json.loads(out)["training"]["average_of"]]
    assert code == 0 and all("data.train.0.file" in run["recipe"] for run in runs)


def test_long_texts_are_counted(run, small_folders: Path, tmp_path: Path) -> None:
    long = "今天天气" * 30
    code, _, err = run("embed", long, "今天", "-m", small_folders / "embed", "--json")
    assert code == 0 and "1 of 2 texts" in err
    path = tmp_path / "t.txt"
    path.write_text(f"今天\n{long}\n", encoding="utf-8")
    code, out, err = run("embed", "-i", path, "-o", tmp_path / "v.npy", "-m", small_folders / "embed")
    assert code == 0 and "1 cut" in err
    code, out, err = run(
        "embed", "-i", path, "-o", tmp_path / "w.npy", "-m", small_folders / "embed", "--truncate", "error"
    )
    assert code == 2 and f"{path}:2" in err and "122 tokens" in err and "--truncate warn" in err
    assert not list(tmp_path.glob("w.npy*"))


BAD = [
    (["score"], "neither"),
    (["score", "今天"], "[SEP]"),
    (["score", "今天", ""], "empty"),
    (["score", "今天", "   "], "blanks"),
    (["score", "今天", "明天", "-i", "{pairs}"], "--input"),
    (["score", "-i", "{dir}/no.tsv"], "no such file"),
    (["score", "-i", "{texts}"], "SEP"),
    (["score", "-i", "{pairs}", "--columns", "texta"], "--columns"),
    (["score", "-i", "{pairs}", "--columns", "texta,body"], "body"),
    (["score", "-i", "{pairs}", "-o", "{dir}/o.npy"], ".npy"),
    (["score", "-i", "{pairs}", "-o", "{dir}/no/o.jsonl"], "folder"),
    (["score", "-i", "{gbk}"], "{gbk}:2"),
    (["score", "-i", "{pairs}", "--encoding", "klingon"], "klingon"),
    (["score", "-i", "{dir}/{long}"], "name too long"),
    (["score", "-i", "{pairs}", "-o", "{dir}/{long}"], "name too long"),
    (["score", "-i", "-"], "standard input"),
    (["score", "今天", "明天", "--threads", "99999999999999999999"], "1024"),
    (["score", "今天", "明天", "--truncate", "window"], "truncate"),
    (["score", "今天", "明天", "--precision", "float64"], "precision"),
    (["score", "今天", "明天", "-m", "no-such-model"], "no-such-model"),
    (["score", "今天", "明天", "-m", "{dir}"], "config.json"),
    (["embed"], "neither"),
    (["embed", "-i", "{texts}"], "--output"),
    (["embed", "-i", "{blank}", "-o", "{dir}/v.npy"], "{blank}:2"),
    (["embed", "-i", "{texts}", "-o", "{dir}/v.txt"], ".npy; or .jsonl"),
    (["embed", "-i", "{texts}", "-o", "{dir}/v.bin"], ".npy; or .jsonl"),
    (["embed", "-i", "{texts}", "-o", "{dir}/v.npy.gz"], ".npy; or .jsonl"),
    (["embed", "今天", "--prompt-name", "query"], "query"),
    (["classify", "今天", "--labels", "体育"], "too few labels"),
    (["classify", "今天", "--labels", "体育,龘"], "龘"),
    (["classify", "今天", "--prompt", "没有"], "{}"),
    (["models", "show", "nothing"], "nothing"),
]


@pytest.mark.parametrize(
    ("arguments", "part"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_bad_use(
    run, small_folders: Path, pairs_file: Path, texts_file: Path, tmp_path: Path, arguments, part
) -> None:
    (tmp_path / "gbk.tsv").write_bytes("texta\ttextb\n今天天气很好啊\t明天呢\n".encode("gb18030"))
    (tmp_path / "blank.txt").write_text("今天\n \n明天\n", encoding="utf-8")
    places = {"pairs": pairs_file, "texts": texts_file, "dir": tmp_path, "gbk": tmp_path / "gbk.tsv"}
    places["blank"] = tmp_path / "blank.txt"
    places["long"] = Path("n" * 300 + ".jsonl")

    def fill(value: str) -> str:
        for name, path in places.items():
            value = value.replace(f"{{{name}}}", str(path))
        return value

    before = sorted(tmp_path.iterdir())
    model = {"score": "pair", "embed": "embed", "classify": "topic"}.get(arguments[0])
    own = [] if model is None or "-m" in arguments else ["-m", small_folders / model]
    code, out, err = run(*map(fill, arguments), *own)
    assert code == 2, err
    assert out == ""
    assert "found" in err and "expected" in err and "fix" in err and "Traceback" not in err
    assert fill(part) in err
    assert sorted(tmp_path.iterdir()) == before, "nothing half-written"
    code, out, err = run(*map(fill, arguments), *own, "--json")
    assert code == 2 and set(json.loads(err)["error"]) == {"where", "found", "expected", "fix"}


def test_wrong_options(run) -> None:
    for arguments in (["score", "--nonsense"], ["nonsense"], ["classify", "今天", "--top", "0"]):
        code, out, err = run(*arguments)
        assert code == 2 and "Traceback" not in err and "Usage" in err
    told = {"--nonsense": "No such option", "--top=0": "--top", "--threads=x": "--threads"}
    for option, part in told.items():
        code, out, err = run("classify", "今天", option, "--json")
        (error,) = json.loads(err).values()
        assert code == 2 and part in error["found"] and set(error) == {"where", "found", "expected", "fix"}
        assert "classify --help" in error["fix"]


def test_a_defect_is_code_1(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("jinyi.registry.list_models", broken)
    code, out, err = run("models", "list")
    assert code == 1 and "Traceback" in err and "defect" in err


def test_help_and_version(run) -> None:
    code, out, _ = run("--help")
    assert code == 0 and all(name in out for name in ("score", "embed", "classify", "models"))
    code, out, _ = run("--version")
    assert code == 0 and out.strip() == jinyi.__version__
    for module in ("jinyi", "jinyi.cli"):
        done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True)
        assert (done.returncode, done.stdout.strip()) == (0, jinyi.__version__)
    for command in ("score", "embed", "classify"):
        code, out, _ = run(command, "--help")
        assert code == 0 and "--json" in out and "--input" in out


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes there")
def test_a_full_disk_is_told_and_the_job_goes_on(small_folders: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_text("".join(f"今天{number}\n" for number in range(9000)), encoding="utf-8")
    arguments = ["embed", "-i", str(path), "-o", str(tmp_path / "v.npy"), "-m", str(small_folders / "embed")]
    limited = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_100_000, 1_100_000))\n"
        "from jinyi.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", limited, *arguments], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "refuses the write" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "v.npy").exists()
    done = subprocess.run([sys.executable, "-m", "jinyi.cli", *arguments], capture_output=True, text=True)
    assert done.returncode == 0 and "going on after 8,192" in done.stderr
    assert np.isfinite(np.load(tmp_path / "v.npy")).all()


def test_embed_goes_on_where_it_was(
    run, small_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, whole, parts = tmp_path / "t.txt", tmp_path / "whole.npy", tmp_path / "parts.npy"
    path.write_text("".join(f"今天{number}密码{number % 7}\n" for number in range(100)), encoding="utf-8")
    monkeypatch.setattr("jinyi.batches.chunks", _in_tens)
    code, *_ = run("embed", "-i", path, "-o", whole, "-m", small_folders / "embed")
    assert code == 0

    encode = jinyi.SentenceEncoder.encode
    calls = 0

    def stopping(self, *arguments, **options):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return encode(self, *arguments, **options)

    monkeypatch.setattr(jinyi.SentenceEncoder, "encode", stopping)
    code, _, err = run("embed", "-i", path, "-o", parts, "-m", small_folders / "embed")
    assert code == 130 and not parts.exists()
    code, _, err = run("embed", "-i", path, "-o", parts, "-m", small_folders / "embed")
    assert code == 0 and "going on after 30 of 100" in err
    assert calls == 4 + 7
    assert parts.read_bytes() == whole.read_bytes()


def _in_tens(items):
    from itertools import islice

    iterator = iter(items)
    while chunk := list(islice(iterator, 10)):
        yield chunk


@pytest.mark.slow
def test_the_installed_command(small_folders: Path) -> None:
    command = [sys.executable, "-m", "jinyi.cli"]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "score", "今天", "明天", "-m", str(small_folders / "pair"), "--json"], capture_output=True
    )
    assert done.returncode == 0 and 0 <= json.loads(done.stdout)["score"] <= 1
    done = subprocess.run([*command, "score", "今天"], capture_output=True)
    assert done.returncode == 2
    done = subprocess.run(
        f'"{sys.executable}" -m jinyi.cli models list --json | head -n 1', shell=True, capture_output=True
    )
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    assert time.perf_counter() - start < 120


def test_a_header_without_rows_is_bad_input(run, small_folders: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("texta,textb,text\n", encoding="utf-8")
    for command, model in (("score", "pair"), ("embed", "embed"), ("classify", "topic")):
        code, _, err = run(command, "-i", path, "-o", tmp_path / "o.jsonl", "-m", small_folders / model)
        assert code == 2 and "at least one row" in err
    assert [file.name for file in tmp_path.iterdir()] == ["pairs.csv"]


def test_an_output_is_never_ignored_and_never_the_input(run, small_folders: Path, tmp_path: Path) -> None:
    code, _, err = run("embed", "今天", "-o", tmp_path / "v.npy", "-m", small_folders / "embed")
    assert code == 2 and "--input" in err
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "今天"}\n', encoding="utf-8")
    code, _, err = run("embed", "-i", path, "-o", path, "-m", small_folders / "embed")
    assert code == 2 and "same file" in err
    assert path.read_text(encoding="utf-8") == '{"text": "今天"}\n'


def test_labels_of_a_model_that_scores_no_words_are_refused(run, small_folders: Path) -> None:
    for model in ("classes", "embed"):
        code, _, err = run("classify", "今天", "-m", small_folders / model, "--labels", "体育,天气")
        assert code == 2 and "label words for a model of task" in err
