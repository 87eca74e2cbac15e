"""Several processes with shares of a batch have the loss and the gradients of one process with all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from forked import succeed  # noqa: E402
from gather_process import gradients  # noqa: E402
from jinyi.train.distributed import gather_rows  # noqa: E402

SIZES = [(5, 5), (7, 3), (10, 0), (0, 10)]


def batch(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    rows = {name: torch.randn(10, 6, generator=draw).to(dtype) for name in ("a", "b", "n")}
    keys = {name: torch.randint(0, 12, (10,), generator=draw) for name in ("keys_a", "keys_b", "keys_n")}
    return {**rows, **keys, "labels": torch.randint(0, 3, (10,), generator=draw)}


def run(world: int, cases: list[tuple[tuple[int, ...], dict[str, torch.Tensor]]], folder: Path) -> None:
    torch.save(cases, folder / "batch.pt")
    succeed("gather_process.py", [(rank, world, folder) for rank in range(world)])


def test_processes_equal_one(tmp_path: Path) -> None:
    cases = [(sizes, batch(torch.float64)) for sizes in SIZES]
    cases.append(((4, 6), batch(torch.float32)))
    run(2, cases, tmp_path)
    for rank in range(2):
        for (sizes, rows), ours in zip(cases, torch.load(tmp_path / f"{rank}.pt"), strict=True):
            limit = 1e-12 if rows["a"].dtype == torch.float64 else 1e-5
            for name, (loss, grads) in gradients(rows).items():
                assert ours[name][0] == pytest.approx(loss, abs=limit), (name, sizes)
                assert any(grad.abs().max() > 1e-3 for grad in grads), name
                torch.testing.assert_close(ours[name][1], grads, rtol=limit, atol=limit)


@pytest.mark.slow
def test_three_processes(tmp_path: Path) -> None:
    cases = [((3, 0, 7), batch(torch.float64))]
    run(3, cases, tmp_path)
    expected = gradients(cases[0][1])
    for rank in range(3):
        (ours,) = torch.load(tmp_path / f"{rank}.pt")
        for name, (loss, grads) in expected.items():
            assert ours[name][0] == pytest.approx(loss, abs=1e-12)
            torch.testing.assert_close(ours[name][1], grads, rtol=1e-12, atol=1e-12)


def test_one_process_has_its_own_rows() -> None:
    rows = torch.ones(3, 2)
    gathered, offset = gather_rows(rows)
    assert gathered is rows and offset == 0
