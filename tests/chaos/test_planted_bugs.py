"""Tests of the tests: each bug that is planted makes the scenario fail that is there to catch it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.planted import BUGS, Bug, plant

SERVERS = {"postgres": "POSTGRES_URL", "mongo": "MONGO_URL", "kafka": "KAFKA", "mail": "SMTP_URL"}


@pytest.mark.timeout(660)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(bug: Bug, servers: Any, tmp_path: Path) -> None:
    """X5."""
    folder = plant(bug, tmp_path)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CUSTSVC_", "PYTEST_"))}
    env |= {f"CUSTSVC_TEST_{variable}": servers.url(name) for name, variable in SERVERS.items()}
    env |= {"CUSTSVC_TEST_DEADLINE": "12", "PYTHONDONTWRITEBYTECODE": "1"}

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            f"tests/{bug.test}",
        ],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    # A test that failed, not one that could not run.
    assert re.search(r"^1 failed\b", done.stdout, re.MULTILINE), done.stdout[-3000:] + done.stderr[-1000:]


def test_the_planted_bugs_are_the_thirteen_known_ones() -> None:
    assert len(BUGS) == len({bug.name for bug in BUGS}) == 13
