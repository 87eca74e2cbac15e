"""Lines of the server's log."""

from __future__ import annotations

import io
import json

from jinyi.serve.logs import LogWriter


def test_a_value_that_is_no_json_costs_no_other_line() -> None:
    stream = io.BytesIO()
    writer = LogWriter(stream, text=False)
    for path in ("a\ud83d", 2**70, "b"):
        writer.put({"time": 0.0, "level": "info", "message": "request", "path": path}, at_once=True)
    writer.close()
    assert [json.loads(line)["path"] for line in stream.getvalue().splitlines()] == ["a\ud83d", 2**70, "b"]
