"""Errors of a database decide whether the same call may work later, or never."""

from __future__ import annotations

import pytest
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError, WriteConcernError

from custsvc.errors import CustsvcError, DataRefused, TemporaryError
from custsvc.ports.store import Store
from custsvc.stores.mongo.connection import translate
from tests.databases import open_database

PASSING = ["08006", "25006", "25P03", "40001", "40P01", "53100", "53300", "55P03", "57014", "58030"]
LASTING = ["0A000", "21000", "22001", "22021", "22P02", "54000", "54001", "P0001", "XX000", "99999"]


@pytest.mark.parametrize("backend", ["postgres"])
@pytest.mark.parametrize("state", PASSING + LASTING)
def test_the_class_of_a_sqlstate_says_whether_it_passes(state: str, store: Store, backend: str) -> None:
    expected = TemporaryError if state in PASSING else DataRefused

    with pytest.raises(CustsvcError) as refused, store._connections.cursor() as cursor:  # type: ignore[attr-defined]
        cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'they say' USING ERRCODE = '{state}'; END $$")

    assert isinstance(refused.value, expected)
    assert "they say" in str(refused.value)


def failure(code: int, **details: object) -> PyMongoError:
    return OperationFailure("they say", code, {"errmsg": "they say", "code": code, **details})


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        *((failure(code), TemporaryError) for code in (6, 50, 89, 91, 112, 189, 262, 10107, 11600, 14031)),
        # The keys that sign cluster times are read again after a start, and sessions are forgotten.
        *((failure(code), TemporaryError) for code in (204, 205, 206, 210, 211, 217, 261)),
        *((failure(code), TemporaryError) for code in (141, 216, 264, 272, 355, 402, 433, 449)),
        *((failure(code), DataRefused) for code in (2, 9, 14, 22, 52, 121, 10334, 11000, 17280, 99_999)),
        (failure(2, errorLabels=["TransientTransactionError"]), TemporaryError),
        (WriteConcernError("they say", 64, {"code": 64}), TemporaryError),
        (BulkWriteError({"writeErrors": [{"code": 121, "errmsg": "they say"}]}), DataRefused),
        (BulkWriteError({"writeErrors": [{"code": 112, "errmsg": "they say"}]}), TemporaryError),
    ],
)
def test_the_code_of_mongodb_says_whether_it_passes(
    error: PyMongoError, expected: type[CustsvcError]
) -> None:
    assert type(translate(error, "MongoDB")) is expected


def test_a_refusal_of_the_database_is_reported_without_values() -> None:
    taken = failure(
        11000, errmsg='E11000 duplicate key error index: email dup key: { email: "ada@example.com" }'
    )

    assert "ada@" not in str(translate(taken, "MongoDB"))


NAMELESS = {
    "postgres": "postgresql://custsvc:secret@db.invalid:5432/custsvc",
    "mongo": "mongodb://custsvc:secret@db.invalid:27017/custsvc?serverSelectionTimeoutMS=200",
}


def test_a_server_whose_name_nobody_knows_for_now_is_away(backend: str) -> None:
    """Names of containers and pods go and come with them, and DNS itself is away at times."""
    with open_database(backend, NAMELESS[backend]) as store, pytest.raises(TemporaryError) as away:
        store.customers.get(1)

    assert away.value.dependency == backend
    assert "db.invalid" in str(away.value)
