"""Copies that are killed, stopped, blocked, moved, restored: they end identical and never go back."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from custsvc.domain.received import ReceivedEvent
from custsvc.errors import TemporaryError
from custsvc.ports.replica import Applied, Positions, Replica
from custsvc.transfer.seed import seed_customers
from tests.chaos import checker
from tests.chaos.conftest import OPTIONS, Line
from tests.sizes import on_one, sizes
from tests.waiting import until


class Between:
    """Stands between a worker and a real copy, and counts; `before` is called before each batch."""

    def __init__(self, replica: Replica, before: Callable[[Sequence[ReceivedEvent]], None]) -> None:
        self._replica = replica
        self._before = before
        self.written = 0
        self.stale = 0

    def applying(self, events: Sequence[ReceivedEvent]) -> Callable[[str, Positions], Applied]:
        def write(topic: str, positions: Positions) -> Applied:
            self._before(events)
            applied = self._replica.apply(events, topic, positions)
            self.written += applied.written
            self.stale += applied.stale
            return applied

        return write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._replica, name)


def _watched(line: Line) -> Callable[[checker.Findings], None]:
    """Begin to watch for versions that fall; the check for the end."""
    other, url = line.settings.other_backend, line.settings.url(line.settings.other_backend)
    since = checker.watch_falls(other, url)
    return lambda found: checker.check_falls(other, url, since, found)


@sizes("kills, more", (6, 0), (100, 2000))
@on_one("postgres")
def test_copies_that_are_killed_in_turn_share_the_work_and_end_identical(
    line: Line, kills: int, more: int
) -> None:
    """R4, I4, I5: four copies, kill -9 of one after the other while changes come in."""
    check_falls = _watched(line)
    ids = line.crowd(40)
    line.relay()
    copies = [line.role("replicate").start() for _ in range(4)]
    since = dict.fromkeys(copies, 0)
    until("work has begun", lambda: line.copy.replica.scan(0, 1))

    for number in range(kills):
        for each in ids[:20]:
            line.change(each)
        victim = copies[number % 4]
        if more:
            seed_customers(line.source.customers, more, number)
            until("it has work", lambda v=victim: '"assigned"' in v.said()[since[v] :])
        victim.kill()
        since[victim] = len(victim.said())
        victim.start()
    line.settle(600)

    found = line.judge()
    check_falls(found)
    assert found.problems == []
    print(f"from {line.settings.backend}: {kills} kills, {found.records} records")


@sizes("guests", 3, 40)
@on_one("postgres")
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


@sizes("times", 1, 50)
@on_one("postgres")
def test_a_copy_that_was_stopped_and_goes_on_after_it_lost_its_partitions_changes_nothing(
    line: Line, times: int
) -> None:
    """R16: a zombie. What it still had in hand is stale, and its commit is refused without harm."""
    check_falls = _watched(line)
    ids = line.crowd(30, 2)
    line.relay()
    zombie = line.role("replicate").start()
    line.settle()

    for turn in range(times):
        zombie.signal(signal.SIGSTOP)
        for _ in range(3):
            for each in ids:
                line.change(each)
        if turn == 0:
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


@sizes("rounds", 1, 20)
@pytest.mark.parametrize("backend", ["postgres"])
def test_a_copy_that_is_blocked_too_long_is_replaced_and_its_late_batch_is_stale(
    line: Line, rounds: int
) -> None:
    """R6: longer than max.poll.interval.ms; the other goes on from the same positions meanwhile."""
    line.settings = line.settings.replace(kafka_options={**OPTIONS, "max.poll.interval.ms": "1600"})
    ids = line.crowd(30, 2)
    line.relay()
    line.settle_topic()
    for _ in range(rounds):
        _block_and_replace(line)
        for each in ids:
            line.change(each)
        line.settle_topic()
    line.replicate()
    line.settle()
    assert line.judge().problems == []


def _block_and_replace(line: Line) -> None:
    """A copy stands still with a batch in hand until another has done its work, and goes on then."""
    blocked, free = threading.Event(), threading.Event()

    def block_once(_events: Sequence[ReceivedEvent]) -> None:
        if not blocked.is_set():
            blocked.set()
            free.wait(120)

    late = Between(line.copy.replica, block_once)
    stops = [line.replicate(late)]
    until("it is blocked", blocked.is_set)
    stops.append(line.replicate())
    try:
        until("the other has taken over all of it", line.copied)
    finally:
        free.set()
    until("the late batch came", lambda: late.stale > 0)

    assert late.written == 0
    for stop in stops:
        stop.ask()
    until("both have left", lambda: not line.members())


@sizes("seconds", 7, 420)
@on_one("postgres")
def test_an_outage_of_the_copys_database_keeps_the_membership_and_dead_letters_nothing(
    line: Line, seconds: int
) -> None:
    """R7: paused and waiting, for longer than a session lasts; then it catches up without a rebalance."""
    # Longer than a busy machine may keep it from its heartbeats.
    line.settings = line.settings.replace(kafka_options={**OPTIONS, "session.timeout.ms": "6000"})
    ids = line.crowd(20)
    line.relay()
    away: list[bool] = []

    def fail(_events: Sequence[ReceivedEvent]) -> None:
        if away:
            raise TemporaryError("away", dependency="mongo")

    line.replicate(Between(line.copy.replica, fail))
    line.settle()
    away.append(True)
    for each in ids:
        line.change(each)
    members = line.members()
    assert len(members) == 1
    time.sleep(seconds)

    assert line.members() == members
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
    line.replicate(counting)
    line.settle()

    assert line.judge().problems == []
    # Only the records that it missed.
    assert counting.written >= 20
    assert counting.written + counting.stale < 60


@sizes("swaps", 10, 1000)
def test_an_address_may_move_between_customers_in_any_order(line: Line, swaps: int) -> None:
    """R14: A gives its address to B; the two events are in different partitions and may come either way."""
    line.relay()
    line.replicate()
    for number in range(swaps):
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
    from custsvc.domain.received import decode

    records = checker.read_records(line.settings.kafka, line.settings.topic_updates)
    events = [decode(value or b"", key) for _, key, value in records]
    return {event.customer_id: event for event in events}


@sizes("customers, versions", (50, 3), (1_000_000, 1))
def test_the_whole_topic_three_times_more_writes_nothing(line: Line, customers: int, versions: int) -> None:
    """R1."""
    if versions > 1:
        line.crowd(customers, versions)
    else:
        seed_customers(line.source.customers, customers, 1)
    line.relay()
    first = line.replicate()
    line.settle(600)
    first.ask()
    before = line.copy.replica.digest(0)

    records = customers * versions
    for _ in range(3):
        counting = Between(line.copy.replica, lambda _: None)
        counting.begin = lambda _topic: {}  # type: ignore[attr-defined]
        worker = line.replicate(counting)
        until("all was read again", lambda c=counting: c.stale + c.written >= records, 600)
        assert counting.written == 0
        worker.ask()

    assert line.copy.replica.digest(0) == before == line.source.replica.digest(0)
