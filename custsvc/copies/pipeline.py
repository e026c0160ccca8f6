"""The progress of the pipeline: `verify` waits for it, and `status` shows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final

from ..config import Settings
from ..errors import CustsvcError
from ..kafka import client as kafka
from ..kafka import offsets
from ..kafka.publisher import Publisher
from ..kafka.reader import Marks, Reader
from ..ports.endpoints import paused_channels
from ..ports.ledger import PAUSED, UNSETTLED
from ..ports.store import Store
from ..relay import shards
from ..relay.growth import progress_of
from ..relay.loss import loss_of
from ..relay.replay import Replay
from ..service.parked import parked
from .dead_letters import DeadLetter, DeadLetterBox, Outcome
from .replicate import group
from .verify import Pipeline, last_results

# By how much the database's clock and ours may differ without `verify` ending its wait too early.
_CLOCK_SLACK = 1.0


# What the states of mails mean.
_OF_MAILS: Final = {
    "queued": "mails not tried yet",
    "claimed": "mails in the hands of a sender",
    "handing_over": "mails that a mail server is getting now",
    "deferred": "mails that are tried again later",
    "sent": "mails that a mail server took",
    "failed": "mails given up; custsvc failed list --stage notify",
    "unknown": "mails that may have arrived; custsvc notify unknown",
    "suppressed": "mails to addresses or customers that get none",
    "discarded": "mails that a person gave up",
    PAUSED: "deliveries to paused webhook endpoints; custsvc webhooks list",
}


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
    with Publisher(settings) as publisher:
        replay = Replay(settings, source, publisher)
        yield lambda ids: replay.send(tuple(ids))


def send_again(
    settings: Settings, source: Store, box: DeadLetterBox, letters: Sequence[DeadLetter]
) -> Outcome:
    """Send dead letters to where they came from, followed by snapshots of their customers.

    The snapshots bring what a copy has missed meanwhile. Raises as `DeadLetterBox.retry`.
    """
    outcome = box.retry(letters)
    if customers := outcome.customers:
        with resending(settings, source) as again:
            again(customers)
    return outcome


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
            found.append(_step(name, "unknown", None, str(exc)))
    return found, problems


Steps = list[dict[str, Any]]


def _questions(settings: Settings, store: Store) -> list[tuple[str, Callable[[], Steps]]]:
    """The questions, each to one server, by the name of the number that it returns."""
    return [
        ("outbox", lambda: _outbox(store)),
        ("consumers", lambda: _consumers(settings)),
        ("notifications", lambda: _mails(store)),
        ("source", lambda: _of_source(store, settings.topic_updates)),
    ]


def _outbox(store: Store) -> Steps:
    depth = store.outbox.depth()
    state = "waiting" if depth.waiting else "empty"
    about = f"{store.name}: events not on Kafka yet"
    return [_step("outbox", state, depth.waiting, about, oldest=depth.oldest_age)]


def _consumers(settings: Settings) -> Steps:
    with Reader(settings) as topic:
        marks = topic.marks()
        return [_lag(settings, name, topic, marks) for name in _groups(settings)]


def _mails(store: Store) -> Steps:
    counts = store.ledger.counts(paused=paused_channels(store.endpoints.all()))
    return [
        _step("notifications", state, count if state in UNSETTLED else 0, _OF_MAILS[state], count=count)
        for state, count in sorted(counts.items())
    ]


def _groups(settings: Settings) -> list[str]:
    """The groups that consume events, without their prefix: those of all copies, and of notify."""
    usual = [group(settings.other_backend), "notify"]
    start = settings.group_prefix + group("")
    # Keep a reference until the answer arrives: an unreferenced client is destroyed.
    client = kafka.admin(settings)
    try:
        listed = client.list_consumer_groups(request_timeout=kafka.TIMEOUT).result()
    except kafka.KafkaException:
        # The in-memory stand-in does not support this request.
        return usual
    copies = {
        group(each.group_id.removeprefix(start)) for each in listed.valid if each.group_id.startswith(start)
    }
    return [*sorted({usual[0], *copies}), usual[1]]


def _checks(store: Store) -> list[dict[str, Any]]:
    """The result of the last comparison of each copy."""
    return [
        _step(
            f"verify {last['copy']}",
            "different" if last["different"] else "behind" if last["behind"] else "identical",
            last["different"] + last["behind"],
            f"customers not as in the source, compared at {last['time']}",
            count=last["compared"],
        )
        for last in last_results(store.facts)
    ]


def _parked(store: Store) -> list[dict[str, Any]]:
    waiting = parked(store.facts)
    about = "customers whose event is bigger than the topic takes"
    return [_step("parked", "parked", len(waiting), about)] if waiting else []


def _of_source(store: Store, topic: str) -> list[dict[str, Any]]:
    return (
        _parked(store) + _loss(store, topic) + _shards(store, topic) + _growth(store, topic) + _checks(store)
    )


def _shards(store: Store, topic: str) -> list[dict[str, Any]]:
    """How many relays share the work, if more than one should."""
    found = shards.about(store.facts, topic)
    return [_step("shards", found[0], 0, found[1])] if found else []


def _growth(store: Store, topic: str) -> list[dict[str, Any]]:
    """How far a growth of the topic is, until nothing of it is left to do."""
    growth = progress_of(store.facts, topic)
    return [_step("growth", growth.state, 0, growth.detail)] if growth else []


def _loss(store: Store, topic: str) -> list[dict[str, Any]]:
    """The partitions that have lost their end, until all lost events are sent again."""
    loss = loss_of(store.facts, topic)
    if loss is None:
        return []
    waiting = 0 if loss.done else len(loss.partitions)
    return [_step("topic", "lost" if waiting else "sent again", waiting, str(loss))]


def _lag(settings: Settings, name: str, topic: Reader, marks: Marks) -> dict[str, Any]:
    with closing(kafka.consumer(settings, name)) as client:
        positions = offsets.committed(client, topic.topic, list(marks), settings.kafka_servers)
    unread = _unread(topic, marks, positions)
    lag = sum(marks[part][1] - max(positions.get(part, 0), marks[part][0]) for part in unread)
    oldest = max(0.0, time.time() - min(unread.values()) / 1000) if unread else 0.0
    state = "not started" if not positions else "behind" if lag else "caught up"
    return _step(f"custsvc-{name}", state, lag, "records not consumed yet", oldest=oldest)


def _step(
    step: str,
    state: str,
    waiting: int | None,
    detail: str,
    *,
    count: int | None = None,
    oldest: float | None = None,
) -> dict[str, Any]:
    """A line of the status: the figures, a state of a word or two, and in words what is counted."""
    return {
        "step": step,
        "state": state,
        "count": count,
        "waiting": waiting,
        "oldest_seconds": None if oldest is None else round(oldest, 3),
        "detail": detail,
    }
