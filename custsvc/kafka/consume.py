"""The loop of every consumer: take a batch, hand it to its handler, commit exact offsets, repeat.

A batch is committed only after its handler and the function that the handler returned have finished, which
means that its effects are durable. That function runs while the next batch is taken and handled; such
functions run one at a time and in order. So a batch may be in flight when partitions move: their next owner
may handle it again, as after a crash, and the effects tolerate that. During an outage of the handler's
database the consumer waits with the partitions paused and its membership kept (`insist`); after an outage of
Kafka it starts again from the last commit.

A consumer whose store holds its own positions reads from those; its offsets in the group are only for tools
that show lag. A position that is no longer in the log never becomes a silent jump: a store that must hold
everything stops there; any other consumer logs the offsets that it missed and goes on.
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

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Arrived

from ..config import Settings
from ..errors import PositionLost, Superseded, TemporaryError
from ..runtime import crash, metrics
from ..runtime.loop import Outage, Stop, keep_trying
from .client import consumer
from .errors import END_OF_PARTITION, failure, is_passing
from .lag import Lags
from .offsets import watermarks
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
# Seconds that a request for the end of a partition may take; only the end of the loop waits for it.
_PATIENCE = 1.0
# The same while a batch is in flight, to commit it soon after it is done.
_SOON = 0.02


class _Left(NamedTuple):
    """The rest of the work on a batch, its running future, and the offsets after the batch."""

    work: Callable[[], None]
    first: Future[None]
    offsets: Offsets


class Consuming:
    """Consumes topics in a group and passes each batch to `handle`, which may modify the list.

    `handle` also gets the offsets after the batch. A batch without records only advances the offsets, past
    offsets without a record such as transaction markers.

    `handle` may return a function with the rest of the work, to run in another thread: it is called again
    while it raises TemporaryError, and finishes before that of the next batch begins.

    `positions` returns a topic's next offset per partition, for a store that keeps positions with its data
    and must hold all of it. Without it the group's committed offsets count. `what` names this consumer in
    the log. `before` runs at each start, also after an outage.
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
        # How far each partition was read, to notice an end that is further.
        self._read: dict[tuple[str, int], int] = {}
        self._lags = Lags(what)

    def run(self) -> None:
        """Consume until stop is asked. Raises PositionLost, and errors of `handle` but TemporaryError."""
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
                # Finish and commit the previous batch, even if this one fails.
                self._finish(client)
            if left is None:
                self._done(client, offsets)
            else:
                self._left = _Left(left, aside.submit(left), offsets)
        self._finish(client)

    def _finish(self, client: Consumer) -> None:
        """Wait for the rest of the work on the previous batch, and commit it."""
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
        """The static membership's name, one for each set of topics.

        Kafka gives a returning name its previous partitions, whatever it subscribes to now: a consumer of
        another topic would get the partitions of the old one.
        """
        if not self._settings.instance_id:
            return {}
        topics = zlib.crc32(" ".join(self._topics).encode())
        return {"group_instance_id": f"{self._settings.instance_id}-{topics:08x}"}

    def _take(self, client: Consumer) -> tuple[list[Message], Offsets]:
        """Take up to a batch of records, and the ends of partitions that were reached.

        Waits for the first record, then takes those that have already arrived.
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
        """The offsets after these records, and the ends that are beyond the offsets read."""
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
            # A new assignment checks the positions, and reports the missing offsets.
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
            # Offsets of another topic would be taken for those of ours.
            raise TemporaryError(
                f"the group {self._settings.group_prefix}{self._group} was given partitions of "
                f"{', '.join(sorted(strange))}",
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
        """For each partition whose log lacks the next record, a text that says what is missing."""
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
        """Where the log begins and ends. Asks again while an end is before a position.

        A newly elected leader may not know its high watermark yet.
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
        listed = "; ".join(f"partition {part}: {gap}" for part, gap in sorted(gaps.items()))
        message = f"the topic {topic} no longer holds what {self._what} has to read next: {listed}"
        if self._positions is not None:
            raise PositionLost(message)
        logger.error("%s. Going on at the beginning", message, extra={"action": "gap", "topic": topic})

    # -- outages --------------------------------------------------------------------------------------------

    def insist(self, work: Callable[[], T]) -> T:
        """Run `work` until it succeeds; on TemporaryError pause the partitions, wait and repeat.

        For use by the handler. Raises TemporaryError when stop is asked meanwhile: then the next consumer
        reads the batch again.
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
            logger.info("What %s waited for is back", self._what, extra={"action": "resumed"})
        return result

    def _rest_paused(self, client: Consumer, delay: float, exc: TemporaryError) -> None:
        """Wait with the partitions paused, but stay a member. Raises TemporaryError if stop is asked."""
        metrics.beat(self._what)
        if not self._paused:
            client.pause(client.assignment())
            self._paused = True
        # Paused partitions return no records; the call serves heartbeats and rebalances. If a newly assigned
        # partition returns a record anyway, everything is read again from the positions.
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
                # The store holds the positions; after a lost commit lag tools are briefly wrong, no more.
                client.commit(offsets=offsets, asynchronous=True)
        except KafkaException as exc:
            # The batch is done nevertheless: the store recognises records that come again.
            logger.warning("Offsets not committed: %s", exc, extra={"action": "commit_failed"})


def next_offsets(messages: Sequence[Message]) -> dict[tuple[str, int], int]:
    """Per topic and partition, the offset after the last of these records."""
    return {(message.topic(), message.partition()): message.offset() + 1 for message in messages}


def is_end(message: Arrived) -> bool:
    """Whether this is the event of a reached end of partition, and not a record."""
    error = message.error()
    return error is not None and error.code() == END_OF_PARTITION


def coordinates(message: Message) -> str:
    """`TOPIC partition 3 offset 17`, for a person to find the record."""
    return f"{message.topic()} partition {message.partition()} offset {message.offset()}"
