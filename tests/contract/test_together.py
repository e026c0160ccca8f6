"""Writes that come while another one is under way: PostgreSQL stores them in one statement."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import orjson
import psycopg2
import pytest

from custsvc.domain.customers import Fields, Stored
from custsvc.domain.events import Change
from custsvc.domain.replacing import Replacement
from custsvc.errors import CustsvcError, VersionConflict
from custsvc.ports.store import Store
from custsvc.service.changes import Caller, Changes
from tests.waiting import until

from .conftest import NOW

if TYPE_CHECKING:
    from tests.chaos.faultproxy import FaultProxy

    from .conftest import Customers

pytestmark = pytest.mark.parametrize("backend", ["postgres"])

LATER = NOW + dt.timedelta(seconds=5)
CHANGES = Changes(lambda: LATER)
Meanwhile = Callable[..., Any]


class Locks:
    """Another transaction, which holds up writers."""

    def __init__(self, database_url: str) -> None:
        self._connection = psycopg2.connect(database_url)

    def take(self, statement: str, *params: object) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, params)

    def waiters(self) -> int:
        """How many others wait for what it has taken."""
        with self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(DISTINCT pid) FROM pg_locks "
                "WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
            )
            ((found,),) = cursor.fetchall()
        return int(found)

    def release(self) -> None:
        self._connection.rollback()

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def locks(database_url: str) -> Iterator[Locks]:
    with closing(Locks(database_url)) as locks:
        yield locks


@pytest.fixture
def other_locks(database_url: str) -> Iterator[Locks]:
    with closing(Locks(database_url)) as locks:
        yield locks


@contextmanager
def _meanwhile(together: Any, locks: Locks, *writes: Callable[[], Any]) -> Iterator[list[Future[Any]]]:
    """The outcomes of these writes, which all come while the first one is held up."""
    together._patience = 120.0  # on a busy machine it takes long until all of them are there
    locks.take("LOCK TABLE customer IN SHARE MODE")
    with ThreadPoolExecutor(len(writes)) as pool:
        outcomes = [pool.submit(writes[0])]
        until("the first write is under way", lambda: together._busy)
        outcomes += map(pool.submit, writes[1:])
        until("the others wait", lambda: len(together._waiting) == len(writes) - 1)
        locks.release()
        yield outcomes


def _transactions(locks: Locks, *ids: int) -> int:
    """In how many transactions the newest events of these customers were stored."""
    with locks._connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(DISTINCT txid) FROM (SELECT DISTINCT ON (customer_id) txid FROM customer_event "
            "WHERE customer_id = ANY(%s) ORDER BY customer_id, version DESC) AS newest",
            (list(ids),),
        )
        ((found,),) = cursor.fetchall()
    locks.release()
    return int(found)


def _saving(store: Store, changes: list[Change]) -> list[Callable[[], Stored]]:
    return [lambda change=change: store.customers.save(change) for change in changes]


ODD = [
    Fields("Zoë 🦊 \u05d0 $name \\ \" ' % {} ,", email='"a\\"b"@example.org', phone="NULL"),
    Fields("null", email=None, phone=None, metadata={"a": None, "b\\": '"}{,\\"', "c": "NULL"}),
    Fields("\\N", email="zoe@example.org", metadata={"long": "x" * 500, "line": "a\n\tb", "n": 1.5}),
]


def test_new_customers_are_stored_in_one_transaction_each_with_its_event(
    store: Store, customers: Customers, locks: Locks
) -> None:
    changes = [customers.new(f.name, email=f.email, phone=f.phone, metadata=f.metadata) for f in ODD]
    together: Any = store.customers._creating  # type: ignore[attr-defined]

    with _meanwhile(together, locks, *_saving(store, [customers.new(), *changes])) as outcomes:
        stored = [each.result(120) for each in outcomes[1:]]

    for change, one in zip(changes, stored, strict=True):
        assert one == store.customers.get(change.after.id) == Stored(one.id, 1, False, change.doc)
        assert store.customers.history(one.id, limit=5) == [change.event.payload]
    assert _transactions(locks, *(one.id for one in stored)) == 1


def test_one_that_is_refused_does_not_fail_its_neighbours(
    store: Store, customers: Customers, locks: Locks
) -> None:
    taken = customers.add()
    good = [customers.new(f"Name {number}") for number in range(3)]
    bad = customers.new("Bad", id=taken.id)
    together: Any = store.customers._creating  # type: ignore[attr-defined]

    writes = _saving(store, [customers.new(), good[0], bad, *good[1:]])
    with _meanwhile(together, locks, *writes) as outcomes:
        first, second, refused, *others = outcomes
        assert [each.result(120).version for each in (first, second, *others)] == [1] * 4
        with pytest.raises(VersionConflict):
            refused.result(120)

    assert store.customers.get(taken.id) == taken
    for change in good:
        assert store.customers.history(change.after.id, limit=5) == [change.event.payload]


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_new_customers_whose_connection_breaks_are_stored_once(
    lost: Any, proxied: Store, proxy: FaultProxy, store: Store, customers: Customers, locks: Locks
) -> None:
    changes = [customers.new(f"Name {number}") for number in range(3)]
    together: Any = proxied.customers._creating  # type: ignore[attr-defined]
    proxy.lose(lost, b"create_customers")

    with _meanwhile(together, locks, *_saving(proxied, [customers.new(), *changes])) as outcomes:
        assert [each.result(120).version for each in outcomes] == [1] * 4

    assert proxy.left == 0
    for change in changes:
        assert store.customers.history(change.after.id, limit=5) == [change.event.payload]


def _replacement(stored: Stored, fields: Fields, expected: int | None = None) -> Replacement:
    return CHANGES.replacement(stored.id, fields, Caller("me"), expected, LATER)


def _replacing(store: Store, news: list[Replacement]) -> list[Callable[[], Stored | None]]:
    return [lambda new=new: store.customers.replace(lambda: new) for new in news]


def test_replacements_are_what_each_would_be_alone(store: Store, customers: Customers, locks: Locks) -> None:
    before = [
        customers.add(f.name, email=f.email, phone=f.phone, metadata=f.metadata)
        for f in (*ODD, Fields("Ada"))
    ]
    after = [*ODD[1:], Fields("Ada", phone="1"), Fields("Grace")]
    changes = [
        CHANGES.update(old, lambda _, new=new: new, Caller("me"))
        for old, new in zip(before, after, strict=True)
    ]
    news = [_replacement(old, new, expected=1) for old, new in zip(before, after, strict=True)]
    together: Any = store.customers._replacing._together  # type: ignore[attr-defined]

    first = _replacement(customers.add("First"), Fields("Other"))
    with _meanwhile(together, locks, *_replacing(store, [first, *news])) as outcomes:
        stored = [each.result(120) for each in outcomes[1:]]

    for change, one in zip(changes, stored, strict=True):
        assert change is not None
        assert one == store.customers.get(one.id) == Stored(one.id, 2, False, change.doc)
        (event, _) = map(orjson.loads, store.customers.history(one.id, limit=2))
        assert event | {"id": None} == orjson.loads(change.event.payload) | {"id": None}
    assert _transactions(locks, *(one.id for one in stored)) == 1


def test_what_cannot_be_replaced_is_left_and_the_others_are_stored(
    store: Store, customers: Customers, locks: Locks
) -> None:
    first, one, gone, same = (customers.add() for _ in range(4))
    deleted = customers.change(gone, deleted=True)
    small = Changes(lambda: LATER, lambda: 600)
    news = [
        _replacement(first, Fields("Grace")),
        _replacement(one, Fields("Grace"), expected=1),
        _replacement(one, Fields("Hedy"), expected=1),
        _replacement(deleted, Fields("Grace")),
        _replacement(Stored(999_999, 1, False, b""), Fields("Nobody")),
        _replacement(same, same.customer().fields),
        small.replacement(customers.add().id, Fields("Grace" * 50), Caller("me"), None, LATER),
    ]
    together: Any = store.customers._replacing._together  # type: ignore[attr-defined]

    with _meanwhile(together, locks, *_replacing(store, news)) as outcomes:
        stored = [each.result(120) for each in outcomes]

    assert [each and (each.id, each.version) for each in stored] == [(first.id, 2), (one.id, 2), *[None] * 5]
    assert store.customers.get(deleted.id) == deleted
    assert len(store.customers.history(one.id, limit=5)) == 2


def test_replacements_do_not_wait_for_a_customer_that_is_locked(
    store: Store, customers: Customers, locks: Locks, other_locks: Locks
) -> None:
    first, locked, free = (customers.add() for _ in range(3))
    other_locks.take("SELECT 1 FROM customer WHERE id = %s FOR UPDATE", locked.id)
    news = [_replacement(each, Fields("Grace")) for each in (first, locked, free)]
    together: Any = store.customers._replacing._together  # type: ignore[attr-defined]

    with _meanwhile(together, locks, *_replacing(store, news)) as outcomes:
        stored = [each.result(120) for each in outcomes]

    # It is the caller's to read the locked one, and to wait for it alone.
    assert [each and each.id for each in stored] == [first.id, None, free.id]


def test_no_replacement_waits_for_one_that_waits_for_a_locked_customer(
    store: Store, customers: Customers, other_locks: Locks
) -> None:
    locked, free = (customers.add() for _ in range(2))
    other_locks.take("SELECT 1 FROM customer WHERE id = %s FOR UPDATE", locked.id)
    together: Any = store.customers._replacing._together  # type: ignore[attr-defined]
    together._patience = 120.0
    waiting, other = _replacing(store, [_replacement(each, Fields("Grace")) for each in (locked, free)])

    with ThreadPoolExecutor(2) as pool:
        late = pool.submit(waiting)
        until("it waits for the lock", lambda: other_locks.waiters() == 1)
        replaced = pool.submit(other).result(60)
        was_late = not late.done()
        other_locks.release()

    assert was_late
    assert [each and (each.id, each.version) for each in (replaced, late.result(60))] == [
        (free.id, 2),
        (locked.id, 2),
    ]


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_replacements_whose_connection_breaks_happen_at_most_once(
    lost: Any, proxied: Store, proxy: FaultProxy, store: Store, customers: Customers, locks: Locks
) -> None:
    old = [customers.add(f"Name {number}") for number in range(4)]
    news = [_replacement(each, Fields("Grace")) for each in old]
    together: Any = proxied.customers._replacing._together  # type: ignore[attr-defined]
    proxy.lose(lost, b"replace_customers")

    with _meanwhile(together, locks, *_replacing(proxied, news)) as outcomes:
        stored = [each.result(120) for each in outcomes]

    assert proxy.left == 0
    made = 1 if lost == "request" else 2
    assert [each and each.version for each in stored] == [2, *([None] * 3 if lost == "request" else [2] * 3)]
    for each in old[1:]:
        assert len(store.customers.history(each.id, limit=5)) == made


def test_a_server_that_refuses_all_of_them_says_so_to_each(
    store: Store, customers: Customers, locks: Locks
) -> None:
    changes = [customers.new(f"Name {number}") for number in range(3)]
    together: Any = store.customers._creating  # type: ignore[attr-defined]
    writes = _saving(store, [customers.new("\0"), *(customers.new("\0") for _ in changes)])

    with _meanwhile(together, locks, *writes[1:]) as outcomes:
        for each in outcomes:
            with pytest.raises(CustsvcError):
                each.result(120)
