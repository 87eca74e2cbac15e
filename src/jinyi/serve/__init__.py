"""The server: models behind HTTP, in the forms that existing clients speak, and a page to look at."""

from __future__ import annotations
