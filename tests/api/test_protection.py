"""Protection of the API: limits of requests, names of hosts, foreign origins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from custsvc.accounts.keys import new_key
from custsvc.config import Settings
from custsvc.http.limit import RateLimit, table
from custsvc.http.problems import Problem
from custsvc.ports.accounts import Role
from custsvc.ports.store import Store
from custsvc.serve import create_app
from tests.sizes import on_one

from .conftest import ANN, Client

PATH = "/api/customers/"


# -- S11: a limit of requests per key and address


@pytest.fixture
def limited(
    settings: Settings, store: Store, make_key: Callable[[Role], str], monkeypatch: pytest.MonkeyPatch
) -> tuple[Flask, Client]:
    # Time stands still, so nothing is given back while the test counts.
    monkeypatch.setattr("custsvc.serve.app.RateLimit", partial(RateLimit, clock=lambda: 100.0))
    app = create_app(settings.replace(rate_limit=10), store)
    return app, Client(app, make_key("write"))


def test_a_burst_passes_up_to_the_limit_and_is_then_refused_with_a_wait(
    limited: tuple[Flask, Client],
) -> None:
    """S11."""
    _, client = limited
    answers = [client.get(PATH) for _ in range(12)]

    assert [each.status_code for each in answers] == [200] * 10 + [429] * 2
    assert answers[0].headers["RateLimit-Policy"] == '"default";q=10;w=60'
    assert answers[0].headers["RateLimit"] == '"default";r=9;t=6'
    assert answers[9].headers["RateLimit"] == '"default";r=0;t=60'
    assert answers[10].json["code"] == "rate-limited"
    assert answers[10].headers["Retry-After"] == "6"
    assert answers[10].headers["RateLimit"] == '"default";r=0;t=60'


def test_each_key_has_its_own_limit_and_refused_keys_share_their_address(
    limited: tuple[Flask, Client], store: Store
) -> None:
    """S11."""
    app, client = limited
    for _ in range(11):
        client.get(PATH)
    text, key = new_key("write", "write")
    store.keys.add(key)

    assert client.get(PATH).status_code == 429
    assert Client(app, text).get(PATH).status_code == 200
    guesses = [Client(app, f"csk_{'0' * 12}_{n:043d}").get(PATH).status_code for n in range(11)]
    assert guesses == [401] * 10 + [429]
    assert Client(app, text).get(PATH).status_code == 200
    assert Client(app).get("/livez").status_code == 200


def test_without_the_setting_no_limit_applies_and_no_header_names_one(client: Client) -> None:
    """S11."""
    answers = [client.get(PATH) for _ in range(30)]

    assert {each.status_code for each in answers} == {200}
    assert not any("RateLimit" in each.headers for each in answers)


@pytest.fixture
def counts(tmp_path: Path) -> Iterator[str]:
    with table(str(tmp_path)) as file:
        yield file.name


def test_processes_count_together_and_a_new_one_forgives_nothing(counts: str) -> None:
    """S11."""
    now = [100.0]
    one, other = (RateLimit(60, counts, lambda: now[0]) for _ in range(2))
    for each in range(60):
        assert (one, other)[each % 2].check("ann").left == 59 - each

    for limit in (one, other, RateLimit(60, counts, lambda: now[0])):
        with pytest.raises(Problem) as refused:
            limit.check("ann")
        assert ("Retry-After", "1") in refused.value.headers
    now[0] += 1.0
    assert other.check("ann").left == 0
    now[0] += 60.0
    assert one.check("ann").left == 59


def test_many_callers_do_not_share_a_limit(counts: str) -> None:
    """S11."""
    limit = RateLimit(1, counts, lambda: 5.0)

    assert all(limit.check(f"caller {n}").allowed for n in range(2000))
    refused = 0
    for n in range(2000):
        try:
            limit.check(f"caller {n}")
        except Problem:
            refused += 1
    assert refused == 2000


# -- S12: the names of hosts


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("api.example.org", 200),
        ("API.example.org:8000", 200),
        ("a.b.example.com", 200),
        ("evil.org", 400),
        ("api.example.org.evil.org", 400),
        ("", 400),
        ("127.0.0.1", 400),
    ],
)
@on_one("postgres")
def test_only_trusted_names_of_hosts_are_served(
    settings: Settings, store: Store, make_key: Callable[[Role], str], host: str, status: int
) -> None:
    """S12."""
    app = create_app(settings.replace(trusted_hosts="api.example.org, .example.com"), store)
    answer = Client(app, make_key("read")).get(PATH, headers={"Host": host})

    assert answer.status_code == status
    assert (answer.json.get("code") == "untrusted-host") == (status == 400)
    assert Client(app).get("/livez", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "header", ["Host", "X-Forwarded-Host", "X-Forwarded-For", "Forwarded", "X-Forwarded-Proto"]
)
@on_one("postgres")
def test_a_forged_host_is_reflected_nowhere(client: Client, header: str) -> None:
    """S12."""
    for answer in (
        client.post(PATH, json=ANN, headers={header: "evil.example"}),
        client.post(PATH, json=ANN, headers={header: "evil.example"}),
        client.get(f"{PATH}?limit=1", headers={header: "evil.example"}),
        client.get("/api/nothing", headers={header: "evil.example"}),
        client.get("/api/customers?limit=1", headers={header: "evil.example"}),
    ):
        assert answer.status_code in (200, 201, 404)
        assert "evil" not in answer.text + str(answer.headers)


# -- S13: no other origin is let in


@pytest.mark.parametrize("method", ["OPTIONS", "GET", "POST", "DELETE"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost"])
@on_one("postgres")
def test_no_answer_lets_another_origin_read_it(client: Client, method: str, origin: str) -> None:
    """S13."""
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization",
    }
    for path in (PATH, f"{PATH}1", "/api/status", "/livez", "/api/openapi.json", "/nothing"):
        answer = client(method, path, headers=headers, json=ANN if method == "POST" else None)
        assert not [name for name, _ in answer.headers if name.lower().startswith("access-control")]


# -- S7: values never become part of a statement


SQL = [
    "'",
    "' OR '1'='1",
    "%s",
    "%(x)s",
    "\\",
    "\\'; DROP TABLE customer; --",
    "$1",
    "{}",
    "%",
    "\u2019",
    '"',
]


@pytest.mark.parametrize("text", SQL)
def test_quotes_and_placeholders_are_text_like_any_other(client: Client, text: str) -> None:
    """S7."""
    created = client.create(name=f"Q {text} Z", metadata={"k": text})
    ask: list[dict[str, Any]] = [
        {"q": f"Q {text} Z"},
        {"name__startswith": f"Q {text}"},
        {"metadata.k": text},
        {f"metadata.{text}": "x"},
        {"email": text},
        {"sort": text},
        {"fields": text},
        {"cursor": text},
        {"deleted": text},
        {"limit": text},
    ]
    statuses = [client.get(PATH, query_string=each).status_code for each in ask]

    assert statuses[:5] == [200] * 5
    assert statuses[5:] == [400] * 5
    for each in ask[:3]:
        assert [one["id"] for one in client.get(PATH, query_string=each).json["results"]] == [created["id"]]
    assert client.get(PATH, query_string=ask[3]).json["results"] == []


def test_no_statement_is_built_around_a_value() -> None:
    """S7: statements are f-strings only where a linter was told that all that goes in is our own."""
    import re

    import custsvc.stores.postgres as package

    for path in Path(package.__file__).parent.glob("*.py"):
        for call in re.findall(r"execute\(\s*f?[\"'].*", path.read_text()):
            assert " % " not in call, (path, call)
            assert ".format(" not in call, (path, call)
