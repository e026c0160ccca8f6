"""Replicate: keeps a copy of the customers in another database, by the events on the topic.

Take a batch, decode it, apply it in bulk together with its positions, then commit exact offsets: one
thread, so nothing is in flight when partitions move. The copy itself knows how far it is, and reading
starts from there; the offsets committed to the group are for tools that show lag.

An outage is not bad data. While the database is away the partitions are paused, membership is kept and the
batch waits. A record that can never be read goes to the dead-letter topic with its original bytes, and its
neighbours go on.
"""

from __future__ import annotations

import logging
from typing import Any

from ..config import Settings
from ..errors import BadEvent, NewerSchema, PositionLost, TemporaryError
from ..events import ReceivedEvent, decode
from ..kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Publisher,
    Record,
    TopicPartition,
    consumer,
    failure,
    is_passing,
)
from ..stores.base import Replica
from .loop import Stop, backoff, keep_trying

logger = logging.getLogger(__name__)

BATCH = 5000
_IDLE = 0.5


def group(copy: str) -> str:
    """The consumer group of a copy: `custsvc-copy-mongo`."""
    return f"custsvc-copy-{copy}"


class Replicate:
    """Applies one topic's events to one copy."""

    def __init__(
        self, settings: Settings, replica: Replica, publisher: Publisher, copy: str, stop: Stop
    ) -> None:
        self._settings = settings
        self._topic = settings.topic_updates
        self._replica = replica
        self._publisher = publisher
        self._copy = copy
        self._stop = stop
        self._consumer: Consumer | None = None
        self._paused = False

    def run(self) -> None:
        """Apply until stop is asked. Raises PositionLost or NewerSchema: going on would lose events."""
        keep_trying(self._consume, self._stop, "replicate")

    def _consume(self) -> None:
        # A position that fell out of the log must not turn into a silent jump.
        client = consumer(self._settings, group(self._copy), auto_offset_reset="error")
        self._consumer = client
        self._paused = False
        try:
            client.subscribe([self._topic], on_assign=self._on_assign)
            while not self._stop.asked():
                if messages := self._take(client):
                    self._handle(client, messages)
        except KafkaException as exc:
            raise failure(exc, self._settings.kafka_servers) from exc
        finally:
            self._consumer = None
            client.close()

    def _take(self, client: Consumer) -> list[Any]:
        """Up to a batch of records: waits for the first, then takes what is there already."""
        messages = client.consume(1, _IDLE)
        if messages:
            messages += client.consume(BATCH - 1, 0)
        return [message for message in messages if self._is_record(message)]

    def _is_record(self, message: Any) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise PositionLost(
                f"the topic {self._topic} no longer holds what comes after this copy's position in partition "
                f"{message.partition()}: {error.str()}",
                fix="empty the copy's database and start replicate again: it is filled from the beginning",
            )
        if not is_passing(error):
            raise KafkaException(error)
        return False

    def _on_assign(self, client: Consumer, assigned: list[TopicPartition]) -> None:
        positions = self._replica.positions(self._topic)
        for partition in assigned:
            partition.offset = positions.get(partition.partition, OFFSET_BEGINNING)
        client.incremental_assign(assigned)
        if self._paused:
            client.pause(assigned)
        if assigned:
            logger.info(
                "Assigned %d partitions",
                len(assigned),
                extra={"action": "assigned", "partitions": [p.partition for p in assigned]},
            )

    def _handle(self, client: Consumer, messages: list[Any]) -> None:
        events: list[ReceivedEvent] = []
        dead: list[Record] = []
        positions: dict[int, int] = {}
        for message in messages:
            positions[message.partition()] = message.offset() + 1
            try:
                event = _read(message)
            except BadEvent as bad:
                dead.append(_dead_letter(message, bad))
            except NewerSchema as newer:
                raise NewerSchema(f"{newer} ({_coordinates(message)})", fix=newer.fix) from newer
            else:
                if event is not None:
                    events.append(event)
        if dead:
            self._bury(dead)
        self._apply(client, events, positions)
        self._commit(client, positions)

    def _bury(self, dead: list[Record]) -> None:
        """Bad records are on the dead-letter topic before the position moves past them."""
        self._publisher.send(self._settings.topic_dead, dead, give_up=self._stop.asked)
        for record in dead[:10]:
            about = {
                k: v.decode() for k, v in record.headers if k.startswith("dead_") and isinstance(v, bytes)
            }
            logger.error(
                "A record cannot be read and went to %s",
                self._settings.topic_dead,
                extra={"action": "dead_letter", **about},
            )
        if len(dead) > 10:
            logger.error("… and %d more", len(dead) - 10, extra={"action": "dead_letter", "count": len(dead)})

    def _apply(self, client: Consumer, events: list[ReceivedEvent], positions: dict[int, int]) -> None:
        """Apply, waiting out an outage with the partitions paused and the membership kept."""
        attempt = 0
        while True:
            try:
                applied = self._replica.apply(events, self._topic, positions)
                break
            except TemporaryError as exc:
                attempt += 1
                self._wait_paused(client, exc, attempt)
        if self._paused:
            client.resume(client.assignment())
            self._paused = False
            logger.info("The copy's database is back", extra={"action": "resumed"})
        logger.debug(
            "Applied %d events",
            len(events),
            extra={"action": "applied", "written": applied.written, "stale": applied.stale},
        )

    def _wait_paused(self, client: Consumer, exc: TemporaryError, attempt: int) -> None:
        delay = max(0.1, backoff(attempt, 0.5, 10.0))
        logger.warning(
            "The copy waits %.1f s: %s", delay, exc, extra={"action": "wait", "dependency": exc.dependency}
        )
        if not self._paused:
            client.pause(client.assignment())
            self._paused = True
        # Paused partitions give nothing; the call serves heartbeats and rebalances. Should a partition that
        # was just assigned give a record all the same, start anew from the copy's own positions.
        if client.consume(1, delay):
            raise exc
        if self._stop.asked():
            raise TemporaryError("stopped while waiting for the copy's database", dependency=exc.dependency)

    def _commit(self, client: Consumer, positions: dict[int, int]) -> None:
        offsets = [TopicPartition(self._topic, part, offset) for part, offset in positions.items()]
        try:
            client.commit(offsets=offsets, asynchronous=True)
        except KafkaException as exc:
            # The copy holds the positions; a commit that fails costs the lag tools a moment of truth.
            logger.warning("Offsets not committed: %s", exc, extra={"action": "commit_failed"})


def _read(message: Any) -> ReceivedEvent | None:
    """The event of a record; None for a tombstone, which says nothing that a copy must do."""
    key, value = message.key(), message.value()
    if value is None:
        if key is None:
            raise BadEvent("no-value", "the record has neither key nor value")
        return None
    return decode(value, key)


def _coordinates(message: Any) -> str:
    return f"{message.topic()} partition {message.partition()} offset {message.offset()}"


def _dead_letter(message: Any, bad: BadEvent) -> Record:
    return Record(
        message.key(),
        message.value(),
        [
            *(message.headers() or []),
            ("dead_reason", str(bad).encode()),
            ("dead_class", bad.reason_class.encode()),
            ("dead_topic", message.topic().encode()),
            ("dead_partition", b"%d" % message.partition()),
            ("dead_offset", b"%d" % message.offset()),
        ],
    )
