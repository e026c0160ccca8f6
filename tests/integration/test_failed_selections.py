"""A selection of dead letters: what cannot be sent again or discarded holds up none of the others."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from subprocess import CompletedProcess
from typing import Any

import pytest

from custsvc.config import Settings
from custsvc.copies.dead_letters import DeadLetter, DeadLetterBox
from custsvc.errors import Conflict, CustsvcError, TopicGone, Unusable
from custsvc.kafka.acls import Need
from custsvc.kafka.publisher import Publisher, Record
from custsvc.kafka.record import Headers
from custsvc.kafka.topics import ensure_topics
from custsvc.ports.store import Store
from custsvc.serve import create_app
from tests.waiting import until

from .conftest import Topic
from .secure_kafka import LIMITED, PASSWORD, SecureKafka, bindings

GONE = "updates-of-long-ago"
KINDS = ("open", "settled", "gone", "closed")
FIRST_ERROR: dict[str, type[CustsvcError]] = {"settled": Conflict, "gone": TopicGone, "closed": Unusable}


@pytest.fixture(params=["postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    """Nothing here depends on the database."""
    return str(request.param)


def of_topic(name: str, number: int) -> Record:
    """A dead letter that came from this topic."""
    about: Headers = [
        ("dead_topic", name.encode()),
        ("dead_partition", b"0"),
        ("dead_offset", b"%d" % number),
    ]
    return Record(b"%d" % number, b"{not json", about)


@pytest.fixture
def letters(
    settings: Settings, topic: Topic, box: DeadLetterBox, monkeypatch: pytest.MonkeyPatch
) -> dict[str, list[DeadLetter]]:
    """Three of each kind. The topic of the closed ones is there, and refuses what this account writes."""
    closed = settings.topic_notify
    homes = {
        "open": settings.topic_updates,
        "settled": settings.topic_updates,
        "gone": GONE,
        "closed": closed,
    }
    records = {
        kind: [of_topic(homes[kind], 10 * place + number) for number in range(3)]
        for place, kind in enumerate(KINDS)
    }
    topic.produce(settings.topic_dead, *(record for of_kind in records.values() for record in of_kind))
    by_key = {letter.key: letter for letter in box.all()}
    found = {kind: [by_key[record.key] for record in of_kind] for kind, of_kind in records.items()}
    box.discard(found["settled"][:2], "by somebody else")
    box.retry(found["settled"][2:])
    now = {letter.id: letter for letter in box.all()}
    send = Publisher.send

    def refuse(self: Publisher, name: str, records: Iterable[Record], **how: Any) -> int:
        if name == closed:
            raise Unusable("Kafka refuses: Topic authorization failed", dependency="kafka")
        return send(self, name, records, **how)

    monkeypatch.setattr(Publisher, "send", refuse)
    return {kind: [now[letter.id] for letter in of_kind] for kind, of_kind in found.items()}


def states(box: DeadLetterBox) -> dict[str, str]:
    return {letter.id: letter.state for letter in box.all()}


@pytest.mark.parametrize("seed", range(6))
def test_the_others_of_any_selection_are_sent_and_each_that_is_left_is_named(
    letters: dict[str, list[DeadLetter]], box: DeadLetterBox, seed: int
) -> None:
    rng = random.Random(seed)
    kinds = rng.sample(KINDS, rng.randint(1, 4)) if seed else list(KINDS)
    chosen = [letter for kind in kinds for letter in rng.sample(letters[kind], rng.randint(1, 3))]
    rng.shuffle(chosen)
    may_go = {letter.id for letter in chosen if letter in letters["open"]}
    before = states(box)

    if may_go:
        outcome = box.retry(chosen)
        assert {letter.id for letter in outcome.done} == may_go
        left = [(letter.id, str(each.error)) for each in outcome.left for letter in each.letters]
        assert {id_ for id_, _ in left} == {letter.id for letter in chosen} - may_go
        assert all(id_ in said for id_, said in left)
    else:
        with pytest.raises(tuple(FIRST_ERROR[kind] for kind in kinds)):
            box.retry(chosen)

    after = states(box)
    assert {id_ for id_ in after if after[id_] == "retried" != before[id_]} == may_go
    still_open = {letter.id for kind in ("gone", "closed") for letter in letters[kind]}
    assert {after[id_] for id_ in still_open} <= {"open", "retrying"}


def test_the_others_of_a_selection_are_discarded(
    letters: dict[str, list[DeadLetter]], box: DeadLetterBox
) -> None:
    outcome = box.discard([letter for kind in KINDS for letter in letters[kind]], "all of them")

    assert len(outcome.done) == 9
    assert set(states(box).values()) == {"discarded", "retried"}
    with pytest.raises(Conflict, match="already"):
        box.discard(letters["settled"], "again")


@pytest.mark.parametrize("action", ["retry", "discard"])
def test_the_page_does_the_others_and_says_which_were_left(
    letters: dict[str, list[DeadLetter]], settings: Settings, store: Store, box: DeadLetterBox, action: str
) -> None:
    browser: Any = create_app(settings.replace(auth="off"), store).test_client()

    def said_of(*ids: str) -> str:
        form = {"ids": list(ids), "action": action}
        token = re.search(r'name="csrf" value="([^"]+)"', browser.get("/ui/dead-letters").text)
        form |= {"csrf": token[1] if token else ""}
        return str(browser.post("/ui/dead-letters/change", data=form, follow_redirects=True).text)

    settled, ready = letters["settled"][0], letters["open"][0]
    alone, mixed = said_of(settled.id), said_of(settled.id, "dead-nonsense", ready.id)

    assert "Another user has handled them meanwhile" in alone
    assert ("Sent 1 record again" if action == "retry" else "Gave up 1 record") in mixed
    assert f"{settled.id} was discarded already" in mixed
    assert states(box)[ready.id] == {"retry": "retried", "discard": "discarded"}[action]


def test_the_command_does_the_others_and_exits_8(
    letters: dict[str, list[DeadLetter]], command: Callable[..., CompletedProcess[str]], box: DeadLetterBox
) -> None:
    one, two = letters["open"][:2]
    settled = letters["settled"][0]

    for name, ready in (("retry", one), ("discard", two)):
        done = command(name, ready.id, settled.id)
        assert (done.returncode, f"{settled.id} was discarded already" in done.stderr) == (8, True)

    assert (states(box)[one.id], states(box)[two.id]) == ("retried", "discarded")


def test_a_topic_that_this_account_may_see_and_not_write_holds_up_no_other(secure: SecureKafka) -> None:
    scram = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-512"}
    admin = secure.as_admin().replace(
        topic_updates="open-updates",
        topic_notify="closed-updates",
        topic_failed="f",
        topic_dead="dead-of-all",
    )
    ensure_topics(admin)
    with Publisher(admin) as publisher:
        homes = (admin.topic_updates, admin.topic_notify)
        publisher.send(admin.topic_dead, [of_topic(name, number) for number, name in enumerate(homes)])
    rights = {admin.topic_updates: ("Read", "Write"), admin.topic_notify: ("Read",)}
    rights[admin.topic_dead] = ("Read", "Write")
    secure.allow(
        [each for name, may in rights.items() for each in bindings(Need("topic", name, may), LIMITED)]
    )
    limited = admin.replace(
        kafka=secure.at("sasl_port"),
        kafka_options={**scram, "sasl.password": PASSWORD, "sasl.username": LIMITED},
    )

    def looked(box: DeadLetterBox) -> list[DeadLetter]:
        try:
            return box.all()
        except CustsvcError:
            return []

    with DeadLetterBox(limited) as box:
        found = until("it may read", lambda: looked(box))
        outcome = box.retry(sorted(found, key=lambda letter: letter.topic))

        assert [letter.topic for letter in outcome.done] == ["open-updates"]
        (left,) = outcome.left
        assert "not sent to topic closed-updates" in str(left.error)
        assert "authorization" in str(left.error).lower()
        assert sorted(states(box).values()) == ["retried", "retrying"]
