"""A live feed of events for many watchers in one process: one consumer, and a ring of the newest events.

It reads events from Kafka, because the relay puts them there without gaps and in order per customer, for both
databases alike, and because a client can keep a place in the topic (an offset per partition) and resume from
it, on any process and after any restart. A watcher reads the ring at its own speed; a watcher that is behind
the ring reads the topic until it has caught up. No watcher can delay another, and memory does not grow with
their number.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from confluent_kafka import KafkaException

from ..config import Settings
from ..domain.events import APP_EVENT_TYPE
from ..errors import BadEvent, CustsvcError, NewerSchema, PositionLost, TemporaryError
from .client import TIMEOUT
from .formats import Events
from .reader import Reader
from .record import Arrival, Message, header

logger = logging.getLogger(__name__)

RING: Final = 5000
_RING_BYTES: Final = 8 * 1024 * 1024
# Seconds without a watcher after which the consumer is closed.
_IDLE: Final = 30.0
_POLL: Final = 0.2
# Seconds after which a watcher whose permission ended is disconnected, even if no event comes.
_ASK_EVERY: Final = 1.0
_BATCH: Final = 500
_CE_TYPE: Final = re.compile(rb"custsvc\.customer\.([a-z]+)\.v\d+")
# A number with more digits is not an id, and Python refuses to parse some thousand digits.
_CUSTOMER_ID: Final = re.compile(rb"\d{1,19}")
_PLACE: Final = re.compile(r"\d{1,18}(?:\.\d{1,18}){0,9999}")


class Place:
    """A watcher's position: the offset of the next record of each partition."""

    __slots__ = ("offsets",)

    def __init__(self, offsets: dict[int, int]) -> None:
        self.offsets = dict(offsets)

    def __str__(self) -> str:
        """`15.3.0`: the offsets in the order of the partitions."""
        return ".".join(str(self.offsets.get(part, 0)) for part in range(max(self.offsets, default=-1) + 1))

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """Parse a place from that form; None for anything else."""
        if not _PLACE.fullmatch(text):
            return None
        return cls(dict(enumerate(map(int, text.split(".")))))

    def is_before(self, other: dict[int, int]) -> bool:
        return any(self.offsets.get(part, 0) < offset for part, offset in other.items())


class Entry(NamedTuple):
    """An event on the topic. `number` counts the events in this process."""

    number: int
    partition: int
    offset: int
    customer_id: int
    op: str
    value: bytes


class Closed(Exception):
    """The feed has ended: the process stops, or the topic was recreated."""


class Feed:
    """The newest events of the updates topic. It is connected only while there are watchers."""

    def __init__(self, settings: Settings, *, ring: int = RING) -> None:
        self._settings = settings
        self._topic = settings.topic_updates
        self._size = ring
        self._changed = threading.Condition()
        self._ring: deque[Entry] = deque()
        self._ring_bytes = 0
        self._count = 0
        # Per partition: the first offset in the ring, and the offset after its end.
        self._low: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._watchers = 0
        self._last_watched = 0.0
        self._thread: threading.Thread | None = None
        self._closed = False
        self._epoch = 0

    # -- watching ------------------------------------------------------------------------------------------

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Collect events within the block. Raises TemporaryError if Kafka does not answer."""
        with self._changed:
            self._watchers += 1
            starting = self._thread is None and not self._closed
            if starting:
                self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        try:
            if starting:
                self._start()
            yield
        finally:
            with self._changed:
                self._watchers -= 1
                self._last_watched = time.monotonic()

    def _start(self) -> None:
        try:
            self._begin()
        except CustsvcError:
            with self._changed:
                self._thread = None
                self._changed.notify_all()
            raise
        if self._thread:
            self._thread.start()

    def _begin(self) -> None:
        """Collect from the end on. Current watchers are closed; they reconnect with their place."""
        marks = self._marks()
        with self._changed:
            self._epoch += 1
            self._ring.clear()
            self._ring_bytes = 0
            self._low = {part: high for part, (_, high) in marks.items()}
            self._next = dict(self._low)
            self._changed.notify_all()

    def _marks(self) -> dict[int, tuple[int, int]]:
        with Reader(self._settings) as topic:
            return topic.marks()

    def end(self) -> Place:
        """The place after the newest event known to this process."""
        with self._changed:
            self._wait_until_started()
            return Place(self._next)

    def beginning(self) -> Place:
        """The place before everything that the topic holds."""
        return Place({part: low for part, (low, _) in self._marks().items()})

    def resume(self, place: Place) -> tuple[Place, str]:
        """The place to resume from, and why it is not the given one; empty if it is.

        If records after the given place are gone, or it belongs to another topic, the lost events are
        unknown: then it is the beginning of the topic.
        """
        marks = self._marks()
        low = Place({part: low for part, (low, _) in marks.items()})
        if not place.offsets.keys() <= marks.keys():
            return low, f"the topic has {len(marks)} partitions, the place is of {len(place.offsets)}"
        # Partitions were added since: all that they hold comes after the place.
        place = Place({part: place.offsets.get(part, 0) for part in marks})
        if any(place.offsets[part] > high for part, (_, high) in marks.items()):
            return low, "the place is after the end of the topic, so it is of another one"
        if place.is_before(low.offsets):
            return low, "the topic no longer holds what came after this place"
        return place, ""

    def after(self, place: Place, number: int, patience: float) -> list[Entry] | None:
        """Events after `place`; waits for the first, and returns none when `patience` is over.

        `number` is that of the last entry the watcher saw, 0 at first. None if the ring does not reach back
        to the place: then use `catch_up`. Raises Closed.
        """
        with self._changed:
            self._wait_until_started()
            deadline, epoch = time.monotonic() + patience, self._epoch
            while True:
                if self._closed or self._epoch != epoch:
                    raise Closed
                if place.is_before(self._low):
                    return None
                if found := self._newer(place, number):
                    return found
                left = deadline - time.monotonic()
                if left <= 0:
                    return []
                self._changed.wait(left)

    def _wait_until_started(self) -> None:
        self._changed.wait_for(lambda: self._next or self._closed or self._thread is None, TIMEOUT * 2)
        if not (self._next or self._closed):
            raise TemporaryError("Kafka does not answer", dependency="kafka")

    def _newer(self, place: Place, number: int) -> list[Entry]:
        found: list[Entry] = []
        for entry in reversed(self._ring):
            if entry.number <= number or len(found) > self._size:
                break
            if entry.offset >= place.offsets.get(entry.partition, 0):
                found.append(entry)
        found.reverse()
        return found

    def catch_up(self, place: Place) -> Iterator[list[Entry]]:
        """Events after `place` up to the current end, read from the topic in batches.

        The newest record of a partition is never compacted away, so the end is always reached.
        """
        with self._changed:
            self._wait_until_started()
            target = dict(self._next)
        reached = {part: place.offsets.get(part, 0) for part in target}
        # `follow` reads the partitions that were added after the place when it is through with the others.
        begun = {part: offset for part, offset in reached.items() if offset}
        with Reader(self._settings, auto_offset_reset="error") as topic:
            batches = topic.follow(begun or reached, wait=_POLL, at_once=_BATCH)
            while any(reached[part] < offset for part, offset in target.items()) and not self._closed:
                entries = []
                for message in next(batches):
                    at_end = message.error() is not None
                    reached[message.partition()] = message.offset() + (not at_end)
                    if entry := _read(topic, message):
                        entries.append(entry)
                yield entries

    # -- collecting ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        lost = False
        while self._is_wanted():
            try:
                if lost:
                    self._begin()
                lost = False
                self._collect()
            except PositionLost as exc:
                logger.warning("The event stream starts again: %s", exc, extra={"action": "position_lost"})
                lost = True
            except (CustsvcError, KafkaException) as exc:
                # The next round resumes from the offsets reached, so watchers only wait.
                logger.warning("The event stream waits: %s", exc, extra={"action": "wait"})
                time.sleep(1.0)

    def _is_wanted(self) -> bool:
        with self._changed:
            if self._thread is not threading.current_thread():
                # The feed was idle a moment ago, and a watcher who came then has started another collector.
                return False
            idle = not self._watchers and time.monotonic() - self._last_watched > _IDLE
            if idle:
                self._thread, self._next = None, {}
            return not (self._closed or idle)

    def _collect(self) -> None:
        with Reader(self._settings, auto_offset_reset="error") as topic:
            batches = topic.follow(self._next, wait=_POLL, at_once=_BATCH)
            while self._is_wanted():
                if messages := next(batches):
                    # Before anything is locked: the schema registry may have to be asked.
                    self._add([(each, _read(topic, each)) for each in messages])

    def _add(self, read: list[tuple[Arrival, Entry | None]]) -> None:
        with self._changed:
            for message, entry in read:
                if message.error() is not None:
                    # An added partition may hold nothing yet.
                    self._next.setdefault(message.partition(), message.offset())
                    continue
                if entry:
                    self._count += 1
                    self._ring.append(entry._replace(number=self._count))
                    self._ring_bytes += len(entry.value)
                self._next[message.partition()] = message.offset() + 1
            while len(self._ring) > self._size or self._ring_bytes > _RING_BYTES:
                gone = self._ring.popleft()
                self._ring_bytes -= len(gone.value)
                self._low[gone.partition] = gone.offset + 1
            self._changed.notify_all()

    def close(self) -> None:
        """Raise Closed in all watchers, current and future."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _read(topic: Reader, arrived: Arrival) -> Entry | None:
    return _entry(topic.events, arrived) if arrived.error() is None else None


def _entry(events: Events, message: Message) -> Entry | None:
    """The event of a record; None if the record is not an event: replicate dead-letters those.

    Raises TemporaryError if the schema registry is needed and away.
    """
    key, value = message.key(), message.value()
    if value is None or key is None:
        return None
    try:
        value = events.json_of(value, message)
    except BadEvent:
        return None
    kind = _CE_TYPE.fullmatch(header(message, "ce_type") or b"")
    if kind and kind[1].decode() in APP_EVENT_TYPE and _CUSTOMER_ID.fullmatch(key):
        customer_id, op = int(key), kind[1].decode()
    else:
        try:
            event = events.read(message, value)
        except (BadEvent, NewerSchema):
            return None
        customer_id, op = event.customer_id, event.op
    # A line break in JSON is white space, and would end a line of the stream.
    value = value.replace(b"\r", b" ").replace(b"\n", b" ")
    return Entry(0, message.partition(), message.offset(), customer_id, op, value)


Wanted = Callable[[Entry], bool]


def frames(
    feed: Feed, place: Place, wanted: Wanted, still: Callable[[], bool], beat: float
) -> Iterator[bytes]:
    """The wanted events after `place` as server-sent events; a comment after `beat` seconds of silence.

    Each event carries the place after it as its id, as does a heartbeat after unwanted events. Ends when the
    feed is closed, or when `still` returns false; it is called once a second and before events are sent.
    """
    number, shown_place = 0, str(place)
    beaten = time.monotonic()
    with feed.watch():
        while still():
            try:
                patience = min(max(0.05, beaten + beat - time.monotonic()), _ASK_EVERY)
                found = feed.after(place, number, patience)
            except Closed:
                return
            batches = feed.catch_up(place) if found is None else iter((found,))
            for batch in batches:
                if not still():
                    return
                parts = []
                for entry in batch:
                    place.offsets[entry.partition] = entry.offset + 1
                    number = entry.number or number
                    if wanted(entry):
                        shown_place = str(place)
                        parts.append(b"id: %b\ndata: %b\n\n" % (shown_place.encode(), entry.value))
                if parts:
                    beaten = time.monotonic()
                    yield b"".join(parts)
            if time.monotonic() - beaten >= beat:
                beaten = time.monotonic()
                moved, shown_place = str(place) != shown_place, str(place)
                yield b"id: %b\n: still here\n\n" % shown_place.encode() if moved else b": still here\n\n"
