"""The two sizes of a test: what the suite can afford, and the full one, which takes minutes (`-m long`)."""

from __future__ import annotations

from typing import Any

import pytest

FULL = (pytest.mark.long, pytest.mark.timeout(7200))


def sizes(names: str, suite: Any, full: Any) -> pytest.MarkDecorator:
    """Parametrize with the suite's values, and with the full ones where long tests are asked for."""
    values = full if isinstance(full, tuple) else (full,)
    return pytest.mark.parametrize(names, [suite, pytest.param(*values, marks=FULL)])


def on_one(backend: str) -> pytest.MarkDecorator:
    """On this database in the suite, on the other one in a long run: where both take the same path."""
    other = "mongo" if backend == "postgres" else "postgres"
    return pytest.mark.parametrize("backend", [backend, pytest.param(other, marks=pytest.mark.long)])
