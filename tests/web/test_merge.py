"""Simultaneous changes of two users, merged field by field."""

from __future__ import annotations

from typing import Any

import pytest

from custsvc.domain.customers import Fields
from custsvc.web.merge import ABSENT, Clash, merge

BASE = Fields("Ann", "ann@example.org", "1", {"tier": "tin", "lang": "de"})


def changed(**changes: Any) -> Fields:
    values = {"name": "Ann", "email": "ann@example.org", "phone": "1", "metadata": BASE.metadata}
    return Fields(**{**values, **changes})


def test_different_fields_go_together() -> None:
    result = merge(BASE, changed(email="new@example.org"), changed(phone="2"))

    assert result.clashes == []
    assert result.taken == ["email"]
    assert result.fields() == changed(email="new@example.org", phone="2")


def test_each_metadata_key_is_a_field_of_its_own() -> None:
    theirs = changed(metadata={"tier": "gold", "lang": "de"})
    mine = changed(metadata={"tier": "tin", "age": 4})

    result = merge(BASE, theirs, mine)

    assert result.clashes == []
    assert result.fields().metadata == {"age": 4, "tier": "gold"}


def test_the_same_change_by_both_is_no_clash() -> None:
    assert merge(BASE, changed(name="Bob"), changed(name="Bob")).fields().name == "Bob"


def test_one_field_changed_by_both_is_a_clash_until_somebody_picks() -> None:
    theirs, mine = changed(name="Bob"), changed(name="Eve")

    result = merge(BASE, theirs, mine)

    assert result.clashes == [Clash("name", "Ann", "Bob", "Eve")]
    assert merge(BASE, theirs, mine, {"name": "mine"}).fields().name == "Eve"
    assert merge(BASE, theirs, mine, {"name": "theirs"}).fields().name == "Bob"


def test_a_key_that_one_removed_and_the_other_changed_is_a_clash() -> None:
    theirs = changed(metadata={"lang": "de"})
    mine = changed(metadata={"tier": "gold", "lang": "de"})

    result = merge(BASE, theirs, mine)

    assert result.clashes == [Clash("metadata.tier", "tin", ABSENT, "gold")]
    picked = merge(BASE, theirs, mine, {"metadata.tier": "theirs"})
    assert picked.fields().metadata == {"lang": "de"}


@pytest.mark.parametrize(("theirs", "mine"), [(True, 1), (1, 1.0), (None, ABSENT)])
def test_values_of_different_kinds_are_different(theirs: Any, mine: Any) -> None:
    both = [{} if value is ABSENT else {"x": value} for value in (theirs, mine)]
    base = Fields("Ann", metadata={"x": "text"})

    result = merge(base, Fields("Ann", metadata=both[0]), Fields("Ann", metadata=both[1]))

    assert [clash.name for clash in result.clashes] == ["metadata.x"]


def test_nothing_that_differs_from_the_base_is_lost() -> None:
    result = merge(BASE, BASE, changed(name="Bob", email=None))

    assert result.taken == []
    assert result.fields() == changed(name="Bob", email=None)
