"""`python -m jinyi.cli`, the same as `jinyi`."""

from __future__ import annotations

from jinyi.cli import main

main()
