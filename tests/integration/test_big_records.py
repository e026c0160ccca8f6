"""Records as big as a topic takes, and bigger ones that were compressed: they hold nothing up."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from custsvc.config import Settings
from custsvc.copies.dead_letters import DeadLetter, DeadLetterBox
from custsvc.errors import Conflict
from custsvc.kafka.publisher import ANY_SIZE, Publisher, Record
from custsvc.notify.intake.failed import unreadable
from custsvc.ports.store import Store
from tests.waiting import until

from .conftest import Topic, Workers

# What a broker takes of one record by default, without the batch around it.
FULL = 1_048_588 - 80
KINDS = {
    "as big as our producers make them": b"a" * 999_000,
    "as big as the broker takes": random.Random(1).randbytes(FULL),
    "bigger, but compressed": b"a" * 6_000_000,
}


@pytest.fixture(params=["postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    """Nothing here depends on the database."""
    return str(request.param)


def send(settings: Settings, *records: Record) -> None:
    """Send records as a producer that knows no limit."""
    with Publisher(settings) as publisher:
        publisher.limit(ANY_SIZE)
        publisher.send(settings.topic_updates, records)


def dead(box: DeadLetterBox, count: int) -> dict[bytes | None, DeadLetter]:
    until("they are dead letters", lambda: len(box.all()) == count)
    return {letter.key: letter for letter in box.all()}


def test_a_big_record_is_dead_lettered_with_its_neighbours_whole_or_with_its_beginning(
    settings: Settings, store: Store, workers: Workers, topic: Topic, box: DeadLetterBox
) -> None:
    keys = [b"%d" % number for number in range(7, 7 + len(KINDS))]
    send(settings, *(Record(key, value, []) for key, value in zip(keys, KINDS.values(), strict=True)))
    send(settings, Record(b"1", b"{not json", [("h", b"x")]))

    workers.copy(store.replica, "copy")

    found = dead(box, len(KINDS) + 1)
    assert (found[b"1"].value, found[b"1"].headers) == (b"{not json", [("h", b"x")])
    for key, (kind, value) in zip(keys, KINDS.items(), strict=True):
        letter = found[key]
        # With the headers about it, the biggest one does not fit the topic of dead letters.
        is_cut = kind == "as big as the broker takes"
        assert letter.cut == (len(value) if is_cut else None)
        assert letter.value == (value[: len(letter.value or b"")] if is_cut else value)
    outcome = box.retry(list(found.values()))
    assert len(outcome.done) == len(KINDS)
    assert "too big to be kept whole" in outcome.why_left
    with pytest.raises(Conflict, match="cannot be sent again"):
        box.retry([letter for letter in box.all() if letter.cut])
    assert len(box.discard([letter for letter in box.all() if letter.cut], "too big").done) == 1


def test_a_record_with_big_headers_or_a_big_key_is_dead_lettered_too(
    settings: Settings, store: Store, workers: Workers, topic: Topic, box: DeadLetterBox
) -> None:
    noise = random.Random(2).randbytes(FULL - 100)
    send(settings, Record(b"7", b"x", [("h", noise)]), Record(noise, b"y", []))

    workers.copy(store.replica, "copy")

    found = dead(box, 2)
    assert {(letter.value, letter.cut) for letter in found.values()} == {(b"x", 1), (b"y", 1)}


@pytest.mark.parametrize("request_", [b"\xff", b"\x00", "\U0001f600".encode(), b"a"])
def test_a_big_unreadable_mail_request_fits_the_failed_topic(settings: Settings, request_: bytes) -> None:
    value = request_ * (FULL // len(request_))

    record = unreadable(value, value, "it is not JSON", {"offset": 1})

    with Publisher(settings) as publisher:
        publisher.send(settings.topic_failed, [record])
    said: Any = orjson.loads(record.value or b"")
    assert value.decode("utf-8", "replace").startswith(said["request"].removesuffix("…"))
