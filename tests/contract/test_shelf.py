"""The port Shelf: bytes by name, each until its time is over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custsvc.ports.store import Store
from tests.contract.migrating import as_of

DAY = 86400.0
# Letters that patterns and LIKE give a meaning, and a prefix of another name.
NAMES = ("job.1", "job.12", "job%", "job_1", "JOB.1", "last.vérify", "a.*", "a+")


@given(st.binary(max_size=2000))
def test_a_value_on_the_shelf_comes_back_byte_for_byte(store: Store, value: bytes) -> None:
    store.shelf.put("upload.1", value, DAY)

    assert store.shelf.get("upload.1") == value
    assert store.shelf.all("upload.") == {"upload.1": value}


def test_a_prefix_is_meant_letter_by_letter(store: Store) -> None:
    for name in NAMES:
        store.shelf.put(name, name.encode(), DAY)

    assert set(store.shelf.all("job.")) == set(store.shelf.names("job.")) == {"job.1", "job.12"}
    assert set(store.shelf.all("a.")) == {"a.*"}
    assert store.shelf.drop_all("job_") == 1
    assert set(store.shelf.all("")) == set(NAMES) - {"job_1"}
    store.shelf.drop("job%")
    assert store.shelf.get("job%") is None
    store.shelf.drop("never there")


def test_the_first_to_keep_decides(store: Store) -> None:
    assert store.shelf.keep("once.x", b"first", DAY) == b"first"
    assert store.shelf.keep("once.x", b"second", DAY) == b"first"


def test_an_expired_value_is_not_found_even_before_it_is_deleted(store: Store) -> None:
    store.shelf.put("job.old", b"old", -1.0)
    store.shelf.put("job.new", b"new", DAY)

    assert store.shelf.get("job.old") is None
    assert store.shelf.all("job.") == {"job.new": b"new"}
    assert store.shelf.names("job.") == ["job.new"]
    assert store.shelf.keep("job.old", b"again", DAY) == b"again"


def test_expiring_deletes_exactly_the_expired_values(store: Store) -> None:
    store.shelf.put("job.old", b"old", -1.0)
    store.shelf.put("job.new", b"new", DAY)

    # MongoDB itself deletes such a document too, now and then.
    assert store.shelf.expire() <= 1
    assert store.shelf.expire() == 0
    assert store.shelf.get("job.new") == b"new"


def test_putting_a_value_again_renews_its_time(store: Store) -> None:
    store.shelf.put("job.1", b"running", -1.0)
    store.shelf.put("job.1", b"done", DAY)

    store.shelf.expire()
    assert store.shelf.get("job.1") == b"done"


@pytest.fixture
def before(empty_database: str, opened: object, backend: str) -> Store:
    """A database as the release before this one left it, with records of an import."""
    store: Store = opened(empty_database)  # type: ignore[operator]
    as_of(store, 14 if backend == "postgres" else 15)
    store.facts.put("import.done.abc", '{"é":1}')
    store.facts.put("import.part.abc.0.1", "[]")
    store.facts.put("role", "source")
    return store


def test_records_of_imports_move_to_the_shelf(before: Store) -> None:
    before.migrate()

    assert before.shelf.all("import.") == {
        "import.done.abc": '{"é":1}'.encode(),
        "import.part.abc.0.1": b"[]",
    }
    assert before.facts.all("import.") == {}
    assert before.facts.get("role") == "source"
