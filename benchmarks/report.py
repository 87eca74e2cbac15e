"""Markdown of a run, made from the data that --json writes: what all have at their head; the tables of inference.py."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np

LEFT_OUT = "left out by --only"
QUIET = 0.1  # share of the cores that others may take before the tables say so at their head
SPREAD = 0.15  # rounds that differ by more than this share of their median are marked


def median(rows: list[dict[str, float]], key: str = "rate") -> float:
    return statistics.median(row[key] for row in rows)


def rate_cell(rows: list[dict[str, float]]) -> str:
    """Median inputs per second, marked ~ where the rounds disagree; empty where the run was interrupted before."""
    if not rows:
        return ""
    values = [row["rate"] for row in rows]
    middle = statistics.median(values)
    mark = "~" if max(values) - min(values) > 2 * SPREAD * middle else ""
    return mark + number(middle)


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def mean_cell(values: list[float], places: int = 2) -> str:
    """Mean and, of several values, their standard deviation."""
    spread = f" ± {statistics.stdev(values):.{places}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{places}f}{spread}"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def head(result: dict[str, Any], where: str) -> str:
    """What a run was made on and with; `where` says which part of the machine."""
    machine, settings = result["machine"], result["settings"]
    return (
        f"{machine['processor']}, {where}, {', '.join(machine['features'])}; {machine['memory_gb']} GB; "
        f"{machine['system']}, Python {machine['python']}. Texts: {settings['texts']}. {settings['rounds']} rounds"
        f"{', --quick: too small for a verdict' if settings['quick'] else ''}. "
        f"~ marks rounds that differ by more than {SPREAD:.0%} either way."
    )


def limits_line(result: dict[str, Any]) -> str:
    """The largest matrix products, against which shares are counted."""
    limits = [
        f"{value['gflops']:,.0f} GFLOP/s {precision} ({value['library']})"
        for precision, value in result["limits"].items()
    ]
    return f"Largest matrix products measured in this run: {', '.join(limits)}."


def disturbance(loads: list[float]) -> str:
    """A warning where other processes had much of the cores in the median measurement; empty otherwise."""
    if not loads or statistics.median(loads) <= QUIET:
        return ""
    return (
        f"**Not a quiet run**: other processes took {statistics.median(loads):.0%} of the cores. Ratios are rough, "
        "speeds and shares of the limit mean nothing."
    )


def report(result: dict[str, Any]) -> str:
    """Return the Markdown tables of a result (the content of --json)."""
    machine = result["machine"]
    parts = [
        head(result, f"{machine['cores']} cores ({machine['why_cores']})"),
        limits_line(result),
        disturbance(_others(result)),
        _absent(result),
    ]
    for section in result["sections"]:
        parts += [f"## {_title(section)}", _speed_table(result, section)]
        parts += [_ratio_table(result, section), _latency_table(result, section), _remarks(result, section)]
    parts += ["## Start-up, memory, size", _resource_table(result), _notes(result)]
    return "\n\n".join(part for part in parts if part)


def _title(section: dict[str, Any]) -> str:
    return f"{section['model']}: {section['layers']} layers, {section['width']} wide"


def _absent(result: dict[str, Any]) -> str:
    """What is missing from the tables, and why."""
    lines = [
        f"- {system['label']}: {system['status']}"
        for system in result["systems"].values()
        if system["status"] not in ("measured", LEFT_OUT)
    ]
    return "\n".join(["Not in the tables:", "", *lines]) if lines else ""


def _remarks(result: dict[str, Any], section: dict[str, Any]) -> str:
    """What failed with this model, and the loss of 8 bits as its folder has it."""
    lines = [f"- {result['systems'][name]['label']}: {why}" for name, why in section["failed"].items()]
    if section["int8"]:
        facts = ", ".join(f"{key} {value}" for key, value in section["int8"].items() if key != "data")
        lines.append(f"- 8 bits, measured when the model was made: {facts}")
    return "\n".join(lines)


def _measured(
    result: dict[str, Any], section: dict[str, Any], key: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Systems of a section that have this measurement: name in result["systems"], values."""
    for name in result["systems"]:
        values = section["systems"].get(name, {})
        if key in values:
            yield name, values


def _speed_table(result: dict[str, Any], section: dict[str, Any]) -> str:
    workloads = section["workloads"]
    embed = section["task"] == "embed"
    header = ["per second", "least cosine" if embed else "largest difference"]
    header += [
        f"{name} ({load['inputs']} x {load['mean_tokens']:.1f} tokens)" for name, load in workloads.items()
    ]
    header += ["share of limit", "with a busy core"]
    rows = []
    for name, values in _measured(result, section, "many"):
        system = result["systems"][name]
        limit = result["limits"].get(system["precision"])
        cells = [system["label"], f"{values['agreement']:.7f}" if embed else f"{values['agreement']:.1e}"]
        cells += [rate_cell(values["many"].get(workload, [])) for workload in workloads]
        shares = [
            f"{median(values['many'][workload]) * load['gflop'] / limit['gflops']:.0%}"
            for workload, load in workloads.items()
            if limit and workload in values["many"]
        ]
        kept = ""
        if values.get("busy"):  # empty where the run was stopped meanwhile
            kept = f"{median(values['busy']) / median(values['many'][next(iter(workloads))]):.0%}"
        rows.append([*cells, ", ".join(shares), kept])
    return table(header, rows)


def _ratio_table(result: dict[str, Any], section: dict[str, Any]) -> str:
    """How many times as fast jinyi is as each of the others."""
    measured = dict(_measured(result, section, "many"))
    mine = [name for name in measured if result["systems"][name]["ours"]]
    others = [name for name in measured if name not in mine]
    if not mine or not others:
        return ""
    workloads = list(section["workloads"])
    header = [f"times as fast ({', '.join(workloads)})", *(result["systems"][name]["label"] for name in mine)]
    rows = []
    for other in others:
        cells = []
        for name in mine:
            ratios = [
                median(measured[name]["many"][load]) / median(measured[other]["many"][load])
                for load in workloads
                if load in measured[name]["many"] and load in measured[other]["many"]
            ]
            cells.append(", ".join(f"{ratio:.2f}" for ratio in ratios))
        rows.append([f"as {result['systems'][other]['label']}", *cells])
    return table(header, rows)


def _latency_table(result: dict[str, Any], section: dict[str, Any]) -> str:
    measured = dict(_measured(result, section, "one"))
    if not measured:
        return ""
    workloads = list(next(iter(measured.values()))["one"])
    header = ["one at a time, ms"]
    for name in workloads:
        header += [f"{name} p50", f"{name} p99"]
    rows = []
    for name, values in measured.items():
        cells = [result["systems"][name]["label"]]
        for load in workloads:
            seconds = values["one"].get(load)
            cells += [f"{1e3 * np.percentile(seconds, place):.2f}" if seconds else "" for place in (50, 99)]
        rows.append(cells)
    return table(header, rows)


def _resource_table(result: dict[str, Any]) -> str:
    header = ["", "start to first vector, s", "resident then, MB"]
    header += [f"resident after {section['name']}, MB" for section in result["sections"]]
    header += ["installed, MB", "versions"]
    rows = []
    for name, system in result["systems"].items():
        if not any(name in section["systems"] for section in result["sections"]):
            continue
        cells = [system["label"]]
        starts = [
            start
            for section in result["sections"]
            for start in section["systems"].get(name, {}).get("start_up", [])
        ]
        cells += (
            [f"{median(starts, 'total'):.2f}", f"{median(starts, 'resident_mb'):,.0f}"]
            if starts
            else ["", ""]
        )
        for section in result["sections"]:
            resident = section["systems"].get(name, {}).get("resident_mb")
            cells.append("" if resident is None else f"{resident:,.0f}")
        versions = ", ".join(f"{key} {value}" for key, value in system["versions"].items())
        rows.append([*cells, f"{system['installed_mb']:,.0f}", versions])
    return table(header, rows)


def _others(result: dict[str, Any]) -> list[float]:
    """Share of the cores that other processes had, for each measurement of throughput."""
    return [
        row["others"]
        for section in result["sections"]
        for values in section["systems"].values()
        for rows in values.get("many", {}).values()
        for row in rows
    ]


def _notes(result: dict[str, Any]) -> str:
    loads = _others(result)
    if not loads:
        return ""
    settings = result["settings"]
    return (
        f"Other processes took {statistics.median(loads):.0%} of the cores in the median run of the throughput "
        f"rounds, {max(loads):.0%} in the worst. All vectors and probabilities were compared with those of "
        f"{result['systems'][settings['reference']]['label']} before timing; a float32 system with a cosine below "
        f"{settings['least_cosine']} or a difference above {settings['most_difference']:g} would not be timed. "
        "Shares of the limit count the matrix products of the whole encoder, without padding; the limit is that "
        "of the same precision."
    )
