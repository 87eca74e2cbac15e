"""Reading and writing user files: formats, columns, faults with their line, nothing half-written, resuming."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jinyi.errors import InputError, MissingExtraError
from jinyi.files import (
    BulkOutput,
    RowEncoder,
    atomic_file,
    npy_header,
    read_pairs,
    read_texts,
    write_rows,
)

PAIRS = [("怎么改密码", "如何修改密码"), ('他说"好', "行\u2028吗\u0085？"), ("a,b", "c")]


def put(path: Path, content: str | bytes) -> Path:
    data = content.encode("utf-8") if isinstance(content, str) else content
    if path.suffix == ".gz":
        data = gzip.compress(data)
    if path.suffix == ".xz":
        data = lzma.compress(data)
    path.write_bytes(data)
    return path


def pairs_of(path: Path, **options) -> list[tuple[str, str]]:
    return [(row.a, row.b) for row in read_pairs(path, **options)]


def texts_of(path: Path, **options) -> list[str]:
    return [row.text for row in read_texts(path, **options)]


def test_blanks_around_labels(tmp_path: Path) -> None:
    path = put(tmp_path / "a.tsv", "text\tlabel\n今天\t体育\n明天\t 体育\n后天\t体育\u3000\n")
    with pytest.warns(UserWarning, match=r"a\.tsv:3: the blanks around ' 体育'") as told:
        assert [row.label for row in read_texts(path)] == ["体育"] * 3
    assert len(told) == 1
    path = put(tmp_path / "b.txt", "今天\t明天\t1 \n")
    with pytest.warns(UserWarning, match="b.txt:1"):
        assert [row.label for row in read_pairs(path)] == ["1"]
    path = put(tmp_path / "c.jsonl", '{"text": "今天", "label": 3}\n')
    assert [row.label for row in read_texts(path)] == [3]


def fault(call, *parts: str) -> InputError:
    with pytest.raises(InputError) as caught:
        list(call())
    message = str(caught.value)
    for part in parts:
        assert part in message
    assert caught.value.found and caught.value.expected and caught.value.fix
    return caught.value


@pytest.mark.parametrize("packing", ["", ".gz", ".xz"])
@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl", "json"])
def test_pairs_in_every_format(tmp_path: Path, kind: str, packing: str) -> None:
    if kind == "tsv":
        body = "texta\ttextb\n" + "".join(f"{a}\t{b}\n" for a, b in PAIRS)
    elif kind == "csv":
        quote = lambda cell: '"' + cell.replace('"', '""') + '"'  # noqa: E731
        body = "texta,textb\n" + "".join(f"{quote(a)},{quote(b)}\n" for a, b in PAIRS)
    else:
        body = "".join(json.dumps({"texta": a, "textb": b}, ensure_ascii=False) + "\n" for a, b in PAIRS)
    path = put(tmp_path / f"pairs.{kind}{packing}", body)
    assert pairs_of(path) == PAIRS
    assert [row.line for row in read_pairs(path)] == ([1, 2, 3] if kind.startswith("json") else [2, 3, 4])


def test_parquet(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "pairs.parquet"
    table = pyarrow.table(
        {"query": [a for a, _ in PAIRS], "title": [b for _, b in PAIRS], "label": [1, 0, 2]}
    )
    parquet.write_table(table, path)
    assert pairs_of(path) == PAIRS
    assert [row.label for row in read_pairs(path)] == [1, 0, 2]
    fault(lambda: read_texts(path, column="body"), "row 1", "query, title, label", "body")
    path.write_bytes(path.read_bytes()[:100])
    fault(lambda: read_pairs(path), "pairs.parquet", "damaged")


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="jinyi\\[parquet\\]"):
        list(read_texts(put(tmp_path / "x.parquet", b"PAR1")))


@pytest.mark.parametrize(
    "names",
    [
        ("texta", "textb"),
        ("sentence1", "sentence2"),
        ("query", "title"),
        ("text_a", "text_b"),
        ("TextA", "TEXTB"),
    ],
)
def test_usual_pair_columns(tmp_path: Path, names: tuple[str, str]) -> None:
    path = put(tmp_path / "p.tsv", f"id\t{names[0]}\t{names[1]}\tlabel\n7\t天气\t今天\t1\n")
    (row,) = read_pairs(path)
    assert (row.line, row.a, row.b, row.label) == (2, "天气", "今天", "1")


@pytest.mark.parametrize("name", ["text", "sentence", "content", "query", "title"])
def test_usual_text_columns(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / "t.csv", f"label,{name}\n体育,今天\n")
    (row,) = read_texts(path)
    assert (row.text, row.label) == ("今天", "体育")


def test_given_columns_and_labels(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "甲,乙,丙\n今天,天气,好\n")
    assert texts_of(path, column="乙") == ["天气"]
    assert pairs_of(path, columns=("丙", "甲")) == [("好", "今天")]
    (row,) = read_texts(path, column="甲", label_column="丙")
    assert row.label == "好"
    fault(lambda: read_texts(path, column="甲", label_column="丁"), "t.csv:2", "丁")


def test_a_column_that_is_there_twice(tmp_path: Path) -> None:
    twice = put(tmp_path / "t.csv", "id,text,Text,label\n7,今天,明天,1\n")
    fault(lambda: read_texts(twice), "t.csv:1", "column text 2 times (columns 2, 3)", "Rename")
    fault(
        lambda: read_pairs(put(tmp_path / "p.tsv", "甲\t乙\t乙\n今天\t天气\t好\n"), columns=("甲", "乙")),
        "乙 2 times",
    )
    unread = put(tmp_path / "u.csv", "号,text,号,\n7,今天,8,\n")
    assert texts_of(unread) == ["今天"], "columns that nobody reads may share a name"


def test_without_header(tmp_path: Path) -> None:
    path = put(tmp_path / "p.tsv", "今天\t天气\t1\n明天\t下雨\t0\n")
    assert [(row.line, row.a, row.b, row.label) for row in read_pairs(path)] == [
        (1, "今天", "天气", "1"),
        (2, "明天", "下雨", "0"),
    ]
    assert texts_of(path, column="2") == ["天气", "下雨"]
    assert texts_of(put(tmp_path / "t.tsv", "今天\n明天\n")) == ["今天", "明天"]
    fault(lambda: read_texts(path), "p.tsv:1", "columns 1, 2, 3", "--column")


@pytest.mark.parametrize(
    ("name", "body", "part"),
    [
        ("p.tsv", "id\tq1\tq2\tlab\n1\t今天\t天气\t1\n", "'q1', 'q2'"),
        ("p.tsv", "q1\tq2\n今天\t天气\n", "'q1', 'q2'"),
        ("p.csv", "foo,bar\n1,2\n", "'foo', 'bar'"),
        ("p.csv", ",q1,q2\n0,今天,天气\n", "'q1', 'q2'"),  # as pandas writes its index
        ("p.tsv", "问句甲\t问句乙\t标签\n今天\t天气\t1\n", "'标签'"),
        ("p.tsv", "7\t今天\t天气\n", "'7', '今天'"),  # an id or a label is no first text
        ("p.tsv", "今天\t天气\t好\t1\n", "'今天', '天气', '好', '1'"),
        ("p.txt", "7\t今天\t天气\t1\n", "4 texts"),
    ],
)
def test_tables_whose_columns_cannot_be_told(tmp_path: Path, name: str, body: str, part: str) -> None:
    fault(lambda: read_pairs(put(tmp_path / name, body)), f"{name}:1", part)


def test_a_header_of_unknown_names_is_no_text(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "msg\n今天\n")
    fault(lambda: read_texts(path), "t.csv:1", "'msg'", "--column")
    fault(lambda: read_texts(path, column="body"), "'msg'", "body")
    assert texts_of(path, column="msg") == ["今天"]
    assert texts_of(path, column="1") == ["msg", "今天"], "named by its place: there is no header"
    fault(lambda: read_texts(put(tmp_path / "c.csv", "消息\n今天\n"), column="text"), "which hold '消息'")


@pytest.mark.parametrize(
    "body", ["OK\t好\n今天\t天气\n", "hello\thi\nbye\tsee you\n", "今天\t天气\n110\t报警\n"]
)
def test_pairs_that_look_like_no_header(tmp_path: Path, body: str) -> None:
    path = put(tmp_path / "p.tsv", body)
    assert pairs_of(path) == [tuple(line.split("\t")) for line in body.splitlines()]


def test_the_label_is_the_third_of_three(tmp_path: Path) -> None:
    path = put(tmp_path / "p.tsv", "1\t今天\t好\t天气\n")
    assert [(row.a, row.label) for row in read_pairs(path, columns=("2", "4"))] == [("今天", None)]


def test_txt(tmp_path: Path) -> None:
    path = put(tmp_path / "t.txt", '\ufeff今天\u2028好\r\n"引号\n最后\x85一行\n\n \n')
    assert texts_of(path) == ["今天\u2028好", '"引号', "最后\x85一行"]
    assert pairs_of(put(tmp_path / "p.txt", "今天\t天气\n怎么[SEP]密码\n")) == [
        ("今天", "天气"),
        ("怎么", "密码"),
    ]
    fault(lambda: read_texts(put(tmp_path / "b.txt", "今天\n\n明天\n")), "b.txt:2")


def test_columns_of_lines_without_columns(tmp_path: Path) -> None:
    lines = put(tmp_path / "t.txt", "今天\t明天\n")
    fault(lambda: read_texts(lines, column="甲"), "t.txt:1", "column 甲", "without columns")
    fault(lambda: read_texts(lines, label_column="乙"), "column 乙")
    fault(lambda: read_pairs(lines, columns=("甲", "乙")), "column 甲 and 乙")
    fault(lambda: read_texts(put(tmp_path / "s.jsonl", '"今天"\n'), column="text"), "s.jsonl:1")


def test_json_forms(tmp_path: Path) -> None:
    assert texts_of(put(tmp_path / "s.jsonl", '"今天"\n{"text": "明天"}\n')) == ["今天", "明天"]
    assert (
        pairs_of(put(tmp_path / "l.jsonl", '["今天", "明天"]\n"今天[SEP]明天"\n')) == [("今天", "明天")] * 2
    )
    fault(lambda: read_pairs(put(tmp_path / "m.jsonl", '["今天"]\n')), "m.jsonl:1", "a list of 1")
    fault(lambda: read_texts(put(tmp_path / "n.jsonl", '{"text": "今天"}\n["a", "b"]\n')), "n.jsonl:2")
    fault(lambda: read_texts(put(tmp_path / "o.jsonl", "3\n")), "o.jsonl:1", "3")


def test_csv_cells_over_several_lines(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", 'text,label\n"一\n二",1\n三,2\n"四\n')
    with pytest.raises(InputError, match="t.csv:5"):
        rows = []
        for row in read_texts(path):
            rows.append((row.line, row.text))
    assert rows == [(2, "一\n二"), (4, "三")]


@pytest.mark.parametrize(("name", "body"), [("t.txt", "今天\r天气\r"), ("t.tsv", "text\tlabel\r今天\t1\r")])
def test_lines_that_end_with_a_carriage_return_alone(tmp_path: Path, name: str, body: str) -> None:
    fault(lambda: read_texts(put(tmp_path / name, body)), f"{name}:1", "carriage return")
    assert texts_of(put(tmp_path / "q.csv", 'text\n"今\r天"\n')) == ["今\r天"]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f.txt")
    reader = f"from jinyi.files import read_texts; next(read_texts({str(tmp_path / 'f.txt')!r}))"
    done = subprocess.run([sys.executable, "-c", reader], capture_output=True, text=True, timeout=60)
    assert "pipe or device" in done.stderr


def test_encodings(tmp_path: Path) -> None:
    path = put(tmp_path / "t.txt", "今天\n".encode() + "天气很好，出去走走\n".encode("gb18030"))
    fault(lambda: read_texts(path), "t.txt:2", "not utf-8", "gb18030")
    path = put(tmp_path / "g.tsv", "text\tlabel\n今天\t1\n".encode("gb18030"))
    assert texts_of(path, encoding="gb18030") == ["今天"]
    fault(lambda: read_texts(path, encoding="klingon"), "klingon")
    fault(lambda: read_texts(put(tmp_path / "u.txt", "今天".encode("utf-16"))), "u.txt:1", "UTF-16")
    for name, known in (("utf-16-le", "UTF-16LE"), ("utf-16-be", "UTF-16BE")):
        wide = put(tmp_path / "w.txt", "今天\n天气\n".encode(name))
        fault(partial(read_texts, wide), "w.txt:1", "zero bytes", f"iconv -f {known}")
    fault(lambda: read_texts(put(tmp_path / "x.txt", b"\xff\xff\xff")), "x.txt:1", "not utf-8")


@pytest.mark.parametrize(
    ("name", "body", "parts"),
    [
        ("p.jsonl", '{"texta": "今天"}\n', ("p.jsonl:1", "texta/textb")),
        ("p.jsonl", '{"texta": "今天", "textb": "好"}\n{"texta": "明天"}\n', ("p.jsonl:2", "textb")),
        ("p.jsonl", '{"texta": "今天", "textb": null}\n', ("p.jsonl:1, textb", "None")),
        ("p.jsonl", '{"texta": "今天", "textb": 3}\n', ("p.jsonl:1, textb", "3")),
        ("p.jsonl", '{"texta": "今天", "textb": " "}\n', ("p.jsonl:1, textb",)),
        ("p.jsonl", '{"texta": "今天", "textb": "\\ud83d"}\n', ("p.jsonl:1, textb",)),
        ("p.jsonl", '{"texta": "今天", "textb": "好"\n', ("p.jsonl:1", "JSON")),
        ("p.jsonl", "[" * 100_000 + "\n", ("p.jsonl:1", "JSON")),
        ("p.tsv", "texta\ttextb\n今天\t\n", ("p.tsv:2, textb",)),
        ("p.tsv", "texta\ttextb\n今天\n", ("p.tsv:2", "1 cells")),
        ("p.tsv", "texta\tbody\n今天\t好\n", ("p.tsv:2", "columns texta, body")),
        ("p.txt", "今天\n", ("p.txt:1", "SEP")),
        ("p.txt", "", ("p.txt", "empty file")),
        ("p.txt", "\n\n", ("p.txt", "empty file")),
        ("p.doc", "今天", ("p.doc", ".doc")),
    ],
)
def test_faults_name_the_line(tmp_path: Path, name: str, body: str, parts: tuple[str, ...]) -> None:
    fault(lambda: read_pairs(put(tmp_path / name, body)), *parts)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    fault(lambda: read_texts(tmp_path / "no.txt"), "no.txt", "no such file")
    (tmp_path / "d.txt").mkdir()
    fault(lambda: read_texts(tmp_path / "d.txt"), "folder")
    fault(lambda: read_texts("a\0.txt"), "null")
    for stream in ("-", "/dev/stdin", "/dev/fd/63"):
        fault(partial(read_texts, stream), "standard input", "Save it as a file")
    whole = gzip.compress("今天\n".encode() * 1000)
    (tmp_path / "t.txt.gz").write_bytes(whole[:-12])
    fault(lambda: read_texts(tmp_path / "t.txt.gz"), "t.txt.gz", "damaged")
    (tmp_path / "u.txt.gz").write_bytes(b"plain text")
    fault(lambda: read_texts(tmp_path / "u.txt.gz"), "damaged")
    (tmp_path / "t.txt.xz").write_bytes(lzma.compress(b"x\n" * 1000)[:-20])
    fault(lambda: read_texts(tmp_path / "t.txt.xz"), "damaged")


readable = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Co", "Mn"]), min_size=1).map(
    lambda text: "字" + text
)


@given(
    st.lists(st.tuples(readable, st.floats(0, 1)), min_size=1),
    st.sampled_from(["jsonl", "csv", "jsonl.gz", "csv.xz"]),
)
def test_written_rows_read_back(tmp_path_factory: pytest.TempPathFactory, rows, kind: str) -> None:
    path = tmp_path_factory.mktemp("rows") / f"out.{kind}"
    write_rows(path, [{"text": text, "score": value} for text, value in rows], ["text", "score"])
    back = list(read_texts(path))
    assert [row.text for row in back] == [text for text, _ in rows]
    assert [float(row.label) for row in back] == [value for _, value in rows]


def test_tsv_values_stay_on_their_line(tmp_path: Path) -> None:
    write_rows(tmp_path / "o.tsv", [{"text": "一\t二\n三", "n": 1}], ["text", "n"])
    assert (tmp_path / "o.tsv").read_text(encoding="utf-8") == "text\tn\n一 二 三\t1\n"
    with pytest.raises(InputError, match="txt"):
        RowEncoder("o.txt", ["text"])


def test_atomic_file(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as stream:
        stream.write(b"half")
        _ = 1 / 0
    assert path.read_bytes() == b"old"
    with atomic_file(path) as stream:
        stream.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["out.bin"]
    with pytest.raises(InputError, match="Create the folder"), atomic_file(tmp_path / "no" / "x"):
        pass


def test_npy_header(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    (tmp_path / "v.npy").write_bytes(npy_header(3, 4) + values.tobytes())
    assert np.array_equal(np.load(tmp_path / "v.npy"), values)


def test_bulk_output_goes_on(tmp_path: Path) -> None:
    path, key = tmp_path / "out.txt", {"input": "abc", "settings": (1, None)}
    with BulkOutput(path, key=key, header=b"H") as out:
        assert out.rows == 0
        out.append(b"one", 1)
    assert not path.exists()
    with (tmp_path / "out.txt.part").open("ab") as stream:
        stream.write(b"torn")  # a crash in the middle of a block
    with BulkOutput(path, key=key, header=b"H") as out:
        assert out.rows == 1
        out.append(b"two", 2)
        assert out.rows == 3
        out.finish()
    assert path.read_bytes() == b"Honetwo"
    assert os.listdir(tmp_path) == ["out.txt"]


def test_bulk_output_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    for key in ({"input": "a"}, {"input": "b"}):
        with BulkOutput(path, key=key) as out:
            assert out.rows == 0
            out.append(b"xxx", 1)
    (tmp_path / "out.txt.part").write_bytes(b"x")  # shorter than the journal says
    with BulkOutput(path, key={"input": "b"}) as out:
        assert out.rows == 0
        out.append(b"yy", 1)
    (tmp_path / "out.txt.part.json").unlink()
    with BulkOutput(path, key={"input": "b"}) as out:
        assert out.rows == 0
        out.discard()
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="file locks are of POSIX")
def test_one_writer_per_output(tmp_path: Path) -> None:
    with BulkOutput(tmp_path / "o", key={}), pytest.raises(InputError, match="another process"):
        BulkOutput(tmp_path / "o", key={})
    fault(lambda: BulkOutput(tmp_path, key={}), "folder")
    for left in ("o.part", "o.part.json"):
        (tmp_path / left).unlink()
    fault(lambda: BulkOutput(tmp_path / ("n" * 250), key={}), "too long")
    assert os.listdir(tmp_path) == []


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


_WRITER = """
import sys, time
from jinyi.files import BulkOutput
with BulkOutput(sys.argv[1], key={"k": 1}, header=b"head\\n") as out:
    while out.rows < 150:
        out.append(b"%06d\\n" % out.rows * 50, 1)
    out.finish()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_killed_writer_loses_and_doubles_nothing(tmp_path: Path) -> None:
    expected = b"head\n" + b"".join(b"%06d\n" % row * 50 for row in range(150))
    path, part = tmp_path / "out", tmp_path / "out.part"
    size, kills = 0, 0
    while not path.exists():
        process = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)])
        while process.poll() is None:  # killed when it has written some more, wherever it then is
            if size_of(part) > size + 5000:
                process.send_signal(signal.SIGKILL)
                kills += 1
                process.wait()
        size = size_of(part)
    assert path.read_bytes() == expected
    assert os.listdir(tmp_path) == ["out"]
    assert kills > 3


def test_cut_texts_are_counted_across_a_restart(tmp_path: Path) -> None:
    with BulkOutput(tmp_path / "o", key={}) as out:
        out.append(b"a", 1, 1)
    with BulkOutput(tmp_path / "o", key={}) as out:
        out.append(b"b", 2, 1)
        out.finish()
    assert (out.rows, out.cut) == (3, 2)


def test_a_json_number_of_thousands_of_digits(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a", "id": ' + "1" * 5000 + "}\n", encoding="utf-8")
    fault(lambda: list(read_texts(path)), "t.jsonl:1")


@pytest.mark.parametrize("encoding", ["utf-16", "UTF-16LE", "utf_32"])
def test_encodings_whose_lines_do_not_end_with_one_byte(tmp_path: Path, encoding: str) -> None:
    path = put(tmp_path / "a.txt", "今天\n明天\n".encode(encoding))
    fault(
        lambda: read_texts(path, encoding=encoding), "a.txt", encoding, "iconv -f", "leave the encoding out"
    )
