"""The mail scenarios at full size; the small ones are beside the code that they test."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from custsvc.config import Settings
from custsvc.errors import TemporaryError
from custsvc.kafka.publisher import Publisher
from custsvc.kafka.topics import ensure_topics
from custsvc.local import LocalServers
from custsvc.notify.intake.failed import FailedTopic
from custsvc.notify.sending.sender import Sender
from custsvc.ports.ledger import Ledger
from custsvc.runtime.loop import Stop
from tests.background import in_background
from tests.steps import settle
from tests.waiting import until

from .conftest import IMPATIENT, Sink, mail, never, turns_until
from .role import records

NewSender = Callable[..., Sender]
pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


def test_a_hundred_mails_whose_answers_are_late_are_unknown(
    ledger: Ledger, sink: Sink, new_sender: NewSender
) -> None:
    """N4."""
    ledger.add([mail(f"m{n}", None, to=f"c{n}@example.com") for n in range(100)])
    sink.data = {f"c{n}@example.com": [never] for n in range(100)}
    senders = [new_sender(timeouts=IMPATIENT, batch=10) for _ in range(8)]

    threads = [
        threading.Thread(target=turns_until, args=(sender, lambda: ledger.counts() == {"unknown": 100}, 600))
        for sender in senders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(900)

    assert ledger.counts() == {"unknown": 100}
    assert Counter(accepted.recipient for accepted in sink.accepted).most_common(1)[0][1] == 1


def test_a_thousand_times_three_recipients_end_each_in_their_own_way(
    ledger: Ledger, sink: Sink, new_sender: NewSender
) -> None:
    """N6."""
    for n in range(1000):
        sink.rcpt[f"b{n}@example.com"], sink.rcpt[f"c{n}@example.com"] = ["550 no"], ["450 busy"]
        ledger.add([mail(f"{to}{n}", None, to=f"{to}{n}@example.com") for to in "abc"])

    done = {"sent": 1000, "failed": 1000, "deferred": 1000}
    turns_until(new_sender(retry_base=3600.0, retry_cap=3600.0), lambda: ledger.counts() == done, 1800)

    assert len({accepted.recipient for accepted in sink.accepted}) == len(sink.accepted) == 1000


def test_five_hundred_failures_wait_for_a_broker_that_is_down_and_are_published_once(
    ledger: Ledger, tmp_path: Path
) -> None:
    """N10."""
    ledger.add([mail(f"m{n}", customer=n, to="") for n in range(500)])
    while claimed := ledger.claim(500, 60):
        for each in claimed:
            settle(ledger, each, "failed", reason="550 no", code=550)
    kafka = LocalServers(tmp_path / "kafka", names=["kafka"], ephemeral=True)
    try:
        settings = Settings(kafka=kafka.start()["CUSTSVC_KAFKA"], topic_failed=f"failed-{uuid.uuid4().hex}")
        ensure_topics(settings)
        with Publisher(settings) as publisher:
            watched, stop = _Watched(publisher), Stop()
            kafka.server("kafka").kill()
            work = FailedTopic(ledger, watched, settings.topic_failed, stop, lease=10.0).run  # type: ignore[arg-type]
            with in_background(work, stop):
                until("it was tried in vain", lambda: watched.failures >= 2)
                assert len(ledger.unpublished_failures(1000)) == 500
                kafka.start()
                until("all are confirmed", lambda: not ledger.unpublished_failures(1), 300)
            found = records(settings, settings.topic_failed, 500)
    finally:
        kafka.stop()

    assert len({record["notification_id"] for record in found}) == len(found) == 500


class _Watched:
    """The publisher, and how often it could not publish."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self.failures = 0

    def send(self, *args: Any, **options: Any) -> int:
        try:
            return self._publisher.send(*args, **options)
        except TemporaryError:
            self.failures += 1
            raise
