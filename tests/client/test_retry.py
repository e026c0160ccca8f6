"""Retries of a call: when, for how long, and when not. Scripted answers; no server, no real time."""

from __future__ import annotations

import datetime as dt
import ssl
import subprocess
import sys
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from custsvc.client import ApiError, Client, Positions, Refused, Retry, ServerFailed, Unavailable
from custsvc.errors import ConfigurationError

from .ways import URL, Clock, Scripted, problem

WHO = {"created_on": "2026-11-23T20:40:00.123Z", "created_by": "a"}
FIELDS = {
    "id": 7,
    "name": "Ann",
    "email": None,
    "phone": None,
    "metadata": {},
    "deleted": False,
    "version": 1,
}
ANN = FIELDS | WHO | {"updated_on": "2026-11-23T20:40:00.123Z", "updated_by": "a"}


def made() -> httpx.Response:
    return httpx.Response(201, json=ANN)


def test_a_repeated_write_carries_the_same_key_and_the_next_write_another(scripted: Scripted) -> None:
    down = httpx.ConnectError("refused")
    client, seen = scripted(down, problem(503, "overloaded"), made(), made())

    client.create("Ann")
    client.create("Ann")

    keys = [request.headers["Idempotency-Key"] for request in seen]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert len({request.content for request in seen}) == 1


@pytest.mark.parametrize("as_date", [False, True])
def test_the_server_is_left_alone_for_as_long_as_it_says(scripted: Scripted, as_date: bool) -> None:
    clock = Clock()
    until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=100)
    said = format_datetime(until, usegmt=True) if as_date else "100"
    client, _ = scripted(problem(429, "rate-limited", {"Retry-After": said}), made(), clock=clock)

    client.create("Ann")

    assert len(clock.slept) == 1
    assert 60 < clock.slept[0] <= 100


@pytest.mark.parametrize("said", ["", "soon", "-3", "Mon, 99 Nov 2026 20:40:00 GMT", "9" * 40])
def test_a_call_ends_in_time_with_any_retry_after(scripted: Scripted, said: str) -> None:
    clock = Clock()
    client, _ = scripted(
        *[problem(503, "overloaded", {"Retry-After": said}) for _ in range(100)], clock=clock, within=20.0
    )

    with pytest.raises(Unavailable):
        client.get(7)

    assert clock.now <= 20


def test_a_wait_that_is_longer_than_the_call_may_take_is_not_begun(scripted: Scripted) -> None:
    clock = Clock()
    client, seen = scripted(problem(429, "rate-limited", {"Retry-After": "60"}), clock=clock, within=30.0)

    with pytest.raises(Unavailable):
        client.create("Ann")

    assert (len(seen), clock.slept) == (1, [])


def test_without_time_for_repeats_there_is_one_try(scripted: Scripted) -> None:
    client, seen = scripted(httpx.ReadTimeout("slow"), within=0.0)

    with pytest.raises(Unavailable) as caught:
        client.create("Ann")

    assert len(seen) == 1
    assert caught.value.maybe_done
    assert caught.value.key == seen[0].headers["Idempotency-Key"]


@given(st.floats(0.001, 10), st.floats(0.001, 100))
def test_pauses_grow_to_the_longest_and_are_never_more(first: float, longest: float) -> None:
    pauses = Retry(first=first, longest=longest).pauses()

    for number in range(1100):
        pause = next(pauses)
        most = min(longest, first * 2.0 ** min(number, 60))
        assert most / 2 <= pause <= most


@pytest.mark.parametrize(
    ("answer", "kind", "exit_code"),
    [
        (problem(500, "internal"), ServerFailed, 1),
        (problem(413, "too-large"), Refused, 2),
        (problem(405, "read-only"), Refused, 2),
        (httpx.Response(301, headers={"Location": "https://new.example/"}), Refused, 2),
        (httpx.Response(200, text="<html>a shop</html>"), ApiError, 1),
        (httpx.Response(200, json={"hello": "world"}), ApiError, 1),
        (httpx.Response(200, json=[]), ApiError, 1),
    ],
)
def test_an_error_that_no_repeat_can_repair_is_raised_at_once(
    scripted: Scripted, answer: Any, kind: type[ApiError], exit_code: int
) -> None:
    client, seen = scripted(answer)

    with pytest.raises(kind) as caught:
        client.get(7)

    assert len(seen) == 1
    assert caught.value.exit_code == exit_code


def test_a_certificate_that_is_refused_is_not_tried_again(scripted: Scripted) -> None:
    refused = httpx.ConnectError("certificate verify failed")
    refused.__cause__ = ssl.SSLCertVerificationError("self-signed certificate")
    client, seen = scripted(refused)

    with pytest.raises(Unavailable, match="certificate"):
        client.get(7)

    assert len(seen) == 1


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://x", "http://", "http://a:b:c", "kafka"])
def test_a_malformed_api_address_is_refused_with_the_fix(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Client(url)

    assert "http://localhost:8000" in (caught.value.fix or "")


@pytest.mark.parametrize("key", ["", " ", "csk_1\nX-Evil: 1", "two words", "schlüssel", "a\0b"])
def test_a_malformed_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Client(URL, key)

    assert len(key) < 2 or key not in str(caught.value) + str(caught.value.fix)


def test_a_password_in_the_address_is_not_shown() -> None:
    client = Client("http://me:pa55word@127.0.0.1:1", retry=Retry(within=0))

    with pytest.raises(Unavailable) as caught:
        client.get(7)

    assert "pa55word" not in str(caught.value) + repr(client)
    assert "127.0.0.1:1" in str(caught.value)


def test_a_path_before_the_api_is_kept() -> None:
    seen: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        link = None if len(seen) > 1 else "/api/customers/?limit=200&cursor=next"
        return httpx.Response(200, json={"results": [ANN], "next": link, "count": None})

    client = Client("https://example.org/crm/", transport=httpx.MockTransport(handle))

    assert len(list(client.find())) == 2
    assert [url.partition("?")[0] for url in seen] == ["https://example.org/crm/api/customers/"] * 2
    assert "cursor=next" in seen[1]


@given(st.lists(st.tuples(st.integers(1, 2**63 - 1), st.integers(1, 2**63 - 1)), max_size=300))
def test_positions_hold_the_newest_and_fit_into_a_header(written: list[tuple[int, int]]) -> None:
    positions = Positions()
    for customer_id, version in written:
        positions.note({customer_id: version})

    assert len(positions.text) <= 2000
    assert positions.text.count("-") <= 100
    if written:
        assert (
            positions.of(written[-1][0])
            == f"{written[-1][0]}-{max(v for i, v in written if i == written[-1][0])}"
        )
    assert Positions(positions.text).text == positions.text


def test_fields_of_a_newer_server_are_kept(scripted: Scripted) -> None:
    client, _ = scripted(httpx.Response(200, json={**ANN, "colour": "red"}))

    found = client.get(7)

    assert found.other == {"colour": "red"}
    assert found.as_dict() == {**ANN, "colour": "red"}


def test_the_client_is_imported_without_the_server() -> None:
    code = "import sys, custsvc.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = set(done.stdout.split())
    assert {n for n in loaded if n.startswith("custsvc.") and not n.startswith("custsvc.client")} == {
        "custsvc.errors",
        "custsvc.redact",
    }
    assert loaded.isdisjoint(
        {"flask", "psycopg2", "pymongo", "confluent_kafka", "pydantic", "orjson", "typer"}
    )
