"""A value is stored as its JSON says, by every way in; fields that a write does not name stay."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings

from tests.values import LOOK_ALIKE, METADATA

from .conftest import ANN, Answer, Client

Way = Callable[[Client, int, dict[str, Any]], Answer]


def _batch(op: str) -> Way:
    def way(client: Client, customer_id: int, fields: dict[str, Any]) -> Answer:
        operation = {"op": op, "id": customer_id, "customer": fields}
        return client.post("/api/customers/batch", json={"operations": [operation]})

    return way


def _import(media: str, rows: Callable[[int, dict[str, Any]], bytes]) -> Way:
    def way(client: Client, customer_id: int, fields: dict[str, Any]) -> Answer:
        return client.post("/api/customers/import", data=rows(customer_id, fields), content_type=media)

    return way


def _entries(fields: dict[str, Any]) -> dict[str, Any]:
    named = {f"metadata.{key}": value for key, value in fields["metadata"].items()}
    return {name: value for name, value in fields.items() if name != "metadata"} | named


def _csv(customer_id: int, fields: dict[str, Any]) -> bytes:
    metadata = orjson.dumps(fields["metadata"]).replace(b'"', b'""')
    return b'id,name,phone,metadata\n%d,%b,%b,"%b"\n' % (
        customer_id,
        fields["name"].encode(),
        fields["phone"].encode(),
        metadata,
    )


def _revert(client: Client, customer_id: int, fields: dict[str, Any]) -> Answer:
    """Back to a version that was so."""
    path = f"/api/customers/{customer_id}"
    before = client.get(path).json
    version = client.put(path, json=fields).json["version"]
    client.put(path, json=before)
    return client.post(f"{path}/revert", json={"version": version})


WAYS: dict[str, Way] = {
    "put": lambda client, i, fields: client.put(f"/api/customers/{i}", json=fields),
    "patch": lambda client, i, fields: client.patch(f"/api/customers/{i}", json=fields),
    "batch replace": _batch("replace"),
    "batch update": _batch("update"),
    "import": _import("application/x-ndjson", lambda i, fields: orjson.dumps({"id": i, **fields})),
    "import of an entry": _import(
        "application/x-ndjson", lambda i, fields: orjson.dumps({"id": i, **_entries(fields)})
    ),
    "import of a table": _import("text/csv", _csv),
    "revert": _revert,
}


def newest(client: Client, customer_id: int) -> dict[str, Any]:
    return dict(client.get(f"/api/customers/{customer_id}/history?limit=1").json["results"][0])


@pytest.mark.parametrize("way", WAYS)
def test_values_that_only_python_takes_for_equal_are_a_change(client: Client, way: str) -> None:
    for was, now in LOOK_ALIKE:
        for phone in ("+49 30 1234", "+49 30 9"):
            made = client.create(metadata={"n": was, "other": "x"})
            fields = {**ANN, "phone": phone, "metadata": {"n": now, "other": "x"}}

            answer = WAYS[way](client, made["id"], fields)

            assert answer.status_code == 200, answer.text
            stored = client.get(f"/api/customers/{made['id']}")
            assert orjson.dumps(now) == orjson.dumps(stored.json["metadata"]["n"]), (was, now)
            event, version = newest(client, made["id"]), stored.json["version"]
            assert event["version"] == version > 1, (was, now)
            assert event["changed"] == (["metadata"] if phone == ANN["phone"] else ["phone", "metadata"])
            again = WAYS["put"](client, made["id"], fields)
            assert again.json["version"] == version


def test_a_refused_write_names_values_that_python_takes_for_one_as_changed(client: Client) -> None:
    for was, now in LOOK_ALIKE:
        path = f"/api/customers/{client.create(metadata={'n': was})['id']}"
        client.patch(path, json={"metadata": {"n": now}})

        refused = client.put(path, json=ANN, headers={"If-Match": '"v1"'})

        assert (refused.status_code, refused.json["changed"]) == (412, ["metadata"])


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def merged(old: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7396 on the keys as they are stored."""
    result = dict(old)
    for key, value in patch.items():
        if value is None:
            result.pop(_nfc(key), None)
        else:
            result[_nfc(key)] = value
    return result


def one_form(metadata: dict[str, Any]) -> dict[str, Any]:
    """The same where no two keys are one."""
    return {key: value for key, value in metadata.items() if key == _nfc(key) or _nfc(key) not in metadata}


MERGING = ("patch", "batch update", "import of an entry")


@pytest.mark.parametrize("way", MERGING)
@settings(max_examples=40)
@given(old=METADATA.map(one_form), patch=METADATA.map(one_form))
def test_a_merge_patch_removes_exactly_the_members_that_are_null(
    client: Client, way: str, old: dict[str, Any], patch: dict[str, Any]
) -> None:
    made = client.create(metadata=old)
    stored = {_nfc(key): value for key, value in old.items()}
    assert orjson.dumps(made["metadata"]) == orjson.dumps(dict(sorted(stored.items())))

    answer = WAYS[way](client, made["id"], {**ANN, "metadata": patch})

    assert answer.status_code == 200, answer.text
    expected = dict(sorted(merged(stored, patch).items()))
    now = client.get(f"/api/customers/{made['id']}").json
    assert orjson.dumps(now["metadata"]) == orjson.dumps(expected)
    assert now["version"] == (1 if orjson.dumps(now["metadata"]) == orjson.dumps(made["metadata"]) else 2)


@pytest.mark.parametrize("way", [way for way in WAYS if way not in MERGING])
def test_a_null_in_metadata_that_is_replaced_as_a_whole_is_kept(client: Client, way: str) -> None:
    customer_id = client.create(metadata={"b": 1})["id"]

    assert WAYS[way](client, customer_id, {**ANN, "metadata": {"a": None, "b": 1}}).status_code == 200

    assert client.get(f"/api/customers/{customer_id}").json["metadata"] == {"a": None, "b": 1}
