"""The published contracts: events match their schema, and no change of it breaks their readers."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from custsvc.api.describe.events import asyncapi, event_schema
from custsvc.domain.customers import Customer as RealCustomer
from custsvc.domain.customers import Fields, Stored, utc_now
from custsvc.domain.events import APP_EVENT_TYPE, headers, new_change
from custsvc.notify.rules import sample

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = event_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
texts = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=50)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts


@pytest.fixture(scope="module")
def breaks() -> Callable[[Any, Any], list[str]]:
    sys.path.insert(0, str(DOCS))
    try:
        return import_module("compatible").breaks
    finally:
        sys.path.remove(str(DOCS))


def change(op: str, before: RealCustomer | None, fields: Fields) -> bytes:
    now = utc_now()
    stored = Stored(7, before.version, before.deleted, before.encode()) if before else None
    after = RealCustomer(
        7, fields, op == "deleted", before.version + 1 if before else 1, now, "me", now, "me"
    )
    return new_change(op, stored, after, actor="me", request_id=None).event.payload


@given(
    texts,
    st.none() | texts,
    st.dictionaries(texts, scalars, max_size=5),
    st.sampled_from(list(APP_EVENT_TYPE)),
)
def test_every_event_is_what_the_schema_says(
    name: str, phone: str | None, metadata: dict[str, Any], op: str
) -> None:
    fields = Fields(name, None, phone, metadata)
    first = orjson.loads(change("created", None, fields))
    before = RealCustomer.decode(orjson.dumps(first["after_change"]))

    for value in (first, orjson.loads(change(op, before, fields))):
        VALIDATOR.validate(value)


def test_the_schema_refuses_what_is_no_event() -> None:
    good = orjson.loads(change("created", None, Fields("Ada")))

    for name in SCHEMA["required"]:
        assert not VALIDATOR.is_valid({k: v for k, v in good.items() if k != name}), name
    for wrong in ({"op": "renamed"}, {"version": 0}, {"after_change": None}, {"event_ts": "yesterday"}):
        assert not VALIDATOR.is_valid(good | wrong), wrong
    assert VALIDATOR.is_valid(good | {"new_member": 1})


def test_an_events_headers_are_what_the_asyncapi_document_says() -> None:
    now = utc_now()
    customer = RealCustomer(7, Fields("Ada"), False, 1, now, "me", now, "me")
    event = new_change("created", None, customer, actor="me").event
    document = asyncapi()
    schema = document["components"]["schemas"]["EventHeaders"] | {"components": document["components"]}

    made = headers(event, b"urn:custsvc:x").items()
    given = {name: value.decode() for name, value in made if isinstance(value, bytes)}

    jsonschema.Draft202012Validator(schema).validate(given)


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi()

    def check(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                found = document
                for step in value["$ref"].removeprefix("#/").split("/"):
                    found = found[step]
            for each in value.values():
                check(each)
        elif isinstance(value, list):
            for each in value:
                check(each)

    check(document)
    assert document["asyncapi"] == "3.0.0"
    assert {c["address"] for c in document["channels"].values()} > {"MICROSERVICE-CUSTOMER-UPDATES"}


@pytest.mark.parametrize(("number", "page"), [(1, "events.schema.v1.json"), (2, "events.schema.json")])
def test_the_schema_breaks_nobody_who_reads_by_the_committed_one(
    breaks: Callable[[Any, Any], list[str]], number: int, page: str
) -> None:
    committed = orjson.loads((DOCS / page).read_bytes())

    assert committed["$id"] == f"urn:custsvc:event:v{number}"
    jsonschema.Draft202012Validator.check_schema(committed)
    assert breaks(committed, event_schema(number)) == []


@pytest.mark.parametrize("op", APP_EVENT_TYPE)
def test_an_event_that_earlier_readers_do_not_know_has_a_higher_schema(op: str) -> None:
    event = orjson.loads(sample.event(op).value)
    by_the_first = jsonschema.Draft202012Validator(
        orjson.loads((DOCS / "events.schema.v1.json").read_bytes())
    )

    assert by_the_first.is_valid(event) == (event["schema"] == 1)
    assert VALIDATOR.is_valid(event)


def test_the_committed_asyncapi_document_is_that_of_the_code() -> None:
    assert orjson.loads((DOCS / "asyncapi.json").read_bytes()) == asyncapi()


def customer(schema: Any) -> Any:
    return schema["$defs"]["Customer"]


BREAKING: dict[str, Callable[[Any], Any]] = {
    "a member that may be missing": lambda s: s["required"].remove("version"),
    "a member that is gone": lambda s: (s["properties"].pop("op"), s["required"].remove("op")),
    "another type": lambda s: s["properties"]["version"].update(type="string"),
    "null where there was none": lambda s: s["properties"].update(actor={"type": ["string", "null"]}),
    "a new alternative": lambda s: s["properties"]["before_change"]["anyOf"].append({"type": "string"}),
    "a new value": lambda s: s["properties"]["op"]["enum"].append("sold"),
    "no list of values any more": lambda s: s["properties"]["op"].pop("enum"),
    "another form": lambda s: s["properties"]["event_ts"].pop("pattern"),
    "longer text": lambda s: customer(s)["properties"]["name"].update(maxLength=500),
    "no limit any more": lambda s: customer(s)["properties"]["name"].pop("maxLength"),
    "smaller numbers": lambda s: s["properties"]["version"].update(minimum=0),
    "other items": lambda s: s["properties"]["changed"].update(items={"type": "integer"}),
    "deep within": lambda s: customer(s)["required"].remove("deleted"),
}
HARMLESS: dict[str, Callable[[Any], Any]] = {
    "a new member": lambda s: s["properties"].update(traceparent={"type": "string"}),
    "a new member that is always there": lambda s: (
        s["properties"].update(extra={"type": "string"}),
        s["required"].append("extra"),
    ),
    "fewer values": lambda s: s["properties"]["op"]["enum"].pop(),
    "shorter text": lambda s: customer(s)["properties"]["name"].update(maxLength=300),
    "other words": lambda s: s["properties"]["op"].update(description="what was done"),
}


@pytest.mark.parametrize("what", BREAKING)
def test_a_change_that_breaks_readers_is_found(what: str, breaks: Callable[[Any, Any], list[str]]) -> None:
    changed = copy.deepcopy(SCHEMA)
    BREAKING[what](changed)

    assert breaks(SCHEMA, changed)


@pytest.mark.parametrize("what", HARMLESS)
def test_a_change_that_breaks_nobody_is_let_through(
    what: str, breaks: Callable[[Any, Any], list[str]]
) -> None:
    changed = copy.deepcopy(SCHEMA)
    HARMLESS[what](changed)

    assert breaks(SCHEMA, changed) == []
