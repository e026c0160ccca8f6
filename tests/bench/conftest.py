"""What tests of the benchmarks share."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of benchmarks/, which is not in the package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module
