"""The kept count of all customers on PostgreSQL is never another one than a count would give."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any, get_args

import psycopg2
import pytest

from custsvc.domain.customers import Fields
from custsvc.ports.customers import LIVE, CustomerFilter, Deleted
from custsvc.ports.store import Store
from custsvc.service.customers import Caller, CustomerService
from custsvc.stores.postgres.queries import PostgresQueries
from custsvc.transfer import seed
from tests.waiting import until

pytestmark = pytest.mark.parametrize("backend", ["postgres"])


def test_an_exact_count_is_reused_until_anything_is_written(store: Store, other_store: Store) -> None:
    queries = store.customers
    ours, theirs = CustomerService(store.customers), CustomerService(other_store.customers)
    assert isinstance(queries, PostgresQueries)
    ids: list[int] = []
    steps: list[Callable[[], Any]] = [
        lambda: ids.append(ours.create(Fields("Ada"), Caller("t")).id),
        lambda: ids.append(theirs.create(Fields("Bob"), Caller("t")).id),
        lambda: theirs.delete(ids[0], Caller("t")),
        lambda: ours.restore(ids[0], Caller("t")),
        lambda: seed.seed_customers(other_store.customers, 30, 1),
        lambda: theirs.delete(ids[1], Caller("t")),
    ]
    filters = [CustomerFilter(deleted=each) for each in get_args(Deleted)]
    for step in steps:
        step()
        for where in filters * 2:
            assert queries.count_if_cheap(where) == (queries.count(where), True)

    def counted_and_known() -> int | None:
        queries.count_if_cheap(LIVE)
        return queries._counts.known("exclude")

    # Tests in other databases of the server write, too.
    assert until("nobody wrote between two statements", counted_and_known, every=0) == 31


def test_a_count_beside_an_open_transaction_is_not_reused_when_that_commits(
    store: Store, database_url: str
) -> None:
    CustomerService(store.customers).create(Fields("Ada"), Caller("t"))
    with closing(psycopg2.connect(database_url)) as writer, writer.cursor() as cursor:
        cursor.execute("UPDATE customer SET deleted = true")
        assert [store.customers.count_if_cheap(LIVE) for _ in range(3)] == [(1, True)] * 3
        writer.commit()
        assert store.customers.count_if_cheap(LIVE) == (0, True)
