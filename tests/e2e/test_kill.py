"""kill -9 of everything in turn, in the middle of writes: nothing is lost, out of order, or mailed twice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.chaos import checker
from tests.waiting import until

from .stack import Clients, Stack

ROLES = ("serve", "relay", "replicate", "notify")
SERVERS = ("mongo", "kafka", "postgres")


def drained(stack: Stack) -> bool:
    """Whether the copy has everything and no mail is still to be sent."""
    return stack.run("verify", "--wait", "60", check=False, seconds=600).returncode == 0


def mails_settled(stack: Stack) -> bool:
    # Asked first, as it costs no process.
    if checker.open_mails(stack.backend, stack.env[f"CUSTSVC_{stack.backend.upper()}_URL"]):
        return False
    steps = json.loads(stack.run("status", "-o", "json").stdout)
    consumed = all(row["waiting"] == 0 for row in steps if row["step"] == "custsvc-notify")
    open_states = {"queued", "claimed", "handing_over", "deferred"}
    return consumed and not any(
        row["waiting"] for row in steps if row["step"] == "notifications" and row["state"] in open_states
    )


def kill_in_turn(
    stack: Stack, writers: Clients, parts: Sequence[str], seed: int, count: int, pause: float
) -> None:
    """Kill these parts one after the other while `count` customers are seeded and the writers write."""
    seeding = stack.start("seed", str(count), "--seed", str(seed))
    for name in parts:
        time.sleep(pause)
        known = len(writers.acknowledged)
        stack.kill(name)
        until(f"writes go on after {name} was killed", lambda k=known: len(writers.acknowledged) > k, 120)
    seeding.wait(600)


# In the suite test_flow.py has the other direction.
@pytest.fixture(scope="module", params=[pytest.param("postgres", marks=pytest.mark.long), "mongo"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("kill"), request.param) as running:
        yield running


@pytest.mark.timeout(900)
def test_nothing_is_lost_when_each_part_and_then_up_itself_is_killed(stack: Stack) -> None:
    # Few writers: each of their changes is two mails, and the last one must be out before the end.
    with Clients(stack.request, count=2, pause=0.2) as writers:
        for number, part in enumerate((*ROLES, *SERVERS), start=1):
            kill_in_turn(stack, writers, [part], seed=number, count=50, pause=0.3)
        known = len(writers.acknowledged)
        stack.kill_up(ROLES)
        until("writes go on with the next up", lambda: len(writers.acknowledged) > known, 120)

    until("the copy is whole", lambda: drained(stack), 240, every=1)
    until("the mails are sent", lambda: mails_settled(stack), 400, every=1)

    found = stack.check(writers.acknowledged)
    assert found.problems == []
    assert writers.surprises == []
    assert found.mails > 0
    assert found.records >= found.customers > len(writers.acknowledged) > 0


def test_a_folder_whose_system_of_record_is_mongodb_knows_it(stack: Stack) -> None:
    """It need not be named again. The last one of these: after it nothing runs."""
    if stack.backend != "mongo":
        pytest.skip("PostgreSQL is what a folder has that knows nothing")
    verified = stack.run("verify", "--wait", "120", named=False)
    status = stack.run("status", "-o", "json", named=False)
    doctor = stack.run("doctor", "-o", "json", named=False, check=False)
    wrong = stack.run("verify", "--backend", "postgres", named=False, check=False)

    assert json.loads(stack.run("env", "-o", "json", named=False).stdout)["CUSTSVC_BACKEND"] == "mongo"
    assert "mongo → postgres" in verified.stderr
    assert json.loads(status.stdout)[0]["detail"].startswith("mongo: ")
    parts = {each["check"]: each["detail"] for each in json.loads(doctor.stdout)}
    assert "(system of record)" in parts["mongo"]
    assert "(copy)" in parts["postgres"]
    assert wrong.returncode == 3
    assert "fix: use --backend mongo" in wrong.stderr
    stack.run("down", named=False)
    assert "mongo" in stack.run("config", "show", named=False).stdout


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("backend", ["postgres", "mongo"])
def test_nothing_is_lost_when_each_part_is_killed_in_the_middle_of_a_big_seed(
    tmp_path: Path, backend: str
) -> None:
    with Stack(tmp_path, backend, "--ephemeral") as stack:
        with Clients(stack.request) as writers:
            for number, parts in enumerate((ROLES, SERVERS), start=1):
                kill_in_turn(stack, writers, parts, seed=number, count=100_000, pause=2.0)

        until("the copy is whole", lambda: drained(stack), 600, every=1)
        until("the mails are sent", lambda: mails_settled(stack), 2400, every=5)

        found = stack.check(writers.acknowledged)
        assert found.problems == []
        assert writers.surprises == []
