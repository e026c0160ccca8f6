"""Webhook endpoints over HTTP, and the commands that ask for the same."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from flask import Flask

from custsvc.config import Settings
from custsvc.errors import ExitCode
from custsvc.ports.accounts import Role
from custsvc.ports.endpoints import Endpoint
from custsvc.ports.store import Store
from custsvc.serve import create_app
from tests.processes import run_custsvc
from tests.sizes import on_one

from .conftest import Client

URL = "https://crm.example.com/hook"
PATH = "/api/webhooks"


@pytest.fixture
def admin(app: Flask, make_key: Callable[[Role], str]) -> Client:
    return Client(app, make_key("admin"))


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://crm.example.com:8443/a?b=c%20d", True),
        ("https://93.184.216.34/", True),
        ("https://[2606:4700::1111]/", True),
        ("http://crm.internal/x", True),
        ("http://a.corp.example/", True),
        ("http://10.1.2.3/", True),
        ("http://crm.example.com/", False),
        ("https://10.2.0.1/", False),
        ("https://[::ffff:127.0.0.1]/", False),
        ("https://169.254.169.254/latest/meta-data/", False),
        ("https://localhost/", False),
        ("https://x.localhost./", False),
        ("https://user:secret@crm.example.com/", False),
        ("https://crm.example.com/#part", False),
        ("https://crm.example.com:0/", False),
        ("https://crm.example.com:99999/", False),
        ("https://[::1/", False),
        ("https:///nohost", False),
        ("ftp://crm.example.com/", False),
        ("https://crm.example.com/a b", False),
        ("https://crm.example.com/\r\nx", False),
        ("https://crm.example.com/é", False),
        ("https://crm.example.com/" + "a" * 2000, False),
        ("", False),
        (7, False),
    ],
)
@pytest.mark.parametrize("backend", ["postgres"])
def test_an_endpoint_may_be_outside_or_where_the_setting_allows(
    url: Any, allowed: bool, settings: Settings, store: Store, make_key: Callable[[Role], str]
) -> None:
    inside = settings.replace(webhook_allow="crm.internal, .corp.example,10.1.0.0/16")
    client = Client(create_app(inside, store), make_key("admin"))

    answer = client.post(PATH, json={"url": url})

    assert answer.status_code == (201 if allowed else 400), answer.text
    if not allowed:
        assert [each["field"] for each in answer.json["errors"]] == ["url"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ops", []),
        ("ops", ["created", "created"]),
        ("ops", "created"),
        ("ops", [["created"]]),
        ("changed", ["age"]),
        ("changed", ["metadata.\x00"]),
        ("changed", ["email"] * 51),
        ("when", []),
        ("when", {"age": 1}),
        ("when", {"name": {"like": "x"}}),
        ("when", {"name": "\ud800"}),
        ("when", {"name": None}),
        ("when", {"name": "x" * 5000}),
        ("payload", "all"),
        ("payload", ["event"]),
        ("email", "nobody"),
        ("email", 7),
        ("description", "two\nlines"),
        ("description", "x" * 201),
        ("secret", "whsec_mine"),
    ],
)
@pytest.mark.parametrize("backend", ["mongo"])
def test_a_wrong_field_is_named(field: str, value: Any, admin: Client) -> None:
    answer = admin("POST", PATH, data=json.dumps({"url": URL, field: value}), content_type="application/json")

    assert answer.status_code == 400, answer.text
    assert [each["field"] for each in answer.json["errors"]] == [field]


def test_a_secret_is_shown_once_and_to_the_same_request_sent_again(admin: Client, store: Store) -> None:
    first = admin.post(PATH, json={"url": URL}, headers={"Idempotency-Key": "k"})
    again = admin.post(PATH, json={"url": URL}, headers={"Idempotency-Key": "k"})
    other = admin.post(PATH, json={"url": URL})

    assert first.json == again.json
    assert first.headers["Cache-Control"] == "private, no-store"
    made = first.json
    assert len(base64.b64decode(made["secret"].removeprefix("whsec_"))) == 24
    assert other.json["id"] != made["id"]
    assert other.json["secret"] != made["secret"]
    assert store.endpoints.secrets()[made["id"]] == [made["secret"]]
    for path in (PATH, f"{PATH}/{made['id']}", f"{PATH}/{made['id']}/deliveries"):
        assert "whsec_" not in admin.get(path).text

    new = admin.post(f"{PATH}/{made['id']}/rotate").json["secret"]
    assert store.endpoints.secrets()[made["id"]] == [new, made["secret"]]
    admin.post(f"{PATH}/{made['id']}/rotate?overlap=0")
    assert len(store.endpoints.secrets()[made["id"]]) == 1
    # A key that is given again elsewhere gives no two endpoints one secret.
    rotated = [
        admin.post(f"{PATH}/{id_}/rotate", headers={"Idempotency-Key": "k"}).json["secret"]
        for id_ in (made["id"], other.json["id"])
    ]
    assert len({*rotated, made["secret"]}) == 3


def test_the_number_of_endpoints_is_limited(admin: Client, store: Store) -> None:
    for number in range(100):
        store.endpoints.add(Endpoint(f"e{number}", URL, ("created",), "t"), "s")

    assert admin.post(PATH, json={"url": URL}).status_code == 409


@pytest.fixture
def run(backend: str, database_url: str, tmp_path: Path) -> Callable[..., CompletedProcess[str]]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CUSTSVC_")}
    environ |= {f"CUSTSVC_{backend.upper()}_URL": database_url, "CUSTSVC_LOCAL": "never"}
    return lambda *words: run_custsvc(
        "webhooks", *words, "--backend", backend, env=environ | {"NO_COLOR": "1"}, cwd=tmp_path
    )


@on_one("postgres")
def test_the_commands_do_all_of_it(run: Callable[..., CompletedProcess[str]], store: Store) -> None:
    made = run("create", URL, "--ops", "created,updated", "--changed", "email", "--description", "CRM")
    (endpoint,) = store.endpoints.all()
    id_ = endpoint.id
    assert made.stdout.strip() == store.endpoints.secrets()[id_][0]
    assert (endpoint.ops, endpoint.changed, endpoint.created_by) == (
        ("created", "updated"),
        ("email",),
        "cli",
    )

    rows = json.loads(run("list", "-o", "json").stdout)
    assert [row["description"] for row in rows] == ["CRM"]
    changed = run("change", id_, "--when", '{"metadata.plan": "gold"}', "--email", "it@example.com")
    assert "email: it@example.com" in changed.stdout
    assert run("pause", id_).returncode == ExitCode.OK
    assert "state: paused" in run("get", id_).stdout
    assert run("test", id_).returncode == ExitCode.CONFLICT
    assert "0 deliveries wait" in run("resume", id_).stderr
    assert run("test", id_).returncode == ExitCode.OK
    assert "nothing was delivered" in run("log", id_).stderr
    assert run("redeliver", id_, "x").returncode == ExitCode.NOT_FOUND
    new = run("rotate", id_, "--overlap", "0").stdout.strip()
    assert store.endpoints.secrets()[id_] == [new]
    wrong = run("create", "http://10.0.0.1/")
    assert (wrong.returncode, "CUSTSVC_WEBHOOK_ALLOW" in wrong.stderr) == (ExitCode.USAGE, True)
    assert run("change", id_, "--when", "{").returncode == ExitCode.USAGE
    assert run("delete", id_).returncode == ExitCode.OK
    assert "no webhook endpoint yet" in run("list").stderr
