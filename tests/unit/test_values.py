"""Every comparison of two customers compares values as they are written."""

from __future__ import annotations

from io import StringIO
from typing import Any

import orjson
import pytest
from rich.console import Console

from custsvc.cli.diff import Printer
from custsvc.copies.verify import _fields
from custsvc.domain.customers import Customer, Fields, Stored, utc_now
from custsvc.domain.events import Change, new_change
from custsvc.domain.received import ReceivedEvent, decode
from custsvc.kafka.tail import Seen
from custsvc.notify.rules.rules import changed_names, field_changes
from tests.values import LOOK_ALIKE


def change(was: dict[str, Any], now: dict[str, Any]) -> tuple[bytes, Change]:
    """A customer's document, and its change to other metadata."""
    at = utc_now()
    before = Customer(7, Fields("Ann", metadata=was), False, 1, at, "me", at, "me")
    after = before.changed_to(fields=Fields("Ann", metadata=now), deleted=False, now=at, by="me")
    doc = before.encode()
    return doc, new_change("updated", Stored(7, 1, False, doc), after, actor="me")


def received(was: dict[str, Any], now: dict[str, Any]) -> ReceivedEvent:
    return decode(change(was, now)[1].event.payload, b"7")


@pytest.mark.parametrize(("was", "now"), LOOK_ALIKE)
def test_values_that_python_takes_for_one_are_a_difference(was: Any, now: Any) -> None:
    doc, made = change({"n": was}, {"n": now})

    assert Fields("Ann", metadata={"n": was}) != Fields("Ann", metadata={"n": now})
    assert orjson.loads(made.event.payload)["changed"] == ["metadata"]
    assert "metadata" in _fields(doc, made.doc)
    event = received({"n": was}, {"n": now})
    assert changed_names(event) == {"metadata", "metadata.n"}
    assert [(each.label, each.old, each.new) for each in field_changes(event)] == [
        ("n", orjson.dumps(was).decode(), orjson.dumps(now).decode())
    ]


@pytest.mark.parametrize(("was", "now"), [*LOOK_ALIKE, ({}, {"n": None})])
def test_a_terminal_shows_both_as_json(was: Any, now: Any) -> None:
    was, now = (value if isinstance(value, dict) else {"n": value} for value in (was, now))
    printer, out = Printer(), StringIO()
    printer._console = Console(file=out, soft_wrap=True)  # type: ignore[assignment]

    printer.show(Seen(0, 0, 0, b"", received(was, now), None))

    before, after = (orjson.dumps(each["n"]).decode() if each else "(none)" for each in (was, now))
    assert f"metadata.n: {before} → {after}\n" in out.getvalue()


def test_an_entry_of_null_that_comes_or_goes_is_a_change() -> None:
    for was, now in (({}, {"n": None}), ({"n": None}, {})):
        assert changed_names(received(was, now)) == {"metadata", "metadata.n"}
