"""Texts of other programs are untrusted: no byte of them ends the role, or sends a mail twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from custsvc.domain.address import one_address
from custsvc.domain.text import is_one_line
from custsvc.notify.channels.channel import Outcome
from custsvc.notify.channels.mail import MailChannel
from custsvc.notify.channels.smtp import Server, SmtpTransport
from custsvc.notify.sending.breaker import Breaker
from custsvc.notify.sending.gate import Gate, Limits
from custsvc.notify.sending.journal import Journal
from custsvc.notify.sending.sender import Policy, Sender
from custsvc.ports.ledger import Ledger, Notification, Settlement
from custsvc.ports.store import Store
from custsvc.runtime.loop import Stop

from .conftest import PATIENT, mail, turns_until
from .scripted import Asked, ScriptedSmtp, polite

ODD = ["\x00", "a\x00b", "\ud800", "\udcff\udc00", "\x1b[2J", "\u202e", "é" * 5000, "\x7f\x80", "", " \r\n "]
SAID = {f"m{number}": odd for number, odd in enumerate(ODD)}
odd_text = st.text(st.characters(exclude_categories=()), max_size=400) | st.sampled_from(ODD)


@given(odd_text | st.binary(max_size=500).map(lambda b: b.decode("utf-8", "surrogateescape")))
def test_any_report_of_a_channel_becomes_one_short_line(text: str) -> None:
    outcome = Outcome("deferred", 450, text)

    assert is_one_line(outcome.text)
    assert len(outcome.text) <= 300
    outcome.text.encode()


class Says:
    """A channel whose other side answers each mail with its subject, or whose code breaks with it."""

    def __init__(self, *, breaks: str = "") -> None:
        self._breaks = breaks

    def prepare(self, notification: Notification, _now: Any) -> Notification:
        if self._breaks == "prepare":
            raise RuntimeError(SAID[notification.id])
        return notification

    def send(self, prepared: Notification, hand_over: Callable[[], bool]) -> Outcome:
        if self._breaks == "send":
            raise RuntimeError(SAID[prepared.id])
        hand_over()
        return Outcome("failed", 550, SAID[prepared.id])

    def close(self) -> None: ...

    def quit(self) -> None: ...


@pytest.fixture
def sender_of(ledger: Ledger, store: Store) -> Callable[..., Sender]:
    def make(channel: Any, on: Ledger | None = None) -> Sender:
        how = Policy(3, 0.01, 0.02, idle=0.01, lease=60.0)
        gate = Gate(ledger, store.recipients, Limits())
        return Sender("mail", channel, Journal(on or ledger, how.lease), gate, Breaker(), how, Stop())

    return make


@pytest.mark.parametrize("breaks", ["", "prepare", "send"])
def test_odd_words_of_others_are_kept_as_text_and_end_no_sender(
    breaks: str, ledger: Ledger, sender_of: Callable[..., Sender]
) -> None:
    ledger.add([mail(name, customer=number) for number, name in enumerate(SAID)])

    turns_until(sender_of(Says(breaks=breaks)), lambda: ledger.counts() == {"failed": len(SAID)})

    assert all(row.reason and is_one_line(row.reason) for row in ledger.recent())
    tries = ledger.attempts(list(SAID))
    assert {len(of_one) for of_one in tries.values()} == {3 if breaks == "send" else 1}


class Poisoned:
    """A ledger that cannot write the steps of one notification, as one whose driver does not bear a byte."""

    def __init__(self, ledger: Ledger, name: str, *, also_plain: bool) -> None:
        self._ledger = ledger
        self._name = name
        self._also_plain = also_plain

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def advance(self, hand_overs: Any, settlements: list[Settlement]) -> Any:
        for each in settlements:
            if each.notification.id == self._name and (
                self._also_plain or not (each.reason or "").startswith("the answer")
            ):
                raise ValueError("a string literal cannot contain this")
        return self._ledger.advance(hand_overs, settlements)


@pytest.mark.parametrize("also_plain", [False, True], ids=["its words", "all of it"])
def test_a_step_that_cannot_be_written_fails_alone(
    also_plain: bool, ledger: Ledger, sender_of: Callable[..., Sender]
) -> None:
    ledger.add([mail(f"m{n}", customer=n, to=f"c{n}@example.com") for n in range(6)])
    sender = sender_of(Says(), on=Poisoned(ledger, "m3", also_plain=also_plain))

    turns_until(sender, lambda: ledger.counts().get("failed", 0) >= (5 if also_plain else 6))
    sender.turn()

    by_id = {row.id: row for row in ledger.recent()}
    assert {row.state for name, row in by_id.items() if name != "m3"} == {"failed"}
    assert by_id["m3"].state == ("handing_over" if also_plain else "failed")
    assert also_plain or "cannot be stored" in (by_id["m3"].reason or "")


# -- a real server -----------------------------------------------------------------------------------------


@pytest.fixture
def smtp() -> Iterator[ScriptedSmtp]:
    with closing(ScriptedSmtp()) as server:
        yield server


@examples(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["RCPT", "TEXT", "MAIL"]), st.binary(max_size=300).map(lambda b: b.replace(b"\n", b"\0"))
)
def test_any_bytes_in_the_answer_of_a_mail_server_fail_that_mail_alone(
    smtp: ScriptedSmtp, ledger: Ledger, sender_of: Callable[..., Sender], word: str, said: bytes
) -> None:
    def script(asked: Asked) -> Any:
        return (
            [b"552 " + said + b"\r\n"]
            if asked.word == word and "odd" in asked.recipient + word
            else polite(asked)
        )

    smtp.script = script if word != "MAIL" else polite
    name = f"{len(ledger.recent(limit=1000))}"
    ledger.add([mail(f"o{name}", customer=None, to=f"odd{name}@example.com")])
    ledger.add([mail(f"g{name}", customer=None, to=f"good{name}@example.com")])
    transport = SmtpTransport(Server.parse(smtp.url), PATIENT)
    sender = sender_of(MailChannel(transport, one_address("me@example.com")))

    turns_until(sender, lambda: not ledger.counts().keys() & {"queued", "deferred", "claimed"})
    transport.close()

    odd, good = ledger.find([f"o{name}", f"g{name}"])
    assert good.state == "sent"
    assert odd.state == ("sent" if word == "MAIL" else "failed")
    assert smtp.accepted[f"g{name}"] == 1
