"""`python -m jinyi`, the same as `jinyi`."""

from __future__ import annotations

from jinyi.cli import main

main()
