"""The latency of a change: from its commit until it is on the topic, and until it is in the copy.

Writers change customers at a steady rate through the service, as the API does. A consumer notes when each
event is readable; the copy's own positions show when it has been applied. The roles are real processes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol

import orjson

from ..config import Settings
from ..domain.customers import Fields, Stored
from ..kafka import client as kafka
from ..service.customers import Caller, CustomerService
from ..stores import open_store
from ..transfer.seed import made_up
from .report import Measure, percentile
from .roles import Role, until

_WRITERS = 4
_HOT = 500
_CALLER = Caller("bench")
# The first seconds do not count: roles and watchers connect then, and in a short run these changes would be
# the slowest percent.
_WARM_UP = 1.5

_ALL_IN_COPY = "every change is in the copy"

Key = tuple[int, int]  # customer and version


class Writes(Protocol):
    """What the writers call; it must return once the change is committed."""

    def create(self, fields: Fields, caller: Caller, /) -> Stored: ...

    def replace(self, customer_id: int, fields: Fields, caller: Caller, /) -> Stored: ...


def measure(settings: Settings, seconds: float, rate: int) -> Iterator[Measure]:
    """Write `rate` changes a second for `seconds`; returns the two latencies."""
    trial = Trial(settings)
    copy = settings.other_backend
    with Role(settings, "relay") as relay, Role(settings, "replicate", "--backend", copy) as replicate:
        relay.began("leading")
        replicate.began("assigned")
        written = trial.warm(seconds, rate)
    rate_was = f"{settings.backend} to {copy}, {len(written) / seconds:.0f} writes/s"
    for place, seen, role in (("topic", trial.on_topic, relay), ("copy", trial.in_copy(), replicate)):
        took = [max(0.0, seen[key] - at) * 1000 for key, at in written.items()]
        for share in (0.5, 0.99):
            name, value = (
                f"{settings.backend} to {place} p{share * 100:.0f}",
                round(percentile(took, share), 1),
            )
            yield Measure(name, value, "ms", rss_mb=role.rss_mb, detail=rate_was)


def to_topic(settings: Settings, seconds: float, rate: int, writes: Writes | None = None) -> list[float]:
    """Write as `measure` does, while something else sends. Returns each change's way to the topic in ms."""
    trial = Trial(settings, copied=False, writes=writes)
    written = trial.warm(seconds, rate)
    return [max(0.0, trial.on_topic[key] - at) * 1000 for key, at in written.items()]


class Trial:
    """One run: its writers, and the watchers of the topic and, unless not `copied`, of the copy."""

    def __init__(self, settings: Settings, *, copied: bool = True, writes: Writes | None = None) -> None:
        self._settings = settings
        self._copied = copied
        self._writes = writes
        self._stop = threading.Event()
        self.on_topic: dict[Key, float] = {}
        self._place: dict[Key, tuple[int, int]] = {}
        self._positions: list[tuple[float, dict[int, int]]] = []

    def warm(self, seconds: float, rate: int) -> dict[Key, float]:
        """`run` for so long after a warm-up, whose changes are left out."""
        written = self.run(_WARM_UP + seconds, rate)
        begin = min(written.values()) + _WARM_UP
        return {key: at for key, at in written.items() if at >= begin}

    def run(self, seconds: float, rate: int) -> dict[Key, float]:
        """Write the changes and wait until all have arrived. Returns the time of each commit."""
        watches = (self._watch_topic, self._watch_copy) if self._copied else (self._watch_topic,)
        watchers = [threading.Thread(target=watch) for watch in watches]
        for each in watchers:
            each.start()
        try:
            written = self._write(seconds, rate)
            until(lambda: written.keys() <= self.on_topic.keys(), 60, "every event is on the topic")
            if self._copied:
                until(lambda: written.keys() <= self.in_copy().keys(), 60, _ALL_IN_COPY, pause=0.5)
        finally:
            self._stop.set()
            for each in watchers:
                each.join()
        return written

    def in_copy(self) -> dict[Key, float]:
        """The time when the copy's position first was after each event."""
        waiting: dict[int, list[tuple[int, Key]]] = {}
        for key, (part, offset) in self._place.copy().items():
            waiting.setdefault(part, []).append((offset, key))
        found: dict[Key, float] = {}
        for part, events in waiting.items():
            events.sort(reverse=True)
            for at, positions in self._positions.copy():
                while events and events[-1][0] < positions.get(part, 0):
                    found[events.pop()[1]] = at
        return found

    def _write(self, seconds: float, rate: int) -> dict[Key, float]:
        written: dict[Key, float] = {}
        share = max(1, rate // _WRITERS)
        with open_store(self._settings) as store:
            service = self._writes or CustomerService(store.customers)
            threads = [
                threading.Thread(target=_writer, args=(service, number, seconds, share, written))
                for number in range(_WRITERS)
            ]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
        return written

    def _watch_topic(self) -> None:
        client = kafka.consumer(
            self._settings, "bench-watch", auto_offset_reset="earliest", fetch_wait_max_ms=10
        )
        with closing(client):
            client.subscribe([self._settings.topic_updates])
            while not self._stop.is_set():
                # To ask for many at once would wait for as many.
                for message in [*client.consume(1, 0.05), *client.consume(500, 0)]:
                    self._saw(message)

    def _saw(self, message: Any) -> None:
        if message.error() is None:
            event = orjson.loads(message.value())
            key = event["customer_id"], event["version"]
            self._place[key] = message.partition(), message.offset()
            self.on_topic.setdefault(key, time.monotonic())

    def _watch_copy(self) -> None:
        with open_store(self._settings, self._settings.other_backend) as copy:
            while not self._stop.wait(0.002):
                positions = copy.replica.positions(self._settings.topic_updates)
                self._positions.append((time.monotonic(), positions))


def _writer(service: Writes, number: int, seconds: float, rate: int, written: dict[Key, float]) -> None:
    """Write half new customers, half changes of those, at `rate` a second however long a write takes."""
    begun = time.monotonic()
    mine: list[Stored] = []
    for turn, fields in enumerate(islice(made_up(10**9, number), int(seconds * rate))):
        time.sleep(max(0.0, begun + turn / rate - time.monotonic()))
        if turn % 2 and mine:
            last = mine[turn % len(mine) % _HOT]
            changed = replace(fields, phone=f"+1 555 {turn:07d}")
            stored = service.replace(last.id, changed, _CALLER)
        else:
            stored = service.create(fields, _CALLER)
            mine.append(stored)
        written[stored.id, stored.version] = time.monotonic()
