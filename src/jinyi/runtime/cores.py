"""Which processor this process may really use: cores by affinity and cgroup quota, and instruction sets.

Containers often see every core of the host while a quota lets them use two; threads beyond the quota are
throttled in the middle of a matrix product, so that every core waits.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")


@dataclass(frozen=True)
class Cores:
    """Cores this process may use.

    Args:
        count: how many threads of heavy arithmetic make sense, at least 1.
        why: one readable line: what limited the count.
    """

    count: int
    why: str


def available_cores(root: Path = _ROOT) -> Cores:
    """Count the cores this process may use, the least of three limits.

    The limits are the cores of its affinity, of these only one per physical core (two hyper-threads share the
    units that multiply), and the cgroup quota (version 1 or 2, of its own group or one above), rounded down.

    Args:
        root: where /proc and /sys are found.
    """
    allowed = _affinity()
    physical = len({_siblings(root, core) for core in allowed})
    count, why = physical, f"{len(allowed)} cores by affinity"
    if physical < len(allowed):
        why += f", {physical} of them physical"
    quota = cgroup_quota(root)
    if quota is not None:
        why += f", cgroup quota {quota:g}"
        count = min(count, int(quota))
    return Cores(max(count, 1), why)


def cgroup_quota(root: Path = _ROOT) -> float | None:
    """Return how many cores the cgroup may use on average, or None without a limit."""
    quotas = []
    mounts = _cgroup_mounts(root)
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        kind = "v2" if not controllers else "v1" if "cpu" in controllers.split(",") else ""
        if kind not in mounts:
            continue
        mount, top = mounts[kind]
        # In a container the mount shows the group itself as its top; the path may count from the host's.
        below = path[len(top) :] if top != "/" and path.startswith(top) else path
        parts = [part for part in below.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            quotas.append(_quota_of(mount.joinpath(*parts[:depth])))
    found = [quota for quota in quotas if quota is not None]
    return min(found) if found else None


def processor_flags(root: Path = _ROOT) -> frozenset[str]:
    """Return the instruction sets the kernel reports (avx2, avx512_vnni, ...); empty if unknown."""
    for line in _read(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def has_int8_dot(root: Path = _ROOT) -> bool:
    """Tell whether the processor sums 8-bit products exactly; without that weights need a spare bit."""
    return not processor_flags(root).isdisjoint({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})


def _affinity() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _siblings(root: Path, core: int) -> str:
    text = _read(root / f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").strip()
    return text or str(core)


def _cgroup_mounts(root: Path) -> dict[str, tuple[Path, str]]:
    """Return {"v1" | "v2": (mount point, path of the group seen at its top)} of the processor controller."""
    mounts = {}
    for line in _read(root / "proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, kinds = left.split(), right.split()
        if len(fields) < 5 or not kinds:
            continue
        point = root / fields[4].lstrip("/")
        if kinds[0] == "cgroup2":
            mounts["v2"] = point, fields[3]
        elif kinds[0] == "cgroup" and "cpu" in kinds[-1].split(","):
            mounts["v1"] = point, fields[3]
    return mounts


def _quota_of(group: Path) -> float | None:
    limit = _read(group / "cpu.max").split()
    if not limit:
        limit = [_read(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    if len(limit) == 2 and limit[0].isdigit() and limit[1].isdigit() and int(limit[1]) > 0:
        return int(limit[0]) / int(limit[1])
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # other systems, and hidden files in containers: no limit known
