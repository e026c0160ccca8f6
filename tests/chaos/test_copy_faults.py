"""Copies that are killed, stopped, blocked, moved, restored: they end identical and never go back."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from custsvc.errors import TemporaryError
from custsvc.events import ReceivedEvent
from custsvc.stores.base import Applied, Positions, Replica
from tests.chaos import checker
from tests.chaos.conftest import OPTIONS, Line
from tests.chaos.roles import until


class Between:
    """Stands between a worker and a real copy, and counts; `before` is called before each batch."""

    def __init__(self, replica: Replica, before: Callable[[Sequence[ReceivedEvent]], None]) -> None:
        self._replica = replica
        self._before = before
        self.written = 0
        self.stale = 0

    def apply(self, events: Sequence[ReceivedEvent], topic: str, positions: Positions) -> Applied:
        self._before(events)
        applied = self._replica.apply(events, topic, positions)
        self.written += applied.written
        self.stale += applied.stale
        return applied

    def __getattr__(self, name: str) -> Any:
        return getattr(self._replica, name)


def _watched(line: Line) -> Callable[[checker.Findings], None]:
    """Begin to watch for versions that fall; the check for the end."""
    other, url = line.settings.other_backend, line.settings.url(line.settings.other_backend)
    since = checker.watch_falls(other, url)
    return lambda found: checker.check_falls(other, url, since, found)


@pytest.mark.parametrize("kills", [6, pytest.param(100, marks=pytest.mark.long)])
def test_copies_that_are_killed_in_turn_share_the_work_and_end_identical(line: Line, kills: int) -> None:
    """R4, I4, I5: four copies, kill -9 of one after the other while changes come in."""
    check_falls = _watched(line)
    ids = line.crowd(40)
    line.relay()
    copies = [line.role("replicate").start() for _ in range(4)]
    until("work has begun", lambda: line.copy.replica.scan(0, 1))

    for number in range(kills):
        for each in ids[:20]:
            line.change(each)
        copies[number % 4].kill()
        copies[number % 4].start()
    line.settle()

    found = line.judge()
    check_falls(found)
    assert found.problems == []


@pytest.mark.parametrize("guests", [3, pytest.param(40, marks=pytest.mark.long)])
def test_copies_that_come_and_go_leave_no_partition_alone(line: Line, guests: int) -> None:
    """R5: progress goes on through every rebalance; no partition waits for a minute."""
    ids = line.crowd(40)
    line.relay()
    steady = line.replicate()
    for _ in range(guests):
        guest = line.replicate()
        for step in range(2):
            for each in ids[:8]:
                line.change(each)
            line.settle()
            if step == 0:
                guest.ask()

    assert line.judge().problems == []
    assert not steady.asked()


def test_a_copy_that_was_stopped_and_goes_on_after_it_lost_its_partitions_changes_nothing(line: Line) -> None:
    """R16: a zombie. What it still had in hand is stale, and its commit is refused without harm."""
    check_falls = _watched(line)
    ids = line.crowd(30, 2)
    line.relay()
    zombie = line.role("replicate").start()
    line.settle()

    zombie.signal(signal.SIGSTOP)
    for _ in range(3):
        for each in ids:
            line.change(each)
    line.replicate()
    line.settle()
    zombie.signal(signal.SIGCONT)
    for each in ids:
        line.change(each)
    line.settle()
    time.sleep(2)

    found = line.judge()
    check_falls(found)
    checker.check_logs([zombie.log], found)
    assert found.problems == []
    assert zombie.is_running()


@pytest.mark.parametrize("backend", ["postgres"])
def test_a_copy_that_is_blocked_too_long_is_replaced_and_its_late_batch_is_stale(line: Line) -> None:
    """R6: longer than max.poll.interval.ms; the other goes on from the same positions meanwhile."""
    line.settings = line.settings.replace(kafka_options={**OPTIONS, "max.poll.interval.ms": "1600"})
    ids = line.crowd(30, 2)
    line.relay()
    line.settle_topic()
    blocked, free = threading.Event(), threading.Event()

    def block_once(_events: Sequence[ReceivedEvent]) -> None:
        if not blocked.is_set():
            blocked.set()
            free.wait(120)

    late = Between(line.copy.replica, block_once)
    line.replicate(late)  # type: ignore[arg-type]
    until("it is blocked", blocked.is_set)
    other = Between(line.copy.replica, lambda _: None)
    line.replicate(other)  # type: ignore[arg-type]
    try:
        until("the other has taken over all of it", line.copied)
    finally:
        free.set()
    until("the late batch came", lambda: late.stale > 0)

    assert late.written == 0
    line.change(ids[0])
    line.settle()
    assert line.judge().problems == []


def test_an_outage_of_the_copys_database_keeps_the_membership_and_buries_nothing(line: Line) -> None:
    """R7: paused and waiting, for longer than a session lasts; then it catches up without a rebalance."""
    # Longer than a busy machine may keep it from its heartbeats.
    line.settings = line.settings.replace(kafka_options={**OPTIONS, "session.timeout.ms": "6000"})
    ids = line.crowd(20)
    line.relay()
    away: list[bool] = []

    def fail(_events: Sequence[ReceivedEvent]) -> None:
        if away:
            raise TemporaryError("away", dependency="mongo")

    line.replicate(Between(line.copy.replica, fail))  # type: ignore[arg-type]
    line.settle()
    away.append(True)
    for each in ids:
        line.change(each)
    members = line.members()
    time.sleep(7)

    assert members <= line.members()
    away.clear()
    line.settle()
    assert line.judge().problems == []
    assert checker.read_records(line.settings.kafka, line.settings.topic_dead) == []


def test_a_copy_restored_from_a_backup_catches_up_by_itself(line: Line) -> None:
    """R11: rows and positions of an hour ago, a group that has committed since, and a group that is gone."""
    ids = line.crowd(20)
    line.relay()
    first = line.replicate()
    line.settle()
    backup = checker.dump(line.settings.other_backend, line.settings.url(line.settings.other_backend))
    for each in ids:
        line.change(each, 2)
    line.settle()
    first.ask()
    until("it has left", lambda: not line.members())

    checker.restore(line.settings.other_backend, line.settings.url(line.settings.other_backend), backup)
    counting = Between(line.copy.replica, lambda _: None)
    line.replicate(counting)  # type: ignore[arg-type]
    line.settle()

    assert line.judge().problems == []
    # What it missed, and not all that there is.
    assert counting.written >= 20
    assert counting.written + counting.stale < 60


def test_an_address_may_move_between_customers_in_any_order(line: Line) -> None:
    """R14: A gives its address to B; the two events are in different partitions and may come either way."""
    line.relay()
    line.replicate()
    for number in range(10):
        a, b = line.create(email=f"x{number}@example.com"), line.create(email=f"y{number}@example.com")
        line.set_email(a, f"z{number}@example.com")
        line.set_email(b, f"x{number}@example.com")
    line.settle()

    assert line.judge().problems == []
    newest = _newest_events(line)
    for order in (sorted(newest), sorted(newest, reverse=True)):
        line.copy.replica.apply([newest[each] for each in order], "another", {})
    assert line.judge().problems == []


def _newest_events(line: Line) -> dict[int, ReceivedEvent]:
    from custsvc.events import decode

    records = checker.read_records(line.settings.kafka, line.settings.topic_updates)
    events = [decode(value or b"", key) for _, key, value in records]
    return {event.customer_id: event for event in events}


def test_the_whole_topic_three_times_more_writes_nothing(line: Line) -> None:
    """R1."""
    line.crowd(50, 3)
    line.relay()
    first = line.replicate()
    line.settle()
    first.ask()
    before = line.copy.replica.scan(0, 1000)

    for _ in range(3):
        counting = Between(line.copy.replica, lambda _: None)
        counting.begin = lambda _topic: {}  # type: ignore[attr-defined]
        worker = line.replicate(counting)  # type: ignore[arg-type]
        until("all was read again", lambda c=counting: c.stale + c.written >= 150)
        assert counting.written == 0
        worker.ask()

    assert line.copy.replica.scan(0, 1000) == before
