"""Replay: sends customers as they are again, for consumers that lost or never had them.

Replay sends snapshot events at the customer's current version, so a consumer that has that version drops
them. A snapshot must not land between a customer's events, nor after a newer one: a compacted topic keeps the
last record. So replay leaves a customer whose own event is still in the outbox to the relay, and sends a
customer that changed meanwhile again at its new version.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import orjson

from ..config import Settings
from ..domain.customers import format_time, utc_now
from ..domain.events import headers, snapshot
from ..errors import Stopped, TemporaryError
from ..kafka.client import admin
from ..kafka.formats import Writing
from ..kafka.publisher import Publisher, Record, partition_of
from ..ports.contents import Row
from ..ports.facts import Fact
from ..ports.store import Store
from ..runtime.batches import batches
from ..runtime.loop import Stop
from .guard import check_topic

logger = logging.getLogger(__name__)

_PAGE = 1000
_ACTOR = "custsvc replay"
# Seconds that the relay gets to send the events of customers that changed meanwhile.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Selection:
    """Which customers to send: these ids, or all that were changed since a time (or ever).

    `purpose` tells a replay from another one of the same customers.
    """

    ids: tuple[int, ...] | None = None
    since: dt.datetime | None = None
    purpose: str = ""

    @property
    def name(self) -> str:
        """A name that is equal for equal selections, so that an interrupted replay is recognised."""
        what = [
            list(self.ids) if self.ids is not None else None,
            format_time(self.since) if self.since else None,
            *([self.purpose] if self.purpose else []),
        ]
        return orjson.dumps(what).decode()


@dataclass(slots=True)
class Replayed:
    """How many customers were sent, and how many were left to the relay: their own event is in the outbox."""

    sent: int = 0
    left_to_relay: int = 0
    resumed_after: int = 0


class Replay:
    """Sends a selection of a source's customers to its topic, at most `rate` a second.

    Without `mails` the events are marked as made in bulk.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        publisher: Publisher,
        *,
        stop: Stop | None = None,
        rate: float | None = None,
        mails: bool = True,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._topic = settings.topic_updates
        self._settings = settings
        self._store = store
        self._publisher = publisher
        self._stop = stop or Stop()
        self._rate = rate
        self._mails = mails
        self._progress = progress
        self._writing = Writing(settings)
        self._partitions = 0
        self._source = b""

    def run(self, selection: Selection) -> Replayed:
        """Send them all. An interrupted replay resumes where it stopped, and may send one page twice.

        Raises ConfigurationError if the relay would refuse the topic, Stopped when stop is asked.
        """
        self._start()
        done = Replayed(resumed_after=self._resume(selection))
        for page in self._pages(selection, done.resumed_after):
            started = time.monotonic()
            self._send(page, done)
            self._remember(selection, page[-1].id)
            self._progress(len(page))
            self._hold_back(len(page), started)
        self._store.facts.drop(Fact.REPLAY)
        return done

    def send(self, ids: Sequence[int]) -> Replayed:
        """Send these customers once, without remembering the progress."""
        self._start()
        done = Replayed()
        for page in self._pages(Selection(ids=tuple(ids)), 0):
            self._send(page, done)
        return done

    def _start(self) -> None:
        self._writing.begin()
        self._admin = admin(self._settings)
        self._partitions = self._used()
        self._source = self._store.outbox.source().encode()

    def _used(self) -> int:
        """How many partitions the relay uses; that may grow meanwhile."""
        return check_topic(self._settings, self._store.facts, self._admin).partitions

    def count(self, selection: Selection, seen: Callable[[Row], None] = lambda _: None) -> int:
        """How many customers would be sent; `seen` gets each of them."""
        total = 0
        for page in self._pages(selection, self._resume(selection)):
            for row in page:
                seen(row)
            total += len(page)
        return total

    def _resume(self, selection: Selection) -> int:
        known = orjson.loads(self._store.facts.get(Fact.REPLAY) or "{}")
        return int(known["after"]) if known.get("selection") == selection.name else 0

    def _remember(self, selection: Selection, after: int) -> None:
        progress = {"selection": selection.name, "after": after}
        self._store.facts.put(Fact.REPLAY, orjson.dumps(progress).decode())

    def _pages(self, selection: Selection, after: int) -> Iterator[Sequence[Row]]:
        size = max(1, min(_PAGE, int(self._rate))) if self._rate else _PAGE
        if selection.ids is not None:
            for ids in batches(sorted(i for i in selection.ids if i > after), size):
                if rows := self._store.contents.rows(ids):
                    yield rows
            return
        while rows := self._store.contents.scan(after, size):
            after = rows[-1].id
            if wanted := [row for row in rows if _is_since(row, selection.since)]:
                yield wanted

    def _send(self, page: Sequence[Row], done: Replayed) -> None:
        if (partitions := self._used()) != self._partitions:
            self._partitions = partitions
            self._publisher.renew()
        rows = self._sendable(page)
        done.left_to_relay += len(page) - len(rows)
        sent = {row.id for row in rows}
        while rows:
            self._publish(rows)
            rows = self._overtaken(rows)
        done.sent += len(sent)

    def _publish(self, rows: Sequence[Row]) -> None:
        try:
            self._publisher.send(self._topic, map(self._record, rows), give_up=self._stop.asked)
        except TemporaryError:
            self._check_stop()
            raise

    def _sendable(self, rows: Sequence[Row]) -> list[Row]:
        """The rows whose own event is on the topic, or was trimmed from the history."""
        known = self._store.outbox.events([(row.id, row.version) for row in rows])
        return [row for row in rows if (event := known.get((row.id, row.version))) is None or event.sent]

    def _overtaken(self, sent: Sequence[Row]) -> list[Row]:
        """The customers, as they are now, whose newer event may precede our snapshot on the topic.

        Events written from now on follow ours. So a customer that changes once more needs nothing further;
        for the others, wait until their event is sent. If it is not sent within `_PATIENCE` seconds, the
        relay is not running, and will send it after ours.
        """
        before = {row.id: row.version for row in sent}
        changed = [row for row in self._store.contents.rows(list(before)) if row.version > before[row.id]]
        overtaken = self._sendable(changed)
        deadline = time.monotonic() + _PATIENCE
        while len(overtaken) < len(changed) and time.monotonic() < deadline:
            self._stop.wait(0.05)
            self._check_stop()
            newest = {row.id: row.version for row in self._store.contents.rows([row.id for row in changed])}
            changed = [row for row in changed if newest.get(row.id) == row.version]
            overtaken = self._sendable(changed)
        return overtaken

    def _record(self, row: Row) -> Record:
        event = snapshot(row.id, row.version, row.doc, utc_now(), actor=_ACTOR, bulk=not self._mails)
        key, encode = b"%d" % row.id, self._writing.encode
        value = event.payload if encode is None else encode(event.payload)
        about = headers(event, self._source, self._writing.content_type)
        return Record(key, value, about, partition_of(key, self._partitions))

    def _hold_back(self, count: int, started: float) -> None:
        seconds = count / self._rate - (time.monotonic() - started) if self._rate else 0.0
        self._stop.wait(max(0.0, seconds))
        self._check_stop()

    def _check_stop(self) -> None:
        if self._stop.asked():
            raise Stopped("the replay was stopped; run the same command again to go on")


def _is_since(row: Row, since: dt.datetime | None) -> bool:
    return since is None or str(orjson.loads(row.doc)["updated_on"]) >= format_time(since)
