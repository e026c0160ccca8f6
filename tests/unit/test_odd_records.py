"""Records of any content in the commands and pages that show them: no time, key or member ends one."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from custsvc.cli.diff import Printer
from custsvc.config import Settings
from custsvc.domain.customers import Customer, Fields, utc_now
from custsvc.domain.events import new_change
from custsvc.kafka import feed
from custsvc.kafka.formats import Events
from custsvc.kafka.tail import Seen
from custsvc.web.events import of_record
from custsvc.web.topics import Found

_NOW = utc_now()
_ADA = Customer(7, Fields("Ada"), False, 1, _NOW, "t", _NOW, "t")
_EVENT: dict[str, Any] = orjson.loads(new_change("created", None, _ADA, actor="t").event.payload)


class Record:
    """A record with these headers, as the client gives it."""

    def __init__(self, key: bytes, ce_type: bytes) -> None:
        self._key, self._headers = key, [("ce_type", ce_type)]

    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes:
        return b"{}"

    def headers(self) -> list[tuple[str, bytes]]:
        return self._headers

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 0


@pytest.mark.parametrize("millis", [-(2**63), -1, 2**63 - 1])
def test_an_event_is_printed_whatever_the_records_time(
    millis: int, capsys: pytest.CaptureFixture[str]
) -> None:
    Printer().show(Seen(0, 3, millis, b"", None, "no event"))

    assert "[0@3]" in capsys.readouterr().out


@pytest.mark.parametrize("event_ts", ["", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "soon"])
def test_the_page_shows_an_event_at_a_time_that_can_be_shown(event_ts: str) -> None:
    value = orjson.dumps(_EVENT | {"event_ts": event_ts})

    shown = of_record(Found(0, 0, 0, b"7", value), Events(Settings()))

    assert shown is not None
    assert len(shown["event_ts"]) == 24
    assert shown["after_change"]["name"] == "Ada"


@pytest.mark.parametrize(
    "wrong", [{"op": ["created"]}, {"version": "one"}, {"after_change": {"name": "Ada"}}]
)
def test_the_page_passes_over_what_is_no_event(wrong: dict[str, Any]) -> None:
    assert of_record(Found(0, 0, 0, b"7", orjson.dumps(_EVENT | wrong)), Events(Settings())) is None
    assert of_record(Found(0, 0, 0, b"7", None), Events(Settings())) is None


@pytest.mark.parametrize("key", [b"9" * 5000, b"9" * 20, b"", b"-7", "٧".encode()])
def test_the_stream_passes_over_a_key_that_is_no_customers(key: bytes) -> None:
    record: Any = Record(key, b"custsvc.customer.created.v1")

    assert feed._entry(Events(Settings()), record) is None
