"""The ledger's tokens and leases: who may move a mail, and what becomes of one whose holder is gone."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING

import pytest

from custsvc.ports.ledger import Ledger
from custsvc.ports.store import Store
from tests.steps import hand_over, mail, names, settle

if TYPE_CHECKING:
    from tests.backdoor import Backdoor


LEASE = 600.0
SHORT = 0.2


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return store.ledger


@pytest.fixture
def other(other_store: Store) -> Ledger:
    """The same ledger, as another process has it."""
    return other_store.ledger


def test_only_the_holder_of_the_token_moves_it(ledger: Ledger) -> None:
    ledger.add([mail("m")])
    (old,) = ledger.claim(1, SHORT)
    time.sleep(2 * SHORT)
    assert ledger.expire() == (1, 0)
    (new,) = ledger.claim(1, LEASE)

    assert not hand_over(ledger, old)
    assert not settle(ledger, old, "sent")
    assert hand_over(ledger, new)
    assert not hand_over(ledger, new)
    assert settle(ledger, new, "sent")
    assert not settle(ledger, new, "failed")
    assert ledger.counts() == {"sent": 1}


def test_a_claim_that_ran_out_is_queued_again_and_its_attempt_given_back(ledger: Ledger) -> None:
    ledger.add([mail("held")])
    ledger.claim(1, LEASE)
    ledger.add([mail("m", customer=2)])
    ledger.claim(1, SHORT)
    time.sleep(2 * SHORT)

    assert ledger.expire() == (1, 0)

    (again,) = ledger.claim(10, LEASE)
    assert (again.id, again.attempts) == ("m", 1)


def test_a_hand_over_that_ran_out_is_unknown_and_never_claimed_again(ledger: Ledger) -> None:
    ledger.add([mail("v1", version=1), mail("v2", version=2)])
    (first,) = ledger.claim(2, SHORT)
    hand_over(ledger, first)
    time.sleep(2 * SHORT)

    assert ledger.expire() == (0, 1)

    assert ledger.expire() == (0, 0)
    assert names(ledger.claim(10, LEASE)) == ["v2"]
    (unknown,) = ledger.recent(state="unknown")
    assert unknown.id == "v1"
    assert [a.outcome for a in ledger.attempts(["v1"])["v1"]] == ["unknown"]


def test_the_hand_over_has_the_whole_lease_again(ledger: Ledger, backdoor: Backdoor) -> None:
    ledger.add([mail("m")])
    (claimed,) = ledger.claim(1, LEASE)
    claimed_until = backdoor.leased_until("m")
    time.sleep(0.05)

    assert hand_over(ledger, claimed)

    assert backdoor.leased_until("m") - claimed_until >= dt.timedelta(seconds=0.05)


def test_a_late_answer_still_settles_an_unknown_mail(ledger: Ledger) -> None:
    ledger.add([mail("m")])
    (claimed,) = ledger.claim(1, SHORT)
    hand_over(ledger, claimed)
    time.sleep(2 * SHORT)
    ledger.expire()

    assert not settle(ledger, claimed, "deferred", next_at=claimed.updated_on)
    assert settle(ledger, claimed, "sent", reason="250 OK", code=250)

    assert ledger.counts() == {"sent": 1}
    assert [a.outcome for a in ledger.attempts(["m"])["m"]] == ["sent"]
