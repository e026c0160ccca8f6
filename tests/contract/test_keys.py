"""The port Keys: API keys, stored as their hash."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from custsvc.domain.customers import utc_now
from custsvc.errors import Conflict
from custsvc.ports.accounts import ApiKey
from custsvc.ports.store import Store

NOW = utc_now()
HOUR = dt.timedelta(hours=1)


def key(prefix: str, **changes: Any) -> ApiKey:
    fields: dict[str, Any] = {"sha256": bytes(range(224, 256)), "name": "web shop", "role": "write"}
    return ApiKey(prefix, **{**fields, "created_on": NOW, **changes})


def test_a_key_is_found_by_its_prefix_as_it_was_added(store: Store) -> None:
    whole = key("a1", role="admin", expires_on=NOW + HOUR)
    bare = key("a2", name="Zoë's $key")
    store.keys.add(whole)
    store.keys.add(bare)

    assert store.keys.find("a1") == whole
    assert store.keys.find("a2") == bare
    assert store.keys.find("a") is None
    found = store.keys.find("a1")
    assert found is not None
    assert found.created_on.tzinfo is not None
    assert type(found.sha256) is bytes


def test_a_prefix_is_given_once(store: Store, at_once: Callable[..., list[Any]]) -> None:
    store.keys.add(key("a1", name="first"))

    with pytest.raises(Conflict, match="a1"):
        store.keys.add(key("a1", name="second"))
    results = at_once(*(lambda: store.keys.add(key("b1")) for _ in range(4)))

    assert [type(each) for each in results if each] == [Conflict] * 3
    assert [each.name for each in store.keys.all()] == ["first", "web shop"]


def test_keys_are_listed_the_oldest_first_revoked_ones_too(store: Store) -> None:
    for prefix, age in (("b", 1), ("c", 3), ("a", 2)):
        store.keys.add(key(prefix, created_on=NOW - age * HOUR))
    store.keys.revoke("c", NOW)

    assert [each.prefix for each in store.keys.all()] == ["c", "a", "b"]


def test_a_key_is_revoked_once_and_for_good(store: Store) -> None:
    store.keys.add(key("a1"))
    store.keys.add(key("a2"))

    assert store.keys.revoke("a1", NOW)
    assert not store.keys.revoke("a1", NOW + HOUR)

    assert store.keys.find("a1") == key("a1", revoked_on=NOW)
    assert store.keys.find("a2") == key("a2")
    assert not store.keys.revoke("never", NOW)


def test_an_expired_key_is_not_live_so_it_cannot_be_revoked(store: Store) -> None:
    store.keys.add(key("a1", expires_on=NOW - HOUR))
    store.keys.add(key("a2", expires_on=NOW + HOUR))

    assert not store.keys.revoke("a1", NOW)
    assert store.keys.revoke("a2", NOW)
