"""A board's reader of submissions, written without jinyi: what it accepts is what a submission must be.

The rules are those of CLUE's and FewCLUE's submission pages; names and labels are written out here a second time.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

NLI = {"entailment", "neutral", "contradiction"}
NEWS = {str(number) for number in range(100, 117)} - {"105", "111"}
APPS = {str(number) for number in range(119)}
BINARY = {"0", "1"}
TRUTH = {"true", "false"}

# name in a submission -> labels; None: any non-empty text (CSLDCP's 67 names), an int set: "answer" of ChID
BOARDS: dict[str, dict[str, Any]] = {
    "1.0": {
        "afqmc_predict.json": BINARY,
        "tnews10_predict.json": NEWS,
        "iflytek_predict.json": APPS,
        "cmnli_predict.json": NLI,
        "ocnli_50k_predict.json": NLI,
        "cluewsc10_predict.json": TRUTH,
        "csl_predict.json": BINARY,
    },
    "1.1": {
        "afqmc_predict.json": BINARY,
        "tnews11_predict.json": NEWS,
        "iflytek_predict.json": APPS,
        "cmnli_predict.json": NLI,
        "ocnli_50k_predict.json": NLI,
        "cluewsc11_predict.json": TRUTH,
        "csl_predict.json": BINARY,
    },
    "few": {
        "eprstmt_predict.json": {"Positive", "Negative"},
        "csldcp_predict.json": None,
        "tnewsf_predict.json": NEWS,
        "iflytekf_predict.json": APPS,
        "ocnlif_predict.json": NLI,
        "bustm_predict.json": BINARY,
        "chidf_predict.json": set(range(7)),
        "cslf_predict.json": BINARY,
        "cluewscf_predict.json": TRUTH,
    },
    "qbqtc": {"qbqtc_predict.json": {"0", "1", "2"}},
}


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), "a key twice"
    return dict(pairs)


def read_member(raw: bytes, labels: Any, ids: list[Any]) -> list[Any]:
    """Labels of one file in the order of the test file's ids; AssertionError or ValueError otherwise."""
    assert not raw.startswith(b"\xef\xbb\xbf"), "byte order mark"
    lines = raw.decode("utf-8").split("\n")
    if lines[-1] == "":
        lines = lines[:-1]
    answers = []
    assert len(lines) == len(ids), "number of rows"
    for line, right in zip(lines, ids, strict=True):
        row = json.loads(line, object_pairs_hook=unique)
        assert isinstance(row, dict)
        key = "answer" if labels == set(range(7)) else "label"
        assert set(row) - {"label_desc", "label_des"} == {"id", key}
        assert type(row["id"]) is type(right) and row["id"] == right, "id"
        answer = row[key]
        assert type(answer) is (int if key == "answer" else str)
        assert (labels is None and answer.strip()) or (labels is not None and answer in labels), "label"
        answers.append(answer)
    return answers


def read_zip(
    raw: bytes, board: str, ids: dict[str, list[Any]], folds: tuple[str, ...] = ()
) -> dict[str, list]:
    """All answers of a zip by member. `ids`: of the test file, by the member's name without a fold."""
    answers = {}
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        names = archive.namelist()
        assert len(set(names)) == len(names), "a name twice"
        wanted = {
            name.replace(".json", f"_{fold}.json") if fold else name: name
            for name in ids
            for fold in folds or ("",)
        }
        assert set(names) == set(wanted), "names"
        for name in names:
            single = wanted[name]
            answers[name] = read_member(archive.read(name), BOARDS[board][single], ids[single])
    return answers
