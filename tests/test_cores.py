from __future__ import annotations

import os
from pathlib import Path

import pytest

from jinyi.runtime.cores import available_cores, cgroup_quota, has_int8_dot, processor_flags

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNT = "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)


def test_without_limits_the_affinity_counts(tmp_path: Path) -> None:
    cores = available_cores(tmp_path)
    assert (cores.count, cores.why) == (8, "8 cores by affinity")


def test_hyper_threads_of_one_core_count_once(tmp_path: Path) -> None:
    name = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    tree(tmp_path, {name.format(core): f"{core % 4},{core % 4 + 4}\n" for core in range(8)})
    cores = available_cores(tmp_path)
    assert (cores.count, cores.why) == (4, "8 cores by affinity, 4 of them physical")


@pytest.mark.parametrize(("limit", "count"), [("250000 100000", 2), ("50000 100000", 1), ("max 100000", 8)])
def test_quota_of_version_2_of_the_group_or_one_above(tmp_path: Path, limit: str, count: int) -> None:
    tree(
        tmp_path,
        {
            "proc/self/mountinfo": V2_MOUNT,
            "proc/self/cgroup": "0::/app/worker\n",
            "sys/fs/cgroup/app/cpu.max": limit,
            "sys/fs/cgroup/app/worker/cpu.max": "max 100000",
        },
    )
    assert available_cores(tmp_path).count == count


@pytest.mark.parametrize("top", ["/", "/docker/abc"])
def test_quota_of_version_1_also_inside_a_container(tmp_path: Path, top: str) -> None:
    folder = "sys/fs/cgroup/cpu,cpuacct" + ("/docker/abc" if top == "/" else "")
    tree(
        tmp_path,
        {
            "proc/self/mountinfo": V1_MOUNT.format(top=top),
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n",
            f"{folder}/cpu.cfs_quota_us": "300000\n",
            f"{folder}/cpu.cfs_period_us": "100000\n",
        },
    )
    assert cgroup_quota(tmp_path) == 3.0
    assert available_cores(tmp_path).why == "8 cores by affinity, cgroup quota 3"


def test_unlimited_version_1_is_no_quota(tmp_path: Path) -> None:
    folder = "sys/fs/cgroup/cpu,cpuacct"
    tree(
        tmp_path,
        {
            "proc/self/mountinfo": V1_MOUNT.format(top="/"),
            "proc/self/cgroup": "1:cpu,cpuacct:/\n",
            f"{folder}/cpu.cfs_quota_us": "-1\n",
            f"{folder}/cpu.cfs_period_us": "100000\n",
        },
    )
    assert cgroup_quota(tmp_path) is None


def test_processor_flags(tmp_path: Path) -> None:
    assert processor_flags(tmp_path) == frozenset()
    assert not has_int8_dot(tmp_path)
    tree(tmp_path, {"proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni\n"})
    assert "avx2" in processor_flags(tmp_path)
    assert has_int8_dot(tmp_path)


def test_this_machine_has_a_core() -> None:
    assert available_cores().count >= 1
