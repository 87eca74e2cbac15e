"""Whose rows are next: deficit round robin in tokens between clients, and between the requests of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

from jinyi.serve.queue.rows import Request, Row, Share

QUANTUM = 256
"""Tokens of a turn."""
SHORT = 512
"""A request of at most so many tokens is short: it may pass long ones."""
QUICK = 1280
"""Most tokens of short requests that go to the worker at once; with one row more and padding they stay below
`jinyi.runtime.engine.SMALL_WORK`, so that the engine computes them one batch after the other."""
FEW = 96
"""Tokens of short requests that are not split over cores: smaller slabs are there sooner, but take more in all."""


class _Client:
    def __init__(self) -> None:
        self.deficit = 0
        self.shares: deque[Share] = deque()


class Line:
    """Rows that may be computed together, of all clients.

    Each client in turn gives rows of a quantum of tokens, and so does each request of a client within its turns: a
    request of thousands of rows holds up others by a turn and not by its length.
    """

    def __init__(self) -> None:
        self._clients: dict[Hashable, _Client] = {}
        self._turns: deque[Hashable] = deque()

    def __bool__(self) -> bool:
        return bool(self._turns)

    def add(self, request: Request, rows: list[Row]) -> None:
        """Queue rows of a request; some may be in another request's share as well."""
        # Without a name, every request is a client of its own.
        name = request.client if request.client is not None else request
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = _Client()
            self._turns.append(name)
        client.shares.append(Share(request, rows))

    def take(self, budget: int, kind: str = "all") -> list[Row]:
        """Take rows of about so many tokens in all, at least one row if there is any.

        Args:
            budget: most tokens, unless the first row alone has more.
            kind: "short" or "long" takes from such requests only.
        """
        taken: list[Row] = []
        skipped = 0
        while self._turns and budget > 0 and skipped < len(self._turns):
            name = self._turns[0]
            client = self._clients[name]
            if client.deficit <= 0:
                client.deficit += QUANTUM
                if client.deficit <= 0:  # it has taken a row longer than a turn
                    self._turns.rotate(-1)
                    continue
            before = len(taken)
            budget = self._turn(client, budget, kind, taken)
            if not client.shares:
                self._turns.popleft()
                del self._clients[name]
                continue
            skipped = skipped + 1 if len(taken) == before else 0
            if budget > 0 or client.deficit <= 0:
                self._turns.rotate(-1)
        return taken

    def _turn(self, client: _Client, budget: int, kind: str, taken: list[Row]) -> int:
        """Take rows of one client until its turn or the budget ends; return what is left of the budget."""
        skipped = 0
        while client.shares and client.deficit > 0 and budget > 0 and skipped < len(client.shares):
            share = client.shares[0]
            if kind != "all" and (share.request.tokens <= SHORT) != (kind == "short"):
                client.shares.rotate(-1)
                skipped += 1
                continue
            if share.turn <= 0:
                share.turn += QUANTUM
            row = None if share.request.done.done() else share.next()
            if row is None:
                client.shares.popleft()
                continue
            skipped = 0
            taken.append(row)
            budget -= row.size
            share.turn -= row.size
            client.deficit -= row.size
            if share.turn <= 0:
                client.shares.rotate(-1)
        return budget
