"""JSON bodies: input on which parsers disagree is refused, and no body causes a 500."""

from __future__ import annotations

from itertools import product
from typing import Any

import orjson
import pytest

from .conftest import ANN, Answer, Client

BATCH = {"operations": [{"op": "update", "id": 1, "customer": {"metadata": {"tier": "gold"}}}]}
# The path behind the customer's, or a whole one, with a body that is right.
TAKES: dict[str, tuple[str, str, Any]] = {
    "post": ("POST", "/api/customers/", {**ANN, "metadata": {"tier": "gold"}}),
    "put": ("PUT", "", {**ANN, "metadata": {"tier": "gold"}}),
    "patch": ("PATCH", "", {"metadata": {"tier": "gold"}}),
    "revert": ("POST", "/revert", {"version": 1}),
    "batch": ("POST", "/api/customers/batch", BATCH),
}
IMPORTED = {"name": "Imported", "metadata": {"tier": "gold"}}


def twice(text: bytes) -> list[bytes]:
    """The text with one key after the other of it there again, as it is and written otherwise."""
    found = []
    for key, value in ((b"name", b'"x"'), (b"metadata", b"{}"), (b"version", b"1"), (b"atomic", b"true")):
        for again in (key, b"\\u%04x" % key[0] + key[1:]):
            found.append(b'{"%b":%b,"%b":%b,' % (key, value, again, value) + text[1:])
    if (at := text.find(b'{"tier"')) >= 0:
        found.append(text[:at] + b'{"tier":1,' + text[at + 1 :])
        found.append(text[:at] + b'{"e\xcc\x81":1,"e\xcc\x81":1,' + text[at + 1 :])
    return found


def wrong(text: bytes) -> list[bytes]:
    numbers = [b"9" * 5000, b"-" + b"9" * 5000, b"1" * 4301, b"NaN", b"-Infinity", b"01", b"1.", b"+1"]
    depths = [(b"[" * depth, b"]" * depth) for depth in (1100, 3000, 100_000)]
    nested = [(b'{"a":' * depth, b"}" * depth) for depth in (1100, 3000)]
    values = [*numbers, *(opened + b"1" + closed for opened, closed in (*depths, *nested))]
    at = text.find(b'"gold"') if b'"gold"' in text else text.rindex(b"1")
    end = at + (6 if b'"gold"' in text else 1)
    return [
        *(text[:at] + value + text[end:] for value in values),
        text[:-1],
        text + b"}",
        b"\xff" + text,
        b"",
    ]


def send(client: Client, way: str, path: str, body: bytes) -> Answer:
    method, where, _ = TAKES[way]
    where = where if where.startswith("/api") else path + where
    return client(method, where, data=body, content_type="application/json")


@pytest.mark.parametrize("way", TAKES)
def test_a_mark_of_byte_order_before_a_body_is_passed_over(client: Client, way: str) -> None:
    path = f"/api/customers/{client.create()['id']}"

    answer = send(client, way, path, b"\xef\xbb\xbf" + orjson.dumps(TAKES[way][2]))

    assert answer.status_code in (200, 201), answer.text
    again = send(client, way, path, b"\xef\xbb\xbf\xef\xbb\xbf" + orjson.dumps(TAKES[way][2]))
    assert (again.status_code, again.json["code"]) == (400, "bad-json")


@pytest.mark.parametrize("way", TAKES)
def test_a_key_that_is_there_twice_is_refused_and_named(client: Client, way: str) -> None:
    path = f"/api/customers/{client.create()['id']}"
    bodies = twice(orjson.dumps(TAKES[way][2]))

    for body in bodies:
        answer = send(client, way, path, body)
        assert (answer.status_code, answer.json["code"]) == (400, "bad-json"), body
        assert "twice" in answer.json["detail"]
    assert client.get(f"{path}/history").json["count"] == 1


@pytest.mark.parametrize("way", TAKES)
def test_no_number_and_no_depth_causes_a_server_error(client: Client, way: str) -> None:
    path = f"/api/customers/{client.create()['id']}"

    for body in wrong(orjson.dumps(TAKES[way][2])):
        answer = send(client, way, path, body)
        assert (answer.status_code, answer.json["code"]) == (400, "bad-json"), body[:100]


def test_a_value_of_any_depth_is_refused_by_its_field_or_as_too_deep(client: Client) -> None:
    for depth, (opened, closed) in product([5, 50, *range(700, 1000, 7)], ((b"[", b"]"), (b'{"a":', b"}"))):
        deep = opened * depth + b"1" + closed * depth
        body = b'{"name":"Ann","metadata":{"a":%b}}' % deep
        answer = client.post("/api/customers/", data=body, content_type="application/json")
        assert answer.status_code == 400, answer.text
        row = client.post(
            "/api/customers/import?dry_run=true", data=body, content_type="application/x-ndjson"
        )
        assert row.json["counts"]["error"] == 1, row.text


def test_rows_of_an_import_are_read_as_strictly(client: Client) -> None:
    text = orjson.dumps(IMPORTED)
    bodies = [body for body in (*twice(text), *wrong(text)) if body and b"\n" not in body]

    report = client.post(
        "/api/customers/import?dry_run=true", data=b"\n".join(bodies), content_type="application/x-ndjson"
    )

    assert report.status_code == 200, report.text
    assert {name: count for name, count in report.json["counts"].items() if count} == {"error": len(bodies)}
