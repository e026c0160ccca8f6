"""Replacing a customer in one step: the database composes what reading and saving would store."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import orjson
import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from custsvc.domain.canonical import canonical_fields
from custsvc.domain.customers import Fields, Stored
from custsvc.domain.replacing import Replacement
from custsvc.ports.customers import CustomerFilter, CustomerQuery
from custsvc.ports.store import Store
from custsvc.service.changes import Caller, Changes
from tests.customers import accepted

from .conftest import NOW

if TYPE_CHECKING:
    from tests.chaos.faultproxy import FaultProxy

    from .conftest import Customers

pytestmark = pytest.mark.parametrize("backend", ["postgres"])

LATER = NOW + dt.timedelta(seconds=5)
CHANGES = Changes(lambda: LATER)
AtOnce = Callable[..., list[Any]]


@pytest.fixture
def raw_sql(database_url: str) -> Iterator[Callable[..., None]]:
    """Runs a statement past the port."""
    connection = psycopg2.connect(database_url)
    connection.autocommit = True

    def run(statement: str, *params: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement, params)

    with closing(connection):
        yield run


def _replacement(
    stored: Stored, fields: Fields, *, expected: int | None = None, caller: Caller | None = None
) -> Replacement:
    return CHANGES.replacement(stored.id, fields, caller or Caller("me"), expected, LATER)


def _without_id(event: bytes) -> bytes:
    """An event's bytes but for its id, which is random."""
    return event[event.index(b'"event_ts"') :]


@given(
    before=accepted,
    after=accepted,
    actor=st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=10),
    creator=st.sampled_from(["test", '"created_on":', ',"deleted":true', "'\\"]),
    request_id=st.none() | st.sampled_from(["r-1", '","before_change":']),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_event_is_that_of_a_customer_that_was_read(
    store: Store,
    before: dict[str, Any],
    after: dict[str, Any],
    actor: str,
    creator: str,
    request_id: str | None,
) -> None:
    made = Changes(lambda: NOW).create(store.customers.new_id(), canonical_fields(before), Caller(creator))
    old = store.customers.save(made)
    fields, caller = canonical_fields(after), Caller(actor, request_id, None)
    change = CHANGES.update(old, lambda _: fields, caller)

    new = store.customers.replace(lambda: _replacement(old, fields, caller=caller))

    if change is None:
        assert new is None
        return
    assert new == Stored(old.id, 2, False, change.doc)
    assert store.customers.get(old.id) == new
    (event, _) = store.customers.history(old.id, limit=2)
    assert _without_id(event) == _without_id(change.event.payload)


def test_the_row_is_found_as_one_that_was_saved(store: Store, customers: Customers) -> None:
    old = customers.add("Ada", email="ada@example.org", phone="0044 20 7946")
    fields = Fields("Zo\u00eb", email="Zoe@example.org", phone="555 123", metadata={"city": "Bonn"})

    new = store.customers.replace(lambda: _replacement(old, fields))

    assert new is not None
    wanted = [
        CustomerFilter(words=("zoe",)),
        CustomerFilter(email="zoe@EXAMPLE.org"),
        CustomerFilter(name_prefix="zoe"),
        CustomerFilter(words=("555",)),
        CustomerFilter(metadata=(("city", "Bonn"),)),
    ]
    for where in wanted:
        assert store.customers.find(CustomerQuery(filter=where)).docs == new.doc, where
    assert store.customers.count(CustomerFilter(words=("ada",))) == 0


def test_nothing_is_stored_where_the_customer_must_be_read(
    store: Store, customers: Customers, backdoor: Any, raw_sql: Callable[..., None]
) -> None:
    live, gone = customers.add(), customers.add()
    deleted = customers.change(gone, "Ada", deleted=True)
    newer, foreign = customers.add(), customers.add()
    raw_sql("UPDATE customer SET updated_on = %s WHERE id = %s", LATER + dt.timedelta(seconds=1), newer.id)
    raw_sql("UPDATE customer SET doc = replace(doc, ',\"email\":', ', \"email\":') WHERE id = %s", foreign.id)
    small = Changes(lambda: LATER, lambda: 600)
    stored = backdoor.dump()

    for new in (
        _replacement(Stored(999_999, 1, False, b""), Fields("Nobody")),
        _replacement(deleted, Fields("Grace")),
        _replacement(live, Fields("Grace"), expected=2),
        _replacement(live, live.customer().fields),
        _replacement(newer, Fields("Grace")),
        _replacement(foreign, Fields("Grace")),
        small.replacement(live.id, Fields("Grace" * 50), Caller("me"), None, LATER),
    ):
        assert store.customers.replace(lambda new=new: new) is None, new
    assert backdoor.dump() == stored


def test_writers_at_once_make_versions_without_a_gap(
    store: Store, other_store: Store, customers: Customers, at_once: AtOnce
) -> None:
    one = customers.add()

    def write(of: Store, name: str) -> list[Stored | None]:
        return [of.customers.replace(lambda n=n: _replacement(one, Fields(f"{name} {n}"))) for n in range(30)]

    results = at_once(
        *(
            lambda of=of, name=name: write(of, name)
            for of, name in zip((store, other_store) * 2, "ABCD", strict=True)
        )
    )

    assert sorted(each.version for result in results for each in result) == list(range(2, 122))
    events = [orjson.loads(each) for each in reversed(store.customers.history(one.id, limit=200))]
    for before, after in itertools.pairwise(events):
        assert after["before_change"] == before["after_change"]
        assert after["version"] == before["version"] + 1


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_a_replacement_whose_connection_breaks_happens_at_most_once(
    lost: Any, proxied: Store, proxy: FaultProxy, store: Store, customers: Customers
) -> None:
    one = customers.add()
    assert proxied.customers.replace(lambda: _replacement(one, Fields("First"))) is not None

    proxy.lose(lost, b"Second")
    new = proxied.customers.replace(lambda: _replacement(one, Fields("Second")))

    assert proxy.left == 0
    if lost == "request":
        assert new is None
    else:
        assert new == store.customers.get(one.id)
    assert len(store.customers.history(one.id, limit=10)) == (2 if lost == "request" else 3)
