"""What must not be loaded just to start a central or to print a list of jobs."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "sklearn", "cupy", "asyncpg", "alembic", "solders")


@pytest.mark.parametrize("module", ["cyxwiz.app.process", "cyxwiz.__main__", "cyxwiz.cli.app"])
def test_an_entry_point_imports_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}} & set({HEAVY})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
