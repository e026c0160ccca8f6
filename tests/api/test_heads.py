"""The head of a request is limited, and so is each header that is parsed; longer ones are 431."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.sizes import on_one

from .conftest import ANN, Client

PATH = "/api/customers/"
READ = (
    *("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range"),
    *("Accept", "Accept-Encoding", "Content-Type", "Prefer", "Idempotency-Key", "traceparent"),
    *("X-Request-Id", "Origin", "Cache-Control"),
)


@pytest.fixture
def bare(app: Flask) -> FlaskClient:
    """A client that sends the cookies it is told to, and has none of its own."""
    return app.test_client(use_cookies=False)


@pytest.mark.parametrize("header", READ)
@on_one("postgres")
def test_a_header_that_is_read_is_short(client: Client, header: str) -> None:
    long = client.patch(f"{PATH}7", json={"name": "B"}, headers={header: "a" * 2049})
    fits = client.get("/api/status", headers={header: "a" * 1000})

    assert (long.status_code, long.json["code"]) == (431, "head-too-large")
    assert header.title() in long.json["detail"]
    assert fits.status_code != 431


def test_a_list_of_tags_that_no_parser_likes_is_refused_and_changes_nothing(client: Client) -> None:
    made = client.create()
    evil = '"a",' + " " * 14_000 + "x"

    answer = client.patch(f"{PATH}{made['id']}", json={"name": "Bad"}, headers={"If-Match": evil})

    assert answer.status_code == 431
    assert client.get(f"{PATH}{made['id']}").json["version"] == 1


@pytest.mark.parametrize("path", [PATH, "/ui/sign-in", "/unsubscribe/x", "/livez", "/nowhere"])
@on_one("postgres")
def test_the_head_as_a_whole_is_short_on_every_path(stranger: Client, bare: FlaskClient, path: str) -> None:
    many = {f"X-Other-{number}": "a" * 1000 for number in range(20)}

    assert stranger.get(path, headers=many).status_code == 431
    assert stranger.get(f"{path}?q={'a' * 17_000}").status_code == 431
    assert bare.get(path, headers={"Cookie": "a=" + "b" * 9000}).status_code == 431


def test_usual_requests_are_below_the_limits(client: Client, bare: FlaskClient) -> None:
    made = client.create()
    places = ",".join(f"{10**18 + number}-{10**18}" for number in range(100))

    waits = client.get(f"{PATH}{made['id']}", headers={"X-Custsvc-Min-Position": places})
    cookies = bare.get("/ui/sign-in", headers={"Cookie": "; ".join(f"c{n}={'x' * 300}" for n in range(20))})
    tags = client.get(
        f"{PATH}{made['id']}", headers={"If-None-Match": ", ".join(f'"v{n}"' for n in range(1, 200))}
    )

    assert waits.status_code != 431
    assert cookies.status_code == 200
    assert tags.status_code == 304
    assert client.post(PATH, json=ANN, headers={"X-Unread": "a" * 9000}).status_code == 201
