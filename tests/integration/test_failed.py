"""Dead letters are listed, sent again byte for byte, or discarded; and their marks are kept."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import orjson
import pytest

from custsvc.config import Settings
from custsvc.copies.dead_letters import DeadLetter, DeadLetterBox
from custsvc.domain.customers import Fields
from custsvc.domain.received import decode
from custsvc.errors import Conflict, NotFound, TemporaryError
from custsvc.kafka.publisher import Publisher, Record
from custsvc.kafka.record import Headers
from custsvc.ports.store import Store
from custsvc.serve import create_app
from custsvc.service.customers import Caller, CustomerService
from custsvc.stores import open_store
from tests.waiting import until

from .conftest import Topic, Workers

ME = Caller("test")
BAD = [
    Record(b"7", b"{not json", [("h", b"\x00\xff"), ("h", b"again")]),
    Record(b"8", b'{"customer_id": "8"}', []),
    Record(b"9", b"\xff\xfe", [("empty", b"")]),
]


@pytest.fixture(params=["postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    """Nothing here depends on the database."""
    return str(request.param)


@pytest.fixture
def dead(
    store: Store, settings: Settings, workers: Workers, topic: Topic, box: DeadLetterBox
) -> list[DeadLetter]:
    """Three records that a copy has put on the dead-letter topic."""
    topic.produce(settings.topic_updates, *BAD)
    workers.copy(store.replica, "copy")
    until("they are dead letters", lambda: len(box.all()) == 3)
    return sorted(box.all(), key=lambda letter: letter.key or b"")


def raw(message: Any) -> tuple[Any, ...]:
    return message.key(), message.value(), message.headers() or []


def states(box: DeadLetterBox) -> dict[str, str]:
    return {letter.id: letter.state for letter in box.all()}


def test_an_entry_has_the_records_own_bytes_and_where_and_why(
    settings: Settings, dead: list[DeadLetter], topic: Topic
) -> None:
    assert [Record(d.key, d.value, d.headers) for d in dead] == BAD
    assert [d.reason_class for d in dead] == ["bad-json", "bad-field", "bad-utf8"]
    places = {(r.partition(), r.offset()) for r in topic.records(settings.topic_updates)}
    assert {(d.partition, d.offset) for d in dead} == places
    assert {d.topic for d in dead} == {settings.topic_updates}


def test_a_record_that_two_copies_dead_letter_is_one_entry(
    dead: list[DeadLetter],
    store: Store,
    workers: Workers,
    settings: Settings,
    topic: Topic,
    box: DeadLetterBox,
) -> None:
    topic.produce(settings.topic_dead, *(_again(letter) for letter in dead))

    assert len(topic.records(settings.topic_dead)) == 6
    assert states(box) == {letter.id: "open" for letter in dead}


def _again(letter: DeadLetter) -> Record:
    about = {
        "dead_topic": letter.topic,
        "dead_partition": str(letter.partition),
        "dead_offset": str(letter.offset),
    }
    return Record(letter.key, letter.value, letter.headers + [(k, v.encode()) for k, v in about.items()])


def test_retry_sends_the_same_record_to_the_same_partition_and_a_new_failure_is_a_new_entry(
    dead: list[DeadLetter], settings: Settings, topic: Topic, box: DeadLetterBox
) -> None:
    first = dead[0]

    assert len(box.retry([first]).done) == 1

    before, after = (r for r in topic.records(settings.topic_updates) if r.key() == first.key)
    assert raw(after) == raw(before) == (BAD[0].key, BAD[0].value, BAD[0].headers)
    assert after.partition() == before.partition()
    until("the copy has dead-lettered it again", lambda: list(states(box).values()).count("open") == 3)
    assert states(box)[first.id] == "retried"
    with pytest.raises(Conflict, match="retried already"):
        box.retry(box.find([first.id]))


def test_discard_is_remembered_with_its_reason(dead: list[DeadLetter], box: DeadLetterBox) -> None:
    assert len(box.discard([dead[1]], "a test of ours").done) == 1

    (found,) = box.find([dead[1].id])
    assert (found.state, found.why) == ("discarded", "a test of ours")
    assert [letter.state for letter in box.all()].count("open") == 2
    with pytest.raises(NotFound, match="dead-nonsense"):
        box.find(["dead-nonsense"])


@pytest.mark.parametrize("sent", [False, True])
def test_a_retry_that_was_killed_half_way_is_finished_and_nothing_is_sent_twice(
    dead: list[DeadLetter],
    settings: Settings,
    topic: Topic,
    box: DeadLetterBox,
    sent: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = Publisher.send
    calls = 0

    def send(self: Publisher, name: str, records: Any, **how: Any) -> int:
        nonlocal calls
        # The copy sends too, in its own thread.
        calls += threading.current_thread() is threading.main_thread()
        # Marks of those that are there, marks of those begun, the records, marks of those sent.
        if calls == (4 if sent else 3) and threading.current_thread() is threading.main_thread():
            raise TemporaryError("killed", dependency="kafka")
        return real(self, name, records, **how)

    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "send", send)
        with pytest.raises(TemporaryError, match="killed"):
            box.retry(dead[:1])
    assert states(box)[dead[0].id] == "retrying"

    assert len(box.retry(box.find([dead[0].id])).done) == (0 if sent else 1)

    assert [r.key() for r in topic.records(settings.topic_updates)].count(b"7") == 2
    assert states(box)[dead[0].id] == "retried"


GONE = "updates-of-long-ago"
# What any client may have written as the topic that a dead letter came from.
NO_TOPICS = [GONE, "no such/topic", "", "x" * 300]


def _of_topic(name: str, key: bytes) -> Record:
    """A dead letter that came from this topic."""
    about: Headers = [("dead_topic", name.encode()), ("dead_partition", b"0"), ("dead_offset", b"0")]
    return Record(key, b"{not json", about)


@pytest.fixture
def homeless(dead: list[DeadLetter], settings: Settings, topic: Topic, box: DeadLetterBox) -> DeadLetter:
    """One more dead letter, whose topic was deleted since."""
    topic.produce(settings.topic_dead, _of_topic(GONE, b"5"))
    return next(letter for letter in box.all() if letter.topic == GONE)


@pytest.mark.parametrize("name", NO_TOPICS)
def test_a_record_whose_topic_is_gone_is_refused_with_the_topic_and_the_way_out_and_stays_open(
    settings: Settings, store: Store, topic: Topic, box: DeadLetterBox, name: str
) -> None:
    topic.produce(settings.topic_dead, _of_topic(name, b"5"))
    (letter,) = box.all()
    client: Any = create_app(settings.replace(auth="off"), store).test_client()

    answer = client.post(f"/api/failed/{letter.id}/retry")

    assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    assert name[:99] in answer.json["detail"]
    assert "make the topic again, or discard" in answer.json["detail"]
    assert states(box) == {letter.id: "open"}


def test_the_page_sends_the_others_of_a_selection_and_says_which_were_not(
    dead: list[DeadLetter], homeless: DeadLetter, settings: Settings, store: Store, box: DeadLetterBox
) -> None:
    browser: Any = create_app(settings.replace(auth="off"), store).test_client()

    def said_of(*letters: DeadLetter) -> str:
        form = {"ids": [letter.id for letter in letters], "action": "retry"}
        token = re.search(r'name="csrf" value="([^"]+)"', browser.get("/ui/dead-letters").text)
        form |= {"csrf": token[1] if token else ""}
        return str(browser.post("/ui/dead-letters/change", data=form, follow_redirects=True).text)

    alone, mixed = said_of(homeless), said_of(dead[0], homeless, dead[1])

    assert f"topic {GONE}" in alone
    assert "Sent 2 records again" in mixed
    assert f"{homeless.id} was not sent" in mixed
    assert {each: states(box)[each] for each in (dead[0].id, dead[1].id, homeless.id)} == {
        dead[0].id: "retried",
        dead[1].id: "retried",
        homeless.id: "open",
    }


def test_the_command_sends_the_others_and_exits_8(
    dead: list[DeadLetter],
    homeless: DeadLetter,
    command: Callable[..., CompletedProcess[str]],
    box: DeadLetterBox,
) -> None:
    alone, mixed = command("retry", homeless.id), command("retry", dead[0].id, homeless.id)

    assert (alone.returncode, GONE in alone.stderr, "custsvc failed discard" in alone.stderr) == (
        6,
        True,
        True,
    )
    assert (mixed.returncode, f"{homeless.id}" in mixed.stderr) == (8, True), mixed.stderr
    assert "1 of 2 sent again" in mixed.stderr
    assert (states(box)[dead[0].id], states(box)[homeless.id]) == ("retried", "open")


def test_the_command_lists_shows_exports_discards_and_sends_again(
    dead: list[DeadLetter], command: Callable[..., CompletedProcess[str]], box: DeadLetterBox
) -> None:
    listed = [orjson.loads(line) for line in command("list", "-o", "ndjson").stdout.splitlines()]
    assert {row["id"] for row in listed} == {letter.id for letter in dead}
    assert "{not json" in command("show", dead[0].id).stdout
    assert "value_base64" in command("export").stdout.splitlines()[0]
    assert command("show", "dead-0").returncode == 5

    refused = command("retry", "--all")
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True)
    assert dead[1].id in command("discard", "--class", "bad-field", "--dry-run").stdout
    assert command("discard", "--class", "bad-field", "--yes").returncode == 0
    assert command("retry", dead[0].id).returncode == 0

    assert states(box)[dead[0].id] == "retried"
    assert states(box)[dead[1].id] == "discarded"
    assert command("retry", dead[0].id).returncode == 6


def test_an_event_that_can_be_read_by_now_leaves_the_customers_newest_state_last(
    store: Store,
    new_database: Callable[[], str],
    settings: Settings,
    workers: Workers,
    topic: Topic,
    command: Callable[..., CompletedProcess[str]],
    box: DeadLetterBox,
) -> None:
    service = CustomerService(store.customers)
    ada = service.create(Fields("Ada"), ME)
    service.replace(ada.id, Fields("Ada Lovelace"), ME)
    with workers.running_relay(store):
        until("it is out", lambda: store.outbox.depth().waiting == 0)
    old = topic.records(settings.topic_updates)[0]
    about = {"dead_topic": old.topic(), "dead_partition": str(old.partition()), "dead_offset": "0"}
    headers = [(name, value.encode()) for name, value in about.items()]
    topic.produce(settings.topic_dead, Record(old.key(), old.value(), headers))

    done = command("retry", "--all", "--yes")

    assert done.returncode == 0, done.stderr
    seen = [decode(r.value(), r.key()) for r in topic.records(settings.topic_updates)]
    assert [(event.version, event.op) for event in seen] == [
        (1, "created"),
        (2, "updated"),
        (1, "created"),
        (2, "snapshot"),
    ]


def test_the_page_says_that_there_is_nothing(store: Store, settings: Settings) -> None:
    page = create_app(settings.replace(auth="off"), store).test_client().get("/ui/dead-letters").text

    assert "Nothing here" in page
    assert "Every record could be read so far." in page


def test_the_api_lists_retries_and_discards(
    dead: list[DeadLetter], settings: Settings, database_url: str, box: DeadLetterBox
) -> None:
    with open_store(Settings(postgres_url=database_url)) as source:
        client: Any = create_app(settings.replace(auth="off"), source).test_client()

        listed = client.get("/api/failed/?stage=replicate")
        assert (listed.status_code, listed.json["count"]) == (200, 3)
        assert {row["id"] for row in listed.json["results"]} == {letter.id for letter in dead}
        assert client.post(f"/api/failed/{dead[0].id}/retry").status_code == 202
        assert client.post(f"/api/failed/{dead[1].id}/discard/").status_code == 202

        assert client.post(f"/api/failed/{dead[1].id}/discard").status_code == 409
        assert client.post("/api/failed/dead-0/retry").status_code == 404
        assert client.post("/api/failed/0123456789abcdef/retry").status_code == 404
        assert client.get("/api/failed?stage=nonsense").status_code == 400
    assert states(box)[dead[0].id] == "retried"
    assert states(box)[dead[1].id] == "discarded"
