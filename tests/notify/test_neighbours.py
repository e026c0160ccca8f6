"""One mail that breaks the server, and outages: other mails pass, and no wait is uncounted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from custsvc.notify.sending.breaker import Breaker
from custsvc.notify.sending.sender import Sender
from custsvc.ports.ledger import Ledger

from .conftest import Answer, Sink, drop, mail, turns_until

NewSender = Callable[..., Sender]
BAD = "bad@example.com"


@pytest.mark.parametrize("answer", [drop, "421 not with me"], ids=["dropped", "421"])
@pytest.mark.parametrize("backend", ["postgres"])
def test_a_mail_that_breaks_the_connection_is_blamed_once_others_pass(
    answer: Answer, ledger: Ledger, sink: Sink, new_sender: NewSender
) -> None:
    """It is counted and given up as any mail that is refused; the others never wait for it."""
    sink.rcpt[BAD] = [answer]
    ledger.add([mail("bad", customer=0, to=BAD)])
    breaker = Breaker(5, 3600.0)
    sender = new_sender(breaker=breaker, retry_base=0.01, retry_cap=0.05, tries=6)

    for number in range(1, 200):
        ledger.add([mail(f"good{number}", customer=number, to=f"c{number}@example.com")])
        turns_until(sender, lambda number=number: sink.to(f"c{number}@example.com"))
        if ledger.counts(["failed"]) == {"failed": 1}:
            break

    (bad,) = ledger.find(["bad"])
    assert bad.state == "failed"
    assert "given up after 6 attempts: " in (bad.reason or "")
    assert "others pass, this mail does not" in (bad.reason or "")
    assert not breaker.is_open


@pytest.mark.parametrize("backend", ["postgres"])
def test_a_bad_mail_that_was_alone_keeps_no_good_one_waiting(
    ledger: Ledger, sink: Sink, new_sender: NewSender
) -> None:
    """Half an hour between two probes is no matter where one mail alone says that the server is down."""
    sink.rcpt[BAD] = [drop]
    ledger.add([mail("bad", customer=0, to=BAD)])
    sender = new_sender(breaker=Breaker(5, 1800.0), retry_base=0.01, retry_cap=0.02)
    turns_until(sender, lambda: sink.commands["RCPT"] >= 8)
    assert ledger.find(["bad"])[0].attempts == 0

    ledger.add([mail("good", customer=1, to="good@example.com")])
    turns_until(sender, lambda: sink.to("good@example.com"))


@pytest.mark.parametrize("backend", ["postgres"])
def test_the_probe_of_a_server_that_is_down_is_a_mail_that_has_not_failed(
    ledger: Ledger, sink: Sink, new_sender: NewSender
) -> None:
    bad = [f"bad{number}@example.com" for number in range(4)]
    for address in bad:
        sink.rcpt[address] = [drop]
    ledger.add([mail(f"bad{n}", customer=n, to=address) for n, address in enumerate(bad)])
    breaker = Breaker(4, 0.5)
    sender = new_sender(breaker=breaker, retry_base=0.001, retry_cap=0.001)
    turns_until(sender, lambda: breaker.is_open)

    ledger.add([mail("good", customer=9, to="good@example.com")])
    tried = sink.commands["RCPT"]
    turns_until(sender, lambda: sink.to("good@example.com"))

    # One probe may have been under way; the next one is the good mail.
    assert sink.commands["RCPT"] <= tried + 2


@pytest.mark.parametrize("where", ["mail", "rcpt", "data"])
@pytest.mark.parametrize("backend", ["postgres"])
def test_a_server_that_is_shutting_down_costs_no_attempt_whatever_it_is_asked(
    where: str, ledger: Ledger, sink: Sink, new_sender: NewSender
) -> None:
    addresses = [f"c{number}@example.com" for number in range(6)]
    answers: list[Answer] = ["421 shutting down"]
    if where == "mail":
        sink.mail = answers
    else:
        getattr(sink, where).update((address, answers) for address in addresses)
    ledger.add([mail(f"m{n}", customer=n, to=address) for n, address in enumerate(addresses)])
    sender = new_sender(breaker=Breaker(5, 0.05), retry_base=0.01, retry_cap=0.02, tries=2)

    turns_until(sender, lambda: sink.connections >= 15)
    assert ledger.counts() == {"queued": 6}
    assert {row.attempts for row in ledger.recent()} == {0}
    assert any("421 shutting down" in (row.reason or "") for row in ledger.recent())

    sink.mail, sink.rcpt, sink.data = [], {}, {}
    sink.accepted.clear()
    turns_until(sender, lambda: ledger.counts() == {"sent": 6})
    assert len(sink.accepted) == 6


@pytest.mark.parametrize("backend", ["postgres"])
def test_a_mail_that_is_refused_temporarily_is_given_up_after_its_time(
    ledger: Ledger, sink: Sink, new_sender: NewSender
) -> None:
    sink.rcpt["a@example.com"] = ["451 greylisted"]
    ledger.add([mail("m")])
    began = time.monotonic()

    turns_until(new_sender(tries=1000, give_up=2.0), lambda: ledger.counts() == {"failed": 1})

    assert time.monotonic() - began >= 1.9
    tries = ledger.attempts(["m"])["m"]
    assert 2 <= len(tries) < 1000
    assert "given up" in (ledger.find(["m"])[0].reason or "")


@pytest.mark.parametrize("backend", ["postgres"])
def test_a_mail_that_a_person_sends_again_has_all_its_time_before_it(
    ledger: Ledger, sink: Sink, new_sender: NewSender
) -> None:
    sink.rcpt["a@example.com"] = ["451 later"]
    ledger.add([mail("m")])
    sender: Any = new_sender(tries=3, give_up=1.0)
    turns_until(sender, lambda: ledger.counts() == {"failed": 1})
    time.sleep(1.0)

    assert ledger.retry(["m"]) == ["m"]
    sender.turn()

    assert ledger.find(["m"])[0].state == "deferred"


@pytest.mark.parametrize("backend", ["postgres"])
def test_a_suspect_mail_without_other_mails_does_not_wait_for_ever(
    ledger: Ledger, sink: Sink, new_sender: NewSender
) -> None:
    sink.rcpt[BAD] = [drop]
    ledger.add([mail("bad", to=BAD)])

    turns_until(new_sender(give_up=1.0, retry_base=0.01), lambda: ledger.counts() == {"failed": 1})

    assert "given up" in (ledger.find(["bad"])[0].reason or "")
