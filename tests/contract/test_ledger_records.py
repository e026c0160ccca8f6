"""The ledger as records: lookups, retries, discards, and pruning."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from custsvc.ports.ledger import NOT_KEPT, RETRIABLE, Ledger, Notification, Settlement
from custsvc.ports.store import Store
from tests.backdoor import Backdoor
from tests.steps import hand_over, revise, settle

LEASE = 60.0
# So long a lease is over.
LATER = LEASE + 1


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return store.ledger


def mail(
    name: str, customer: int | None = 1, version: int = 1, to: str = "a@x.org", **rest: Any
) -> Notification:
    return Notification(
        name, f"event-{name}", customer, version, "changed", to, "Hi", "Hello\n", None, **rest
    )


def settled(ledger: Ledger, new: Notification, state: Any, **how: Any) -> str:
    """Add one and bring it to a state; returns its id."""
    ledger.add([new])
    (claimed,) = ledger.claim(1, LEASE)
    assert settle(ledger, claimed, state, **how)
    return new.id


def names(found: list[Notification]) -> list[str]:
    return [each.id for each in found]


def test_many_steps_are_taken_in_one_write_and_each_result_is_returned(ledger: Ledger) -> None:
    ledger.add([mail(name, customer=n) for n, name in enumerate("abcd", 1)])
    a, b, c, d = ledger.claim(4, LEASE)
    assert hand_over(ledger, b)
    assert settle(ledger, d, "failed")

    done = ledger.advance(
        [a], [Settlement(b, "sent", code=250), Settlement(c, "queued", count_attempt=False)]
    )
    lost = ledger.advance([d], [Settlement(c, "sent")])

    assert done == ({"a"}, {"b", "c"})
    assert lost == (set(), set())
    assert ledger.counts() == {"handing_over": 1, "sent": 1, "queued": 1, "failed": 1}
    assert [t.code for t in ledger.attempts(["b", "c"])["b"]] == [250]


def test_a_step_whose_token_is_lost_does_not_hold_up_the_others(ledger: Ledger, backdoor: Backdoor) -> None:
    ledger.add([mail("lost"), mail("held", customer=2)])
    lost, held = ledger.claim(2, LEASE)
    backdoor.pass_time(LATER)
    ledger.renew([held], LEASE)
    assert ledger.expire() == (1, 0)

    done = ledger.advance([lost, held], [])

    assert done.handed_over == {"held"}


def test_a_lease_that_is_renewed_does_not_run_out(ledger: Ledger, backdoor: Backdoor) -> None:
    ledger.add([mail("held"), mail("handed", customer=2)])
    claimed = ledger.claim(2, LEASE)
    hand_over(ledger, claimed[1])

    ledger.renew(claimed, 3 * LEASE)
    backdoor.pass_time(LATER)

    assert ledger.expire() == (0, 0)


def test_a_lost_hand_over_may_be_sent_again_where_that_is_wanted(ledger: Ledger, backdoor: Backdoor) -> None:
    ledger.add([mail("v1", version=1), mail("v2", version=2)])
    (first,) = ledger.claim(1, LEASE)
    hand_over(ledger, first)
    backdoor.pass_time(LATER)

    assert ledger.expire(resend=True) == (1, 0)

    (again,) = ledger.claim(10, LEASE)
    assert (again.id, again.attempts) == ("v1", 2)
    assert not settle(ledger, first, "sent")
    assert [t.outcome for t in ledger.attempts(["v1"])["v1"]] == ["unknown"]


def test_one_with_a_time_is_not_due_before_it(ledger: Ledger) -> None:
    ledger.add([mail("now")])
    (now,) = ledger.claim(1, LEASE)
    assert now.updated_on is not None
    later = now.updated_on.replace(year=now.updated_on.year + 1)

    ledger.add([mail("later", customer=2, next_at=later, channel="crm")])

    assert ledger.claim(10, LEASE) == []
    (found,) = ledger.find(["later", "nobody"])
    assert found.next_at == later.replace(microsecond=found.next_at.microsecond)  # type: ignore[union-attr]
    assert found.channel == "crm"


def test_a_digest_grows_only_until_its_first_attempt(ledger: Ledger) -> None:
    ledger.add([mail("d", version=2, entries="[2]")])
    grown = mail("d", version=5, entries="[2,5]")

    assert not revise(ledger, grown, 1)
    (before,) = ledger.find(["d"])
    time.sleep(0.002)  # MongoDB's clock has milliseconds
    assert revise(ledger, grown, 2)
    (after,) = ledger.find(["d"])
    assert before.updated_on is not None
    assert after.updated_on is not None
    assert after.updated_on > before.updated_on
    (found,) = ledger.claim(1, LEASE)

    assert (found.version, found.entries, found.event_id) == (5, "[2,5]", "event-d")
    assert not revise(ledger, mail("d", version=6), 5)
    assert not revise(ledger, mail("nobody", version=6), 5)


# -- lists -------------------------------------------------------------------------------------------------


def test_lists_narrow_by_everything_that_is_given(ledger: Ledger) -> None:
    ledger.add([mail("a"), mail("b", customer=2, to="b@x.org")])
    (old,) = ledger.find(["a"])
    time.sleep(0.05)
    ledger.add([mail("c", customer=2, to="b@x.org", version=2)])
    (new,) = ledger.find(["c"])

    assert names(ledger.recent(recipient="b@x.org")) == ["c", "b"]
    assert names(ledger.recent(recipient="b@x.org", since=new.created_on)) == ["c"]
    assert names(ledger.recent(event_id="event-a", rule="changed", customer_id=1, state="queued")) == ["a"]
    assert names(ledger.recent(rule="other")) == []
    assert names(ledger.recent(since=old.created_on)) == ["c", "b", "a"]
    assert names(ledger.recent(until=new.created_on)) == ["b", "a"]
    assert names(ledger.recent(since=old.created_on, until=new.created_on, recipient_prefix="b@")) == ["b"]


def test_a_beginning_of_an_address_is_taken_letter_by_letter(ledger: Ledger) -> None:
    recipients = ["a_b@x.org", "aXb@x.org", "a%@x.org", "A_b@x.org", "a\\b@x.org", "ä@x.org"]
    ledger.add([mail(each, customer=number, to=each) for number, each in enumerate(recipients, 1)])

    for begin in ("a", "a_", "a%", "a\\", "A", "ä", "a_b@x.org", "b", "*", "^a", "."):
        found = {each.recipient for each in ledger.recent(recipient_prefix=begin)}
        assert found == {each for each in recipients if each.startswith(begin)}, begin
    assert names(ledger.recent(recipient="a_b@x.org", recipient_prefix="aX")) == []


def test_found_ones_come_in_the_order_asked(ledger: Ledger) -> None:
    ledger.add([mail("a"), mail("b", customer=2)])

    assert names(ledger.find(["b", "nobody", "a"])) == ["b", "a"]
    assert ledger.find([]) == []


# -- again, and no more ------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", RETRIABLE)
def test_a_retry_queues_it_at_once_with_all_tries_before_it(state: Any, ledger: Ledger) -> None:
    ledger.add([mail("m")])
    (claimed,) = ledger.claim(1, LEASE)
    if state == "discarded":
        settle(ledger, claimed, "failed", reason="550 no")
        assert ledger.discard(["m"], "no use") == ["m"]
    else:
        settle(ledger, claimed, state, reason="550 no")

    assert ledger.retry(["m", "nobody"]) == ["m"]

    (again,) = ledger.claim(10, LEASE)
    assert (again.attempts, again.spared) == (2, 1)
    assert settle(ledger, again, "sent")
    assert [t.number for t in ledger.attempts(["m"])["m"]] == [1, 2]


def test_a_failure_after_a_retry_is_published_again(ledger: Ledger) -> None:
    settled(ledger, mail("m"), "failed")
    ledger.published(["m"])
    ledger.retry(["m"])
    ledger.published(["m"])
    (again,) = ledger.claim(1, LEASE)
    settle(ledger, again, "failed")

    assert names(ledger.unpublished_failures(10, 1.0)) == ["m"]


def test_sent_mails_and_mails_under_way_are_not_retried(ledger: Ledger) -> None:
    settled(ledger, mail("sent"), "sent")
    ledger.add([mail("claimed", customer=2)])
    ledger.claim(1, LEASE)
    ledger.add([mail("queued", customer=3)])

    assert ledger.retry(["sent", "claimed", "queued"]) == []


def test_an_older_mail_is_not_sent_after_a_newer_one(ledger: Ledger) -> None:
    settled(ledger, mail("v1", version=1), "failed")
    settled(ledger, mail("v2", version=2), "sent")
    settled(ledger, mail("request", customer=None), "failed")

    assert ledger.retry(["v1", "request"]) == ["request"]
    assert ledger.retry(["v1"], out_of_order=True) == ["v1"]


def test_a_webhook_that_was_delivered_may_be_delivered_again(ledger: Ledger) -> None:
    ledger.add([mail("hook", to="crm", channel="crm"), mail("mail", customer=2)])
    for claimed in (*ledger.claim(1, LEASE, "crm"), *ledger.claim(1, LEASE)):
        settle(ledger, claimed, "sent")

    assert ledger.retry(["hook", "mail"]) == []
    assert ledger.retry(["hook", "mail"], redeliver=True) == ["hook"]
    assert names(ledger.claim(10, LEASE, "crm")) == ["hook"]


def test_newer_ones_that_still_wait_go_after_a_retried_one(ledger: Ledger) -> None:
    settled(ledger, mail("v1", version=1), "failed")
    ledger.add([mail("v2", version=2)])

    ledger.retry(["v1"])

    assert names(ledger.claim(10, LEASE)) == ["v1"]


def test_a_discarded_mail_is_never_sent_and_blocks_no_other(ledger: Ledger) -> None:
    ledger.add([mail("v1", version=1), mail("v2", version=2), mail("held", customer=2)])
    first, held = ledger.claim(10, LEASE)
    settle(ledger, first, "deferred", next_at=first.updated_on.replace(year=2100))  # type: ignore[union-attr]
    assert ledger.claim(10, LEASE) == []

    assert ledger.discard(["v1", held.id, "nobody"], "wrong address") == ["v1"]

    assert names(ledger.claim(10, LEASE)) == ["v2"]
    (gone,) = ledger.recent(state="discarded")
    assert (gone.id, gone.reason) == ("v1", "wrong address")
    assert ledger.unpublished_failures(10) == []


def test_the_ledger_holds_nothing_personal_of_an_erased_customer(ledger: Ledger) -> None:
    settled(ledger, mail("sent", version=1), "sent", reason="250 OK a@x.org", code=250)
    settled(ledger, mail("failed", version=2, state="queued"), "failed", reason="550 a@x.org")
    ledger.add([mail("waits", version=3), mail("newer", version=5), mail("other", customer=2, to="b@x.org")])

    assert ledger.forget(1, 5) == 3
    assert ledger.forget(1, 5) == 3

    found = {row.id: row for row in ledger.recent()}
    for name in ("sent", "failed", "waits"):
        assert "a@x.org" not in str(found[name])
        assert (found[name].text, found[name].subject) == ("", "(erased)")
    assert [found[name].state for name in ("sent", "failed", "waits")] == ["sent", "failed", "discarded"]
    assert [t.text for tries in ledger.attempts(["sent", "failed"]).values() for t in tries] == [None, None]
    assert set(names(ledger.claim(10, LEASE))) == {"newer", "other"}


# -- numbers and old rows ----------------------------------------------------------------------------------


def test_mails_to_a_recipient_are_counted_while_they_are_recent(ledger: Ledger) -> None:
    settled(ledger, mail("a"), "sent")
    settled(ledger, mail("b"), "failed")
    settled(ledger, mail("c", customer=None), "sent")
    settled(ledger, mail("d", to="d@x.org"), "sent")

    assert ledger.sent_since(["a@x.org", "d@x.org", "e@x.org"], 60) == {"a@x.org": 2, "d@x.org": 1}
    time.sleep(0.1)
    assert ledger.sent_since(["a@x.org"], 0.05) == {}


def test_old_rows_go_but_none_that_somebody_must_look_at(ledger: Ledger) -> None:
    for n, state in enumerate(("sent", "suppressed", "failed", "unknown"), 1):
        settled(ledger, mail(state, customer=n), state)
    ledger.add([mail("queued", customer=9)])
    time.sleep(0.1)

    assert ledger.prune(60) == 0
    assert ledger.prune(0.05, limit=1) == 1
    assert ledger.prune(0.05) == 1
    assert ledger.counts() == {"failed": 1, "unknown": 1, "queued": 1}
    ledger.published(["failed"])
    assert ledger.prune(0.05) == 1
    assert ledger.attempts(["sent", "failed"]) == {}


def test_texts_of_mails_sent_long_ago_go_and_all_else_stays(ledger: Ledger) -> None:
    for n, state in enumerate(("sent", "failed", "unknown"), 1):
        settled(ledger, replace(mail(state, customer=n), html="<p>Hello"), state, code=250)
    ledger.add([mail("queued", customer=9)])
    ledger.add([mail("delivered", customer=8, channel="webhook:1")])
    (claimed,) = ledger.claim(1, LEASE, "webhook:1")
    assert settle(ledger, claimed, "sent")
    before = {each.id: each for each in ledger.recent()}
    time.sleep(0.01)

    assert ledger.drop_texts(None, 60) == (0, None)
    assert ledger.drop_texts(before["sent"].created_on, 0.001) == (0, None)
    dropped, till = ledger.drop_texts(None, 0.001, limit=0)
    assert till == before["sent"].created_on
    assert (dropped, ledger.drop_texts(till, 0.001)) == (1, (0, None))

    after = {each.id: each for each in ledger.recent()}
    assert after == before | {"sent": replace(before["sent"], text=NOT_KEPT, html=None)}
    assert [t.code for t in ledger.attempts(["sent"])["sent"]] == [250]


def test_what_a_restored_ledger_had_not_sent_is_held_and_webhooks_go_on(ledger: Ledger) -> None:
    settled(ledger, mail("sent"), "sent")
    ledger.add([mail("claimed", version=2), mail("waits", version=3), mail("handed", customer=2)])
    ledger.claim(1, LEASE)
    (handed,) = ledger.claim(5, LEASE)
    assert hand_over(ledger, handed)
    ledger.add([mail("hook", customer=3, channel="webhook:1"), mail("queued", customer=4)])

    assert ledger.doubt("restored", limit=1) == 1
    assert ledger.doubt("restored") == 3
    assert ledger.doubt("restored") == 0

    assert ledger.counts() == {"sent": 1, "unknown": 4, "queued": 1}
    assert {each.reason for each in ledger.recent(state="unknown")} == {"restored"}
    assert ledger.claim(9, LEASE) == []
    assert ledger.expire() == (0, 0)
    assert ledger.stuck() == 0
    assert names(ledger.claim(9, LEASE, "webhook:1")) == ["hook"]
    ledger.add([mail("next", version=4)])
    assert names(ledger.claim(9, LEASE)) == ["next"]


def test_since_when_the_oldest_that_is_not_settled_waits(ledger: Ledger) -> None:
    assert ledger.oldest() is None
    settled(ledger, mail("sent"), "sent")
    assert ledger.oldest() is None
    ledger.add([mail("first", 2)])
    first = ledger.oldest()
    ledger.add([mail("second", 3)])

    assert first is not None
    assert first.tzinfo is not None
    assert ledger.oldest() == first == ledger.find(["first"])[0].created_on


def test_deliveries_that_wait_for_a_paused_endpoint_are_counted_separately(store: Store) -> None:
    def delivery(name: str, number: int, channel: str) -> Notification:
        return replace(mail(name, number), channel=channel, recipient=channel)

    ledger, paused = store.ledger, ["webhook:one", "webhook:two"]
    ledger.add([delivery("old", 1, "webhook:one"), delivery("older", 2, "webhook:three")])
    ledger.add([delivery(f"new-{n}", 10 + n, "webhook:two") for n in range(3)])
    ledger.add([replace(delivery("was-sent", 20, "webhook:one"), state="sent")])
    (held,) = ledger.claim(1, 60.0, "webhook:two")
    ledger.advance([], [Settlement(held, "deferred", "500")])

    assert ledger.counts() == {"queued": 4, "deferred": 1, "sent": 1}
    assert ledger.counts(paused=paused) == {"queued": 1, "sent": 1, "paused": 4}
    assert ledger.counts(["deferred", "sent"], paused=paused) == {"sent": 1, "paused": 1}
    assert ledger.counts(paused=["webhook:nobody"]) == ledger.counts()
    assert ledger.oldest(paused=["webhook:one"]) == ledger.find(["older"])[0].created_on
    assert ledger.oldest(paused=[*paused, "webhook:three"]) is None
