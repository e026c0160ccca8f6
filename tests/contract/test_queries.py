"""Lists on each backend: what is found, in which order, and that pages lead both ways without a gap.

The expected answer is worked out in Python from all customers, so both backends are held to the same one.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, get_args

import orjson
import pytest

from custsvc.domain.customers import Customer, Fields, format_time
from custsvc.domain.email_key import email_key
from custsvc.domain.events import new_change
from custsvc.domain.name_key import name_key, name_prefix
from custsvc.domain.search import asked as search_for
from custsvc.domain.search import metadata_terms, terms_of, words_of
from custsvc.ports.customers import CustomerFilter, CustomerQuery, Page, SortField, TimeSpan
from custsvc.ports.store import Store

if TYPE_CHECKING:
    from .conftest import Customers

START = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
PEOPLE: list[tuple[str, str | None, str | None, dict[str, Any]]] = [
    ("Zoë O'Neil", "zoe@example.org", "+49 30 1234", {"tier": "gold", "age": 40}),
    ("zoe oneil", None, None, {"tier": "silver"}),
    ("ÉMILE ZOLA", "emile.zola@example.com", "030 99", {"tier": "gold", "vip": True}),
    ("Émile Durand", "e.durand@example.com", None, {}),
    ("Straße Müller", "mueller@example.net", "112", {"age": 40.0}),
    ("STRASSE Mueller", "Mueller.Two@example.net", "112", {"age": "40"}),
    ("Ann Lee", "ann@example.org", "+1 555 0100", {"note": None}),
    ("Ann Lee", "ann@example.org", "+1 555 0101", {"a.b".replace(".", "_"): 1.5}),
    ("李 小龍", "lee@example.org", None, {"tier": "Gold"}),
    ("Ann-Marie_Lee", None, "555-0199", {"tier": "gold"}),
    ("\U0001f98a Fox", "fox@example.org", None, {"big": 2**62}),
    ("\uff21\uff4e\uff4e Wide", None, "\uff11\uff12", {}),
    ("Zoë", "Zoë@example.org", None, {}),
    ("Zoe", "zoe@example.ORG", None, {}),
    ("A" * 400, "a@example.org", "1", {}),
    ("Z", "z@example.org", "9", {"age": 4}),
]


@pytest.fixture
def people(store: Store) -> list[Customer]:
    """Some that are alike and some that are not; every fifth is deleted, several are of the same moment."""
    changes, found = [], []
    for number, (name, email, phone, metadata) in enumerate(PEOPLE * 2):
        at = START + dt.timedelta(minutes=number // 3)
        changed = START + dt.timedelta(hours=number * 7 % 5)
        customer = Customer(
            id=store.customers.new_id(),
            fields=Fields(name, email, phone, metadata),
            deleted=False,
            version=1,
            created_on=at,
            created_by="t",
            updated_on=changed,
            updated_by="t",
        )
        changes.append(new_change("created", None, customer, actor="t"))
        found.append(customer)
    store.customers.save_many(changes)
    for number, customer in enumerate(found):
        if number % 5 == 3:
            before = store.customers.get(customer.id)
            assert before is not None
            after = customer.changed_to(fields=customer.fields, deleted=True, now=changed, by="t")
            store.customers.save(new_change("deleted", before, after, actor="t"))
            found[number] = after
    return found


def key_of(customer: Customer, sort: SortField) -> tuple[Any, int]:
    if sort == "name":
        return (name_key(customer.fields.name), customer.id)
    if sort == "email":
        return ((customer.fields.email or "").encode(), customer.id)
    return (getattr(customer, sort), customer.id)


def meets(customer: Customer, asked: CustomerFilter) -> bool:
    f = customer.fields
    terms = terms_of(f.name, f.email, f.phone, f.metadata)
    spans = ((asked.created, customer.created_on), (asked.updated, customer.updated_on))
    return (
        (asked.deleted == "include" or customer.deleted == (asked.deleted == "only"))
        and all(any(term.startswith(word) for term in terms) for word in asked.words)
        and all(set(metadata_terms(*entry)) & set(terms) for entry in asked.metadata)
        and (asked.email is None or email_key(asked.email) == email_key(f.email or ""))
        and name_key(f.name).startswith(name_prefix(asked.name_prefix or ""))
        and f.name.startswith(asked.written_prefix or "")
        and all(
            (span.since or time) <= time and (span.before is None or time < span.before)
            for span, time in spans
        )
    )


def ids_of(page: Page) -> list[int]:
    return [each["id"] for each in orjson.loads(b"[" + page.docs + b"]")]


def span(start: float | None, end: float | None) -> TimeSpan:
    return TimeSpan(*(None if at is None else START + dt.timedelta(hours=at) for at in (start, end)))


FILTERS: dict[str, CustomerFilter] = {
    "live": CustomerFilter(),
    "trash": CustomerFilter("only"),
    "all": CustomerFilter("include"),
    "word": CustomerFilter(words=tuple(words_of("ZOE"))),
    "accents": CustomerFilter(words=tuple(words_of("émile zo"))),
    "sharp s": CustomerFilter(words=tuple(words_of("strasse"))),
    "two words": CustomerFilter(words=tuple(words_of("lee ann"))),
    "letter": CustomerFilter(words=("a",)),
    "mail": CustomerFilter("include", words=tuple(words_of("ann@example.o"))),
    "phone": CustomerFilter(words=tuple(words_of("+1 555 01"))),
    "wide": CustomerFilter(words=tuple(words_of("ann"))),
    "han": CustomerFilter(words=("李",)),
    "long": CustomerFilter(words=tuple(words_of("a" * 300))),
    "nobody": CustomerFilter(words=("nobody",)),
    "address": CustomerFilter("include", email="ann@example.org"),
    "address in other case": CustomerFilter("include", email="MUELLER.TWO@EXAMPLE.net"),
    "address with accents in other case": CustomerFilter("include", email="ZOË@example.org"),
    "prefix": CustomerFilter("include", name_prefix="Ann"),
    "fox": CustomerFilter(name_prefix="\U0001f98a"),
    "prefix in other letters": CustomerFilter("include", name_prefix="zoe\u0308 o\u2019n"),
    "prefix as it is written": CustomerFilter("include", written_prefix="Ann"),
    "metadata": CustomerFilter("include", metadata=(("tier", "gold"),)),
    "number": CustomerFilter("include", metadata=(("age", "40"),)),
    "true": CustomerFilter("include", metadata=(("vip", "true"),)),
    "null": CustomerFilter("include", metadata=(("note", "null"),)),
    "two entries": CustomerFilter("include", metadata=(("age", "40"), ("tier", "gold"))),
    "created": CustomerFilter(created=span(0.02, 0.1)),
    "updated": CustomerFilter("include", updated=span(1, None)),
    "all at once": CustomerFilter(
        words=("example",), name_prefix="A", updated=span(None, 4), created=span(0, None)
    ),
    "empty span": CustomerFilter(updated=span(3, 3)),
}


@pytest.mark.parametrize("name", FILTERS)
def test_the_pages_of_every_filter_and_sort_are_all_matching_customers_in_both_directions(
    name: str, store: Store, people: list[Customer]
) -> None:
    asked = FILTERS[name]
    meeting = [customer for customer in people if meets(customer, asked)]
    assert bool(meeting) == (name not in ("nobody", "empty span"))

    for sort in get_args(SortField):
        expected = [each.id for each in sorted(meeting, key=lambda each: key_of(each, sort))]
        for descending in (False, True):
            assert walk(store, CustomerQuery(4, asked, sort, descending)) == expected, (sort, descending)
            expected.reverse()
    assert store.customers.count(asked) == len(meeting)
    assert store.customers.count(asked, exact=False) >= 0
    assert store.customers.count_if_cheap(asked) == (len(meeting), True)


ALIKE = ("Jean-Luc O'Neil", "Jean Luc", "Jeanluc Oneil", "O Neil Jean", "Luc", "Jean O’Neil", "Neil Luc")


@pytest.mark.parametrize("backend", ["mongo"])
@pytest.mark.parametrize("many", [30_000, 3, 0])
def test_common_words_that_are_rare_together_are_found_as_by_walking(
    many: int, store: Store, customers: Customers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ALIKE * 3:
        customers.add(name)
    queries = [
        CustomerQuery(4, CustomerFilter().asking(search_for(text)), "name")
        for text in ("jean luc", "jean-luc", "o'neil", "luc neil", "jean-luc o'neil", "jean x", "l n j", "o")
    ]
    expected = [walk(store, query) for query in queries]
    monkeypatch.setattr("custsvc.stores.mongo.queries._FEW", 0)
    monkeypatch.setattr("custsvc.stores.mongo.queries._MANY", many)

    assert [walk(store, query) for query in queries] == expected
    assert [bool(found) for found in expected] == [True] * 5 + [False] + [True] * 2


@pytest.mark.parametrize("asked", [CustomerFilter(), CustomerFilter(words=("ann",))], ids=["all", "a word"])
def test_a_count_that_would_take_long_is_estimated(
    asked: CustomerFilter, store: Store, people: list[Customer], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = (
        "postgres.queries._CHEAP",
        "postgres.queries._COUNTED",
        "mongo.queries._CHEAP",
        "mongo.queries._FEW",
    )
    for limit in limits:
        monkeypatch.setattr(f"custsvc.stores.{limit}", 0)

    count, exact = store.customers.count_if_cheap(asked)

    assert not exact
    assert 0 <= count <= len(people) * 100


def walk(store: Store, query: CustomerQuery) -> list[int]:
    """The ids of all pages forward, after all pages backward have shown the same."""
    import dataclasses

    pages: list[list[int]] = []
    page = store.customers.find(query)
    while True:
        pages.append(ids_of(page))
        assert page.count == len(pages[-1])
        if not page.has_more:
            break
        assert page.last is not None
        page = store.customers.find(dataclasses.replace(query, after=page.last))
    forward = [each for ids in pages for each in ids]
    backward = pages[-1]
    while page.first is not None:
        page = store.customers.find(dataclasses.replace(query, after=page.first, backward=True))
        backward = ids_of(page) + backward
        assert page.has_more == (len(backward) < len(forward))
    assert backward == forward
    return forward


def test_a_search_sees_a_change_at_once_and_no_longer_finds_the_old_value(
    store: Store, customers: Customers
) -> None:
    stored = customers.add("Before")
    assert ids_of(store.customers.find(CustomerQuery(filter=CustomerFilter(words=("bef",))))) == [stored.id]

    stored = customers.change(stored, "Afterwards", metadata={"k": "v"})

    for asked, found in (
        (CustomerFilter(words=("bef",)), []),
        (CustomerFilter(words=("after",)), [stored.id]),
        (CustomerFilter(metadata=(("k", "v"),)), [stored.id]),
    ):
        assert ids_of(store.customers.find(CustomerQuery(filter=asked))) == found


def test_the_position_of_a_time_is_its_text_and_of_no_email_is_empty(
    store: Store, customers: Customers
) -> None:
    stored = customers.add("Ann").customer()

    page = store.customers.find(CustomerQuery(sort="created_on"))
    assert page.last == (format_time(stored.created_on), stored.id)
    assert store.customers.find(CustomerQuery(sort="email")).first == ("", stored.id)


def test_an_address_is_found_in_any_case_of_any_letter(store: Store, customers: Customers) -> None:
    letters = (chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    cased = [(letter, email_key(letter)) for letter in letters if email_key(letter) != letter]
    assert len(cased) > 700
    changes = [customers.new(email=f"{at}{letter}@example.org") for at, (letter, _) in enumerate(cased)]
    store.customers.save_many(changes)
    asked = [f"{at}{small}@EXAMPLE.org" for at, (_, small) in enumerate(cased)]

    found = {stored.id for stored in store.customers.get_by_emails(asked)}

    assert [cased[at] for at, change in enumerate(changes) if change.after.id not in found] == []


def test_addresses_that_differ_in_more_than_case_are_two(store: Store, customers: Customers) -> None:
    alike = [
        "strasse",
        "straße",
        "zoe",
        "zoë",
        "ﬁn",
        "fin",
        "i\u0307",
        "İ",
        "ı",
        "i",
        "a.b",
        "ab",
        "sſ",
        "ss",
    ]
    ids = {each: customers.add(email=f"{each}@example.org").id for each in alike}

    for each, customer_id in ids.items():
        asked = CustomerFilter(email=f"{each.upper() if each.isascii() else each}@Example.org")
        assert ids_of(store.customers.find(CustomerQuery(filter=asked))) == [customer_id], each
        assert store.customers.count(asked) == 1
        assert [s.id for s in store.customers.get_by_emails([f"{each}@example.org"])] == [customer_id]
