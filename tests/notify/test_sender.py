"""Senders between a real ledger and a real SMTP server."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from custsvc.errors import TemporaryError
from custsvc.notify.sending.breaker import Breaker
from custsvc.notify.sending.sender import Sender
from custsvc.ports.ledger import Ledger
from custsvc.ports.store import Store
from custsvc.runtime.loop import Stop
from tests.chaos.faultproxy import FaultProxy
from tests.waiting import until

from .conftest import IMPATIENT, PATIENT, Sink, drop, mail, never, turns_until

NewSender = Callable[..., Sender]


def reason_of(ledger: Ledger, state: str) -> str:
    (row,) = ledger.recent(state=state)
    return row.reason or ""


def test_a_queued_mail_is_sent_and_its_answer_kept(ledger: Ledger, sink: Sink, new_sender: NewSender) -> None:
    ledger.add([mail("m", html="<p>Hello</p>")])

    new_sender().turn()

    assert ledger.counts() == {"sent": 1}
    (attempt,) = ledger.attempts(["m"])["m"]
    assert (attempt.outcome, attempt.code, attempt.text) == ("sent", 250, "250 OK")
    assert sink.to("a@example.com")[0].message["Message-ID"] == "<m@example.com>"


def test_451_three_times_then_250_takes_four_attempts_within_the_bounds(
    ledger: Ledger, sink: Sink, new_sender: NewSender
) -> None:
    """N5."""
    asked: list[float] = []
    planned: dict[int, float] = {}

    async def later(_server: Any, _envelope: Any) -> str:
        asked.append(time.monotonic())
        return "451 later" if len(asked) < 4 else "250 OK"

    def is_there() -> bool:
        (row,) = ledger.recent()
        if row.state == "deferred" and row.next_at and row.updated_on:
            planned[row.attempts] = (row.next_at - row.updated_on) / dt.timedelta(seconds=1)
        return bool(sink.accepted)

    sink.rcpt["a@example.com"] = [later]
    ledger.add([mail("m")])

    turns_until(new_sender(rng=lambda: 1.0), is_there)

    assert [a.outcome for a in ledger.attempts(["m"])["m"]] == ["deferred"] * 3 + ["sent"]
    waits = [after - before for before, after in itertools.pairwise(asked)]
    for number, wait in enumerate((0.1, 0.2, 0.4), 1):
        assert wait - 0.02 <= waits[number - 1]
        # A turn that took long may have tried again before anybody looked.
        assert planned.get(number, 0.0) <= wait + 0.02
    assert planned


def test_tries_that_are_used_up_end_as_failed(ledger: Ledger, sink: Sink, new_sender: NewSender) -> None:
    sink.data["a@example.com"] = ["452 full"]
    ledger.add([mail("m")])

    turns_until(new_sender(tries=3), lambda: ledger.counts() == {"failed": 1})

    assert sink.commands["DATA"] == 3
    assert reason_of(ledger, "failed") == "given up after 3 attempts: 452 full"


def test_three_recipients_end_each_in_their_own_way(
    ledger: Ledger, sink: Sink, new_sender: NewSender
) -> None:
    """N6."""
    sink.rcpt["b@example.com"] = ["550 no such user"]
    sink.rcpt["c@example.com"] = ["450 busy"]
    ledger.add([mail(to, customer=None, to=f"{to}@example.com") for to in "abc"])

    new_sender(retry_base=60.0).turn()

    assert ledger.counts() == {"sent": 1, "failed": 1, "deferred": 1}
    assert [accepted.recipients for accepted in sink.accepted] == [["a@example.com"]]
    assert reason_of(ledger, "failed") == "550 no such user"


@pytest.mark.parametrize("answer", [drop, never], ids=["dropped", "too late"])
def test_a_mail_whose_answer_is_lost_is_unknown_and_never_sent_again(
    answer: Any, ledger: Ledger, sink: Sink, new_sender: NewSender
) -> None:
    """N4."""
    sink.data["a@example.com"] = [answer]
    ledger.add([mail("m")])
    sender = new_sender(timeouts=IMPATIENT if answer is never else PATIENT)

    for _ in range(5):
        sender.turn()

    assert ledger.counts() == {"unknown": 1}
    assert sink.commands["DATA"] == 1


def test_a_mail_server_that_is_down_costs_no_attempt_and_few_connections(
    ledger: Ledger, sink: Sink, new_sender: NewSender
) -> None:
    """N7; the half minute between two probes: test_breaker."""
    sink.mail = ["421 not now"]
    ledger.add([mail(f"m{n}", customer=n) for n in range(10)])
    sender = new_sender(breaker=Breaker(5, 0.3), retry_base=0.01)

    began = time.monotonic()
    turns_until(sender, lambda: sink.connections >= 8)

    # Five, and one probe every 0.3 s.
    assert sink.connections <= 5 + 1 + (time.monotonic() - began) / 0.3
    assert ledger.counts() == {"queued": 10}
    sink.mail = []
    turns_until(sender, lambda: ledger.counts() == {"sent": 10})
    assert {len(a) for a in ledger.attempts([f"m{n}" for n in range(10)]).values()} == {1}
    assert all(row.attempts == 1 for row in ledger.recent())


def test_a_mail_that_breaks_the_connection_does_not_hold_up_the_others(
    ledger: Ledger, sink: Sink, new_sender: NewSender
) -> None:
    sink.rcpt["bad@example.com"] = [drop]
    ledger.add(
        [mail("bad", customer=1, to="bad@example.com"), mail("good", customer=2, to="good@example.com")]
    )
    sender = new_sender(retry_base=30.0, breaker=Breaker(1, 0.1))

    turns_until(sender, lambda: sink.to("good@example.com"))

    assert ledger.counts()["sent"] == 1


def test_an_address_that_is_not_one_fails_without_a_connection(
    ledger: Ledger, sink: Sink, new_sender: NewSender
) -> None:
    ledger.add([mail("m", to="a@example.com, evil@example.net")])

    new_sender().turn()

    assert sink.connections == 0
    assert "not one e-mail address" in reason_of(ledger, "failed")


def test_four_senders_send_each_mail_once_and_keep_the_order(
    ledger: Ledger, sink: Sink, new_sender: NewSender
) -> None:
    customers, versions = 20, 5
    ledger.add(
        [
            mail(f"{c}-{v}", customer=c, version=v, to=f"c{c}@example.com", subject=f"v{v}")
            for v in range(1, versions + 1)
            for c in range(1, customers + 1)
        ]
    )
    stop = Stop()
    threads = [threading.Thread(target=new_sender(stop=stop).run) for _ in range(4)]

    for thread in threads:
        thread.start()
    until("all are accepted", lambda: len(sink.accepted) >= customers * versions)
    stop.ask()
    for thread in threads:
        thread.join(60)

    assert ledger.counts() == {"sent": customers * versions}
    assert max(Counter(a.message["Message-ID"] for a in sink.accepted).values()) == 1
    for c in range(1, customers + 1):
        subjects = [accepted.message["Subject"] for accepted in sink.to(f"c{c}@example.com")]
        assert subjects == [f"v{v}" for v in range(1, versions + 1)]


class Broken:
    """A ledger whose database goes away at one step."""

    def __init__(self, ledger: Ledger, step: str, times: int) -> None:
        self._ledger = ledger
        self._step = step
        self._times = times

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._ledger, name)
        if name != self._step:
            return real

        def away(*args: Any, **options: Any) -> Any:
            if self._times:
                self._times -= 1
                raise TemporaryError("away", dependency="postgres")
            return real(*args, **options)

        return away


@pytest.mark.parametrize("step", ["claim", "advance"])
def test_an_outage_of_the_ledger_neither_loses_nor_repeats_a_mail(
    step: str, ledger: Ledger, sink: Sink, new_sender: NewSender
) -> None:
    ledger.add([mail("m")])
    sender = new_sender(on=Broken(ledger, step, 2))

    turns_until(sender, lambda: ledger.counts() == {"sent": 1})

    assert len(sink.accepted) == 1
    assert len(ledger.attempts(["m"])["m"]) == 1


def test_while_the_ledger_is_away_no_mail_leaves(
    ledger: Ledger, proxied: Store, proxy: FaultProxy, sink: Sink, new_sender: NewSender
) -> None:
    """N12: its server goes when the mail server has taken the recipient."""
    there = proxy.target

    def go() -> None:
        proxy.target = None
        proxy.reset()

    async def gone(_server: Any, _envelope: Any) -> str:
        await asyncio.to_thread(go)
        return "250 OK"

    sink.rcpt["a@example.com"] = [gone, "250 OK"]
    ledger.add([mail("m")])
    sender = new_sender(on=proxied.ledger, lease=1.0)

    for _ in range(2):
        sender.turn()
    assert (sink.commands["RCPT"], sink.commands["DATA"]) == (1, 0)

    proxy.target = there
    turns_until(sender, lambda: ledger.expire() and ledger.counts() == {"sent": 1})
    assert len(sink.accepted) == 1


def test_a_stop_gives_back_claimed_mails_that_were_not_begun(
    ledger: Ledger, sink: Sink, new_sender: NewSender
) -> None:
    stop = Stop()

    async def stop_now(_server: Any, _envelope: Any) -> str:
        stop.ask()
        return "250 OK"

    sink.data["c0@example.com"] = [stop_now]
    ledger.add([mail(f"m{n}", customer=n, to=f"c{n}@example.com") for n in range(5)])

    new_sender(stop=stop).run()

    assert ledger.counts() == {"sent": 1, "queued": 4}
    assert [row.attempts for row in ledger.recent(state="queued")] == [0, 0, 0, 0]
