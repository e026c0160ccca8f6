"""A search on each backend: it finds by the terms, also customers whose terms an earlier release made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from custsvc.domain.search import asked
from custsvc.errors import Stopped
from custsvc.ports.customers import CustomerFilter, CustomerQuery
from custsvc.ports.store import Store
from custsvc.ports.waiting import Waiting
from custsvc.runtime.loop import Stop

from ..finding import FOUND, NOT_FOUND, OTHER_PHONES, PHONES, TYPED
from .migrating import as_of

if TYPE_CHECKING:
    from .conftest import Customers


def found(store: Store, query: str) -> set[int]:
    """The ids that a query finds, by each sort and by a count."""
    where = CustomerFilter().asking(asked(query))
    pages = [
        store.customers.find(CustomerQuery(200, where, sort=sort)) for sort in ("id", "name", "updated_on")
    ]
    ids = [{each["id"] for each in orjson.loads(b"[" + page.docs + b"]")} for page in pages]
    assert ids[0] == ids[1] == ids[2]
    assert store.customers.count(where) == len(ids[0])
    return ids[0]


def test_each_way_to_write_a_name_or_a_number_finds_it(store: Store, customers: Customers) -> None:
    names = {name: customers.add(name).id for name in {name for _, name in (*FOUND, *NOT_FOUND)}}
    phones = {phone: customers.add("x", phone=phone).id for phone in {*PHONES, *(p for _, p in OTHER_PHONES)}}

    missed = [each for each in FOUND[::3] if names[each[1]] not in found(store, each[0])]
    missed += [
        (query, phone) for query in TYPED for phone in PHONES if phones[phone] not in found(store, query)
    ]
    wrong = [each for each in NOT_FOUND if names[each[1]] in found(store, each[0])]
    wrong += [each for each in OTHER_PHONES if phones[each[1]] in found(store, each[0])]

    assert (missed, wrong) == ([], [])


# -- terms of earlier releases


def earlier_wrote(store: Store, ids: dict[int, list[str]], *, version: int = 1) -> None:
    """Leave these customers with these terms, as a process of the release before does that writes them.

    With version 1 no customer has anything else, as before this release came.
    """
    if store.name == "postgres":
        with store._connections.cursor() as cursor:  # type: ignore[attr-defined]
            for id, terms in ids.items():
                cursor.execute(
                    "UPDATE customer SET version = %s, terms = %s::tsvector WHERE id = %s",
                    (version, " ".join(f"'{term}'" for term in terms), id),
                )
            if version == 1:
                cursor.execute("UPDATE customer SET keyed = NULL, name_key = NULL")
                cursor.execute("DELETE FROM custsvc_meta WHERE key = 'terms_version'")
        return
    database: Any = store._connection.database  # type: ignore[attr-defined]
    for id, terms in ids.items():
        database["customer"].update_one({"_id": id}, {"$set": {"version": version, "terms": terms}})
    if version == 1:
        database["customer"].update_many({}, {"$unset": {"keyed": 1, "name_key": 1}})
        database["custsvc_meta"].delete_one({"_id": "terms_version"})


@pytest.fixture
def earlier(
    store: Store, customers: Customers, opened: Callable[[str], Store], database_url: str
) -> tuple[Store, dict[str, int]]:
    """A database as the release before left it, and the ids of those in it, by name."""
    terms = {
        "Łukasz": ["łukasz"],
        "राम": ["रम"],
        "O'Brien": ["brien", "o"],
        "Émile": ["emile"],
        "Ada": ["ada"],
    }
    ids = {name: customers.add(name).id for name in terms}
    earlier_wrote(store, {ids[name]: words for name, words in terms.items()})
    return opened(database_url), ids


def test_a_search_finds_the_same_customers_until_all_terms_are_refilled(
    earlier: tuple[Store, dict[str, int]],
) -> None:
    store, ids = earlier

    for query, name in (("Łukasz", "Łukasz"), ("ŁUK", "Łukasz"), ("राम", "राम"), ("o'brien", "O'Brien")):
        assert found(store, query) == {ids[name]}, query
    assert found(store, "émile") == {ids["Émile"]}
    assert found(store, "ada") == {ids["Ada"]}


def test_terms_are_refilled_beside_live_traffic(
    earlier: tuple[Store, dict[str, int]], opened: Callable[[str], Store], database_url: str
) -> None:
    store, ids = earlier

    assert store.refill() == len(ids)

    for query, name in (("lukasz", "Łukasz"), ("Łukasz", "Łukasz"), ("राम", "राम"), ("obrien", "O'Brien")):
        assert found(store, query) == {ids[name]}, query
    assert found(store, "रम") == set()
    assert store.refill() == 0
    # A process of the release before still writes.
    earlier_wrote(store, {ids["Łukasz"]: ["łukasz"]}, version=2)
    assert found(store, "lukasz") == set()
    assert store.refill() == 1
    assert found(store, "lukasz") == found(opened(database_url), "łukasz") == {ids["Łukasz"]}


def test_terms_that_this_release_wrote_are_not_refilled(store: Store, customers: Customers) -> None:
    stored = customers.add("Łukasz")
    customers.change(stored, "Đorđe")
    store.customers.save_many(
        [customers.new("Æsop"), customers.next(store.customers.get(stored.id) or stored)]
    )
    store.replica.apply(customers.versions(3, id=77), "topic", {0: 1})

    assert store.refill() == 0


def test_refilling_stops_when_it_is_asked_to(earlier: tuple[Store, dict[str, int]]) -> None:
    store, _ = earlier
    stop = Stop()
    stop.ask()

    with pytest.raises(Stopped):
        store.refill(Waiting(stop))

    assert store.refill() == 5


def test_a_customer_whose_document_is_nonsense_holds_up_nobody(
    earlier: tuple[Store, dict[str, int]], backend: str
) -> None:
    store, ids = earlier
    if backend == "postgres":
        with store._connections.cursor() as cursor:  # type: ignore[attr-defined]
            cursor.execute("UPDATE customer SET doc = 'nonsense' WHERE id = %s", (ids["Ada"],))
    else:
        table: Any = store._connection["customer"]  # type: ignore[attr-defined]
        table.update_one({"_id": ids["Ada"]}, {"$set": {"doc": "nonsense"}})

    assert store.refill() == 5
    assert store.customers.count(CustomerFilter().asking(asked("ada"))) == 1


def test_a_database_of_the_first_release_is_searched_by_the_rules_of_this_one(
    opened: Callable[[str], Store], empty_database: str, backend: str
) -> None:
    store = opened(empty_database)
    as_of(store, {"postgres": 8, "mongo": 10}[backend])
    store.migrate()

    assert store.refill() == 0
    assert found(store, "łukasz") == set()
