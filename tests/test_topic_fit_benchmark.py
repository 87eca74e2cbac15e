"""benchmarks/topic_fit.py fits on draws of a set and prints its table; which options are best is not asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_table(small_folders: Path, tmp_path: Path) -> None:
    texts = {
        "0": ["怎么改密码", "如何修改登录密码", "密码忘了"],
        "1": ["今天天气很好", "明天下雨吗", "外面冷吗"],
    }
    rows = [{"text": text, "label": label} for label, some in texts.items() for text in some]
    for split in ("train", "dev"):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (tmp_path / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    file = tmp_path / "result.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "topic_fit.py"), str(tmp_path), "--each", "2,all"]
    command += ["--model", str(small_folders / "topic"), "--fit", "", "--fit", "C=1 features=ngrams"]
    done = subprocess.run(
        [*command, "--draws", "2", "--json", str(file)],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "| C=1 features=ngrams |" in done.stdout and " ± " in done.stdout
    runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
    assert [(one["each"], one["texts"]) for one in runs] == [(2, 4)] * 4 + [(None, 6)] * 2
    assert all(0 <= one["accuracy"] <= 100 and one["loss"] > 0 for one in runs)
    assert {one["C"] for one in runs if one["fit"]} == {1.0}
    assert {one["C"] for one in runs if not one["fit"]} <= {0.1, 0.3, 1.0, 3.0}
