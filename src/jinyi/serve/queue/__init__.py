"""The queue of the server: rows of many requests, computed together in a worker process.

`RowQueue` (queue.py) takes works. Their rows (rows.py) wait in lines (waiting.py), take turns (fair.py) and go to the
worker in slabs (dispatch.py). keeper.py keeps the worker running; process.py speaks with it (`jinyi.serve.worker`) in
the frames of `jinyi.serve.frames`. engine.py is what models hold of the worker's engines.
"""

from __future__ import annotations

from jinyi.serve.queue.engine import QueuedEngine
from jinyi.serve.queue.limits import Observer, QueueLimits, Snapshot, Timings
from jinyi.serve.queue.queue import RowQueue

__all__ = ["Observer", "QueueLimits", "QueuedEngine", "RowQueue", "Snapshot", "Timings"]
