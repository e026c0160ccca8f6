"""Answers in gzip for clients that accept it: the same customers, distinguished by their headers."""

from __future__ import annotations

import gzip
import zlib

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.sizes import on_one

from .conftest import ANN, Client

LIST = "/api/customers/"
EXPORTS = [f"/api/customers/export?format={fmt}" for fmt in ("json", "csv", "ndjson")]
TAKES = ["gzip", "gzip, br", "br;q=1.0, gzip;q=0.5", "*", "GZIP", "deflate, gzip;q=1.0, *;q=0.5"]
TAKES_NOT = ["", "br", "identity", "gzip;q=0", "gzip;q=0, *", "deflate, br", "x"]


@pytest.fixture
def some(client: Client) -> str:
    """Customers enough to compress, one of them by itself; its path."""
    for number in range(20):
        client.create(name=f"Customer {number}", metadata={"k": "v" * 100})
    made = client.create(metadata={"long": "x" * 500, "other": "y" * 500, "third": "z" * 300})
    return f"/api/customers/{made['id']}/"


def plain(answer: TestResponse) -> bytes:
    return gzip.decompress(answer.data) if answer.headers.get("Content-Encoding") == "gzip" else answer.data


@pytest.mark.parametrize("said", TAKES)
@on_one("postgres")
def test_a_client_that_accepts_gzip_gets_the_same_body_compressed(
    client: Client, some: str, said: str
) -> None:
    for path in (LIST, some, *EXPORTS, "/api/openapi.json", "/api/events/schema"):
        whole = client.get(path)
        small = client.get(path, headers={"Accept-Encoding": said})

        assert small.headers["Content-Encoding"] == "gzip", path
        assert len(small.data) < len(whole.data)
        assert plain(small) == whole.data
        assert small.content_type == whole.content_type
        for answer in (small, whole):
            assert "Accept-Encoding" in answer.headers["Vary"]
        if "export" not in path:
            assert int(small.headers["Content-Length"]) == len(small.data)


@pytest.mark.parametrize("said", TAKES_NOT)
@on_one("postgres")
def test_a_client_that_does_not_accept_gzip_gets_a_plain_body(client: Client, some: str, said: str) -> None:
    for path in (LIST, some, *EXPORTS):
        answer = client.get(path, headers={"Accept-Encoding": said})

        assert "Content-Encoding" not in answer.headers
        assert "Accept-Encoding" in answer.headers["Vary"]
        assert answer.data == client.get(path).data


def test_the_tag_of_a_compressed_customer_is_weak_and_still_finds_it_unchanged(
    client: Client, some: str
) -> None:
    small = client.get(some, headers={"Accept-Encoding": "gzip"})
    tag = small.headers["ETag"]

    assert (tag, client.get(some).headers["ETag"]) == ('W/"v1"', '"v1"')
    for accepts in ("gzip", ""):
        again = client.get(some, headers={"If-None-Match": tag, "Accept-Encoding": accepts})
        assert (again.status_code, again.data) == (304, b"")


def test_short_answers_and_answers_without_a_body_stay_as_they_are(client: Client) -> None:
    accepts = {"Accept-Encoding": "gzip"}
    made = client.post(LIST, json=ANN, headers=accepts)
    path = made.headers["Location"]

    answers = [made, client.get(path, headers=accepts), client.get("/api/nothing", headers=accepts)]
    answers += [client.delete(path, headers=accepts)]
    assert [each.status_code for each in answers] == [201, 200, 404, 204]
    assert not any("Content-Encoding" in each.headers for each in answers)


def test_head_has_the_headers_of_get(client: Client, some: str) -> None:
    for path in (LIST, some):
        got, head = (client(m, path, headers={"Accept-Encoding": "gzip"}) for m in ("GET", "HEAD"))
        for name in ("Content-Encoding", "Content-Length", "ETag", "Vary"):
            assert head.headers.get(name) == got.headers.get(name), (path, name)
        assert head.data == b""


def test_pages_are_never_compressed_as_they_hold_the_token_of_their_forms(app: Flask) -> None:
    answer = app.test_client().get("/ui/sign-in", headers={"Accept-Encoding": "gzip"})

    assert answer.status_code == 200
    assert "Content-Encoding" not in answer.headers


# -- bodies in


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZip"])
@on_one("postgres")
def test_a_body_in_gzip_is_read_decoded(client: Client, encoding: str) -> None:
    headers = {"Content-Encoding": encoding}
    body = gzip.compress(b'{"name": "Ada"}')

    made = client.post(LIST, data=body, content_type="application/json", headers=headers)
    lines = gzip.compress(b'{"name": "Bob"}\n') + gzip.compress(b'{"name": "Cy"}\n')
    imported = client.post(
        "/api/customers/import", data=lines, content_type="application/x-ndjson", headers=headers
    )

    assert (made.status_code, made.json["name"]) == (201, "Ada")
    assert (imported.status_code, imported.json["counts"]["create"]) == (200, 2)


@pytest.mark.parametrize("path", [LIST, "/api/customers/batch", "/api/customers/import"])
@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "compress", "pack200-gzip"])
@on_one("postgres")
def test_a_body_in_another_encoding_is_415_with_the_encodings_there_are(
    client: Client, path: str, encoding: str
) -> None:
    media = "text/csv" if path.endswith("import") else "application/json"
    answer = client.post(
        path, data=zlib.compress(b"{}"), content_type=media, headers={"Content-Encoding": encoding}
    )

    assert (answer.status_code, answer.json["code"]) == (415, "unsupported-media-type")
    assert answer.headers["Accept-Encoding"] == "gzip"


def test_a_body_that_is_not_the_gzip_it_says_is_400(client: Client) -> None:
    for body in (b'{"name": "Ada"}', gzip.compress(b'{"name": "Ada"}')[:-3], b""):
        answer = client.post(
            LIST, data=body, content_type="application/json", headers={"Content-Encoding": "gzip"}
        )
        assert (answer.status_code, answer.json["code"]) == (400, "bad-request"), body


def test_a_small_body_that_decodes_to_a_huge_one_is_413(client: Client) -> None:
    bomb = gzip.compress(b'{"name": "' + b"A" * 20_000_000 + b'"}')
    for path, media in ((LIST, "application/json"), ("/api/customers/batch", "application/json")):
        answer = client.post(path, data=bomb, content_type=media, headers={"Content-Encoding": "gzip"})
        assert (answer.status_code, answer.json["code"]) == (413, "too-large")
