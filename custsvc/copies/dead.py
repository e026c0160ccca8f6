"""Dead letters: records that can never be read go to a topic of their own; too many of them stop the process.

A dead letter has the original's key, value and headers, byte for byte, with added headers for the reason and
its coordinates, so that it can be sent again to where it came from.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..errors import BadEvent, RecordTooLarge, TooManyBadRecords
from ..kafka.consume import coordinates
from ..kafka.publisher import ANY_SIZE, Publisher, Record
from ..kafka.record import Headers, Message, headers_of
from ..runtime.loop import Stop

logger = logging.getLogger(__name__)

PREFIX = "dead_"
CUT = "dead_cut"
"""The header of a dead letter that is not whole: the number of bytes that the record had."""
_SHOWN = 10
# What is kept of a record that does not fit the dead-letter topic with the added headers.
_KEPT = 10_000


class DeadLetters:
    """Dead-letters unreadable records, and stops when they are no longer the exception.

    Each bad record adds one to a score, each good one subtracts one. A score above `limit` means that the
    whole topic is broken, and going on would move all of it to the dead-letter topic.
    """

    def __init__(self, publisher: Publisher, topic: str, stop: Stop, limit: int) -> None:
        publisher.limit(ANY_SIZE)
        self._publisher = publisher
        self._topic = topic
        self._stop = stop
        self._limit = limit
        self._score = 0

    def judge(self, message: Message, bad: BadEvent | None = None) -> None:
        """Count a good or a bad record. Raises TooManyBadRecords when the score exceeds the limit."""
        self._score = self._score + 1 if bad else max(0, self._score - 1)
        if self._score > self._limit:
            raise TooManyBadRecords(
                f"too many bad records: {self._score:,} more than good ones up to {coordinates(message)}, "
                f"the last one because {bad}",
                fix="repair the producer of these records; or let them go to the dead-letter topic with "
                "CUSTSVC_MAX_BAD_RECORDS",
            )

    def send(self, dead: Sequence[Record]) -> None:
        """Send the records to the dead-letter topic; return when they are acknowledged."""
        try:
            self._publisher.send(self._topic, dead, give_up=self._stop.asked)
        except RecordTooLarge:
            # Some may be there twice by this; they are one entry.
            for record in dead:
                self._send_alone(record)
        for record in dead[:_SHOWN]:
            logger.error(
                "A record cannot be read and went to %s",
                self._topic,
                extra={"action": "dead_letter", **_about(record)},
            )
        if len(dead) > _SHOWN:
            more = len(dead) - _SHOWN
            logger.error("… and %d more", more, extra={"action": "dead_letter", "count": more})

    def _send_alone(self, record: Record) -> None:
        try:
            self._publisher.send(self._topic, [record], give_up=self._stop.asked)
        except RecordTooLarge:
            self._publisher.send(self._topic, [_cut(record)], give_up=self._stop.asked)


def _cut(record: Record) -> Record:
    """The beginning of a record, with the headers that say what it was and where."""
    size = len(record.value or b"")
    headers: Headers = [each for each in record.headers if each[0].startswith(PREFIX)]  # type: ignore[misc]
    key = record.key if len(record.key or b"") <= _KEPT else None
    return Record(key, (record.value or b"")[:_KEPT], [*headers, (CUT, b"%d" % size)])


def dead_letter(message: Message, bad: BadEvent) -> Record:
    """The record's own bytes, with the reason and its coordinates in added headers."""
    about = {
        "reason": str(bad).encode(),
        "class": bad.reason_class.encode(),
        "topic": message.topic().encode(),
        "partition": b"%d" % message.partition(),
        "offset": b"%d" % message.offset(),
    }
    said: Headers = [(PREFIX + name, value) for name, value in about.items()]
    return Record(message.key(), message.value(), headers_of(message) + said)


def _about(record: Record) -> dict[str, str]:
    return {
        name: value.decode("utf-8", "replace")
        for name, value in dict(record.headers).items()
        if name.startswith(PREFIX) and isinstance(value, bytes)
    }
