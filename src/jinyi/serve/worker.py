"""The worker process: holds the engines and computes, so that the server outlives whatever happens here.

Run as `python -m jinyi.serve.worker` by `jinyi.serve.queue`; see there for who speaks when. It reads frames
(`jinyi.serve.frames`) from standard input and writes frames to standard output. It ends when its input does, so it
never outlives the server. Frames in: "open" (an engine), "run" (a slab of rows). Frames out: "opened", "compiling"
(an engine's first work of a kind takes longer), "rows" (outputs), "failed" (rows that cannot be computed).

Slabs run on lanes, all at once: "bulk" for long requests, the others for short ones, as many as there are cores. The
lanes and the threads of the graphs compiled there give way to the server, and the bulk lane to the others.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

import numpy.typing as npt

from jinyi.errors import FolderError
from jinyi.models.source import Source
from jinyi.runtime import Engine, Head
from jinyi.runtime.openvino_api import load_openvino
from jinyi.serve.frames import PREFIX, Frame, body_length, pack, unpack
from jinyi.serve.lanes import Lane, Opened, Slab, told

OpenEngine = Callable[[dict[str, Any], Head], Engine]


def main(open_engine: OpenEngine | None = None) -> None:
    """Serve frames until standard input ends.

    Args:
        open_engine: makes the engine of a model and a head; None: that of `Folders`.
    """
    # Signals are for the server, which drains first: a terminal or a service manager sends them to both.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    # Whatever else prints goes to standard error: frames alone are on standard output.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if open_engine is None:
        threading.Thread(target=load_openvino).start()  # while the server still reads its folders
    Worker(sys.stdin.buffer, output, open_engine or Folders().open).serve()


class Folders:
    """The folders of models, each read once for all its engines, as long as one of these is there."""

    def __init__(self) -> None:
        self._sources: WeakValueDictionary[str, Source] = WeakValueDictionary()

    def open(self, model: dict[str, Any], head: Head) -> Engine:
        """Build an engine of a model that the server has opened.

        Args:
            model: "model" (name or path), "options" of `Source.open`, "fingerprint" of the source.
            head: what it computes.

        Raises:
            ModelNotFoundError: the folder is gone.
            FolderError: the folder holds another model than the server has opened.
        """
        key = json.dumps(model, sort_keys=True)
        source = self._sources.get(key)
        if source is None:
            source = Source.open(model["model"], "", **model["options"])
        # Of one that was read before too: its weights are the file's, which may have been written over.
        if source.fingerprint() != model["fingerprint"]:
            raise FolderError(
                found="other weights or another tokenizer than when the server opened it",
                expected="the same model as long as the server runs",
                fix="Start the server again.",
                where=str(source.folder.path),
            )
        self._sources[key] = source
        return source.engine(head)


def head_of(frame: Frame) -> Head:
    """Read the head that `jinyi.serve.queue.engine.opening` wrote into a frame."""
    body = dict(frame.head["head"])
    arrays = iter(frame.arrays)
    label_ids = next(arrays) if body.pop("label_ids") else None
    dense = [(next(arrays), next(arrays) if bias else None) for bias in body.pop("dense")]
    return Head(**body, dense=dense, label_ids=label_ids)


class Worker:
    """Reads frames, opens engines, and hands slabs to the lanes.

    Args:
        source: frames come from here.
        target: frames go here.
        open_engine: makes engines.
    """

    def __init__(self, source: BinaryIO, target: BinaryIO, open_engine: OpenEngine) -> None:
        self._source = source
        self._target = target
        self._open_engine = open_engine
        self._writing = threading.Lock()
        self.engines: dict[int, Opened] = {}

    def serve(self) -> None:
        """Work until the input ends, then end the process, whatever is being computed."""
        lanes: dict[str, Lane] = {}
        openings: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        threading.Thread(target=self._open_all, args=[openings], daemon=True).start()
        while (frame := self._read()) is not None:
            if frame.head["kind"] == "open":
                openings.put(frame)
                continue
            name = frame.head["lane"]
            if name not in lanes:
                lanes[name] = Lane(name, self.engines, self.send)
                threading.Thread(target=lanes[name].serve, daemon=True).start()
            lanes[name].put(Slab(frame.head, frame.arrays))
        os._exit(0)

    def send(self, head: dict[str, Any], arrays: Sequence[npt.NDArray[Any]] = ()) -> None:
        """Write a frame; any thread may."""
        data = pack(head, arrays)
        with self._writing:
            self._target.write(data)
            self._target.flush()

    def _read(self) -> Frame | None:
        prefix = self._source.read(PREFIX)
        if len(prefix) < PREFIX:
            return None
        size = body_length(prefix)
        body = self._source.read(size)
        return unpack(body) if len(body) == size else None

    def _open_all(self, openings: queue.SimpleQueue[Frame]) -> None:
        while True:
            frame = openings.get()
            answer = {"kind": "opened", "engine": frame.head["engine"]}
            try:
                engine = self._open_engine(frame.head["model"], head_of(frame))
                self.engines[frame.head["engine"]] = Opened(engine)
                answer |= {"precision": engine.precision, "info": engine.info()}
            except Exception as error:
                answer["error"] = told(error)
            self.send(answer)


if __name__ == "__main__":
    main()
