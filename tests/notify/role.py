"""The whole role for tests: in a thread, or as a process that may be killed."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import orjson

from custsvc.config import Settings
from custsvc.domain.customers import Customer, Fields, utc_now
from custsvc.domain.events import new_change
from custsvc.kafka.client import consumer
from custsvc.kafka.offsets import watermarks
from custsvc.kafka.publisher import Record
from custsvc.kafka.topics import partitions
from custsvc.notify.intake.consumer import GROUP
from custsvc.notify.run import run_notify
from custsvc.notify.sending.sender import Policy
from custsvc.runtime.loop import Stop
from tests.background import in_background

# By its full name, by which a process that is made can import it too.
from tests.notify.forked import Copy
from tests.waiting import until

from .conftest import PATIENT

LEASE = 60.0
_POLICY: dict[str, Any] = {
    "tries": 3,
    "retry_base": 0.05,
    "retry_cap": 0.1,
    "idle": 0.05,
    "expire_every": 0.2,
}
POLICY = Policy(**_POLICY, lease=LEASE)


def created(number: int, name: str = "Ada", email: str | None = None) -> Record:
    now = utc_now()
    address = email or f"c{number}@example.com"
    customer = Customer(number, Fields(name, address), False, 1, now, "t", now, "t")
    change = new_change("created", None, customer, actor="t")
    return Record(b"%d" % number, change.event.payload, [])


def running(work: Callable[[Stop], None]) -> AbstractContextManager[None]:
    """The work in a thread until the end of the block; what it raises is raised here."""
    stop = Stop()
    return in_background(lambda: work(stop), stop)


def notify(settings: Settings) -> Callable[[Stop], None]:
    return lambda stop: run_notify(settings, stop, policy=POLICY, timeouts=PATIENT)


@contextmanager
def process(settings: Settings, folder: Path, *, crash_at: str = "", lease: float = LEASE) -> Iterator[Copy]:
    """The role as a process of its own, killed at the end of the block.

    What it holds then is held for long; `pass_time` of the back door ends that at once.
    """
    copy = Copy(settings, folder / "notify.log", crash_at, {**_POLICY, "lease": lease})
    try:
        yield copy
    finally:
        copy.kill()


def records(settings: Settings, topic: str, count: int) -> list[dict[str, Any]]:
    """The records of a topic, when there are at least so many."""
    client = consumer(settings, f"test-{uuid.uuid4().hex}")
    found: list[dict[str, Any]] = []
    try:
        client.subscribe([topic])

        def enough() -> bool:
            found.extend(_values(client))
            return len(found) >= count

        until(f"{count} records", enough)
        found.extend(_values(client))
    finally:
        client.close()
    return found


def _values(client: Any) -> list[dict[str, Any]]:
    return [orjson.loads(m.value()) for m in client.consume(100, 0.5) if m.error() is None]


def lag(settings: Settings) -> int:
    """How many changes are on the topic that the role has not taken in yet."""
    from confluent_kafka import TopicPartition

    client = consumer(settings, GROUP)
    try:
        parts = partitions(client, settings.topic_updates, settings.kafka_servers)
        ends = watermarks(client, settings.topic_updates, parts, settings.kafka_servers)
        committed = client.committed([TopicPartition(settings.topic_updates, part) for part in parts])
        return sum(ends[p.partition][1] - max(p.offset, ends[p.partition][0]) for p in committed)
    finally:
        client.close()
