"""The port Views: lists of customers under a name."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from custsvc.errors import Conflict
from custsvc.ports.store import Store
from custsvc.ports.views import OWN_MAX, SHARED_SHOWN, SavedView

NOON = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)


def view(name: str, owner: str = "user:ann", *, shared: bool = False, number: int = 0) -> SavedView:
    return SavedView(f"{owner}-{name}-{number}", owner, owner[5:], name, "q=ada&sort=name", shared, NOON)


def test_a_user_sees_private_views_and_those_that_others_share(store: Store) -> None:
    own = [view("Ästhetik"), view("ada", shared=True), view("Zoë")]
    others = [view("Gold", "user:bob", shared=True), view("ada", "user:eve", shared=True)]
    for each in (*own, *others, view("Secret", "user:bob")):
        store.views.add(each)

    by_code_point = sorted(own, key=lambda each: each.name)
    assert store.views.seen_by("user:ann") == [*by_code_point, others[0], others[1]]
    assert store.views.seen_by("user:new") == [others[0], own[1], others[1]]
    assert store.views.find(own[0].id) == own[0]
    assert store.views.find("nowhere") is None


def test_a_name_is_unique_among_the_views_of_its_owner(store: Store) -> None:
    first, second = view("ada"), view("bob")
    for each in (first, second, view("ada", "user:bob")):
        store.views.add(each)

    with pytest.raises(Conflict, match="“ada”"):
        store.views.add(view("ada", number=2))
    with pytest.raises(Conflict, match="“ada”"):
        store.views.replace(replace(second, name="ada"))
    assert store.views.find(second.id) == second


def test_only_its_owner_changes_a_view(store: Store) -> None:
    first = view("ada")
    store.views.add(first)
    changed = replace(first, name="Ada", query="", shared=True, changed_on=NOON + dt.timedelta(hours=1))

    assert not store.views.replace(replace(changed, owner="user:bob"))
    assert store.views.find(first.id) == first
    assert store.views.replace(changed)
    assert store.views.find(first.id) == changed
    assert store.views.remove(first.id)
    assert not store.views.remove(first.id)


def test_the_saved_views_of_a_user_are_limited(store: Store) -> None:
    for number in range(OWN_MAX):
        store.views.add(view(f"{number:02}"))
    with pytest.raises(Conflict, match=str(OWN_MAX)):
        store.views.add(view("one more"))
    store.views.add(view("another's", "user:bob"))

    owners = [f"user:{number}" for number in range(SHARED_SHOWN // OWN_MAX + 1)]
    for owner in owners:
        for number in range(OWN_MAX):
            store.views.add(view(f"{number:02}", owner, shared=True))
    assert len(store.views.seen_by("user:ann")) == OWN_MAX + SHARED_SHOWN


def test_shared_views_stay_when_their_owner_is_deleted(store: Store) -> None:
    kept, other = view("kept", shared=True), view("other", "user:bob")
    for each in (kept, other, view("private")):
        store.views.add(each)

    store.views.leave("user:ann")

    assert store.views.seen_by("user:new") == [replace(kept, owner=f"gone:{kept.id}")]
    store.views.add(view("kept", number=1))
    assert [each.name for each in store.views.seen_by("user:ann")] == ["kept", "kept"]
    assert store.views.find(other.id) == other
