"""The Markdown tables of benchmarks/server.py, made from the same data that --json writes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

from report import LEFT_OUT, QUIET, number, table

Row = dict[str, Any]
REJECTED_MS = 10.0  # a refusal should be told by then


def report(result: dict[str, Any]) -> str:
    """Return the Markdown tables of a result (the content of --json)."""
    machine, settings = result["machine"], result["settings"]
    parts = [
        f"{machine['processor']}, {machine['cores']} cores ({machine['why_cores']}), "
        f"{', '.join(machine['features'])}; {machine['memory_gb']} GB; {machine['system']}, "
        f"Python {machine['python']}. Model: {settings['model']}; texts: {settings['texts']}. "
        f"{settings['rounds']} rounds of {settings['seconds']:g} s a load, medians"
        f"{', --quick: too short for a verdict' if settings['quick'] else ''}. The load comes from one more process "
        "on the same cores.",
        _disturbance(result),
        _absent(result),
        _load_table(result),
        _ratio_table(result),
        _queue_table(result),
        _overload_table(result),
        _fair_table(result),
        _start_table(result),
    ]
    return "\n\n".join(part for part in parts if part)


def _measured(result: dict[str, Any], section: str) -> Iterator[tuple[dict[str, Any], list[Row]]]:
    for system in result["systems"].values():
        rows = system.get("rounds", {}).get(section)
        if rows:
            yield system, rows


def _middle(rows: list[Row], value: Callable[[Row], float]) -> float:
    return statistics.median(map(value, rows))


def _absent(result: dict[str, Any]) -> str:
    """What is missing from the tables, and why."""
    lines = [
        f"- {system['label']}: {system['status']}"
        for system in result["systems"].values()
        if system["status"] not in ("measured", LEFT_OUT)
    ]
    lines += [f"- {name}: {why}" for name, why in result["sections"][0]["failed"].items()]
    return "\n".join(["Not in the tables:", "", *lines]) if lines else ""


def _disturbance(result: dict[str, Any]) -> str:
    others = [
        row[name]["cores"]["others"]
        for _, rows in _measured(result, "load")
        for row in rows
        for name in ("one", "many")
    ]
    if not others or statistics.median(others) <= QUIET * result["machine"]["cores"]:
        return ""
    return (
        f"**Not a quiet run**: other processes took {statistics.median(others):.2f} cores at the median. Ratios are "
        "rough, and no speed is that of this machine."
    )


def _load_table(result: dict[str, Any]) -> str:
    settings = result["settings"]
    many, clients = settings["many"], settings["clients"]
    header = [
        "",
        "one text, idle: p50, ms",
        "p99, ms",
        f"requests/s of one text ({clients} clients)",
        "their p50, ms",
        f"texts/s in requests of {many} ({max(2, clients // 4)} clients)",
        f"requests/s with p99 <= {settings['limit_ms']:.0f} ms",
        "cores: server, load",
        "least cosine",
    ]
    rows = []
    for system, found in _measured(result, "load"):
        cores = [_middle(found, lambda row, key=key: row["one"]["cores"][key]) for key in ("server", "load")]
        rows.append(
            [
                system["label"],
                f"{_middle(found, lambda row: row['idle']['ms']['200']['p50']):.2f}",
                f"{_middle(found, lambda row: row['idle']['ms']['200']['p99']):.2f}",
                number(_middle(found, lambda row: row["one"]["per_second"])),
                f"{_middle(found, lambda row: row['one']['ms']['200']['p50']):.1f}",
                number(many * _middle(found, lambda row: row["many"]["per_second"])),
                number(_middle(found, lambda row: row["rate"])),
                ", ".join(f"{value:.2f}" for value in cores),
                f"{system['least_cosine']:.7f}",
            ]
        )
    return "## Load\n\n" + table(header, rows) if rows else ""


def _ratio_table(result: dict[str, Any]) -> str:
    """How many times as fast jinyi is as each of the others."""
    measured = list(_measured(result, "load"))
    mine = [pair for pair in measured if pair[0]["ours"]]
    others = [pair for pair in measured if not pair[0]["ours"]]
    if not mine or not others:
        return ""
    values: list[Callable[[Row], float]] = [
        lambda row: float(row["one"]["per_second"]),
        lambda row: float(row["many"]["per_second"]),
        lambda row: float(row["rate"]),
        lambda row: 1 / float(row["idle"]["ms"]["200"]["p50"]),
    ]
    header = [
        "times as fast (one, many, within the limit, idle p50)",
        *(system["label"] for system, _ in mine),
    ]
    rows = []
    for system, theirs in others:
        cells = []
        for _, ours in mine:
            pairs = [(_middle(ours, value), _middle(theirs, value)) for value in values]
            cells.append(", ".join(f"{own / other:.2f}" if other else "-" for own, other in pairs))
        rows.append([f"as {system['label']}", *cells])
    return table(header, rows)


def _queue_table(result: dict[str, Any]) -> str:
    header = [
        "",
        "texts/s, encode",
        "through the queue",
        "more time",
        "one text: encode p50, ms",
        "through the queue",
    ]
    rows = []
    for name, found in result["queue"].items():
        direct, queued = (statistics.median(found["many"][key]) for key in ("direct", "queued"))
        one = [statistics.median(found["one"][key]) for key in ("direct", "queued")]
        rows.append(
            [
                result["systems"][name]["label"],
                number(found["texts"] / direct),
                number(found["texts"] / queued),
                f"{queued / direct - 1:+.1%}",
                *(f"{1e3 * seconds:.2f}" for seconds in one),
            ]
        )
    return "## The queue, without HTTP\n\n" + table(header, rows) if rows else ""


def _overload_table(result: dict[str, Any]) -> str:
    header = [
        "twice the capacity",
        "offered/s",
        "answered/s",
        "200",
        "429",
        "other, unanswered",
        f"429 within {REJECTED_MS:.0f} ms",
        "429 p99, ms",
        "200 p50, ms",
        "200 p99, ms",
        "times idle p99",
        "resident, MB: first, highest, last",
    ]
    rows = []
    for system, (found, *_) in _measured(result, "overload"):
        counts, ms = found["counts"], found["ms"]
        other = sum(count for status, count in counts.items() if status not in ("200", "429"))
        refused = ms.get("429")
        resident = found["resident_mb"]
        rows.append(
            [
                system["label"],
                number(2 * found["capacity"]),
                number(found["per_second"]),
                str(counts.get("200", 0)),
                str(counts.get("429", 0)),
                f"{other}, {found['unanswered']}",
                f"{refused['soon']:.1%}" if refused else "",
                f"{refused['p99']:.1f}" if refused else "",
                f"{ms['200']['p50']:.1f}",
                f"{ms['200']['p99']:.1f}",
                f"{ms['200']['p99'] / found['idle_p99_ms']:.1f}",
                ", ".join(f"{value:.0f}" for value in (resident[0], max(resident), resident[-1])),
            ]
        )
    return "## Overload\n\n" + table(header, rows) if rows else ""


def _fair_table(result: dict[str, Any]) -> str:
    bulk = result["settings"]["bulk"]
    header = [
        f"single texts beside {bulk:,} a request",
        "p50, ms",
        "p95, ms",
        "p99, ms",
        "p95 / alone",
        "bulk texts/s",
    ]
    rows = []
    for system, (found, *_) in _measured(result, "fair"):
        alone = found["alone"]["groups"]["single"]["ms"]["200"]["p95"]
        for name, run in found.items():
            ms = run["groups"]["single"]["ms"].get("200")
            if ms is None:
                rows.append([f"{system['label']}, {name}", "none answered", "", "", "", ""])
                continue
            cells = [f"{ms[key]:.1f}" for key in ("p50", "p95", "p99")]
            bulks = run["groups"].get("bulk")
            texts = number(bulk * bulks["per_second"]) if bulks else ""
            rows.append([f"{system['label']}, {name}", *cells, f"{ms['p95'] / alone:.2f}", texts])
    return "## Fairness\n\n" + table(header, rows) if rows else ""


def _start_table(result: dict[str, Any]) -> str:
    header = ["", "start to first vector, s", "resident then, MB", "installed, MB", "versions"]
    rows = [
        [
            system["label"],
            f"{_middle(found, lambda row: row['total']):.2f}",
            f"{_middle(found, lambda row: row['resident_mb']):,.0f}",
            f"{system['installed_mb']:,.0f}",
            ", ".join(f"{key} {value}" for key, value in system["versions"].items()),
        ]
        for system, found in _measured(result, "start")
    ]
    return "## Start, memory, size\n\n" + table(header, rows) if rows else ""
