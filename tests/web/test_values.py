"""A typed value is stored as that value, even if Python considers it equal to the one before."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from custsvc.domain.customers import Fields
from custsvc.ports.store import Store
from custsvc.web.forms import Pair, _as_text
from custsvc.web.merge import merge
from tests.values import LOOK_ALIKE

from .conftest import Visitor


def form(value: Any, version: int) -> dict[str, Any]:
    pair = Pair("n", *_as_text(value))
    return {
        "name": "Ann",
        "email": "",
        "phone": "",
        "version": str(version),
        "meta_key": pair.key,
        "meta_value": pair.value,
        "meta_kind": pair.kind,
    }


def test_a_value_that_python_takes_for_the_one_before_is_saved(ann: Visitor, store: Store) -> None:
    ids: list[str] = []
    for was, now in LOOK_ALIKE:
        made = ann.post("/ui/customers/new", **form(was, 1), seen=ids)
        customer_id = int(made.location.rsplit("/", 1)[1])
        ids.append(str(customer_id))

        saved = ann.post(f"/ui/customers/{customer_id}/edit", **form(now, 1))

        assert saved.status_code == 303, saved.text
        stored = store.customers.get(customer_id)
        assert stored is not None
        assert orjson.dumps({"n": now}) == orjson.dumps(stored.customer().fields.metadata)
        assert stored.version == 2, (was, now)


@pytest.mark.parametrize(("was", "now"), LOOK_ALIKE)
def test_such_values_are_a_clash_and_a_change(was: Any, now: Any) -> None:
    base, theirs, mine = (Fields("Ann", metadata={"n": value}) for value in ("x", was, now))

    assert [clash.name for clash in merge(base, theirs, mine).clashes] == ["metadata.n"]
    assert orjson.dumps(merge(theirs, mine, theirs).fields().metadata["n"]) == orjson.dumps(now)
    assert orjson.dumps(merge(theirs, theirs, mine).fields().metadata["n"]) == orjson.dumps(now)
