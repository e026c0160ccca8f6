"""The biggest customer that the API takes, and the biggest refusals: each way in and out holds them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from custsvc.config import Settings
from custsvc.domain.events import EVENT_LIMIT
from custsvc.domain.received import decode
from custsvc.errors import ERRORS_MAX
from custsvc.ports.store import Store
from custsvc.serve import create_app

from .conftest import Client

BASE = "/api/customers"
# Most bytes of one character: four, or two for a sign that JSON escapes.
WIDEST = "\U0001f600"
# What the database can hold in one document, and what a client should have to read.
DOCUMENT, ANSWER = 16_000_000, 4_000_000


def biggest(number: int) -> dict[str, Any]:
    metadata = {f"{key:02d}{WIDEST * 38}": WIDEST * 499 + str(number % 10) for key in range(50)}
    return {"name": WIDEST * 396 + f"{number:04d}", "phone": WIDEST * 50, "metadata": metadata}


def test_the_biggest_customer_is_changed_merged_shown_exported_and_fits_the_topic(
    client: Client, store: Store, settings: Settings
) -> None:
    ids = [client.post(f"{BASE}/", json=biggest(number)).json["id"] for number in range(21)]
    path = f"{BASE}/{ids[0]}"
    # More versions than a document of MongoDB carries events.
    for number in range(30):
        assert client.put(path, json=biggest(number + 100)).status_code == 200
    assert client.post(f"{path}/merge", json={"from": ids[1:]}).status_code == 200
    assert client.post(f"{path}/unmerge", json={}).status_code == 200

    history = client.get(f"{path}/history?limit=200").json["results"]
    assert len(history) == 33
    payloads = [orjson.dumps(event) for event in history]
    assert 200_000 < max(map(len, payloads)) < EVENT_LIMIT / 4
    assert decode(payloads[0], b"%d" % ids[0]).doc() == client.get(path).data
    for media in ("text/csv", "application/x-ndjson"):
        file = client.get(f"{BASE}/export", headers={"Accept": media}).data
        report = client.post(f"{BASE}/import", data=file, content_type=media).json
        assert report["counts"]["same"] == sum(report["counts"].values()) == 21, report
    page = create_app(settings.replace(auth="off"), store).test_client()
    for where in (f"/ui/customers/{ids[0]}", f"/ui/customers/{ids[0]}/edit", "/ui/customers", "/ui/events"):
        assert page.get(where).status_code == 200


LONG = "z" * 70
REFUSALS: dict[str, list[dict[str, Any]]] = {
    "many wrong fields": [{f"u{n:03d}{LONG}": 1 for n in range(ERRORS_MAX)}] * 950,
    "a long name": [{"x" * 7_000_000: 1}],
    "a name of escapes": [{"\x01" * 1_000_000: 1}],
    "a long key": [{"name": "x", "metadata": {"é" * 1_000_000: 1}}],
    "many long keys": [{"name": "x", "metadata": {f"{n}{LONG * 8}": 1 for n in range(50)}}] * 200,
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_the_answer_to_a_big_wrong_batch_is_short_and_is_kept_under_its_key(
    client: Client, kind: str
) -> None:
    good = {"op": "create", "customer": {"name": "Ada"}}
    bad = [{"op": "create", "customer": customer} for customer in REFUSALS[kind]]
    how = {"headers": {"Idempotency-Key": "one"}, "json": {"operations": [*bad, good]}}

    first, again = (client.post(f"{BASE}/batch", **how) for _ in range(2))

    assert (first.status_code, len(first.data) < ANSWER < DOCUMENT) == (200, True)
    assert again.data == first.data
    assert again.headers["Idempotency-Replayed"] == "true"
    assert [each["status"] for each in first.json["results"]] == [400] * len(bad) + [201]
    assert all(each["error"]["errors"] for each in first.json["results"][:-1])
    assert client.get(f"{BASE}/").json["count"] == 1
