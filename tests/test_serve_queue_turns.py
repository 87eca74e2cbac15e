"""Whose rows are next: every row once, within the budget, clients and requests in fair turns."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from jinyi.models.work import Work
from jinyi.serve.queue.fair import QUANTUM, SHORT, Line
from jinyi.serve.queue.rows import GONE, RUNNING, Request, Row
from jinyi.tokens import TruncationReport

LINE = (0, 0, 0, None)


def request(
    loop: asyncio.AbstractEventLoop, client: str | None, sizes: list[int]
) -> tuple[Request, list[Row]]:
    made = Request(Work((), list, TruncationReport(0, None, None)), client, loop.create_future())
    made.tokens = sum(sizes)
    return made, [Row((id(made), place), LINE, b"", size, size, b"") for place, size in enumerate(sizes)]


def line_of(loop: asyncio.AbstractEventLoop, wanted: list[tuple[str | None, list[int]]]) -> tuple[Line, list]:
    line, made = Line(), []
    for client, sizes in wanted:
        one, rows = request(loop, client, sizes)
        line.add(one, rows)
        made.append((one, rows))
    return line, made


CLIENTS = st.sampled_from(["a", "b", "c", None])
WANTED = st.lists(st.tuples(CLIENTS, st.lists(st.integers(1, 300), max_size=20)), max_size=8)


@given(WANTED, st.lists(st.integers(1, 900), min_size=1, max_size=5))
def test_every_row_is_taken_once_within_the_budget(wanted: list, budgets: list[int]) -> None:
    loop = asyncio.new_event_loop()
    line, made = line_of(loop, wanted)
    taken: list[Row] = []
    turn = 0
    while line:
        budget = budgets[turn % len(budgets)]
        turn += 1
        rows = line.take(budget)
        assert not rows or sum(row.size for row in rows) - rows[-1].size < budget
        assert all(row.state == RUNNING for row in rows)
        taken += rows
        assert rows or not line
    assert Counter(map(id, taken)) == Counter(id(row) for _, rows in made for row in rows)
    loop.close()


def served(line: Line, budget: int, made: list) -> list[int]:
    """Tokens that each request was given."""
    given_to = {id(row): number for number, (_, rows) in enumerate(made) for row in rows}
    tokens = [0] * len(made)
    for row in line.take(budget):
        tokens[given_to[id(row)]] += row.size
    return tokens


@given(st.integers(5, 40), st.integers(1, 3))
def test_clients_have_equal_turns_and_so_have_the_requests_of_one(size: int, slabs: int) -> None:
    loop = asyncio.new_event_loop()
    many = [size] * 500
    line, made = line_of(loop, [("a", many), ("b", many), ("b", many), ("b", many), (None, many)])
    total = [0] * 5
    for _ in range(slabs):
        total = [one + more for one, more in zip(total, served(line, 6 * QUANTUM, made), strict=True)]
    a, b, none = total[0], sum(total[1:4]), total[4]
    assert max(a, b, none) - min(a, b, none) <= 2 * (QUANTUM + size)
    assert max(total[1:4]) - min(total[1:4]) <= 2 * (QUANTUM + size)
    loop.close()


def test_a_short_request_waits_for_one_turn_of_each_other() -> None:
    loop = asyncio.new_event_loop()
    line, made = line_of(loop, [("a", [20] * 2000), ("a", [20] * 2000), ("b", [20] * 2000)])
    line.take(10 * QUANTUM)
    late, rows = request(loop, "a", [20])
    line.add(late, rows)
    line.take(6 * (QUANTUM + 20))
    assert rows[0].state == RUNNING
    loop.close()


def test_short_and_long_requests_are_taken_apart() -> None:
    loop = asyncio.new_event_loop()
    long, short = [100] * 20, [100] * (SHORT // 100)
    line, made = line_of(loop, [("a", long), ("b", short), ("b", long), ("c", short), (None, short)])
    assert served(line, 10_000, made[:0] + made) == [
        sum(sizes) for sizes in (long, short, long, short, short)
    ]
    line, made = line_of(loop, [("a", long), ("b", short), ("b", long), ("c", short), (None, short)])
    given_to = [row for row in line.take(10_000, "short")]
    assert {id(row) for row in given_to} == {id(row) for place in (1, 3, 4) for row in made[place][1]}
    assert line.take(10_000, "short") == []
    assert {id(row) for row in line.take(10_000, "long")} == {
        id(row) for place in (0, 2) for row in made[place][1]
    }
    assert not line
    loop.close()


def test_rows_nobody_wants_are_passed_over() -> None:
    loop = asyncio.new_event_loop()
    line, made = line_of(loop, [("a", [30] * 5), ("b", [30] * 5)])
    made[0][0].done.cancel()
    made[1][1][2].state = GONE
    assert [id(row) for row in line.take(10_000)] == [id(made[1][1][place]) for place in (0, 1, 3, 4)]
    assert not line
    loop.close()


def test_long_rows_of_a_request_go_first() -> None:
    loop = asyncio.new_event_loop()
    line, _ = line_of(loop, [("a", [10, 40, 20, 30])])
    assert [row.size for row in line.take(60)] == [40, 30]
    loop.close()
