"""The speed benchmarks start, compare what is computed and print their tables; no timing is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"


def run(script: str, *arguments: str | Path) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_inference_prints_tables_of_what_is_installed(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    systems = "jinyi,jinyi-int8,st"
    options = ("--quick", "--rounds", "1", "--models", "tiny", "--only", systems, "--json", file)
    printed = run("inference.py", *options)
    result = json.loads(file.read_text(encoding="utf-8"))
    assert {"processor", "features", "cores"} <= set(result["machine"])
    assert result["limits"]["float32"]["gflops"] > 0
    for name in systems.split(","):
        assert result["systems"][name]["status"] == "measured"
        assert result["systems"][name]["label"] in printed
    ours = result["sections"][0]["systems"]["jinyi"]
    assert set(ours["many"]) == {"short", "128", "512"}
    assert all(row["rate"] > 0 for rows in ours["many"].values() for row in rows)
    assert ours["agreement"] >= 0.9999
    assert {"one", "busy", "start_up", "resident_mb"} <= set(ours)
    assert "times as fast" in printed


@pytest.mark.slow
def test_a_missing_peer_is_told_and_not_measured(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    options = ("--quick", "--rounds", "1", "--models", "pairs", "--only", "jinyi,jinyi-both,st-openvino")
    printed = run("inference.py", *options, "--peers", tmp_path / "none", "--json", file)
    assert "sentence-transformers, openvino: missing" in printed
    assert "benchmarks/peers.txt" in printed
    measured = json.loads(file.read_text(encoding="utf-8"))["sections"][0]["systems"]
    assert set(measured) == {"jinyi", "jinyi-both"}


@pytest.mark.slow
@pytest.mark.parametrize("way", [[], ["--cli"]], ids=["encode_stream", "cli"])
def test_memory_prints_the_course(way: list[str], tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    printed = run("memory.py", "--lines", "300", "--json", file, *way)
    assert "| vectors written | seconds | resident, MB |" in printed
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["lines"] == 300
    assert result["warm_mb"] > 10


@pytest.mark.slow
def test_large_measures_each_precision_of_one_model(tmp_path: Path) -> None:
    file, kept = tmp_path / "result.json", tmp_path / "model"
    small = ("--layers", "2", "--width", "32", "--heads", "4", "--seconds", "0.05")
    precisions = "float32,int8-weights,int8-dynamic"
    printed = run("large.py", *small, "--write", kept, "--precisions", precisions, "--json", file)
    measured = json.loads(file.read_text(encoding="utf-8"))["results"]
    assert [result["precision"] for result in measured] == precisions.split(",")
    for result in measured:
        assert f"| {result['precision']} |" in printed
        assert set(result["pairs_per_second"]) == {"16", "64", "128"}
        assert 0 < result["own_gib"] <= result["peak_gib"] < 4
    assert measured[0]["probability_difference"] == 0 < measured[1]["probability_difference"] < 0.05
    assert len(list(kept.glob("*.safetensors"))) == 3  # one a layer and one of the rest
