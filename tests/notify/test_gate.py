"""The checks just before a mail is sent, and the shared journal of the senders."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from custsvc.errors import TemporaryError
from custsvc.notify.channels.refusal import is_gone
from custsvc.notify.sending.gate import Gate, Limits
from custsvc.notify.sending.journal import Journal
from custsvc.notify.sending.sender import Sender
from custsvc.ports.ledger import Advanced, Ledger, Notification, Settlement
from custsvc.ports.recipients import EVERY_RULE
from custsvc.ports.store import Store
from custsvc.runtime.loop import Stop
from tests.backdoor import Backdoor
from tests.steps import hand_over, settle
from tests.waiting import until

from .conftest import Sink, mail

NewSender = Callable[..., Sender]


def refused(
    store: Store, rows: list[Notification], limits: Limits | None = None, **rest: Any
) -> dict[str, str]:
    gate = Gate(store.ledger, store.recipients, limits or Limits(), **rest)
    return {name: s.reason or s.state for name, s in gate.refusals(rows).items()}


def test_a_suppressed_address_gets_nothing_however_it_is_written(store: Store) -> None:
    store.recipients.suppress("ada@example.com", "bounce")

    found = refused(store, [mail("a", to="Ada@example.com"), mail("b", to="bob@example.com")])

    assert found == {"a": "the address is suppressed: bounce"}


def test_mails_that_must_be_sent_pass_an_unsubscription_but_not_a_bounce(store: Store) -> None:
    store.recipients.suppress("gone@example.com", "bounce")
    store.recipients.suppress("tired@example.com", "unsubscribe")
    store.recipients.set_wanted(3, "changed", False)
    store.recipients.set_wanted(4, EVERY_RULE, False)
    rows = [
        mail("gone", 1, to="gone@example.com"),
        mail("tired", 2, to="tired@example.com"),
        mail("one-rule", 3),
        mail("all-rules", 4),
        mail("request", None),
    ]

    assert set(refused(store, rows)) == {"gone", "tired", "one-rule", "all-rules"}
    assert set(refused(store, rows, always=["changed"])) == {"gone"}


def test_a_recipient_gets_at_most_so_many_in_an_hour_those_of_the_batch_counted(store: Store) -> None:
    for n in range(2):
        store.ledger.add([mail(f"sent{n}", None)])
        (claimed,) = store.ledger.claim(1, 60)
        settle(store.ledger, claimed, "sent")
    rows = [*(mail(f"m{n}", None) for n in range(3)), mail("other", None, to="b@example.com")]

    assert set(refused(store, rows, Limits(per_hour=3))) == {"m1", "m2"}
    assert refused(store, rows, Limits()) == {}


def test_more_than_the_rate_waits_and_is_sent_later(
    ledger: Ledger, sink: Sink, new_sender: NewSender
) -> None:
    ledger.add([mail(f"m{n}", None) for n in range(3)])

    new_sender(limits=Limits(per_minute=2)).turn()

    assert ledger.counts() == {"sent": 2, "queued": 1}
    (waiting,) = ledger.recent(state="queued")
    assert waiting.attempts == 0
    assert waiting.next_at is not None
    assert waiting.created_on is not None
    assert waiting.next_at > waiting.created_on


@pytest.mark.parametrize(
    ("code", "text", "is_bad"),
    [
        (550, "no such user", False),
        (550, "5.1.1 no such user", True),
        (550, "5.2.1 mailbox disabled", True),
        (553, "5.1.3 bad syntax", True),
        (550, "5.7.1 blocked, see our policy", False),
        (552, "5.2.2 mailbox full", False),
        (554, "no", False),
        (450, "4.2.1 try later", False),
    ],
)
def test_only_a_refusal_of_the_address_itself_suppresses_it(code: int, text: str, is_bad: bool) -> None:
    assert is_gone(code, text) is is_bad


def test_the_sender_reports_addresses_that_do_not_exist(
    ledger: Ledger, sink: Sink, new_sender: NewSender, bad_addresses: list[str]
) -> None:
    sink.rcpt["a@example.com"] = ["550 5.1.1 no such user"]
    sink.rcpt["b@example.com"] = ["550 5.7.1 policy"]
    sink.data["c@example.com"] = ["550 no"]
    ledger.add([mail(to, None, to=f"{to}@example.com") for to in "abc"])

    new_sender().turn()

    assert ledger.counts() == {"failed": 3}
    assert bad_addresses == ["a@example.com"]


# -- the journal -------------------------------------------------------------------------------------------


class Watched:
    """A ledger whose writes are counted; the first ones may fail, and each may be held up."""

    def __init__(
        self, ledger: Ledger, *, failures: int = 0, before: Callable[[], object] = lambda: None
    ) -> None:
        self._ledger = ledger
        self._failures = failures
        self._before = before
        self.writes: list[int] = []
        self.renewals = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def advance(self, hand_overs: Any, settlements: Any) -> Advanced:
        self._before()
        if self._failures:
            self._failures -= 1
            raise TemporaryError("away", dependency="postgres")
        self.writes.append(len(hand_overs) + len(settlements))
        return self._ledger.advance(hand_overs, settlements)

    def renew(self, notifications: Any, lease: float) -> None:
        self._ledger.renew(notifications, lease)
        self.renewals += 1


@pytest.mark.parametrize("backend", ["postgres"])
def test_senders_that_come_while_a_write_is_under_way_share_the_next_one(ledger: Ledger) -> None:
    ledger.add([mail(f"m{n}", None) for n in range(20)])
    go_on = threading.Event()
    watched = Watched(ledger, before=lambda: go_on.wait(120))
    journal = Journal(watched, 60.0)
    claimed = journal.claim(20, "mail")
    ours: list[bool] = []

    threads = [threading.Thread(target=lambda n=n: ours.append(journal.handing_over(n))) for n in claimed]
    for thread in threads:
        thread.start()
    until("one writes and all others wait", lambda: len(journal._waiting) == 19)
    go_on.set()
    for thread in threads:
        thread.join(60)

    assert ours == [True] * 20
    assert watched.writes == [1, 19]


@pytest.mark.parametrize("backend", ["postgres"])
def test_an_answer_that_could_not_be_written_is_written_with_the_next(ledger: Ledger) -> None:
    ledger.add([mail("a", 1), mail("b", 2)])
    journal = Journal(Watched(ledger, failures=1), 60.0)
    a, b = journal.claim(2, "mail")
    assert hand_over(ledger, a)
    journal.settle_soon(Settlement(a, "sent", "250 OK", code=250))

    with pytest.raises(TemporaryError):
        journal.handing_over(b)
    assert ledger.counts() == {"handing_over": 1, "claimed": 1}
    journal.flush()

    assert ledger.counts() == {"sent": 1, "claimed": 1}


class Ticks(Stop):
    """The wish to stop, which never comes; the waits for it end when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.due = threading.Semaphore(0)

    def wait(self, _seconds: float) -> bool:
        self.due.acquire()
        return self.asked()


def test_a_mail_that_takes_longer_than_its_lease_is_not_taken_by_another(
    ledger: Ledger, sink: Sink, new_sender: NewSender, backdoor: Backdoor
) -> None:
    go_on = threading.Event()

    async def when_told(_server: Any, _envelope: Any) -> str:
        await asyncio.to_thread(go_on.wait, 120)
        return "250 OK"

    sink.rcpt["a@example.com"] = [when_told]
    ledger.add([mail("m")])
    ticks, watched = Ticks(), Watched(ledger)
    sender = new_sender(lease=60.0, on=watched)
    threads = [
        threading.Thread(target=sender._journal.keep_alive, args=(ticks,)),
        threading.Thread(target=sender.turn),
    ]
    for thread in threads:
        thread.start()
    until("it is offered", lambda: sink.commands["RCPT"])

    expired: list[tuple[int, int]] = []
    for count in range(1, 4):
        backdoor.pass_time(40.0)
        ticks.due.release()
        until("the lease is renewed", lambda count=count: watched.renewals == count)
        expired.append(ledger.expire())
    go_on.set()
    threads[1].join(60)
    ticks.ask()
    ticks.due.release()
    threads[0].join(60)

    assert set(expired) == {(0, 0)}
    assert ledger.counts() == {"sent": 1}
    assert len(sink.accepted) == 1
