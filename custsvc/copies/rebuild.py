"""Rebuild: fills a new copy beside the old one, verifies it, and swaps it in while the old one serves.

The new copy starts at the topic's ends from before the source is read: events before them were committed, so
the rows read contain them; events after them are applied by version. So no database snapshot must be held
open, and reading the source can be interrupted and resumed. Without a reachable source, the copy is filled
from the compacted topic alone.

Killed at any point and run again, it resumes where it stopped; the old copy stays untouched until the swap.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

from .. import __version__
from ..config import Settings
from ..domain.customers import utc_now
from ..domain.events import snapshot
from ..domain.received import ReceivedEvent, decode
from ..errors import (
    BadEvent,
    CheckFailed,
    ConfigurationError,
    Conflict,
    PositionLost,
    Stopped,
    TemporaryError,
)
from ..kafka.reader import Reader
from ..kafka.record import Message
from ..ports.contents import Row
from ..ports.facts import Fact
from ..ports.replica import Replica
from ..ports.store import Store
from ..runtime import crash
from ..runtime.loop import Stop
from .origin import forget, is_another_topic
from .pipeline import pipeline
from .verify import Pipeline, Report, verify

logger = logging.getLogger(__name__)

_PAGE = 5000
_ACTOR = "custsvc rebuild"
# Seconds for which the old copy is held; each try needs a small part of them.
_HOLD = 6.0
_TRIES = 10


class Rebuild:
    """Rebuilds one copy. `progress` receives the number of customers, or of records without a source."""

    def __init__(
        self,
        settings: Settings,
        copy: Store,
        source: Store | None,
        *,
        stop: Stop | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._topic = settings.topic_updates
        self._copy = copy
        self._source = source
        self._stop = stop or Stop()
        self._progress = progress
        self._reader = Reader(settings)

    def run(self) -> Report | None:
        """Fill, verify and swap; return the report of verify, None without a source.

        Raises Conflict while another process does the same, CheckFailed if the new copy differs from the
        source, Stopped when stop is asked.
        """
        try:
            self._check_source()
            with self._copy.replica.rebuilding() as alone:
                if not alone:
                    raise Conflict(
                        "another process rebuilds this copy",
                        fix="wait for it; or stop it, and run the same command to go on",
                    )
                shadow = self._begin()
                stranded = self._is_stranded()
                self._fill(shadow)
                self._catch_up(shadow)
                report = self._prove(shadow)
                crash.point("rebuild.proven")
                logger.info("Swapping the new copy in", extra={"action": "swap"})
                self._swap(shadow, anyway=stranded)
            return report
        finally:
            self._reader.close()

    def _check_source(self) -> None:
        # An empty database, or another copy, would be taken for the complete source.
        if self._source is not None and self._source.facts.get(Fact.ROLE) != "source":
            raise ConfigurationError(
                f"the {self._source.name} database is no system of record",
                fix="name the database that is: custsvc replicate --rebuild --source NAME",
            )

    # -- filling --------------------------------------------------------------------------------------------

    def _begin(self) -> Replica:
        """The shadow, resumed or new, at positions in the topic from which it can be filled."""
        replica = self._copy.replica
        shadow = replica.shadow()
        # A rebuild that was killed may have left the old copy held.
        replica.hold(0)
        known = self._remembered()
        if known["like"] == self._like() and self._can_go_on(shadow):
            logger.info("Going on after customer %d", known["after"], extra={"action": "rebuild"})
            return shadow
        replica.drop_shadow()
        shadow = replica.shadow()
        edge = 0 if self._source is None else 1
        shadow.apply([], self._topic, {part: marks[edge] for part, marks in self._marks().items()})
        self._remember(0)
        return shadow

    def _like(self) -> list[str]:
        """The source, topic and version that fill a shadow: if one differs, the rebuild starts again."""
        return [self._source.outbox.source() if self._source else "", self._topic, __version__]

    def _can_go_on(self, shadow: Replica) -> bool:
        """Whether the topic still holds the records that the shadow has to read next."""
        positions, marks = shadow.positions(self._topic), self._marks()
        return set(positions) == set(marks) and all(
            low <= positions[part] <= high for part, (low, high) in marks.items()
        )

    def _remember(self, after: int) -> None:
        self._copy.facts.put(Fact.REBUILD, orjson.dumps({"like": self._like(), "after": after}).decode())

    def _remembered(self) -> dict[str, Any]:
        known: dict[str, Any] = orjson.loads(
            self._copy.facts.get(Fact.REBUILD) or '{"like": null, "after": 0}'
        )
        return known

    def _fill(self, shadow: Replica) -> None:
        if self._source is None:
            return
        after = self._remembered()["after"]
        while rows := self._source.contents.scan(after, _PAGE):
            self._check_stop()
            shadow.apply([_as_event(row) for row in rows], self._topic, {})
            crash.point("rebuild.filling")
            after = rows[-1].id
            self._remember(after)
            self._progress(len(rows))

    def _catch_up(self, shadow: Replica) -> None:
        """Apply the events that the shadow lacks, up to the topic's current ends."""
        positions, marks = shadow.positions(self._topic), self._marks()
        if lost := [part for part, (low, _) in marks.items() if positions.get(part, 0) < low]:
            raise PositionLost(
                f"partitions {lost} of {self._topic} lost what the new copy has to read next",
                fix="run it again: it starts from the beginning",
            )
        ranges = {part: (positions.get(part, 0), high) for part, (_, high) in marks.items()}
        batch: list[Message] = []
        for message in self._reader.read(ranges):
            batch.append(message)
            if len(batch) >= _PAGE:
                self._apply(shadow, batch)
                batch = []
        self._apply(shadow, batch)
        # The shadow has also passed offsets without a record, as compaction leaves them.
        shadow.apply([], self._topic, {part: high for part, (_, high) in marks.items()})

    def _apply(self, shadow: Replica, messages: Sequence[Message]) -> None:
        self._check_stop()
        positions = {message.partition(): message.offset() + 1 for message in messages}
        shadow.apply(list(_readable(self._reader, messages)), self._topic, positions)
        if self._source is None:
            self._progress(len(messages))

    # -- proving and swapping -------------------------------------------------------------------------------

    def _prove(self, shadow: Replica) -> Report | None:
        if self._source is None:
            return None
        logger.info("The new copy is filled; proving it against the source", extra={"action": "prove"})

        def positions() -> dict[int, int]:
            self._catch_up(shadow)
            return shadow.positions(self._topic)

        with pipeline(self._settings, self._source, self._copy) as way:
            report = verify(
                self._source.contents,
                shadow,
                Pipeline(way.published, way.ends, positions),
                progress=lambda _: self._check_stop(),
            )
        if report.differences:
            self._copy.facts.drop(Fact.REBUILD)
            raise CheckFailed(
                f"the new copy differs from the source in {len(report.differences)} customers; the old stays",
                fix="run it again: it starts from the beginning; if it differs again, report this as a bug",
            )
        return report

    def _is_stranded(self) -> bool:
        """Whether the old copy's positions are not on the topic: it was recreated, or has lost its end."""
        live, marks = self._copy.replica.positions(self._topic), self._marks()
        beyond = any(part not in marks or offset > marks[part][1] for part, offset in live.items())
        return beyond or is_another_topic(self._settings, self._copy)

    def _swap(self, shadow: Replica, *, anyway: bool) -> None:
        for _ in range(_TRIES):
            self._catch_up(shadow)
            # The few events that came meanwhile are applied while the old copy is held.
            self._copy.replica.hold(_HOLD)
            self._catch_up(shadow)
            if self._copy.replica.swap(self._topic, anyway=anyway):
                forget(self._settings, self._copy)
                self._copy.facts.drop(Fact.REBUILD)
                logger.info("The new copy serves", extra={"action": "rebuilt"})
                return
        raise TemporaryError(
            "the new copy cannot catch up with the old one",
            dependency="kafka",
            fix="run it again, best while there are few changes: it goes on where it stopped",
        )

    def _marks(self) -> dict[int, tuple[int, int]]:
        return self._reader.marks()

    def _check_stop(self) -> None:
        if self._stop.asked():
            raise Stopped("the rebuild was stopped; run the same command again to go on")


def _as_event(row: Row) -> ReceivedEvent:
    event = snapshot(row.id, row.version, row.doc, utc_now(), actor=_ACTOR)
    return decode(event.payload, b"%d" % row.id)


def _readable(topic: Reader, messages: Sequence[Message]) -> Iterator[ReceivedEvent]:
    """The events among these records; the running copy has dead-lettered the unreadable ones."""
    for message in messages:
        if (value := message.value()) is None:
            continue
        try:
            yield topic.events.read(message, value)
        except BadEvent as bad:
            logger.warning("A record is left out: %s", bad, extra={"action": "left_out"})
