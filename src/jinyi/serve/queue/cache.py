"""Outputs of rows seen before, the least used thrown away first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from jinyi.models.common import FloatArray

_OVERHEAD = 400  # bytes of Python objects around an output, about


class OutputCache:
    """Keeps outputs within a number of bytes.

    Args:
        limit: bytes; 0 keeps nothing.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[Hashable, tuple[FloatArray, ...]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> tuple[FloatArray, ...] | None:
        """Return the outputs of a row, [1, ...] each, or None."""
        values = self._kept.get(key) if self._limit else None
        if values is not None:
            self._kept.move_to_end(key)
        return values

    def put(self, key: Hashable, values: tuple[FloatArray, ...]) -> None:
        """Keep the outputs of a row.

        Args:
            key: of the row.
            values: [1, ...] each; they are kept as they are.
        """
        size = _size(values)
        if size > self._limit or key in self._kept:
            return
        self._kept[key] = values
        self.bytes += size
        while self.bytes > self._limit:
            self.bytes -= _size(self._kept.popitem(last=False)[1])

    @property
    def on(self) -> bool:
        """Whether anything is kept."""
        return self._limit > 0


def _size(values: tuple[FloatArray, ...]) -> int:
    return sum(value.nbytes for value in values) + _OVERHEAD
