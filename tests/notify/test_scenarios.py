"""Mails through crashes: none lost, none doubled, unknown only what died in the hand-over (N1 to N3, N11).

The full sizes are marked long; each test here is the same code at a size that a push can wait for.
"""

from __future__ import annotations

import dataclasses
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from custsvc.config import Settings
from custsvc.kafka.publisher import Publisher
from custsvc.notify.channels.unsubscribe import UnsubscribeLinks
from custsvc.ports.ledger import Ledger
from custsvc.ports.recipients import EVERY_RULE
from custsvc.ports.store import Store
from tests.backdoor import Backdoor
from tests.notify.conftest import Sink, late, mail
from tests.notify.role import LEASE, created, lag, notify, process, running
from tests.waiting import until

DIED = 137
BEFORE = ("notify.claimed", "notify.connected", "notify.accepted-recipient")
WITHIN = ("notify.handed-over", "notify.gave-text", "notify.answered")
AFTER = ("notify.settled",)


def open_ones(ledger: Ledger) -> set[str]:
    return set(ledger.counts()) - {"sent", "unknown"}


def most_often(sink: Sink) -> int:
    return max(Counter(str(accepted.message["Message-ID"]) for accepted in sink.accepted).values())


def crash_everywhere(
    settings: Settings, sink: Sink, ledger: Ledger, backdoor: Backdoor, folder: Path, rounds: int
) -> None:
    """Die at each point in turn, `rounds` times; then let one live."""
    one = settings.replace(notify_connections=1)
    total = 0
    for _ in range(rounds):
        for point in (*BEFORE, *WITHIN, *AFTER):
            ledger.add([mail(f"m{n}", customer=n, to=f"c{n}@example.com") for n in range(total, total + 3)])
            total += 3
            with process(one, folder, crash_at=point) as role:
                assert role.wait(120) == DIED, point
            backdoor.pass_time(2 * LEASE)
    lost = len(WITHIN) * rounds
    with process(one, folder):
        until("all are settled", lambda: not open_ones(ledger), 120 + rounds * 10)

    assert ledger.counts() == {"sent": total - lost, "unknown": lost}
    # A mail whose process died before its text was sent never arrived; one after that did, once.
    assert len(sink.accepted) == total - rounds
    assert most_often(sink) == 1
    assert {len(tries) for tries in ledger.attempts([f"m{n}" for n in range(total)]).values()} == {1}


def test_a_crash_at_any_point_loses_no_mail_and_repeats_none(
    settings: Settings, sink: Sink, ledger: Ledger, backdoor: Backdoor, tmp_path: Path
) -> None:
    """N1."""
    crash_everywhere(settings, sink, ledger, backdoor, tmp_path, 1)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_a_hundred_crashes_at_each_point(
    settings: Settings, sink: Sink, ledger: Ledger, backdoor: Backdoor, tmp_path: Path
) -> None:
    """N1, full size."""
    crash_everywhere(settings, sink, ledger, backdoor, tmp_path, 100)


def kill_at_random(
    settings: Settings, sink: Sink, ledger: Ledger, folder: Path, *, copies: int, mails: int, kills: int
) -> int:
    """Copies at work, one after the other killed and replaced; returns how often."""
    for start in range(0, mails, 1000):
        numbers = range(start, min(start + 1000, mails))
        ledger.add([mail(f"m{n}", customer=n, to=f"c{n}@example.com") for n in numbers])
    rng = random.Random(1)
    killed = 0
    share = mails // (kills + copies)
    with ExitStack() as stack:
        live = [stack.enter_context(process(settings, folder, lease=2.0)) for _ in range(copies)]
        while killed < kills and open_ones(ledger):
            seen = len(sink.accepted)
            until("mails go out", lambda s=seen: len(sink.accepted) > s + share or not open_ones(ledger), 120)
            victim = live.pop(rng.randrange(len(live)))
            victim.kill()
            killed += 1
            live.append(stack.enter_context(process(settings, folder, lease=2.0)))
        until("all are settled", lambda: not open_ones(ledger), 120 + mails / 50)
    counts = ledger.counts()
    assert counts.get("sent", 0) + counts.get("unknown", 0) == mails
    assert len({accepted.recipient for accepted in sink.accepted}) >= counts["sent"]
    return killed


def test_copies_that_are_killed_at_random_lose_no_mail_and_repeat_none(
    settings: Settings, sink: Sink, ledger: Ledger, tmp_path: Path
) -> None:
    """N2."""
    for n in range(200):
        sink.data[f"c{n}@example.com"] = [late(0.02)]

    kills = kill_at_random(settings, sink, ledger, tmp_path, copies=2, mails=200, kills=4)

    assert most_often(sink) == 1
    # Processes that live at the end are killed too.
    assert ledger.counts().get("unknown", 0) <= settings.notify_connections * (kills + 2)
    assert kills >= 1


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_four_copies_send_twenty_thousand_mails_through_two_hundred_kills(
    settings: Settings, sink: Sink, ledger: Ledger, tmp_path: Path
) -> None:
    """N2, full size."""
    kills = kill_at_random(settings, sink, ledger, tmp_path, copies=4, mails=20_000, kills=200)

    counts = ledger.counts()
    print(f"\nN2 on {settings.backend}: {kills} kills, {counts}, most often {most_often(sink)}")
    assert most_often(sink) == 1
    assert counts.get("unknown", 0) <= settings.notify_connections * kills
    assert kills >= 150


@pytest.mark.parametrize("backend", ["postgres"])
def test_where_unknown_ones_are_sent_again_they_keep_their_message_id(
    settings: Settings, sink: Sink, ledger: Ledger, backdoor: Backdoor, tmp_path: Path
) -> None:
    """N3."""
    again = settings.replace(notify_on_unknown="resend", notify_connections=1)
    ledger.add([mail("m", version=1), mail("next", version=2)])

    with process(again, tmp_path, crash_at="notify.gave-text") as role:
        assert role.wait(120) == DIED
    backdoor.pass_time(2 * LEASE)
    with process(again, tmp_path):
        until("both are sent", lambda: ledger.counts() == {"sent": 2})

    ids = [str(accepted.message["Message-ID"]) for accepted in sink.accepted]
    assert ids == ["<m@example.com>", "<m@example.com>", "<next@example.com>"]


# -- who gets none, through the whole role -----------------------------------------------------------------


def test_a_customer_with_a_hundred_changes_gets_no_more_than_the_cap(
    settings: Settings, publisher: Publisher, sink: Sink, ledger: Ledger
) -> None:
    """S21."""
    ledger.add([mail(f"v{n}", version=n) for n in range(1, 101)])

    with running(notify(settings.replace(notify_cap=30))):
        until("all are settled", lambda: not set(ledger.counts()) - {"sent", "suppressed"})

    assert ledger.counts() == {"sent": 30, "suppressed": 70}
    assert {str(accepted.message["Auto-Submitted"]) for accepted in sink.accepted} == {"auto-generated"}
    (suppressed,) = ledger.recent(state="suppressed", limit=1)
    assert "30 mails within an hour" in (suppressed.reason or "")


def test_an_unsubscribed_customer_gets_only_the_mails_that_must_be_sent(
    settings: Settings, publisher: Publisher, sink: Sink, store: Store
) -> None:
    reachable = settings.replace(public_url="https://crm.example.com")
    store.recipients.set_wanted(1, EVERY_RULE, False)
    must = mail("must", customer=1, to="must@example.com")
    store.ledger.add([dataclasses.replace(must, rule="goodbye")])

    with running(notify(reachable)):
        publisher.send(settings.topic_updates, [created(1), created(2)])
        until("all are settled", lambda: store.ledger.counts() == {"sent": 2, "suppressed": 1})

    links = UnsubscribeLinks(store.secret(), "https://crm.example.com")
    (wanted,) = sink.to("c2@example.com")
    assert wanted.message["List-Unsubscribe"] == f"<{links.url(2)}>"
    assert wanted.message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    (forced,) = sink.to("must@example.com")
    assert "List-Unsubscribe" not in forced.message
    assert sink.to("c1@example.com") == []


def test_an_address_that_a_server_says_does_not_exist_gets_no_other_mail(
    settings: Settings, sink: Sink, store: Store
) -> None:
    sink.rcpt["a@example.com"] = ["550 5.1.1 no such user"]
    store.ledger.add([mail("v1", version=1), mail("v2", version=2)])

    with running(notify(settings)):
        until("both are settled", lambda: store.ledger.counts() == {"failed": 1, "suppressed": 1})

    assert sink.commands["RCPT"] == 1
    (kept,) = store.recipients.suppressions()
    assert (kept.address, kept.reason) == ("a@example.com", "bounce")
    assert kept.expires_on is not None


# -- a million ---------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_million_queued_mails_hold_up_neither_kafka_nor_memory(
    settings: Settings, sink: Sink, ledger: Ledger, publisher: Publisher, tmp_path: Path
) -> None:
    """N11: the mail server takes about a hundred a second; what comes from Kafka does not wait for it."""
    for start in range(0, 1_000_000, 5000):
        numbers = range(start, start + 5000)
        ledger.add([mail(f"m{n}", customer=n + 10_000, to=f"c{n}@example.com") for n in numbers])
    sink.mail = [late(0.02)]
    sizes: list[int] = []

    with process(settings, tmp_path) as role:
        until("mails go out", lambda: len(sink.accepted) > 100, 120)
        began, before = time.monotonic(), len(sink.accepted)
        watched = psutil.Process(role.pid)
        watch = _every_second(lambda: sizes.append(watched.memory_info().rss))
        for start in range(1, 5001, 500):
            publisher.send(settings.topic_updates, [created(n) for n in range(start, start + 500)])
        until("Kafka's lag is 0", lambda: lag(settings) == 0, 180)
        took = [_milliseconds(lambda: ledger.claim(20, 0.001)) for _ in range(50)]
        time.sleep(20)
        watch.set()
        rate = (len(sink.accepted) - before) / (time.monotonic() - began)

    print(
        f"\nN11 on {settings.backend}: {rate:.0f} mails/s, RSS at most {max(sizes) / 1e6:.0f} MB, "
        f"claim of 20 median {statistics.median(took):.1f} ms, 95th percentile {sorted(took)[47]:.1f} ms"
    )
    assert max(sizes) < 120e6


def _every_second(work: Callable[[], object]) -> threading.Event:
    done = threading.Event()

    def run() -> None:
        while not done.wait(1.0):
            work()

    threading.Thread(target=run, daemon=True).start()
    return done


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000
