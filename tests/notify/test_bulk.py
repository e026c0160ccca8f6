"""Changes made in bulk are marked, so that rules pass over them; a forecast says what they would send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from custsvc.config import Settings
from custsvc.domain.customers import Customer, Fields, Stored, utc_now
from custsvc.domain.erasure import scrubbed
from custsvc.domain.events import new_change, snapshot
from custsvc.domain.received import decode
from custsvc.errors import ConfigurationError
from custsvc.notify.intake.notifications import notifications_of
from custsvc.notify.rules.file import load
from custsvc.notify.rules.forecast import Forecast

DOCS = Path(__file__).parents[2] / "docs"
OPS = {"created": None, "updated": False, "restored": True}


def fields() -> st.SearchStrategy[Fields]:
    addresses = st.none() | st.sampled_from(["ann@example.com", "bob@example.com"])
    return st.builds(
        Fields,
        name=st.sampled_from(["Ann", "Bob"]),
        email=addresses,
        metadata=st.dictionaries(st.sampled_from(["plan", "vip"]), st.booleans(), max_size=2),
    )


def event(op: str, was: Fields, now: Fields, *, bulk: bool) -> bytes:
    time, before = utc_now(), None
    if OPS[op] is not None:
        old = Customer(7, was, bool(OPS[op]), 1, time, "me", time, "me")
        before = Stored(7, 1, old.deleted, old.encode())
    after = Customer(7, now, False, 1 if before is None else 2, time, "me", time, "me")
    return new_change(op, before, after, actor="me", bulk=bulk).event.payload


@given(st.sampled_from(list(OPS)), fields(), fields())
def test_the_mark_is_one_more_member_and_changes_nothing_else(op: str, was: Fields, now: Fields) -> None:
    plain, marked = (orjson.loads(event(op, was, now, bulk=bulk)) for bulk in (False, True))
    received = decode(event(op, was, now, bulk=True), b"7")

    assert "bulk" not in plain
    assert marked.pop("bulk") is True
    assert list(marked) == list(plain)
    assert received.bulk
    assert orjson.loads(received.doc()) == received.after
    assert not decode(event(op, was, now, bulk=False), b"7").bulk


def test_readers_that_do_not_know_the_mark_read_on() -> None:
    marked = orjson.loads(event("created", Fields("Ann"), Fields("Ann"), bulk=True))

    for page in ("events.schema.v1.json", "events.schema.json"):
        jsonschema.Draft202012Validator(orjson.loads((DOCS / page).read_bytes())).validate(marked)


@pytest.mark.parametrize("value", [1, "yes", "true", None, [], False])
def test_only_true_is_a_mark_whatever_others_write(value: Any) -> None:
    foreign = {**orjson.loads(event("created", Fields("Ann"), Fields("Ann"), bulk=False)), "bulk": value}

    assert not decode(orjson.dumps(foreign), b"7").bulk


def test_the_mark_stays_with_an_event_whose_customer_was_erased_and_with_a_snapshot() -> None:
    made = event("created", Fields("Ann"), Fields("Ann"), bulk=True)
    after = orjson.dumps(orjson.loads(made)["after_change"])

    assert decode(scrubbed(made), b"7").bulk
    assert decode(snapshot(7, 1, after, utc_now(), actor="me", bulk=True).payload, b"7").bulk
    assert not decode(snapshot(7, 1, after, utc_now(), actor="me").payload, b"7").bulk


RULES = """
[[rule]]
name = "welcome"
ops = ["created"]
template = "welcome"
[[rule]]
name = "auditors"
ops = ["created", "updated"]
to = ["one@example.com", "two@example.com"]
template = "changed"
bulk = true
[[rule]]
name = "plan"
ops = ["updated", "restored"]
changed = ["metadata.plan"]
template = "changed"
[[rule]]
name = "again"
ops = ["snapshot"]
template = "changed"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "notify.toml"
    path.write_text(RULES)
    return Settings(notify_rules=str(path))


@given(st.sampled_from(list(OPS)), fields(), fields())
def test_a_forecast_counts_the_mails_that_the_rules_then_send(
    settings: Settings, op: str, was: Fields, now: Fields
) -> None:
    plain, marked = (decode(event(op, was, now, bulk=bulk), b"7") for bulk in (False, True))
    rules, forecast = load(settings), Forecast.of(settings)
    assert forecast is not None
    old = Customer(7, was, bool(OPS[op]), 1, utc_now(), "me", utc_now(), "me")
    before = None if OPS[op] is None else Stored(7, 1, old.deleted, old.encode())

    forecast.add(op, before, now)

    assert forecast.total == len(notifications_of(plain, rules, None))
    assert forecast.anyway == len(notifications_of(marked, rules, None))
    assert forecast.scaled(3).total == 3 * forecast.total


def test_a_forecast_counts_snapshots_where_a_rule_names_them(settings: Settings) -> None:
    doc = Customer(7, Fields("Ann", "ann@example.com"), False, 1, utc_now(), "me", utc_now(), "me").encode()
    by_ours, built_in = Forecast.of(settings), Forecast.of(Settings())

    for forecast in (by_ours, built_in):
        assert forecast is not None
        forecast.add_snapshot(doc)

    assert by_ours is not None and built_in is not None
    assert (by_ours.counts, built_in.total) == ({"again": 1}, 0)


def test_rules_that_cannot_be_read_give_no_forecast_and_a_wrong_mark_is_an_error(tmp_path: Path) -> None:
    wrong = tmp_path / "notify.toml"
    wrong.write_text(RULES.replace("bulk = true", 'bulk = "yes"'))

    assert Forecast.of(Settings(notify_rules=str(tmp_path / "none.toml"))) is None
    assert Forecast.of(Settings(notify_rules=str(wrong))) is None
    with pytest.raises(ConfigurationError, match="bulk"):
        load(Settings(notify_rules=str(wrong)))
