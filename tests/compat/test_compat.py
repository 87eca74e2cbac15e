from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_folders_open_in_the_installed_libraries() -> None:
    script = Path(__file__).with_name("run.py")
    run = subprocess.run([sys.executable, str(script), "--current-only"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
