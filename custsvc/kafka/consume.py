"""The loop of every consumer: take a batch, hand it to its handler, commit exact offsets, go on.

A batch is committed only after its handler has returned and what that left to be done is done, which means
its effects are durable. What it leaves runs beside the taking and handling of the next batch, one at a time
and in order. So a batch may be in flight when partitions move: whoever has them next may handle it again, as
after a crash, and its effects tolerate that. An outage of what the handler writes to is waited out with the
partitions paused and the membership kept (`insist`); one of Kafka ends in a new start from the last commit.

A consumer whose store knows its own positions reads from those; the offsets in the group are for tools that
show lag. A position that is not in the log any more never becomes a silent jump: a store that must hold
everything stops there, another consumer says what it missed and goes on.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, repeat
from typing import NamedTuple, TypeVar, cast

from ..config import Settings
from ..errors import PositionLost, Superseded, TemporaryError
from ..runtime import crash, metrics
from ..runtime.loop import Outage, Stop, keep_trying
from .client import (
    END_OF_PARTITION,
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
    consumer,
    failure,
    is_passing,
    watermarks,
)
from .client import Message as Arrived
from .lag import Lags
from .record import Message

logger = logging.getLogger(__name__)

T = TypeVar("T")
Offsets = Mapping[tuple[str, int], int]
"""Per topic and partition, the offset of the next record to read."""
Handle = Callable[[list[Message], Offsets], Callable[[], None] | None]
Positions = Callable[[str], Mapping[int, int]]

_IDLE = 0.5
# Seconds.
_SETTLING = 2.0
# Seconds a question for the end of a partition may take, which nothing waits for but the end of the loop.
_PATIENCE = 1.0
# As long as a batch is in flight, for it is to be committed when it is done.
_SOON = 0.02


class _Left(NamedTuple):
    """What is left to do of a batch, as it is being done, and the offsets after it."""

    work: Callable[[], None]
    first: Future[None]
    offsets: Offsets


class Consuming:
    """Consumes topics in a group and gives each batch to `handle`, whose list it is then.

    With it go the offsets after the batch. One without records moves only those: past what is no record,
    as the marks of transactions.

    `handle` may return what is left to do, for another thread: it is done again for as long as it raises
    TemporaryError, and before that of the next batch begins.

    `positions` says where to go on in a topic, per partition: that of a store which keeps them together with
    its data, and has to hold all of it. Without it the group's committed offsets count. `what` is how the
    log calls this consumer. `before` runs at each start, also after an outage.
    """

    def __init__(
        self,
        settings: Settings,
        group: str,
        topics: Sequence[str],
        handle: Handle,
        stop: Stop,
        *,
        what: str,
        batch: int,
        positions: Positions | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        self._settings = settings
        self._group = group
        self._topics = list(topics)
        self._handle = handle
        self._stop = stop
        self._what = what
        self._batch = batch
        self._positions = positions
        self._before = before
        self._client: Consumer | None = None
        self._paused = False
        self._left: _Left | None = None
        # How far each partition was read, so that an end which is further is noticed.
        self._read: dict[tuple[str, int], int] = {}
        self._lags = Lags(what)

    def run(self) -> None:
        """Consume until stop is asked. Raises PositionLost, and what `handle` raises but TemporaryError."""
        keep_trying(self._consume, self._stop, self._what)

    def _consume(self) -> None:
        if self._before is not None:
            self._before()
        # A position that fell out of the log must not turn into a silent jump.
        client = consumer(self._settings, self._group, auto_offset_reset="error", **self._membership())
        self._client = client
        self._paused = False
        try:
            client.subscribe(self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke)
            with self._lags.asking(partial(self._marks, client)), ThreadPoolExecutor(1, "consume") as aside:
                self._loop(client, aside)
        except KafkaException as exc:
            raise failure(exc, self._settings.kafka_servers) from exc
        finally:
            self._client = self._left = None
            client.close()

    def _loop(self, client: Consumer, aside: Executor) -> None:
        while not self._stop.asked():
            messages, ends = self._take(client)
            metrics.beat(self._what)
            offsets = self._beyond(messages, ends)
            if not offsets:
                self._finish(client)
                continue
            self._lags.taken(messages, offsets)
            try:
                left = self._handle(messages, offsets)
            finally:
                # What came before is done and committed, whatever there is to say about this batch.
                self._finish(client)
            if left is None:
                self._done(client, offsets)
            else:
                self._left = _Left(left, aside.submit(left), offsets)
        self._finish(client)

    def _finish(self, client: Consumer) -> None:
        """Wait until what was left of the batch before is done."""
        if self._left is None:
            return
        (work, first, offsets), self._left = self._left, None
        tries = chain([first.result], repeat(work))
        self.insist(lambda: next(tries)())
        self._done(client, offsets)

    def _done(self, client: Consumer, offsets: Offsets) -> None:
        self._commit(client, offsets)
        crash.point("consume.committed")
        self._lags.dealt_with(offsets)

    def _membership(self) -> dict[str, str]:
        """The lasting name, one for each choice of topics.

        Kafka hands a name that comes back what it had before, and does not look at what it asks for now: one
        that follows another topic would be given the partitions of the old one.
        """
        if not self._settings.instance_id:
            return {}
        topics = zlib.crc32(" ".join(self._topics).encode())
        return {"group_instance_id": f"{self._settings.instance_id}-{topics:08x}"}

    def _take(self, client: Consumer) -> tuple[list[Message], Offsets]:
        """Up to a batch of records, and the ends that were reached.

        Waits for the first, then takes what is there already.
        """
        arrived = client.consume(1, _IDLE if self._left is None else _SOON)
        if arrived:
            arrived += client.consume(self._batch - 1, 0)
        records = cast("list[Message]", [each for each in arrived if self._is_record(each)])
        if len(records) == len(arrived):
            return records, {}
        ends = cast("list[Message]", [each for each in arrived if is_end(each)])
        return records, {(end.topic(), end.partition()): end.offset() for end in ends}

    def _beyond(self, messages: Sequence[Message], ends: Offsets) -> Offsets:
        """What follows these records, and ends that are further than what was read."""
        offsets = next_offsets(messages)
        self._read |= offsets
        further = {where: end for where, end in ends.items() if end > self._read.get(where, 0)}
        self._read |= further
        return offsets | further

    def _is_record(self, message: Arrived) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            # A new assignment looks at the positions, and says what is missing.
            raise TemporaryError(
                f"partition {message.partition()} of {message.topic()} does not hold the next record",
                dependency="kafka",
            )
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise TemporaryError(f"Kafka has not all topics: {error.str()}", dependency="kafka")
        if not is_passing(error):
            raise KafkaException(error)
        return False

    # -- where to begin -------------------------------------------------------------------------------------

    def _on_assign(self, client: Consumer, assigned: list[TopicPartition]) -> None:
        by_topic: dict[str, list[TopicPartition]] = {}
        for partition in assigned:
            by_topic.setdefault(partition.topic, []).append(partition)
        if strange := by_topic.keys() - set(self._topics):
            # Its offsets would be taken for those of our own topic.
            raise TemporaryError(
                f"the group {self._group} was given partitions of {', '.join(sorted(strange))}",
                dependency="kafka",
            )
        for topic, partitions in by_topic.items():
            known = self._known(client, topic, partitions)
            gaps = self._gaps(client, topic, known)
            self._tell(topic, gaps)
            for partition in partitions:
                part = partition.partition
                partition.offset = OFFSET_BEGINNING if part in gaps else known.get(part, OFFSET_BEGINNING)
                self._read[topic, part] = max(0, partition.offset)
                self._lags.assigned({(topic, part): known.get(part, 0)})
        client.incremental_assign(assigned)
        if self._paused:
            client.pause(assigned)
        if assigned:
            logger.info(
                "Assigned %d partitions",
                len(assigned),
                extra={"action": "assigned", "partitions": [p.partition for p in assigned]},
            )

    def _on_revoke(self, _client: Consumer, revoked: list[TopicPartition]) -> None:
        self._lags.lost((each.topic, each.partition) for each in revoked)

    def _marks(self, client: Consumer, topic: str, parts: Sequence[int]) -> dict[int, tuple[int, int]]:
        return watermarks(client, topic, parts, self._settings.kafka_servers, timeout=_PATIENCE)

    def _known(self, client: Consumer, topic: str, partitions: list[TopicPartition]) -> dict[int, int]:
        if self._positions is not None:
            mine = {partition.partition for partition in partitions}
            return {part: offset for part, offset in self._positions(topic).items() if part in mine}
        committed = client.committed(partitions, timeout=10.0)
        return {each.partition: each.offset for each in committed if each.offset >= 0}

    def _gaps(self, client: Consumer, topic: str, known: Mapping[int, int]) -> dict[int, str]:
        """Per partition whose log does not hold what comes next, what is missing."""
        marks = self._settled(client, topic, known)
        gaps: dict[int, str] = {}
        for part, (low, high) in marks.items():
            if known[part] < low:
                gaps[part] = f"offsets {known[part]} to {low - 1} are gone ({low - known[part]} records)"
            elif known[part] > high:
                gaps[part] = f"it ends at {high}, before the position {known[part]}"
        return gaps

    def _settled(
        self, client: Consumer, topic: str, known: Mapping[int, int]
    ) -> Mapping[int, tuple[int, int]]:
        """Where the log begins and ends. An end before a position is asked for again.

        A leader that was elected a moment ago may not know yet how far its log is good.
        """
        deadline = time.monotonic() + _SETTLING
        while True:
            marks = watermarks(client, topic, sorted(known), self._settings.kafka_servers)
            if all(known[part] <= high for part, (_, high) in marks.items()) or time.monotonic() > deadline:
                return marks
            self._stop.wait(0.2)

    def _tell(self, topic: str, gaps: Mapping[int, str]) -> None:
        if not gaps:
            return
        told = "; ".join(f"partition {part}: {gap}" for part, gap in sorted(gaps.items()))
        message = f"the topic {topic} no longer holds what {self._what} has to read next: {told}"
        if self._positions is not None:
            raise PositionLost(message)
        logger.error("%s. Going on at the beginning", message, extra={"action": "gap", "topic": topic})

    # -- outages --------------------------------------------------------------------------------------------

    def insist(self, work: Callable[[], T]) -> T:
        """Run `work` until it goes well, waiting out TemporaryError with the partitions paused.

        For use by the handler. Raises TemporaryError when stop is asked meanwhile: then the batch is read
        again by whoever comes next.
        """
        outage = Outage(self._what)
        while True:
            try:
                result = work()
                break
            except Superseded:
                raise
            except TemporaryError as exc:
                if self._client is None:
                    raise
                self._rest_paused(self._client, outage.failed(exc), exc)
        if self._paused and self._client is not None:
            self._client.resume(self._client.assignment())
            self._paused = False
            logger.info("The database of %s is back", self._what, extra={"action": "resumed"})
        return result

    def _rest_paused(self, client: Consumer, delay: float, exc: TemporaryError) -> None:
        """Wait with the partitions paused, but stay a member. Raises TemporaryError if stop is asked."""
        metrics.beat(self._what)
        if not self._paused:
            client.pause(client.assignment())
            self._paused = True
        # Paused partitions give nothing; the call serves heartbeats and rebalances. Should a partition that
        # was just assigned give a record all the same, everything is read again from the positions.
        if any(not is_end(message) for message in client.consume(1, delay)):
            raise exc
        if self._stop.asked():
            raise TemporaryError(f"{self._what} stopped while waiting", dependency=exc.dependency)

    # -- commits --------------------------------------------------------------------------------------------

    def _commit(self, client: Consumer, reached: Offsets) -> None:
        offsets = [TopicPartition(*where, offset) for where, offset in reached.items()]
        try:
            if self._positions is None:
                client.commit(offsets=offsets, asynchronous=False)
            else:
                # The store holds the positions; a commit that is lost costs the lag tools a moment of truth.
                client.commit(offsets=offsets, asynchronous=True)
        except KafkaException as exc:
            # What is handled is handled: records that come again are recognised.
            logger.warning("Offsets not committed: %s", exc, extra={"action": "commit_failed"})


def next_offsets(messages: Sequence[Message]) -> dict[tuple[str, int], int]:
    """Per topic and partition, the offset after the last of these records."""
    return {(message.topic(), message.partition()): message.offset() + 1 for message in messages}


def is_end(message: Arrived) -> bool:
    """Whether this is the end of a partition that was reached, and not a record."""
    error = message.error()
    return error is not None and error.code() == END_OF_PARTITION


def coordinates(message: Message) -> str:
    """`TOPIC partition 3 offset 17`, for a person to find the record."""
    return f"{message.topic()} partition {message.partition()} offset {message.offset()}"
