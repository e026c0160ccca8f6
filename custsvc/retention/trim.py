"""Trims the history of a source: archives what is outdated, reads the archive again, then drops exactly that.

It walks over the events once, oldest first. Each event that is older than the limit and on Kafka outdates the
earlier ones of its customer (see `ports.history`). How far it came is stored after each piece, so a process
that died goes on there; a piece that was archived and not dropped is archived a second time. Several may run
at once. After each page, comparison and deletion it rests for three times as long as that took, so that
writers notice little.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..domain.customers import format_time
from ..errors import TemporaryError
from ..ports.facts import Fact
from ..ports.history import Old
from ..ports.store import Store
from ..relay.loss import loss_of
from ..runtime import crash, metrics
from ..runtime.loop import Stop
from ..service.trimmed import Trimmed, remember, trimmed
from . import archive

logger = logging.getLogger(__name__)

# Events passed at once, as many as writers hardly notice; events dropped at once; most events of a file.
_PAGE: Final = 200
_DROP: Final = 100
_FILE: Final = 100_000
# Seconds of rest for each second of work, and at most.
_REST: Final = 3.0
_REST_MOST: Final = 2.0
# Events this close to the oldest one in the outbox are not passed: clocks differ.
_CLOCKS: Final = 60.0


@dataclass(slots=True)
class Report:
    """What was done, or with a dry run would be: events passed and outdated, their bytes, the files."""

    passed: int = 0
    outdated: int = 0
    bytes: int = 0
    begins: str = ""
    files: list[archive.Summary] = field(default_factory=list)


@dataclass(slots=True)
class _Piece:
    """A part of the walk: where it ends, and a way to read its outdated events, more than once."""

    after: Trimmed
    ended: bool
    events: Callable[[], Iterator[Old]]


class Trim:
    """One run over a source's history. `folder`: where archive files go; None: no archive."""

    def __init__(self, store: Store, topic: str, days: float, folder: Path | None, stop: Stop) -> None:
        self._store = store
        self._topic = topic
        self._days = days
        self._folder = folder
        self._stop = stop
        self.report = Report()
        # Whether events that wait in the outbox keep older ones from being passed.
        self._held_up = False
        # The highest version that was found outdated, of each customer, since the last deletion.
        self._known: dict[int, int] = {}

    def run(self, *, dry_run: bool = False) -> Report:
        """Trim until nothing outdated is left or stop is asked.

        Raises TemporaryError while a topic that lost its end is not repaired: that needs the history.
        """
        before = self._limit()
        now, ended = trimmed(self._store.facts), False
        self.report.begins = now.begins
        while not ended and not self._stop.asked():
            piece = self._piece(now, before, archived=self._folder is not None and not dry_run)
            now, ended = piece.after, piece.ended
            self.report.begins = now.begins
            if not dry_run:
                self._drop(piece)
        if ended and not dry_run and not self._held_up:
            remember(self._store.facts, now._replace(ended=time.time()))
        return self.report

    def _limit(self) -> dt.datetime:
        """The time before which a replaced state is outdated."""
        loss = loss_of(self._store.facts, self._topic)
        if loss is not None and not loss.done:
            raise TemporaryError(f"{loss}; the history stays whole until then", dependency="kafka")
        waited = self._store.outbox.depth().oldest_age
        seconds = max(self._days * 86400, waited + _CLOCKS if waited else 0.0)
        self._held_up = seconds > self._days * 86400
        return dt.datetime.fromtimestamp(self._store.clock() - seconds, dt.UTC)

    def _parked(self) -> list[int]:
        """The customers whose events wait beside the outbox."""
        return [int(name.removeprefix(Fact.PARKED)) for name in self._store.facts.all(Fact.PARKED)]

    def _piece(self, now: Trimmed, before: dt.datetime, *, archived: bool) -> _Piece:
        if not archived or self._folder is None:
            page, now, ended = self._page(now, before)
            return _Piece(now, ended, lambda: iter(page))
        writing = archive.Writing(self._folder, f"history-{self._store.name}")
        try:
            ended = False
            while not ended and writing.events < _FILE and not self._stop.asked():
                page, now, ended = self._page(now, before)
                writing.add(page)
            if not writing.events:
                return _Piece(now, ended, lambda: iter(()))
            found = writing.finish(self._compare)
        finally:
            writing.abandon()
        self.report.files.append(found)
        crash.point("maintain.archived")
        return _Piece(now, ended, lambda: archive.read(found.path))

    def _page(self, now: Trimmed, before: dt.datetime) -> tuple[list[Old], Trimmed, bool]:
        began = time.monotonic()
        found = self._store.history.outdated(now.mark, before, _PAGE, parked=self._parked, known=self._known)
        self._known |= {each.customer_id: each.version for each in found.outdated}
        self.report.passed += found.passed
        self.report.outdated += len(found.outdated)
        self.report.bytes += sum(len(each.payload) for each in found.outdated)
        self._rest(began)
        begins = format_time(found.since) if found.since and found.outdated else now.begins
        return found.outdated, now.until(found.mark, begins), found.ended

    def _compare(self, path: Path) -> None:
        """Raise TemporaryError if the source has other bytes for an event now, as after an erasure."""
        for some in _some(archive.read(path)):
            began = time.monotonic()
            stored = self._store.history.stored([(each.customer_id, each.version) for each in some])
            for each in some:
                if stored.get((each.customer_id, each.version), each.payload) != each.payload:
                    what = f"version {each.version} of customer {each.customer_id}"
                    raise TemporaryError(
                        f"{what} changed while it was archived; nothing of this file is dropped",
                        dependency=self._store.name,
                        fix="custsvc maintain",
                    )
            self._rest(began)

    def _rest(self, began: float) -> bool:
        """Let others work; whether stop is asked."""
        return self._stop.wait(min(_REST * (time.monotonic() - began), _REST_MOST))

    def _drop(self, piece: _Piece) -> None:
        # First where the history begins, so that no reader misses an event unnoticed.
        before = trimmed(self._store.facts)
        remember(self._store.facts, before.until(before.mark, piece.after.begins))
        for some in _some(piece.events()):
            began = time.monotonic()
            metrics.count("history", "dropped", self._store.history.drop(some))
            crash.point("maintain.dropping")
            if self._rest(began):
                return  # the mark stays: the next run does the rest of the piece
        remember(self._store.facts, piece.after)
        self._known.clear()


def _some(events: Iterator[Old]) -> Iterator[Sequence[Old]]:
    """The events in lists of those dropped at once."""
    some: list[Old] = []
    for each in events:
        some.append(each)
        if len(some) >= _DROP:
            yield some
            some = []
    if some:
        yield some
