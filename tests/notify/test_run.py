"""The whole role between Kafka, a ledger and a mail server; and a real process that is killed."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from custsvc.config import Settings
from custsvc.domain.customers import Fields, Stored, utc_now
from custsvc.domain.events import new_change
from custsvc.domain.received import decode
from custsvc.errors import TemporaryError
from custsvc.kafka.publisher import Publisher, Record
from custsvc.notify.intake.consumer import Intake
from custsvc.notify.rules.file import load
from custsvc.notify.run import run_notify
from custsvc.ports.ledger import Ledger
from custsvc.runtime.loop import Stop
from tests.backdoor import Backdoor
from tests.sizes import sizes
from tests.steps import settle
from tests.waiting import until

from .conftest import PATIENT, Sink, late, mail, never
from .role import LEASE, POLICY, created, lag, notify, process, records, running


@sizes("events", 10, 5000)
def test_each_event_is_mailed_once_though_it_is_delivered_ten_times(
    settings: Settings, publisher: Publisher, sink: Sink, ledger: Ledger, events: int
) -> None:
    """N8."""
    made = [created(number) for number in range(1, events + 1)]

    with running(notify(settings)):
        for _ in range(10):
            publisher.send(settings.topic_updates, made)
        until("all is taken in", lambda: lag(settings) == 0, 1800)
        until("all are sent", lambda: ledger.counts() == {"sent": events}, 1800)

    assert len({accepted.recipient for accepted in sink.accepted}) == len(sink.accepted) == events


def test_bad_records_stop_nothing_and_bad_requests_go_to_the_failed_topic(
    settings: Settings, publisher: Publisher, sink: Sink, ledger: Ledger
) -> None:
    good = {"id": "q", "notifyTo": ["to@example.com", "a@x.de, b@x.de"], "subject": "Hi", "textMsg": "Hello"}
    sink.rcpt["no@example.com"] = ["550 no such user"]

    with running(notify(settings)):
        bad = Record(b"1", b"{not json", [])
        publisher.send(settings.topic_updates, [created(1), bad, Record(b"1", None, []), created(2)])
        publisher.send(settings.topic_updates, [created(3, email="no@example.com")])
        publisher.send(settings.topic_notify, [bad, Record(None, orjson.dumps(good), [])])
        failed = records(settings, settings.topic_failed, 3)
        until("the good ones are sent", lambda: ledger.counts() == {"sent": 3, "failed": 2})

    assert {a.recipient for a in sink.accepted} == {"c1@example.com", "c2@example.com", "to@example.com"}
    assert len(failed) == 3
    by_reason = {record["reason"].split(":")[0]: record for record in failed}
    assert by_reason["the value is not JSON"]["request"] == "{not json"
    assert by_reason["not one e-mail address"]["notifyTo"] == "a@x.de, b@x.de"
    refused = by_reason["550 no such user"]
    assert (refused["notifyTo"], refused["customer_id"], refused["rule"]) == ("no@example.com", 3, "welcome")
    assert [attempt["code"] for attempt in refused["attempts"]] == [550]
    assert ledger.unpublished_failures(10) == []


def test_old_records_are_never_mailed_and_kept_with_the_reason(
    settings: Settings, publisher: Publisher, ledger: Ledger
) -> None:
    """N13."""
    publisher.send(settings.topic_updates, [created(number) for number in range(1, 6)])
    asked = {"id": "q", "notifyTo": "to@example.com", "subject": "Hi", "textMsg": "Hello"}
    publisher.send(settings.topic_notify, [Record(None, orjson.dumps(asked), [])])
    stop = Stop()
    intake = Intake(settings.replace(notify_max_age=0.2), ledger, publisher, stop, rules=load(settings))
    time.sleep(0.3)

    with running(lambda _: intake.run()):
        until("all are kept", lambda: ledger.counts() == {"suppressed": 6})
        stop.ask()

    assert {"older than 0.2 s" in (row.reason or "") for row in ledger.recent()} == {True}


@pytest.mark.parametrize("backend", ["postgres"])
def test_the_ledger_has_no_personal_data_of_an_erased_customer(
    settings: Settings, publisher: Publisher, sink: Sink, ledger: Ledger
) -> None:
    first = decode(created(1, name="Ada Secret").value or b"", b"1")
    before = Stored(1, 1, False, first.doc())
    after = before.customer().changed_to(fields=Fields("(erased)"), deleted=True, now=utc_now(), by="t")
    erased = new_change("erased", before, after, actor="t").event.payload

    with running(notify(settings)):
        publisher.send(settings.topic_updates, [Record(b"1", first.value, [])])
        until("it is sent", lambda: ledger.counts() == {"sent": 1})
        publisher.send(settings.topic_updates, [Record(b"1", erased, [])])
        until("it is blank", lambda: ledger.recent()[0].subject == "(erased)")

    assert "Secret" not in str(ledger.recent())
    assert len(sink.accepted) == 1


class Away:
    """A ledger whose database is away for a while."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.tries = 0

    def add(self, rows: Any, grown: Any) -> int:
        self.tries += 1
        if self.tries <= 4:
            raise TemporaryError("away", dependency="postgres")
        return self._ledger.add(rows, grown)


def test_an_outage_of_the_ledger_loses_no_event(
    settings: Settings, publisher: Publisher, ledger: Ledger
) -> None:
    stop = Stop()
    away = Away(ledger)
    intake = Intake(settings, away, publisher, stop, rules=load(settings))  # type: ignore[arg-type]

    with running(lambda _: intake.run()):
        for number in range(1, 21):
            publisher.send(settings.topic_updates, [created(number)])
        until("all are queued", lambda: ledger.counts() == {"queued": 20})
        stop.ask()

    assert away.tries > 4


def test_a_thread_that_dies_ends_the_role_with_its_error(settings: Settings, publisher: Publisher) -> None:
    newer = orjson.loads(created(1).value or b"") | {"schema": 3}
    publisher.send(settings.topic_updates, [Record(b"1", orjson.dumps(newer), [])])

    with pytest.raises(Exception, match=r"schema 3.*offset 0"):
        run_notify(settings, Stop(), policy=POLICY, timeouts=PATIENT)


# -- a process that is killed ------------------------------------------------------------------------------


def test_a_process_killed_in_the_hand_over_leaves_an_unknown_mail_that_is_not_sent_again(
    settings: Settings, sink: Sink, ledger: Ledger, backdoor: Backdoor, tmp_path: Path
) -> None:
    sink.data["a@example.com"] = [never]
    ledger.add([mail("v1", version=1), mail("other", customer=2, to="b@example.com")])
    with process(settings, tmp_path):
        until("the text was given", lambda: sink.to("a@example.com"))

    sink.data.clear()
    backdoor.pass_time(2 * LEASE)
    with process(settings, tmp_path):
        until("it is unknown", lambda: ledger.counts() == {"unknown": 1, "sent": 1})
        ledger.add([mail("v2", version=2)])
        until("the next one is sent", lambda: ledger.counts() == {"unknown": 1, "sent": 2})

    ids = [str(accepted.message["Message-ID"]) for accepted in sink.accepted]
    assert sorted(ids) == [f"<{name}@example.com>" for name in ("other", "v1", "v2")]


def test_a_process_killed_before_the_hand_over_costs_nothing(
    settings: Settings, sink: Sink, ledger: Ledger, backdoor: Backdoor, tmp_path: Path
) -> None:
    sink.rcpt["a@example.com"] = [never]
    ledger.add([mail("m")])
    with process(settings, tmp_path):
        until("RCPT was sent", lambda: sink.commands["RCPT"])

    sink.rcpt.clear()
    backdoor.pass_time(2 * LEASE)
    with process(settings, tmp_path):
        until("it is sent", lambda: ledger.counts() == {"sent": 1})

    assert len(sink.accepted) == 1
    assert [attempt.number for attempt in ledger.attempts(["m"])["m"]] == [1]


def test_sigterm_finishes_the_mail_in_hand_and_ends_in_time(
    settings: Settings, sink: Sink, ledger: Ledger, tmp_path: Path
) -> None:
    sink.data["a@example.com"] = [late(1.0)]
    ledger.add([mail("m"), *(mail(f"n{n}", customer=5, version=n, to="b@example.com") for n in range(200))])

    with process(settings, tmp_path) as role:
        until("the text was given", lambda: sink.to("a@example.com"))
        role.send_signal(signal.SIGTERM)
        assert role.wait(60) == 0

    counts = ledger.counts()
    assert set(counts) <= {"sent", "queued"}
    assert sum(counts.values()) == 201
    assert counts["sent"] == len(sink.accepted)


def test_failures_wait_for_a_broker_that_is_down_and_are_published_once(
    settings: Settings, ledger: Ledger, publisher: Publisher, backdoor: Backdoor
) -> None:
    """N10; with a broker that is really down: test_full_size."""
    from custsvc.notify.intake.failed import FailedTopic

    ledger.add([mail(f"m{n}", customer=n) for n in range(50)])
    for claimed in ledger.claim(50, 60):
        settle(ledger, claimed, "failed", reason="550 no", code=550)
    stop = Stop()

    class Down:
        def __init__(self) -> None:
            self.tries = 0

        def send(self, *args: Any, **options: Any) -> int:
            self.tries += 1
            if self.tries <= 2:
                backdoor.pass_time(2 * LEASE)
                raise TemporaryError("away", dependency="kafka")
            return publisher.send(*args, **options)

    down = Down()
    with running(lambda _: FailedTopic(ledger, down, settings.topic_failed, stop, lease=LEASE).run()):  # type: ignore[arg-type]
        found = records(settings, settings.topic_failed, 50)
        until("all are confirmed", lambda: not ledger.unpublished_failures(1))
        stop.ask()

    assert len({record["notification_id"] for record in found}) == len(found) == 50
    assert {record["attempts"][0]["code"] for record in found} == {550}
