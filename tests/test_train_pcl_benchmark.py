"""benchmarks/pcl.py trains with each loss and prints its table; which loss is best is not asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("accelerate")

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_table(small_folders: Path, tmp_path: Path) -> None:
    rows = [
        {"texta": "怎么改密码", "textb": title, "label": label}
        for title, label in (("如何修改登录密码", "2"), ("密码是什么", "1"), ("今天心情不好", "0"))
    ]
    (tmp_path / "qbqtc").mkdir()
    for split in ("train", "dev"):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in 4 * rows)
        (tmp_path / "qbqtc" / f"{split}.jsonl").write_text(text, encoding="utf-8")
    file = tmp_path / "result.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "pcl.py"), str(tmp_path)]
    command += ["--model", str(small_folders / "pair"), "--losses", "cross_entropy,pcl,pcl_compat,smoothing"]
    command += ["--seeds", "2", "--epochs", "1", "--batch", "4", "--max-length", "24", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "| PCL (ours) |" in done.stdout and " to " in done.stdout
    runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
    assert all(one["steps"] == 3 and 0 <= one["macro_f1"] <= 100 for name in runs for one in runs[name])
    # The published loss trains as label smoothing does, to the last bit; ours does not train as cross-entropy.
    for score in ("macro_f1", "accuracy"):
        assert [one[score] for one in runs["pcl_compat"]] == [one[score] for one in runs["smoothing"]]
    assert [one["loss"] for one in runs["pcl"]] != [one["loss"] for one in runs["cross_entropy"]]
