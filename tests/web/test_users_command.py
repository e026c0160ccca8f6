"""`custsvc users`: creates and shuts out users of the pages on the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest
from flask import Flask

from tests.processes import run_custsvc
from tests.sizes import on_one

from .conftest import Visitor

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def run(backend: str, database_url: str) -> Run:
    env = {name: value for name, value in os.environ.items() if not name.startswith("CUSTSVC_")}
    env |= {
        "CUSTSVC_BACKEND": backend,
        f"CUSTSVC_{backend.upper()}_URL": database_url,
        "CUSTSVC_LOCAL": "never",
    }

    def run(*arguments: str, stdin: str = "") -> CompletedProcess[str]:
        return run_custsvc(*arguments, env=env, stdin=stdin)

    return run


@pytest.fixture
def users(run: Run) -> Run:
    return lambda *arguments, **given: run("users", *arguments, **given)


def test_a_user_is_made_given_a_password_and_shut_out(users: Run, app: Flask) -> None:
    made = users("create", "Ann", "--role", "read")
    first = made.stdout.strip()
    again = users("create", "ann")

    assert (made.returncode, again.returncode) == (0, 6), made.stderr + again.stderr
    assert Visitor(app).sign_in("ann", first).status_code == 303
    assert users("passwd", "ann", "--password-stdin", stdin="another one\n").returncode == 0
    assert Visitor(app).sign_in("ann", first).status_code == 401
    ann = Visitor(app)
    assert ann.sign_in("ann", "another one").status_code == 303

    assert users("disable", "ann").returncode == 0
    listed = json.loads(users("list", "-o", "json").stdout)

    assert [(row["name"], row["role"], row["state"]) for row in listed] == [("ann", "read", "disabled")]
    assert ann.get("/ui/customers").status_code == 303
    assert Visitor(app).sign_in("ann", "another one").status_code == 401
    assert users("passwd", "nobody").returncode == 5


@pytest.mark.parametrize(
    "change",
    [
        ("role", "ann", "admin"),
        ("passwd", "ann"),
        ("disable", "ann"),
        ("reset-factor", "ann"),
        ("delete", "ann"),
    ],
    ids=lambda change: change[0],
)
@on_one("postgres")
def test_a_change_of_a_user_ends_their_sessions(users: Run, app: Flask, change: tuple[str, ...]) -> None:
    password = users("create", "ann", "--role", "read").stdout.strip()
    ann = Visitor(app)
    assert ann.sign_in("ann", password).status_code == 303

    done = users(*change)

    assert done.returncode == 0, done.stderr
    assert ann.get("/ui/customers").status_code == 303


@on_one("postgres")
def test_a_user_gets_another_role_or_is_deleted(users: Run) -> None:
    users("create", "ann", "--role", "read")

    assert users("address", "ann", "ann@example.org").returncode == 0
    assert users("address", "ann", "nobody").returncode == 2
    assert users("create", "bob", "--email", "nobody").returncode == 2
    assert json.loads(users("list", "-o", "json").stdout)[0]["email"] == "ann@example.org"
    assert users("role", "ann", "god").returncode == 2
    assert users("role", "ann", "admin").returncode == 0
    assert json.loads(users("list", "-o", "json").stdout)[0]["role"] == "admin"
    assert users("delete", "ann").returncode == 0
    assert json.loads(users("list", "-o", "json").stdout) == []
    assert users("delete", "ann").returncode == users("role", "ann", "read").returncode == 5


@on_one("postgres")
def test_sessions_are_listed_and_ended(run: Run, users: Run, app: Flask) -> None:
    password = users("create", "ann", "--role", "read").stdout.strip()
    first, second = Visitor(app), Visitor(app)
    first.sign_in("ann", password)
    second.sign_in("ann", password)

    listed = json.loads(run("sessions", "list", "-o", "json").stdout)
    assert [(row["subject"], row["name"], row["role"]) for row in listed] == [("user:ann", "ann", "read")] * 2
    assert run("sessions", "revoke", "user:ann", "--dry-run").returncode == 0
    assert len(json.loads(run("sessions", "list", "-o", "json").stdout)) == 2

    assert run("sessions", "revoke", listed[0]["id"], "--yes").returncode == 0
    assert len(json.loads(run("sessions", "list", "-o", "json").stdout)) == 1
    assert run("sessions", "revoke", "user:ann", "--yes").returncode == 0

    assert first.get("/ui/customers").status_code == second.get("/ui/customers").status_code == 303
    assert run("sessions", "revoke", "user:ann", "--yes").returncode == 5
    assert run("sessions", "revoke").returncode == run("sessions", "revoke", "x", "--all").returncode == 2
