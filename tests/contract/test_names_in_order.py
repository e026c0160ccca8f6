"""Sorting by name on each backend: as people expect, and without gaps for names of earlier releases."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from custsvc.domain.name_key import name_key, name_prefix
from custsvc.ports.customers import CustomerFilter, CustomerQuery, Page, Position, TimeSpan
from custsvc.ports.store import Store

from ..ordering import IN_ORDER
from ..unit.test_name_key import longest_names

if TYPE_CHECKING:
    from .conftest import Customers

SINCE = TimeSpan(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
BY_NAME = CustomerQuery(limit=7, sort="name")


def names_of(page: Page) -> list[str]:
    return [each["name"] for each in orjson.loads(b"[" + page.docs + b"]")]


def walk(store: Store, query: CustomerQuery) -> tuple[list[str], list[str]]:
    """The names on all pages, forward and then back."""
    forward, backward = [], []
    page = store.customers.find(query)
    while True:
        forward += names_of(page)
        if not page.has_more:
            break
        page = store.customers.find(dataclasses.replace(query, after=page.last))
    backward = names_of(page)
    while page.first is not None:
        page = store.customers.find(dataclasses.replace(query, after=page.first, backward=True))
        backward = names_of(page) + backward
    return forward, backward


def test_names_of_every_kind_sort_alike_on_both_backends_and_are_found_by_their_beginnings(
    store: Store, customers: Customers
) -> None:
    names = [*IN_ORDER, *longest_names()]
    stored = random.Random(3).choices(names, k=20) + random.Random(4).sample(names, len(names))
    store.customers.save_many([customers.new(name) for name in stored])
    expected = sorted(stored, key=name_key)
    everybody = dataclasses.replace(BY_NAME, limit=80)

    assert walk(store, everybody) == (expected, expected)
    assert walk(store, dataclasses.replace(everybody, descending=True))[0] == expected[::-1]
    for typed in ("EMIL", "o’b", "🦊", "é" * 300, "\ufdfa" * 400, "x" * 400):
        where = CustomerFilter(name_prefix=typed)
        found = names_of(store.customers.find(CustomerQuery(200, where, "name")))
        assert found == [each for each in expected if name_key(each).startswith(name_prefix(typed))], typed
        assert store.customers.count(where) == len(found)


# -- who writes a key


def keys(store: Store) -> dict[int, tuple[str, str, bool]]:
    """Each customer's name and key, and whether the key is said to be of its version."""
    if store.name == "postgres":
        with store._connections.cursor() as cursor:  # type: ignore[attr-defined]
            cursor.execute("SELECT id, name, name_key, keyed = version FROM customer")
            return {each[0]: each[1:] for each in cursor.fetchall()}
    found: Any = store._connection["customer"].find()  # type: ignore[attr-defined]
    return {
        int(each["_id"]): (each["name"], each.get("name_key"), each.get("keyed") == each["version"])
        for each in found
    }


def test_every_write_of_a_customer_stores_its_name_key(store: Store, customers: Customers) -> None:
    """One change, many at once, an erasure, a copy's batches, and a copy that is refilled."""
    customers.change(customers.add("Émile"), "Łukasz\\ \t'x'")
    many = [customers.new("Æsop"), customers.new("Ann")]
    store.customers.save_many(many)
    again = [store.customers.get(change.after.id) for change in many]
    store.customers.save_many([customers.next(each, "Zoë") for each in again if each])
    erased = customers.next(customers.add("Gone"), "erased", deleted=True)
    store.customers.erase(erased, lambda payload: payload)
    store.replica.apply(customers.versions(1, id=901, name="Đorđe"), "topic", {0: 1})
    store.replica.apply(customers.versions(3, id=901), "topic", {0: 4})
    all_of_them = keys(store)
    assert len(all_of_them) == 5

    shadow = store.replica.shadow()
    shadow.apply(customers.versions(1, id=902, name="Ørsted"), "topic", {0: 9})
    store.replica.begin("topic")
    store.replica.hold(60)
    assert store.replica.swap("topic")

    filled = keys(store)
    assert set(filled) == {902}
    for name, key, is_of_version in (*all_of_them.values(), *filled.values()):
        assert (key, is_of_version) == (name_key(name), True), name
    assert store.refill() == 0


# -- what earlier releases wrote

NAMES = ("Zoe", "Émile", "emil", "Anna", "Łukasz", "ann", "Zorro", "Ångström")


def as_the_release_before(store: Store, **changed: str) -> None:
    """Leave customers of these names, or all of them, as a process of the release before leaves them.

    Those that it changed have another name and version, and the key of before.
    """
    if store.name == "postgres":
        with store._connections.cursor() as cursor:  # type: ignore[attr-defined]
            for name, now in changed.items():
                cursor.execute(
                    "UPDATE customer SET version = version + 1, name = %s, doc = replace(doc, name, %s) "
                    "WHERE name = %s",
                    (now, now, name),
                )
            if not changed:
                cursor.execute("UPDATE customer SET name_key = NULL, keyed = NULL")
                cursor.execute("DELETE FROM custsvc_meta WHERE key = 'terms_version'")
        return
    database: Any = store._connection.database  # type: ignore[attr-defined]
    for name, now in changed.items():
        doc = database["customer"].find_one({"name": name})["doc"].replace(name, now)
        database["customer"].update_one(
            {"name": name}, {"$set": {"name": now, "doc": doc}, "$inc": {"version": 1}}
        )
    if not changed:
        database["customer"].update_many({}, {"$unset": {"name_key": 1, "keyed": 1}})
        database["custsvc_meta"].delete_one({"_id": "terms_version"})


@pytest.fixture
def earlier(store: Store, customers: Customers, opened: Callable[[str], Store], database_url: str) -> Store:
    """A database as the release before left it."""
    for name in NAMES:
        customers.add(name)
    as_the_release_before(store)
    return opened(database_url)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("where", [CustomerFilter(), CustomerFilter("include", words=("z",))])
def test_until_all_have_a_key_names_sort_as_before_and_a_list_goes_on_as_it_began(
    earlier: Store, where: CustomerFilter, descending: bool
) -> None:
    query = CustomerQuery(2, where, "name", descending)
    as_written = sorted(NAMES if not where.words else ("Zoe", "Zorro"), reverse=descending)
    in_order = sorted(as_written, key=name_key, reverse=descending)

    assert walk(earlier, query) == (as_written, as_written)
    begun = earlier.customers.find(query)
    assert earlier.refill() == len(NAMES)

    rest = dataclasses.replace(query, limit=200, after=begun.last)
    assert names_of(begun) + names_of(earlier.customers.find(rest)) == as_written
    assert walk(earlier, query) == (in_order, in_order)


def test_until_all_have_a_key_the_beginning_of_a_name_is_compared_as_it_is_written(earlier: Store) -> None:
    def found(typed: str) -> list[str]:
        where = CustomerFilter(name_prefix=typed)
        names = names_of(earlier.customers.find(CustomerQuery(filter=where, sort="name")))
        by_id = names_of(earlier.customers.find(CustomerQuery(filter=where)))
        assert sorted(by_id) == sorted(names)
        assert earlier.customers.count(where) == len(names)
        return names

    assert (found("Ann"), found("Zo"), found("E")) == (["Anna"], ["Zoe", "Zorro"], [])
    earlier.refill()
    assert (found("Ann"), found("Zo"), found("E")) == (["ann", "Anna"], ["Zoe", "Zorro"], ["emil", "Émile"])


def test_whom_the_release_before_writes_afterwards_is_on_each_list_and_soon_in_place(
    earlier: Store, customers: Customers
) -> None:
    """It is still running while roles are replaced one after the other."""
    earlier.refill()
    written = dict.fromkeys(NAMES[2:], "")
    as_the_release_before(earlier, Zoe="Aaron", Émile="Zacharias")
    names = {"Aaron", "Zacharias", *written}

    for descending in (False, True):
        query = dataclasses.replace(BY_NAME, limit=3, descending=descending)
        forward, backward = walk(earlier, query)
        assert forward == backward
        assert set(forward) == names
        assert len(forward) == len(names)
    assert earlier.refill() == 2
    assert walk(earlier, BY_NAME)[0] == sorted(names, key=name_key)


@pytest.mark.parametrize("missing", [1, 3, 8])
def test_customers_without_a_key_come_first_and_pages_lead_over_them(
    store: Store, customers: Customers, missing: int
) -> None:
    """New ones that the release before stored."""
    ids = [customers.add(name).id for name in NAMES]
    if store.name == "postgres":
        with store._connections.cursor() as cursor:  # type: ignore[attr-defined]
            cursor.execute("UPDATE customer SET name_key = NULL WHERE id = ANY(%s)", (ids[:missing],))
    else:
        table: Any = store._connection["customer"]  # type: ignore[attr-defined]
        table.update_many({"_id": {"$in": ids[:missing]}}, {"$unset": {"name_key": 1}})
    expected = [*NAMES[:missing], *sorted(NAMES[missing:], key=name_key)]

    assert store.customers.find(BY_NAME).first == Position("", ids[0])
    for where in (CustomerFilter(), CustomerFilter("include", created=SINCE)):
        for limit in (1, 2, 3):
            query = CustomerQuery(limit, where, "name")
            assert walk(store, query) == (expected, expected)
            assert walk(store, dataclasses.replace(query, descending=True))[0] == expected[::-1]
