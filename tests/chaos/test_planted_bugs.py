"""Tests of the tests: each planted bug makes its scenario fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.planted import BUGS, Bug, plant, without_effect

SERVERS = {"postgres": "POSTGRES_URL", "mongo": "MONGO_URL", "kafka": "KAFKA", "mail": "SMTP_URL"}


def judge(bug: Bug, folder: Path, env: dict[str, str]) -> str:
    """`caught`, or `not caught` or `plants nothing` with what tells why."""
    plant(bug, folder)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, f"tests/{bug.test}"],
        cwd=folder,
        env=env | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = done.stdout[-3000:] + done.stderr[-1000:]
    if nothing := without_effect(bug, folder):
        return f"plants nothing: {'; '.join(nothing)}\n{said}"
    # A test that failed, not one that could not run.
    return "caught" if re.search(r"^1 failed\b", done.stdout, re.MULTILINE) else f"not caught\n{said}"


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("CUSTSVC_", "PYTEST_"))}


# In the suite one of the outbox, one of the copy, and one of the mails: each costs a whole run of pytest.
QUICK = (
    "the cursor is saved before Kafka has acknowledged",
    "an older version overwrites a newer one",
    "a mail is marked as sent before it is sent",
)


@pytest.mark.timeout(660)
@pytest.mark.parametrize(
    "bug",
    [pytest.param(bug, marks=() if bug.name in QUICK else pytest.mark.long, id=bug.name) for bug in BUGS],
)
def test_a_planted_bug_is_caught(bug: Bug, servers: Any, tmp_path: Path) -> None:
    """X5."""
    env = environment() | {
        f"CUSTSVC_TEST_{variable}": servers.url(name) for name, variable in SERVERS.items()
    }

    judged = judge(bug, tmp_path / "first", env | {"CUSTSVC_TEST_DEADLINE": "12"})
    if judged.startswith("plants nothing"):
        # Or a busy machine had not come to it by then.
        judged = judge(bug, tmp_path / "second", env | {"CUSTSVC_TEST_DEADLINE": "120"})
    assert judged == "caught"


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_place_and_the_test_of_a_planted_bug_are_there(bug: Bug, tmp_path: Path) -> None:
    plant(bug, tmp_path)
    files = [str(tmp_path / "custsvc" / name) for name in bug.changes]
    # Code that was renamed since would fail where it is planted, and so prove nothing.
    names = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert names.returncode == 0, names.stdout

    file, _, test = bug.test.partition("::")
    assert f"def {test.partition('[')[0]}(" in (tmp_path / "tests" / file).read_text()


def test_the_planted_bugs_are_the_thirteen_known_ones() -> None:
    assert len(BUGS) == len({bug.name for bug in BUGS}) == 13
    assert {bug.name for bug in BUGS} > set(QUICK)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("", "def _altered(self): ...\nCustomer.altered_to = _altered", "nothing called"),
        ("max(now, self.updated_on)", "later(now, self.updated_on)", "NameError"),
    ],
    ids=["the test passes", "the test fails"],
)
def test_a_planted_bug_whose_code_has_moved_has_no_effect_even_if_the_test_fails(
    old: str, new: str, reason: str, tmp_path: Path
) -> None:
    test = "unit/test_customer.py::test_the_time_of_an_update_never_goes_back"

    judged = judge(Bug("stale", "", test, {"domain/customers.py": [(old, new)]}), tmp_path, environment())

    assert judged.startswith(f"plants nothing: domain/customers.py: {reason}")


def test_a_planted_bug_without_a_visible_effect_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="nobody can see whether “stale” does anything"):
        plant(
            Bug("stale", "", "", {"domain/customers.py": [("", "Customer.altered_to = lambda self: self")]}),
            tmp_path,
        )
