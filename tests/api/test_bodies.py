"""Bodies: whatever is sent, the answer is the customer in canonical form, or a 4xx that says why not."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from .conftest import ANN, Client

JSON = "application/json"

# (what is wrong, the body, the status, the code)
MALFORMED: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "bad-json"),
    ("blanks", b"  ", "bad-json"),
    ("no JSON", b"name=Ann", "bad-json"),
    ("cut off", b'{"name": "Ann"', "bad-json"),
    ("two values", b'{"name": "Ann"} {}', "bad-json"),
    ("single quotes", b"{'name': 'Ann'}", "bad-json"),
    ("a comment", b'{"name": "Ann"} // x', "bad-json"),
    ("a trailing comma", b'{"name": "Ann",}', "bad-json"),
    ("Latin-1", b'{"name": "\xe4"}', "bad-json"),
    ("UTF-16", '{"name": "Ann"}'.encode("utf-16"), "bad-json"),
    ("two byte order marks", b'\xef\xbb\xbf\xef\xbb\xbf{"name": "Ann"}', "bad-json"),
    ("a member twice", b'{"name": "Ann", "name": "Bob"}', "bad-json"),
    ("a control character", b'{"name": "A\x01nn"}', "bad-json"),
    ("NaN", b'{"name": "Ann", "metadata": {"n": NaN}}', "bad-json"),
    ("Infinity", b'{"name": "Ann", "metadata": {"n": -Infinity}}', "bad-json"),
    ("a number of a million digits", b'{"metadata": {"n": ' + b"9" * 1_000_000 + b"}}", "bad-json"),
    ("lists 10,000 deep", b"[" * 10_000 + b"]" * 10_000, "bad-json"),
    ("objects 100,000 deep", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "bad-json"),
    ("a list", b"[]", "validation"),
    ("text", b'"Ann"', "validation"),
    ("null", b"null", "validation"),
    ("a number", b"7", "validation"),
]


def test_a_body_that_is_no_customer_is_refused_with_its_reason(client: Client) -> None:
    """S8."""
    path = f"/api/customers/{client.create()['id']}"

    for what, body, code in MALFORMED:
        for method, where in (("POST", "/api/customers/"), ("PUT", path), ("PATCH", path)):
            answer = client(method, where, data=body, content_type=JSON)

            assert (answer.status_code, answer.json["code"]) == (400, code), (what, method)
            assert answer.content_type == "application/problem+json"
            assert len(answer.data) < 1500, what
    assert client.get(path).json["version"] == 1


# Text of which nobody sees anything.
UNSEEN = [" ", "\u3000", "\xad", "\u200e", "\u3164\u2800", "\u2061", "\ufe0f", " \u200d ", "\U000e0041"]
# (field, value, the field named in the answer, the error's code)
WRONG: list[tuple[str, Any, str, str]] = [
    ("name", "", "name", "required"),
    ("name", None, "name", "required"),
    ("name", " \t ", "name", "required"),
    ("name", "\xad\u3164", "name", "required"),
    ("name", "x" * 401, "name", "too_long"),
    ("name", {"$gt": ""}, "name", "not_text"),
    ("name", ["Ann"], "name", "not_text"),
    ("name", 7, "name", "not_text"),
    ("name", "A\x00nn", "name", "hidden_character"),
    ("name", "A\nnn", "name", "hidden_character"),
    ("name", "A\ud800nn", "name", "bad_character"),
    ("name", "A\u202enn", "name", "hidden_character"),
    ("name", "A\uffffnn", "name", "bad_character"),
    ("email", "nonsense", "email", "invalid_email"),
    ("email", "a@example.org, b@example.org", "email", "invalid_email"),
    ("email", "a@example.org\r\nBcc: x@example.org", "email", "hidden_character"),
    ("email", {"$where": "1"}, "email", "not_text"),
    ("phone", "1" * 51, "phone", "too_long"),
    ("phone", True, "phone", "not_text"),
    ("metadata", [], "metadata", "not_an_object"),
    ("metadata", "x", "metadata", "not_an_object"),
    ("metadata", {"$set": 1}, "metadata.$set", "bad_key"),
    ("metadata", {"a.b": 1}, "metadata.a.b", "bad_key"),
    ("metadata", {"": 1}, "metadata.", "bad_key"),
    *(("metadata", {key: 1}, f"metadata.{key}", "bad_key") for key in UNSEEN),
    ("metadata", {"a": {"b": 1}}, "metadata.a", "not_flat"),
    ("metadata", {"a": 2**63}, "metadata.a", "out_of_range"),
    ("metadata", {"a": -(2**63) - 1}, "metadata.a", "out_of_range"),
    ("metadata", {"a": 10**400}, "metadata.a", "out_of_range"),
    ("metadata", {"a": "x" * 501}, "metadata.a", "too_long"),
    ("metadata", {str(n): n for n in range(51)}, "metadata", "too_many_keys"),
    ("nickname", "x", "nickname", "unknown_field"),
    ("_id", 1, "_id", "unknown_field"),
    ("hlc", 1, "hlc", "unknown_field"),
]


def test_each_wrong_field_is_named_with_its_error(client: Client) -> None:
    """S6, S33."""
    path = f"/api/customers/{client.create()['id']}"

    for field, value, named, code in WRONG:
        body = json.dumps({**ANN, field: value})
        for method, where in (("POST", "/api/customers/"), ("PUT", path), ("PATCH", path)):
            if method == "PATCH" and value == [] and field == "metadata":
                continue
            answer = client(method, where, data=body, content_type=JSON)

            assert answer.status_code == 400, (field, value, method)
            assert [(e["field"], e["code"]) for e in answer.json["errors"]] == [(named, code)]
            assert isinstance(answer.json[named], list)
    assert client.get(path).json["version"] == 1


def test_a_number_that_json_writes_beyond_a_float_is_refused(client: Client) -> None:
    answer = client.post(
        "/api/customers/", data=b'{"name": "Ann", "metadata": {"n": 1e999}}', content_type=JSON
    )

    assert (answer.status_code, answer.json["errors"][0]["code"]) == (400, "not_finite")


def test_integers_keep_every_digit(client: Client) -> None:
    numbers = {"max": 2**63 - 1, "min": -(2**63), "odd": 2**53 + 1, "float": 0.1, "exp": 1e22}

    made = client.create(metadata=numbers)

    assert client.get(f"/api/customers/{made['id']}").json["metadata"] == numbers


def test_text_is_stored_composed_and_answered_as_utf8(client: Client) -> None:
    made = client.create(name="  Zoe\u0308 Ångström 😀  ", metadata={"e\u0301": "o\u0308"})

    raw = client.get(f"/api/customers/{made['id']}").data
    assert made["name"] == "Zo\u00eb Ångström 😀"
    assert made["metadata"] == {"\u00e9": "\u00f6"}
    assert "Zo\u00eb Ångström 😀".encode() in raw


@pytest.mark.parametrize("field", ["x\ud800", "status", "type", "detail", "x" * 5000])
def test_no_field_name_can_break_the_answer_about_it(client: Client, field: str) -> None:
    answer = client.post("/api/customers/", data=json.dumps({field: 1, "name": "x"}), content_type=JSON)

    assert answer.status_code == answer.json["status"] == 400
    assert answer.json["type"] == "/problems/validation"
    assert isinstance(answer.json["detail"], str)
    assert answer.json["errors"][0]["code"] == "unknown_field"
    assert len(answer.data) < 3000


def test_an_answer_about_very_many_errors_stays_short(client: Client) -> None:
    answer = client.post("/api/customers/", json={f"f{n}": 1 for n in range(50_000)})

    assert answer.status_code == 400
    assert len(answer.json["errors"]) == 100
    assert len(answer.data) < 50_000


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/jsonx",
        ";",
    ],
)
def test_a_body_of_another_type_is_refused_with_the_types_there_are(
    client: Client, content_type: str | None
) -> None:
    path = f"/api/customers/{client.create()['id']}"

    for method, where in (("POST", "/api/customers/"), ("PUT", path), ("PATCH", path)):
        answer = client(method, where, data=json.dumps(ANN), content_type=content_type)

        assert (answer.status_code, answer.json["code"]) == (415, "unsupported-media-type")
        accepted = answer.headers["Accept-Patch" if method == "PATCH" else "Accept-Post"]
        assert JSON in accepted
        assert ("merge-patch" in accepted) == (method == "PATCH")


def test_a_charset_beside_the_type_is_fine_and_a_merge_patch_is_no_customer(client: Client) -> None:
    body = json.dumps(ANN)

    fine = client.post("/api/customers/", data=body, content_type="application/json; charset=utf-8")
    patch = client.post("/api/customers/", data=body, content_type="application/merge-patch+json")

    assert (fine.status_code, patch.status_code) == (201, 415)


def test_a_body_of_more_than_a_megabyte_is_refused_also_in_chunks(client: Client) -> None:
    """S8."""
    body = json.dumps({**ANN, "x": "y" * 1024 * 1024}).encode()

    whole = client.post("/api/customers/", data=body, content_type=JSON)
    chunked = client.post(
        "/api/customers/",
        input_stream=io.BytesIO(body),
        content_type=JSON,
        environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
    )

    for answer in (whole, chunked):
        assert (answer.status_code, answer.json["code"]) == (413, "too-large")


def test_a_chunked_body_of_a_customer_is_one(client: Client) -> None:
    answer = client.post(
        "/api/customers/",
        input_stream=io.BytesIO(json.dumps(ANN).encode()),
        content_type=JSON,
        environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
    )

    assert answer.status_code == 201
