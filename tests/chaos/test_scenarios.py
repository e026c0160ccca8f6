"""The remaining scenarios: values through the pipeline, a broken doorbell, an event that commits late."""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.errors import OperationFailure

from custsvc.domain.canonical import canonical_fields
from custsvc.domain.customers import Fields
from custsvc.domain.received import decode
from custsvc.errors import ValidationError
from tests.chaos.conftest import ME, Line
from tests.sizes import sizes
from tests.waiting import until

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=20),
)
TEXT = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["🦊👩‍👩‍👧", "\0", "שלום\u202e", "\ud800", "e\u0301", "\\N", "$set", "' OR 1", "\t\n", "\u2028"]
    ),
)


BODY = st.fixed_dictionaries(
    {"name": TEXT},
    optional={
        "phone": st.one_of(st.none(), TEXT),
        "metadata": st.dictionaries(st.text(max_size=10), VALUES, max_size=4),
    },
)


@given(body=BODY)
@settings(max_examples=60)
def test_any_customer_that_the_api_accepts_is_byte_for_byte_the_same_in_both_databases(
    line: Line, body: dict[str, Any]
) -> None:
    """R15: from the source through the event into the other database, and from that one's bytes back."""
    is_the_same_in_both(line, body)


@pytest.mark.long
@pytest.mark.timeout(7200)
@given(body=BODY)
@settings(max_examples=20_000)
def test_twenty_thousand_customers_are_byte_for_byte_the_same_in_both_databases(
    line: Line, body: dict[str, Any]
) -> None:
    """R15."""
    is_the_same_in_both(line, body)


def is_the_same_in_both(line: Line, body: dict[str, Any]) -> None:
    try:
        fields = canonical_fields(body)
    except ValidationError:
        return
    stored = line.service.create(fields, ME)
    (payload,) = line.source.customers.history(stored.id, limit=1)
    event = decode(payload, b"%d" % stored.id)

    line.copy.replica.apply([event], "there", {})
    (there,) = line.copy.replica.rows([stored.id])
    read = line.source.customers.get(stored.id)

    assert read is not None
    assert there.doc == read.doc == stored.doc == event.doc()
    assert json.loads(there.doc) == json.loads(event.doc())


@pytest.mark.parametrize("backend", ["mongo"])
def test_a_change_stream_that_cannot_be_read_costs_no_event_and_no_storm(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O16: error 286, its place fell out of the oplog; the relay polls, and tries again now and then."""
    from pymongo.database import Database

    tries: list[float] = []

    def watch(*_args: Any, **_options: Any) -> Any:
        tries.append(time.monotonic())
        raise OperationFailure("Resume of change stream was not possible", 286)

    monkeypatch.setattr(Database, "watch", watch)
    line.relay()
    until("it was tried", lambda: tries)
    for number in range(20):
        line.create(f"customer {number}")
        time.sleep(0.2)
    line.settle_topic()

    assert line.judge(copied=False).problems == []
    assert len(tries) <= 1 + (time.monotonic() - tries[0]) / 4


@sizes("turns, late", (10, 0.1), (17, 60))
@pytest.mark.parametrize("backend", ["postgres"])
def test_events_that_commit_late_between_others_are_all_delivered(
    line: Line, turns: int, late: float
) -> None:
    """O1, O2: writers that draw their number early and commit late, in any order; nobody waits for them."""
    line.relay()
    ids = line.crowd(5)

    def write_late(number: int) -> None:
        rng = random.Random(number)
        with closing(psycopg2.connect(line.settings.postgres_url)) as connection:
            for turn in range(turns):
                with connection, connection.cursor() as cursor:
                    customer = 1_000_000 + number * 100 + turn
                    _insert(cursor, customer)
                    time.sleep(rng.random() * late)

    threads = [threading.Thread(target=write_late, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    changes = 0
    while changes < 50 or any(thread.is_alive() for thread in threads):
        line.change(ids[changes % 5])
        changes += 1
    for thread in threads:
        thread.join()
    line.settle_topic()

    found = line.judge(copied=False)
    assert found.problems == []
    assert found.records - found.repeats == 6 * turns + 5 + changes
    print(f"{6 * turns} transactions up to {late} s late between {changes} changes")


def _insert(cursor: Any, customer_id: int) -> None:
    """A customer with its event, as `save` writes it but in a transaction that stays open."""
    from custsvc.domain.customers import Customer, utc_now
    from custsvc.domain.events import new_change

    now = utc_now()
    change = new_change(
        "created", None, Customer(customer_id, Fields("late"), False, 1, now, "me", now, "me"), actor="me"
    )
    cursor.execute(
        "INSERT INTO customer (id, version, deleted, name, created_on, updated_on, doc) "
        "VALUES (%s, 1, false, 'late', %s, %s, %s)",
        (customer_id, now, now, change.doc.decode()),
    )
    cursor.execute(
        "INSERT INTO customer_event (id, customer_id, version, op, created, payload) "
        "VALUES (%s, %s, 1, 'created', %s, %s)",
        (change.event.id, customer_id, now, change.event.payload.decode()),
    )
