"""The port CustomerStore: the pages of a list, and the counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from custsvc.ports.customers import CustomerFilter, CustomerQuery, Deleted, Page, Position
from custsvc.ports.store import Store

if TYPE_CHECKING:
    from .conftest import Customers


def ids_of(page: Page) -> list[int]:
    return [each["id"] for each in orjson.loads(b"[" + page.docs + b"]")]


@pytest.mark.parametrize(
    ("deleted", "expected"),
    [
        ("exclude", [1, 2, 4, 5, 7, 8, 10]),
        ("only", [3, 6, 9]),
        ("include", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ],
)
def test_pages_join_to_all_that_match_each_once(
    store: Store, customers: Customers, deleted: Deleted, expected: list[int]
) -> None:
    for number in range(1, 11):
        stored = store.customers.save(customers.new(id=number))
        if number % 3 == 0:
            customers.change(stored, deleted=True)

    for limit in (1, 2, 3, 7, 10, 50):
        found: list[int] = []
        after: Position | None = None
        while True:
            page = store.customers.find(CustomerQuery(limit, CustomerFilter(deleted), after=after))
            ids = ids_of(page)
            assert page.count == len(ids) <= limit
            assert (page.first, page.last) == ((ids[0], ids[0]), (ids[-1], ids[-1]))
            found += ids
            if not page.has_more:
                break
            assert page.count == limit
            after = page.last
        assert found == expected
    assert store.customers.count(CustomerFilter(deleted)) == len(expected)


def test_a_page_holds_the_documents_byte_for_byte(store: Store, customers: Customers) -> None:
    docs = [customers.add(name).doc for name in ("a, b", "[c]", "Zoë 🦊", '"')]

    assert store.customers.find(CustomerQuery()).docs == b",".join(docs)


def test_a_page_beyond_the_last_is_empty(store: Store, customers: Customers) -> None:
    last = customers.add()

    beyond, trash = CustomerQuery(after=Position(last.id, last.id)), CustomerFilter("only")
    assert store.customers.find(beyond) == Page(b"", 0, None, None, False)
    assert store.customers.find(CustomerQuery(filter=trash)) == Page(b"", 0, None, None, False)
