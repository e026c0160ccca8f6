"""The progress of the pipeline: `verify` waits for it, and `status` shows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from ..config import Settings
from ..errors import CustsvcError
from ..kafka import client as kafka
from ..kafka.reader import Marks, Reader
from ..ports.store import Store
from ..relay.loss import loss_of
from ..relay.parked import parked
from ..relay.replay import Replay
from .dead_letters import DeadLetter, DeadLetterBox, customers_of
from .replicate import group
from .verify import Pipeline, last_results

# By how much the database's clock and ours may differ without `verify` ending its wait too early.
_CLOCK_SLACK = 1.0


@contextmanager
def pipeline(settings: Settings, source: Store, copy: Store) -> Iterator[Pipeline]:
    """The pipeline from `source` to `copy`, for `verify`."""
    topic = settings.topic_updates

    def published(seconds: float) -> bool:
        depth = source.outbox.depth()
        return depth.waiting == 0 or depth.oldest_age < seconds - _CLOCK_SLACK

    with Reader(settings) as reader:

        def ends() -> dict[int, int]:
            return readable_ends(reader, reader.marks(), copy.replica.positions(topic))

        yield Pipeline(published, ends, lambda: copy.replica.positions(topic))


def readable_ends(topic: Reader, marks: Marks, positions: Mapping[int, int]) -> dict[int, int]:
    """Per partition the offset at which reading from these positions ends: the position if no record follows.

    The end of a partition may hold transaction markers, which take offsets but are not records.
    """
    more = _unread(topic, marks, positions)
    return {
        part: high if part in more else min(positions.get(part, 0), high) for part, (_, high) in marks.items()
    }


def _unread(topic: Reader, marks: Marks, positions: Mapping[int, int]) -> dict[int, int]:
    """The partitions with records after these positions, and the time of the first one in milliseconds."""
    ranges = {part: (max(positions.get(part, low), low), high) for part, (low, high) in marks.items()}
    return topic.first_times(ranges)


@contextmanager
def resending(settings: Settings, source: Store) -> Iterator[Callable[[Sequence[int]], object]]:
    """A function that sends customers of the source again, for `verify` to repair a copy with."""
    with kafka.Publisher(settings) as publisher:
        replay = Replay(settings, source, publisher)
        yield lambda ids: replay.send(tuple(ids))


def send_again(settings: Settings, source: Store, box: DeadLetterBox, letters: Sequence[DeadLetter]) -> None:
    """Send dead letters to where they came from, followed by snapshots of their customers.

    The snapshots bring what a copy has missed meanwhile. Raises Conflict if one was settled already.
    """
    box.retry(letters)
    if customers := customers_of(letters):
        with resending(settings, source) as again:
            again(customers)


def steps(settings: Settings, store: Store) -> list[dict[str, Any]]:
    """How much waits at each step, in the order of the flow."""
    return [step for _, ask in _questions(settings, store) for step in ask()]


def known_steps(settings: Settings, store: Store) -> tuple[list[dict[str, Any]], list[CustsvcError]]:
    """`steps`, as far as the servers answer, and why the other numbers are unknown."""
    found: list[dict[str, Any]] = []
    problems: list[CustsvcError] = []
    for name, ask in _questions(settings, store):
        try:
            found += ask()
        except CustsvcError as exc:
            problems.append(exc)
            found.append({"step": name, "waiting": None, "oldest_seconds": None, "detail": str(exc)})
    return found, problems


Steps = list[dict[str, Any]]


def _questions(settings: Settings, store: Store) -> list[tuple[str, Callable[[], Steps]]]:
    """The questions, each to one server, by the name of the number that it returns."""
    return [
        ("outbox", lambda: _outbox(store)),
        ("consumers", lambda: _consumers(settings)),
        ("notifications", lambda: _mails(store)),
        ("source", lambda: _parked(store) + _loss(store, settings.topic_updates) + _checks(store)),
    ]


def _outbox(store: Store) -> Steps:
    depth = store.outbox.depth()
    return [
        {
            "step": "outbox",
            "waiting": depth.waiting,
            "oldest_seconds": round(depth.oldest_age, 3),
            "detail": f"{store.name}: events not on Kafka yet",
        }
    ]


def _consumers(settings: Settings) -> Steps:
    with Reader(settings) as topic:
        marks = topic.marks()
        return [_lag(settings, name, topic, marks) for name in _groups(settings)]


def _mails(store: Store) -> Steps:
    return [
        {"step": "notifications", "waiting": count, "oldest_seconds": None, "detail": state}
        for state, count in sorted(store.ledger.counts().items())
    ]


def _groups(settings: Settings) -> list[str]:
    """The groups that consume events: those of all copies, and of notify."""
    usual = [group(settings.other_backend), "custsvc-notify"]
    # Keep a reference until the answer arrives: an unreferenced client is destroyed.
    client = kafka.admin(settings)
    try:
        listed = client.list_consumer_groups(request_timeout=kafka.TIMEOUT).result()
    except kafka.KafkaException:
        # The in-memory stand-in does not support this request.
        return usual
    copies = {each.group_id for each in listed.valid if each.group_id.startswith(group(""))}
    return [*sorted({usual[0], *copies}), usual[1]]


def _checks(store: Store) -> list[dict[str, Any]]:
    """The result of the last comparison of each copy."""
    return [
        {
            "step": f"verify {last['copy']}",
            "waiting": last["different"] + last["behind"],
            "oldest_seconds": None,
            "detail": f"customers not as in the source, of {last['compared']:,} compared at {last['time']}",
        }
        for last in last_results(store.facts)
    ]


def _parked(store: Store) -> list[dict[str, Any]]:
    waiting = parked(store.facts)
    about = "customers whose event is bigger than the topic takes"
    step = {"step": "parked", "waiting": len(waiting), "oldest_seconds": None, "detail": about}
    return [step] if waiting else []


def _loss(store: Store, topic: str) -> list[dict[str, Any]]:
    """The partitions that have lost their end, until all lost events are sent again."""
    loss = loss_of(store.facts, topic)
    if loss is None:
        return []
    waiting = 0 if loss.done else len(loss.partitions)
    return [{"step": "topic", "waiting": waiting, "oldest_seconds": None, "detail": str(loss)}]


def _lag(settings: Settings, name: str, topic: Reader, marks: Marks) -> dict[str, Any]:
    with closing(kafka.consumer(settings, name)) as client:
        positions = kafka.committed(client, topic.topic, list(marks), settings.kafka_servers)
    unread = _unread(topic, marks, positions)
    lag = sum(marks[part][1] - max(positions.get(part, 0), marks[part][0]) for part in unread)
    oldest = max(0.0, time.time() - min(unread.values()) / 1000) if unread else 0.0
    known = bool(positions)
    return {
        "step": name,
        "waiting": lag,
        "oldest_seconds": round(oldest, 3),
        "detail": "records not consumed yet" if known else "has not consumed anything yet",
    }
