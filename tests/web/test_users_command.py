"""`custsvc users`: who may sign in, made and shut out on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from flask import Flask

from .conftest import Visitor

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def users(backend: str, database_url: str) -> Run:
    env = {name: value for name, value in os.environ.items() if not name.startswith("CUSTSVC_")}
    env |= {
        "CUSTSVC_BACKEND": backend,
        f"CUSTSVC_{backend.upper()}_URL": database_url,
        "CUSTSVC_LOCAL": "never",
    }

    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "custsvc", "users", *arguments]
        return subprocess.run(
            command, env=env, input=stdin, capture_output=True, text=True, timeout=60, check=False
        )

    return run


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
