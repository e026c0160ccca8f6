"""Crash points: each is in the code, each is tested, and each ends the whole process."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from custsvc.runtime import crash

ROOT = Path(__file__).parents[2]


def _passed(path: Path) -> list[str]:
    """The names of the points that a source file passes."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "crash.point":
            (name,) = node.args
            assert isinstance(name, ast.Constant), f"{path}:{node.lineno}: a point's name is written out"
            names.append(str(name.value))
    return names


def test_the_points_in_the_code_are_those_in_the_list() -> None:
    found = {name for path in (ROOT / "custsvc").rglob("*.py") for name in _passed(path)}

    assert found == set(crash.POINTS)


@pytest.mark.parametrize("name", crash.POINTS)
def test_every_point_is_where_some_test_crashes(name: str) -> None:
    tests = (path for path in (ROOT / "tests").rglob("test_*.py"))

    assert any(f'"{name}' in path.read_text() for path in tests)


def _run(code: str, at: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"from custsvc.runtime import crash\n{code}"],
        env={**os.environ, "CUSTSVC_CRASH_AT": at},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_process_dies_at_the_nth_pass_and_cleans_nothing_up() -> None:
    code = """
try:
    for n in range(9):
        crash.point("relay.read"); crash.point("relay.acked"); print(n, flush=True)
finally:
    print("cleaned up", flush=True)
"""
    done = _run(code, "relay.acked:3")

    assert (done.returncode, done.stdout.split()) == (137, ["0", "1"])


@pytest.mark.parametrize("at", ["relay.raed", "relay.read:x", "relay.read:-1"])
def test_an_unknown_crash_point_is_refused_with_the_known_ones(at: str) -> None:
    done = _run('crash.point("relay.read")', at)

    assert done.returncode == 1
    assert f"CUSTSVC_CRASH_AT is {at}, which is no crash point" in done.stderr
