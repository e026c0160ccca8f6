"""Replicate: keeps a copy of the customers in another database, by the events on the topic.

Decode a batch, apply it in bulk together with its positions, then commit (see `consume`). The copy itself
knows how far it is, and reading starts from there. A record that can never be read goes to the dead-letter
topic with its original bytes, and its neighbours go on.
"""

from __future__ import annotations

import logging
from typing import Any

from .. import crash, metrics
from ..config import Settings
from ..errors import BadEvent, NewerSchema, PositionLost
from ..events import ReceivedEvent, decode
from ..kafka import Publisher, Record
from ..stores.base import Replica
from .consume import Consuming, coordinates, next_offsets
from .dead import DeadLetters, dead_letter
from .loop import Stop

logger = logging.getLogger(__name__)

BATCH = 5000


def group(copy: str) -> str:
    """The consumer group of a copy: `custsvc-copy-mongo`."""
    return f"custsvc-copy-{copy}"


class Replicate:
    """Applies one topic's events to one copy."""

    def __init__(
        self, settings: Settings, replica: Replica, publisher: Publisher, copy: str, stop: Stop
    ) -> None:
        self._topic = settings.topic_updates
        self._replica = replica
        self._dead = DeadLetters(publisher, settings.topic_dead, stop, settings.max_bad_records)
        self._consuming = Consuming(
            settings,
            group(copy),
            [self._topic],
            self._handle,
            stop,
            what="the copy",
            batch=BATCH,
            positions=replica.positions,
        )

    def run(self) -> None:
        """Apply until stop is asked.

        Raises PositionLost, NewerSchema or TooManyBadRecords: going on would lose events.
        """
        try:
            self._consuming.run()
        except PositionLost as lost:
            raise PositionLost(str(lost), fix="fill the copy anew: custsvc replicate --rebuild") from lost

    def _handle(self, messages: list[Any]) -> None:
        events: list[ReceivedEvent] = []
        dead: list[Record] = []
        crash.point("replicate.taken")
        for message in messages:
            try:
                event = _read(message)
            except BadEvent as bad:
                self._dead.judge(True, message, bad)
                dead.append(dead_letter(message, bad))
            except NewerSchema as newer:
                raise NewerSchema(f"{newer} ({coordinates(message)})", fix=newer.fix) from newer
            else:
                self._dead.judge(False, message)
                if event is not None:
                    events.append(event)
        # Bad records are on the dead-letter topic before the position moves past them.
        self._dead.bury(dead)
        crash.point("replicate.buried")
        positions = {part: offset for (_, part), offset in next_offsets(messages).items()}
        applied = self._consuming.insist(lambda: self._replica.apply(events, self._topic, positions))
        crash.point("replicate.applied")
        for result, number in (
            ("written", applied.written),
            ("stale", applied.stale),
            ("dead", len(dead)),
        ):
            metrics.count("the copy", result, number)
        logger.debug(
            "Applied %d events",
            len(events),
            extra={"action": "applied", "written": applied.written, "stale": applied.stale},
        )


def _read(message: Any) -> ReceivedEvent | None:
    """The event of a record; None for a tombstone, which says nothing that a copy must do."""
    key, value = message.key(), message.value()
    if value is None:
        if key is None:
            raise BadEvent("no-value", "the record has neither key nor value")
        return None
    return decode(value, key)
