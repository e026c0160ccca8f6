"""Every value that the API accepts comes back byte for byte, by every way out and in again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.customers import accepted, editable
from tests.sizes import sizes

from .conftest import Client

BASE = "/api/customers"
FIELDS = "fields=id,name,email,phone,metadata"


def batch(client: Client, operations: list[dict[str, Any]]) -> list[int]:
    answer = client.post(f"{BASE}/batch", json={"atomic": True, "operations": operations})
    assert answer.json["done"], answer.text
    return [each["id"] for each in answer.json["results"]]


def stored(client: Client) -> list[bytes]:
    """The bytes of what a caller may set of each customer."""
    return [orjson.dumps(editable(each)) for each in orjson.loads(client.get(f"{BASE}/export").data)]


def by_import(media: str) -> Callable[[Client], Callable[[], None]]:
    """Export the customers now, import the file later."""

    def prepare(client: Client) -> Callable[[], None]:
        file = client.get(f"{BASE}/export?{FIELDS}", headers={"Accept": media}).data

        def back() -> None:
            report = client.post(f"{BASE}/import", data=file, content_type=media).json
            assert report["counts"]["update"] == sum(report["counts"].values()) > 0, report
            assert report["lines"]["all"] == len(file.splitlines())

        return back

    return prepare


def by_json(client: Client) -> Callable[[], None]:
    array = json.loads(client.get(f"{BASE}/export", headers={"Accept": "application/json"}).data)

    def back() -> None:
        for each in array:
            answer = client.put(f"{BASE}/{each['id']}/", json=each)
            assert answer.status_code == 200, answer.text

    return back


def by_batch(client: Client) -> Callable[[], None]:
    customers = json.loads(client.get(f"{BASE}/export").data)

    def back() -> None:
        batch(client, [{"op": "replace", "id": each["id"], "customer": each} for each in customers])

    return back


WAYS = {
    "csv": by_import("text/csv"),
    "ndjson": by_import("application/x-ndjson"),
    "json": by_json,
    "batch": by_batch,
}


@sizes("examples", 4, 500)
def test_any_customer_goes_out_and_comes_back(examples: int, client: Client) -> None:
    @settings(max_examples=examples)
    @given(st.lists(accepted, min_size=1, max_size=4))
    def check(bodies: list[dict[str, Any]]) -> None:
        ids = batch(client, [{"op": "create", "customer": body} for body in bodies])
        before = stored(client)
        other = {"name": "Somebody else", "metadata": {"other": True}}
        for way, prepare in WAYS.items():
            back = prepare(client)
            batch(client, [{"op": "replace", "id": each, "customer": other} for each in ids])

            back()

            assert stored(client) == before, way
        batch(client, [{"op": "delete", "id": each} for each in ids])

    check()
