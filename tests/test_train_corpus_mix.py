"""`jinyi corpus mix`: so many characters of each file."""

from __future__ import annotations

from pathlib import Path

import pytest

from jinyi.errors import InputError
from jinyi.train.corpus.mix import mix


def lines_file(path: Path, word: str, count: int) -> Path:
    path.write_text("".join(f"{word}{number:04d}\n" for number in range(count)), encoding="utf-8")
    return path


def test_shares_blocks_and_order(tmp_path: Path) -> None:
    a, b = lines_file(tmp_path / "a.txt", "新闻", 1000), lines_file(tmp_path / "b.txt", "论坛", 100)
    found = [line for (line,) in mix([(a, 1200), (b, 10**9)], form="lines", block=10)]
    first, second = found[:200], found[200:]
    assert {line[:2] for line in first} == {"新闻"}  # 1200 characters are 200 lines of six
    assert sorted(second) == [f"论坛{number:04d}" for number in range(100)]  # all there is
    blocks = [first[start : start + 10] for start in range(0, 200, 10)]
    for block in blocks:
        begin = int(block[0][2:])
        assert block == [f"新闻{number:04d}" for number in range(begin, begin + 10)]
    assert [block[0] for block in blocks] != sorted(block[0] for block in blocks)


def test_scale_and_seed(tmp_path: Path) -> None:
    file = lines_file(tmp_path / "a.txt", "新闻", 500)

    def draw(**options: float) -> list[list[str]]:
        return list(mix([(file, 600)], form="lines", block=5, **options))  # type: ignore[arg-type]

    assert draw() == draw()
    assert draw(seed=1) != draw()
    assert draw(scale=2)[:100] == draw() and len(draw(scale=2)) == 200


def test_documents_stay_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("".join(f"甲{n}\n乙{n}\n\n" for n in range(40)), encoding="utf-8")
    documents = list(mix([(file, 40)], block=4))
    assert documents and all(a[1:] == b[1:] and (a[0], b[0]) == ("甲", "乙") for a, b in documents)


@pytest.mark.parametrize(
    ("take", "options", "message"),
    [("a.txt", {"scale": 0}, "scale"), ("a.txt", {"block": 0}, "block"), ("empty.txt", {}, "empty")],
)
def test_what_makes_no_corpus_is_refused(tmp_path: Path, take: str, options: dict, message: str) -> None:
    lines_file(tmp_path / "a.txt", "新闻", 5)
    (tmp_path / "empty.txt").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        list(mix([(tmp_path / take, 10)], form="lines", **options))


def test_one_file_under_two_names_is_refused(tmp_path: Path) -> None:
    file = lines_file(tmp_path / "a.txt", "新闻", 5)
    (tmp_path / "b.txt").symlink_to(file)
    with pytest.raises(InputError, match="the same file twice"):
        list(mix([(file, 10), (tmp_path / "b.txt", 10)], form="lines"))


def test_command(run, tmp_path: Path) -> None:
    file, out = lines_file(tmp_path / "a.txt", "新闻", 50), tmp_path / "out.txt"
    options = ("--documents", "lines", "--block", 1, "-o")
    code, _, err = run("corpus", "mix", "--take", f"{file}=60", *options, out)
    assert code == 0 and "10 documents, 60 characters" in err
    text = out.read_text(encoding="utf-8")
    assert len(text.splitlines()) == 10 and "\n\n" not in text
    code, _, err = run("corpus", "mix", "--take", f"{file}=60", *options, out, "--seed", -1)
    assert code == 2 and "'--seed'" in err
    for bad in (f"{file}", f"{file}=viel", f"{tmp_path / 'none.txt'}=5"):
        code, _, err = run("corpus", "mix", "--take", bad, *options, tmp_path / "other.txt")
        assert code == 2 and "fix" in err
        assert not (tmp_path / "other.txt").exists()
