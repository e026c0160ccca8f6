"""Dead letters: list the records that a copy could not read, send them again unchanged, or discard them.

The dead-letter topic itself holds all of it, so no database is needed: the records, and marks of what became
of each. A record that several copies, or one copy repeatedly, could not read is one entry.

Sending one again takes three steps: write a mark that it will be sent, send the record with its own key,
bytes and headers to its own topic and partition, write a mark that it was sent. If the last mark is missing,
because the process was killed, the same command searches the topic for the record from the offset that the
first mark names, and so does not send it twice.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, cast, get_args

from ..config import Settings
from ..domain.customers import format_time
from ..domain.received import decode
from ..domain.text import one_line
from ..errors import BadEvent, Conflict, NewerSchema, NotFound, TopicGone
from ..kafka.publisher import Publisher, Record
from ..kafka.reader import Reader
from ..kafka.record import Headers, Message, headers_of, record_time
from ..kafka.topics import NoTopic
from .dead import PREFIX

State = Literal["open", "retrying", "retried", "discarded"]
OPEN: Final = ("open", "retrying")

# The headers of a mark; its key is the entry's id.
SETTLED: Final = "dead_settled"
_FROM: Final = "dead_settled_from"
_WHY: Final = "dead_settled_why"

# No topic of Kafka has a longer name, but any client may write one into a dead letter.
_TOPIC_SHOWN: Final = 249
_DISCARD: Final = "make the topic again, or give them up: custsvc failed discard"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be read: where it was, why, its own bytes, and what became of it."""

    id: str
    state: State
    topic: str
    partition: int
    offset: int
    reason_class: str
    reason: str
    time: dt.datetime
    key: bytes | None
    value: bytes | None
    headers: Headers
    why: str | None = None
    # The offset in its own topic from which to search for it, if sending it again was begun.
    sent_from: int | None = None

    @property
    def place(self) -> str:
        return f"{self.topic} partition {self.partition} offset {self.offset}"


class DeadLetterBox:
    """The dead letters of an installation. The caller closes it (`with`)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.topic_dead
        self._reader = Reader(settings, settings.topic_dead)

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> DeadLetterBox:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def all(self) -> list[DeadLetter]:
        """Every entry that the topic still holds, in the order in which they were dead-lettered."""
        found: dict[str, DeadLetter] = {}
        marks = []
        for message in self._read(self._topic):
            headers = _texts(headers_of(message))
            if SETTLED in headers:
                marks.append((message, headers))
            elif (letter := _letter(message, headers)) is not None:
                found.setdefault(letter.id, letter)
        # All marks of an entry are in one partition, so in their own order; the entry may be in another.
        for message, headers in marks:
            _settle(found, message, headers)
        return sorted(found.values(), key=lambda letter: letter.time)

    def find(self, ids: Sequence[str]) -> list[DeadLetter]:
        """These entries. Raises NotFound that names the missing ones."""
        known = {letter.id: letter for letter in self.all()}
        if missing := [each for each in ids if each not in known]:
            raise NotFound(f"there is no dead letter {', '.join(missing)}", fix="see custsvc failed list")
        return [known[each] for each in dict.fromkeys(ids)]

    def retry(self, letters: Sequence[DeadLetter]) -> int:
        """Send these open entries to where they came from; return how many were sent now.

        Raises Conflict if one was settled already, TopicGone if the topic of one is gone: then none is sent.
        """
        _check_open(letters)
        if gone := self.without_topic(letters):
            raise TopicGone(why_not_sent(gone), fix=_DISCARD)
        there = self._sent_already([letter for letter in letters if letter.state == "retrying"])
        waiting = [letter for letter in letters if letter.id not in there]
        with Publisher(self._settings) as publisher:
            self._mark(publisher, "retried", [letter for letter in letters if letter.id in there])
            ends = self._ends(waiting)
            begun = [
                replace(letter, sent_from=ends.get((letter.topic, letter.partition), 0)) for letter in waiting
            ]
            self._mark(publisher, "retrying", begun)
            for topic in {letter.topic for letter in begun}:
                publisher.send(topic, [_as_it_was(each, ends) for each in begun if each.topic == topic])
            self._mark(publisher, "retried", begun)
        return len(begun)

    def without_topic(self, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Those whose topic is gone, or hidden from this account."""
        gone = {topic for topic in {letter.topic for letter in letters} if not self._is_there(topic)}
        return [letter for letter in letters if letter.topic in gone]

    def _is_there(self, topic: str) -> bool:
        try:
            return bool(self._reader.of(topic).partitions())
        except NoTopic:
            return False

    def discard(self, letters: Sequence[DeadLetter], why: str) -> int:
        """Discard these open entries; return how many. Raises Conflict if one was settled already."""
        _check_open(letters)
        with Publisher(self._settings) as publisher:
            self._mark(publisher, "discarded", letters, why)
        return len(letters)

    def _mark(
        self, publisher: Publisher, state: State, letters: Sequence[DeadLetter], why: str | None = None
    ) -> None:
        marks = []
        for letter in letters:
            headers: Headers = [(SETTLED, state.encode())]
            if state == "retrying":
                headers.append((_FROM, b"%d" % (letter.sent_from or 0)))
            if why:
                headers.append((_WHY, why.encode()))
            marks.append(Record(letter.id.encode(), None, headers))
        publisher.send(self._topic, marks)

    def _ends(self, letters: Sequence[DeadLetter]) -> dict[tuple[str, int], int]:
        ends: dict[tuple[str, int], int] = {}
        for topic in {letter.topic for letter in letters}:
            for part, (_, high) in self._reader.of(topic).marks().items():
                ends[topic, part] = high
        return ends

    def _sent_already(self, letters: Sequence[DeadLetter]) -> set[str]:
        """The ids of the entries that are on their topic again, although no mark says so."""
        found: set[str] = set()
        for topic in {letter.topic for letter in letters}:
            starts: dict[int, int] = {}
            here = [letter for letter in letters if letter.topic == topic]
            for letter in here:
                start = letter.sent_from or 0
                starts[letter.partition] = min(start, starts.get(letter.partition, start))
            for message in self._read(topic, starts):
                same = (message.key(), message.value(), headers_of(message))
                found |= {each.id for each in here if (each.key, each.value, each.headers) == same}
        return found

    def _read(self, topic: str, starts: Mapping[int, int] | None = None) -> Iterator[Message]:
        reader = self._reader.of(topic)
        ranges = {
            part: (max(low, starts[part]) if starts else low, high)
            for part, (low, high) in reader.marks().items()
            if starts is None or part in starts
        }
        return reader.read(ranges)


def without(left_out: Sequence[DeadLetter], letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    """These entries without those of the first list."""
    ids = {letter.id for letter in left_out}
    return [letter for letter in letters if letter.id not in ids]


def why_not_sent(gone: Sequence[DeadLetter]) -> str:
    """The sentence about entries that cannot be sent again, as their topic is gone."""
    ids = _some([letter.id for letter in gone])
    topics = _some(list(dict.fromkeys(one_line(letter.topic, _TOPIC_SHOWN) for letter in gone)))
    were, them = ("was", "it") if len(gone) == 1 else ("were", "them")
    return (
        f"{ids} {were} not sent: topic {topics} is gone, or hidden from this account; "
        f"make the topic again, or discard {them}"
    )


def _some(words: Sequence[str], most: int = 3) -> str:
    more = len(words) - most
    return ", ".join(words[:most]) + (f" and {more} more" if more > 0 else "")


def customers_of(letters: Sequence[DeadLetter]) -> list[int]:
    """The customers of these events, as far as this version can read them.

    Their current state must follow an old event on the topic: a compacted topic keeps the last record.
    """
    found = set()
    for letter in letters:
        try:
            found.add(decode(letter.value or b"", letter.key).customer_id)
        except (BadEvent, NewerSchema):
            continue
    return sorted(found)


def as_row(letter: DeadLetter) -> dict[str, Any]:
    """An entry without its bytes."""
    return {
        "id": letter.id,
        "stage": "replicate",
        "state": letter.state,
        "class": letter.reason_class,
        "reason": letter.reason,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "key": None if letter.key is None else letter.key.decode("utf-8", "replace"),
        "bytes": len(letter.value or b""),
        "time": format_time(letter.time),
        "why": letter.why,
    }


def _as_it_was(letter: DeadLetter, ends: Mapping[tuple[str, int], int]) -> Record:
    record = Record(letter.key, letter.value, letter.headers)
    # Its own partition, unless the topic was recreated with fewer.
    is_there = (letter.topic, letter.partition) in ends
    return record._replace(partition=letter.partition) if is_there else record


def _check_open(letters: Sequence[DeadLetter]) -> None:
    for letter in letters:
        if letter.state not in OPEN:
            raise Conflict(f"{letter.id} was {letter.state} already", fix="see custsvc failed list --settled")


def _texts(headers: Headers) -> dict[str, str]:
    return {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for name, value in headers
    }


def _letter(message: Message, about: Mapping[str, str]) -> DeadLetter | None:
    """None if the record is not a dead letter: any client can write to the topic."""
    try:
        topic = about[PREFIX + "topic"]
        partition, offset = int(about[PREFIX + "partition"]), int(about[PREFIX + "offset"])
    except (KeyError, ValueError):
        return None
    whole = b"\0".join((topic.encode(), b"%d %d" % (partition, offset), message.value() or b""))
    return DeadLetter(
        id="dead-" + hashlib.blake2b(whole, digest_size=6).hexdigest(),
        state="open",
        topic=topic,
        partition=partition,
        offset=offset,
        reason_class=about.get(PREFIX + "class", ""),
        reason=about.get(PREFIX + "reason", ""),
        time=record_time(message.timestamp()[1]),
        key=message.key(),
        value=message.value(),
        headers=[(name, value) for name, value in headers_of(message) if not name.startswith(PREFIX)],
    )


def _settle(found: dict[str, DeadLetter], message: Message, about: Mapping[str, str]) -> None:
    letter = found.get((message.key() or b"").decode("utf-8", "replace"))
    state = about[SETTLED]
    if letter is None or state not in get_args(State):
        return
    start = about.get(_FROM, "")
    found[letter.id] = replace(
        letter,
        state=cast(State, state),
        why=about.get(_WHY, letter.why),
        sent_from=int(start) if start.isdecimal() else letter.sent_from,
    )
