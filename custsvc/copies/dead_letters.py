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
from ..errors import (
    BadEvent,
    Conflict,
    CustsvcError,
    NewerSchema,
    NotAllowed,
    NotFound,
    RecordTooLarge,
    TemporaryError,
    TopicGone,
    Unusable,
)
from ..kafka.publisher import ANY_SIZE, Publisher, Record
from ..kafka.reader import Reader
from ..kafka.record import Headers, Message, headers_of, record_time
from ..kafka.topics import NoTopic
from .dead import CUT, PREFIX

State = Literal["open", "retrying", "retried", "discarded"]
OPEN: Final = ("open", "retrying")

# The headers of a mark; its key is the entry's id.
SETTLED: Final = "dead_settled"
_FROM: Final = "dead_settled_from"
_WHY: Final = "dead_settled_why"

# No topic of Kafka has a longer name, but any client may write one into a dead letter.
_TOPIC_SHOWN: Final = 249
# Why a topic may refuse a record of this account, while it takes those of others.
_REFUSED: Final = (Unusable, NotAllowed, RecordTooLarge)
_DISCARD_CUT: Final = "have its producer send it again, smaller, and custsvc failed discard"
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
    # The size of the record if only its beginning is kept, as all of it did not fit.
    cut: int | None = None
    # The offset in its own topic from which to search for it, if sending it again was begun.
    sent_from: int | None = None

    @property
    def place(self) -> str:
        return f"{self.topic} partition {self.partition} offset {self.offset}"


@dataclass(frozen=True, slots=True)
class Left:
    """Entries that stay as they were, and why: the message of the error names them."""

    letters: Sequence[DeadLetter]
    error: CustsvcError


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a selection: done now; on their topic already, though no mark said so; or left."""

    done: Sequence[DeadLetter]
    there: Sequence[DeadLetter]
    left: Sequence[Left]

    @property
    def customers(self) -> list[int]:
        """The customers of the events that are on their topic again: their newest state must follow."""
        return customers_of([*self.done, *self.there])

    @property
    def why_left(self) -> str:
        return "; ".join(str(each.error) for each in self.left)


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

    def retry(self, letters: Sequence[DeadLetter]) -> Outcome:
        """Send these entries to where they came from.

        Leaves those that were settled already, and those whose topic is gone or closed to this account. If
        all are left, it raises the error of the first ones.
        """
        waiting, left = _apart(letters)
        if cut := [letter for letter in waiting if letter.cut is not None]:
            waiting = [letter for letter in waiting if letter.cut is None]
            why = f"{_named(cut)} too big to be kept whole, and cannot be sent again"
            left.append(Left(cut, Conflict(why, fix=_DISCARD_CUT)))
        with Publisher(self._settings) as publisher:
            publisher.limit(ANY_SIZE)
            topics = dict.fromkeys(letter.topic for letter in waiting)
            of_each = [
                self._retry(publisher, topic, [each for each in waiting if each.topic == topic])
                for topic in topics
            ]
        return _checked(
            Outcome(
                [letter for outcome in of_each for letter in outcome.done],
                [letter for outcome in of_each for letter in outcome.there],
                [*left, *(each for outcome in of_each for each in outcome.left)],
            )
        )

    def _retry(self, publisher: Publisher, topic: str, letters: Sequence[DeadLetter]) -> Outcome:
        """Send those entries of one topic that are not on it again."""
        try:
            there = self._sent_already(topic, [letter for letter in letters if letter.state == "retrying"])
            ends = {part: high for part, (_, high) in self._reader.of(topic).marks().items()}
        except NoTopic:
            ends = {}
        except Unusable as exc:
            return Outcome([], [], [_closed(letters, exc)])
        if not ends:
            return Outcome([], [], [Left(letters, TopicGone(_why_gone(letters), fix=_DISCARD))])
        self._mark(publisher, "retried", there)
        begun = [
            replace(letter, sent_from=ends.get(letter.partition, 0))
            for letter in letters
            if letter not in there
        ]
        self._mark(publisher, "retrying", begun)
        try:
            publisher.send(topic, [_as_it_was(each, ends) for each in begun])
        except _REFUSED as exc:
            return Outcome([], there, [_closed(begun, exc)])
        self._mark(publisher, "retried", begun)
        return Outcome(begun, there, [])

    def discard(self, letters: Sequence[DeadLetter], why: str) -> Outcome:
        """Discard these entries. Leaves those that were settled already; raises Conflict if all were."""
        waiting, left = _apart(letters)
        if waiting:
            with Publisher(self._settings) as publisher:
                self._mark(publisher, "discarded", waiting, why)
        return _checked(Outcome(waiting, [], left))

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

    def _sent_already(self, topic: str, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """The entries that are on their topic again, although no mark says so."""
        starts: dict[int, int] = {}
        for letter in letters:
            start = letter.sent_from or 0
            starts[letter.partition] = min(start, starts.get(letter.partition, start))
        found: set[str] = set()
        for message in self._read(topic, starts) if letters else ():
            same = (message.key(), message.value(), headers_of(message))
            found |= {each.id for each in letters if (each.key, each.value, each.headers) == same}
        return [letter for letter in letters if letter.id in found]

    def _read(self, topic: str, starts: Mapping[int, int] | None = None) -> Iterator[Message]:
        reader = self._reader.of(topic)
        ranges = {
            part: (max(low, starts[part]) if starts else low, high)
            for part, (low, high) in reader.marks().items()
            if starts is None or part in starts
        }
        return reader.read(ranges)


def _apart(letters: Sequence[DeadLetter]) -> tuple[list[DeadLetter], list[Left]]:
    """The open entries, and those that were settled already."""
    left = []
    for state in dict.fromkeys(letter.state for letter in letters if letter.state not in OPEN):
        settled = [letter for letter in letters if letter.state == state]
        why = f"{_named(settled)} {state} already"
        left.append(Left(settled, Conflict(why, fix="see custsvc failed list --settled")))
    return [letter for letter in letters if letter.state in OPEN], left


def _closed(letters: Sequence[DeadLetter], exc: Unusable | TemporaryError) -> Left:
    topic = one_line(letters[0].topic, _TOPIC_SHOWN)
    why = f"{_named(letters)} not sent to topic {topic}: {exc}"
    return Left(letters, Unusable(why, fix=exc.fix, dependency=exc.dependency))


def _checked(found: Outcome) -> Outcome:
    if found.left and not (found.done or found.there):
        raise found.left[0].error
    return found


def _why_gone(letters: Sequence[DeadLetter]) -> str:
    """The sentence about entries of one topic that cannot be sent again, as it is gone."""
    topic, them = one_line(letters[0].topic, _TOPIC_SHOWN), "it" if len(letters) == 1 else "them"
    return (
        f"{_named(letters)} not sent: topic {topic} is gone, or hidden from this account; "
        f"make the topic again, or discard {them}"
    )


def _named(letters: Sequence[DeadLetter]) -> str:
    return f"{_some([letter.id for letter in letters])} {'was' if len(letters) == 1 else 'were'}"


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
        "bytes": len(letter.value or b"") if letter.cut is None else letter.cut,
        "time": format_time(letter.time),
        "why": letter.why,
    }


def _as_it_was(letter: DeadLetter, ends: Mapping[int, int]) -> Record:
    record = Record(letter.key, letter.value, letter.headers)
    # Its own partition, unless the topic was recreated with fewer.
    return record._replace(partition=letter.partition) if letter.partition in ends else record


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
        cut=int(about[CUT]) if about.get(CUT, "").isdecimal() else None,
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
