"""How far a consumer is behind, per partition, in records and in seconds: also while a server is away.

It asks for the ends of its partitions in another thread, so the count goes on while the work waits for a
database. If Kafka does not answer, it keeps the last known ends and their age. The lag in seconds counts from
the time of the oldest record taken but not finished; without such a record, from when a new record was first
noticed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..errors import CustsvcError
from ..runtime import metrics
from .record import Message

logger = logging.getLogger(__name__)

# Seconds between two requests for the ends.
_EVERY = 2.0

Where = tuple[str, int]
"""A topic and a partition."""
Ask = Callable[[str, Sequence[int]], Mapping[int, tuple[int, int]]]
"""The watermarks of a topic's partitions."""


@dataclass(slots=True)
class _Partition:
    """How far one partition is done, and its batches in hand: the offset after each, its oldest time."""

    done: int
    end: int = 0
    behind_since: float | None = None
    in_hand: deque[tuple[int, float]] = field(default_factory=deque)

    def seen(self, now: float) -> None:
        """Note since when the partition is behind."""
        if self.end <= self.done:
            self.behind_since = None
        elif self.behind_since is None:
            self.behind_since = now

    def since(self) -> float | None:
        """The time of the oldest unfinished record, as far as it is known."""
        return self.in_hand[0][1] if self.in_hand else self.behind_since

    def lag(self, now: float) -> metrics.Behind:
        if self.end <= self.done:
            return metrics.Behind(0, 0.0)
        since = self.since()
        return metrics.Behind(self.end - self.done, max(0.0, now - since) if since is not None else 0.0)


class Lags:
    """The lags of one consumer's partitions."""

    def __init__(self, loop: str) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._partitions: dict[Where, _Partition] = {}
        self._known = time.monotonic()

    def assigned(self, positions: Mapping[Where, int]) -> None:
        """Note that these partitions were assigned, and are done up to these offsets."""
        with self._lock:
            for where, offset in positions.items():
                known = self._partitions.get(where) or _Partition(offset)
                self._partitions[where] = _Partition(offset, max(known.end, offset), known.since())

    def lost(self, partitions: Iterable[Where]) -> None:
        """Note that these partitions were revoked."""
        with self._lock:
            for where in partitions:
                self._partitions.pop(where, None)

    def taken(self, messages: Sequence[Message], offsets: Mapping[Where, int]) -> None:
        """Note that a batch was taken that ends at these offsets."""
        times: dict[Where, float] = {}
        for message in messages:
            where = (message.topic(), message.partition())
            if where not in times:
                times[where] = message.timestamp()[1] / 1000
                if len(times) == len(offsets):
                    break
        with self._lock:
            for where, offset in offsets.items():
                if (partition := self._partitions.get(where)) is not None:
                    partition.end = max(partition.end, offset)
                    if where in times:
                        partition.in_hand.append((offset, times[where]))

    def dealt_with(self, offsets: Mapping[Where, int]) -> None:
        """Note that everything before these offsets is done."""
        now = time.time()
        with self._lock:
            for where, offset in offsets.items():
                if (partition := self._partitions.get(where)) is None:
                    continue
                partition.done = max(partition.done, offset)
                while partition.in_hand and partition.in_hand[0][0] <= offset:
                    # The next record is younger, but its time is not known yet.
                    partition.behind_since = partition.in_hand.popleft()[1]
                partition.seen(now)

    @contextmanager
    def asking(self, ask: Ask) -> Iterator[None]:
        """Ask for the ends periodically within the block. Forgets batches taken before."""
        stop = threading.Event()
        with self._lock:
            for partition in self._partitions.values():
                partition.behind_since = partition.since()
                partition.in_hand.clear()
        thread = threading.Thread(target=self._ask_until, args=(stop, ask), name="lag", daemon=True)
        metrics.follow(self._loop, self.behind)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _ask_until(self, stop: threading.Event, ask: Ask) -> None:
        while not stop.is_set():
            try:
                self._learn(ask)
            except CustsvcError as exc:
                logger.debug("Cannot read the partitions' ends: %s", exc, extra={"action": "lag_unknown"})
            stop.wait(_EVERY)

    def _learn(self, ask: Ask) -> None:
        by_topic: dict[str, list[int]] = {}
        with self._lock:
            for topic, part in self._partitions:
                by_topic.setdefault(topic, []).append(part)
        for topic, parts in by_topic.items():
            marks, now = ask(topic, sorted(parts)), time.time()
            with self._lock:
                for part, (low, high) in marks.items():
                    if (partition := self._partitions.get((topic, part))) is not None:
                        partition.done = max(partition.done, low)
                        partition.end = high
                        partition.seen(now)
        self._known = time.monotonic()

    def behind(self) -> metrics.Lag:
        """Each partition's lag, and how many seconds ago the ends were read."""
        now = time.time()
        with self._lock:
            found = {where: partition.lag(now) for where, partition in self._partitions.items()}
        return metrics.Lag(found, time.monotonic() - self._known)
