"""S38: no statement runs for ever. A hanging one ends in time, with an error that allows a retry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from custsvc.errors import TemporaryError
from custsvc.ports.store import Store
from tests.waiting import until

if TYPE_CHECKING:
    from tests.backdoor import Backdoor

    from .conftest import Customers


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_postgresql_bounds_statements_locks_and_idle_transactions(store: Store) -> None:
    found = {}
    for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        ((found[name],),) = store.customers._connections.query(f"SHOW {name}", ())  # type: ignore[attr-defined]
    assert found == {
        "statement_timeout": "30s",
        "lock_timeout": "10s",
        "idle_in_transaction_session_timeout": "1min",
    }


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
@pytest.mark.parametrize("setting", ["statement_timeout", "lock_timeout"])
def test_a_write_that_waits_for_a_lock_ends_in_its_time_and_leaves_nothing(
    store: Store, customers: Customers, backdoor: Backdoor, setting: str
) -> None:
    stored = customers.add()
    query = store.customers._connections  # type: ignore[attr-defined]
    with query.cursor() as cursor:
        cursor.execute(f"SET {setting} = '300ms'")
    with backdoor._connection, backdoor._connection.cursor() as other:  # type: ignore[union-attr]
        other.execute("SELECT 1 FROM customer WHERE id = %s FOR UPDATE", (stored.id,))
        # While the other holds the row: only a limit ends this.
        with pytest.raises(TemporaryError):
            customers.change(stored)
    with query.cursor() as cursor:
        cursor.execute(f"RESET {setting}")

    assert store.customers.get(stored.id) == stored
    assert len(store.customers.history(stored.id, limit=5)) == 1
    assert customers.change(stored).version == 2


@pytest.mark.parametrize("backend", ["mongo"], indirect=True)
def test_mongodb_ends_an_operation_that_hangs_on_the_server_too(
    store: Store, customers: Customers, backdoor: Backdoor
) -> None:
    import pymongo

    customers.add()
    connection = store.customers._connection  # type: ignore[attr-defined]
    assert connection.client.options.timeout == 10
    hanging = {"$where": "sleep(600000) || true"}
    with pytest.raises(TemporaryError), connection.translated(), pymongo.timeout(0.5):
        connection["customer"].find_one(hanging)

    until(
        "the server ends the operation",
        lambda: not any("sleep(600000)" in str(op.get("command")) for op in running(backdoor)),
    )


def running(backdoor: Backdoor) -> list[dict[str, Any]]:
    operations = backdoor.client.admin.command("currentOp", {"active": True})  # type: ignore[union-attr]
    return list(operations["inprog"])
