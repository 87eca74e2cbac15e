"""The start of a server's models: worker, queue, and every model opened and warmed up through them, side by side."""

from __future__ import annotations

import asyncio
import time

from jinyi.registry import default_model
from jinyi.serve.models import ServedModel, ServedModels, open_model
from jinyi.serve.queue import QueueLimits, RowQueue
from jinyi.serve.settings import TASKS, ModelSetting, Settings
from jinyi.serve.warmup import warm_up

_AT_ONCE = 3
"""Models opened side by side; each has a thread of the loop's few, which the queue needs as well."""


class Opening:
    """The queue, and the models that are opened through it.

    It can begin before there is an app: importing that takes as long as the worker takes to start.

    Args:
        settings: which models, and how they compute.

    Attributes:
        queue: with its worker, once begun.
        seconds: from the beginning until the models were there; 0 before.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._task: asyncio.Task[ServedModels] | None = None
        self.seconds = 0.0
        self.queue = RowQueue(
            QueueLimits(
                batch_tokens=settings.max_batch_tokens,
                max_wait_s=settings.max_wait_s,
                hang_s=settings.hang_s,
                cache_bytes=int(settings.cache_mb * 1e6),
            )
        )

    async def begin(self) -> None:
        """Start the worker, and begin to open the models."""
        await self.queue.start()
        self._task = asyncio.create_task(self._open())

    async def models(self) -> ServedModels:
        """Return the models: opened, their golden sentences checked, the largest batches computed.

        Cancelled, it gives them up.

        Raises:
            JinyiError: a model is not there, is damaged, or can be served for nothing.
        """
        if self._task is None:
            await self.begin()
        assert self._task is not None  # noqa: S101 - begun
        return await self._task

    async def _open(self) -> ServedModels:
        begun = time.perf_counter()
        wanted = self._settings.models or tuple(ModelSetting(default_model(task)) for task in TASKS)
        room = asyncio.Semaphore(_AT_ONCE)
        models = ServedModels(await asyncio.gather(*(self._open_one(setting, room) for setting in wanted)))
        self.seconds = time.perf_counter() - begun
        return models

    async def _open_one(self, setting: ModelSetting, room: asyncio.Semaphore) -> ServedModel:
        async with room:
            # In a thread: golden sentences are computed through the queue.
            model = await asyncio.to_thread(open_model, setting, self._settings, self.queue.opener)
            await warm_up([model], self.queue, self._settings.max_batch_tokens)
            return model
