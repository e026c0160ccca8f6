"""Error answers: one form for all, without internal details."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Flask

from custsvc.config import Settings
from custsvc.errors import (
    ConfigurationError,
    Conflict,
    CustsvcError,
    NewerSchema,
    TemporaryError,
    Unusable,
)
from custsvc.kafka.registry import Incompatible
from custsvc.ports.customers import CustomerStore
from custsvc.ports.store import Store
from custsvc.runtime.extras import NotInstalled
from custsvc.serve import create_app
from custsvc.stores.common.errors import wrong_role

from .conftest import ANN, Client


def is_problem(answer: Any, status: int, code: str) -> bool:
    """Whether an answer has the contract's shape."""
    body = answer.json
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    assert body["status"] == status
    assert body["code"] == code
    assert body["type"] == f"/problems/{code}"
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == answer.headers["X-Request-Id"]
    assert answer.headers["Cache-Control"] == "no-store"
    return True


def test_a_missing_path_or_customer_is_a_problem(client: Client, stranger: Client) -> None:
    for path in ("/nothing", "/api", "/api/customers/x", "/static/x", "/api/customers/1/nothing"):
        assert is_problem(client.get(path), 404, "not-found")
        assert is_problem(stranger.get(path), 404, "not-found")
    assert is_problem(client.get("/api/customers/987654321"), 404, "not-found")


def test_a_method_that_a_path_has_not_is_a_problem_that_names_those_it_has(client: Client) -> None:
    path = f"/api/customers/{client.create()['id']}"

    for slash in ("", "/"):
        for method, where, allowed in (
            ("DELETE", "/api/customers", {"GET", "HEAD", "OPTIONS", "POST"}),
            ("POST", path, {"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"}),
            ("GET", path + "/restore", {"OPTIONS", "POST"}),
            ("TRACE", path, {"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"}),
            ("BREW", path, {"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"}),
        ):
            answer = client(method, where + slash)
            assert is_problem(answer, 405, "method-not-allowed")
            assert set(answer.headers["Allow"].split(", ")) == allowed


class BrokenCustomers:
    """Customers of whom every question ends in the same error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def fail(*_args: Any, **_kwargs: Any) -> None:
            raise self._error

        return fail


@pytest.fixture
def broken(settings: Settings, store: Store, client: Client, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that gives a caller of an app whose store raises this error."""

    def make(error: Exception) -> Client:
        customers: CustomerStore = BrokenCustomers(error)
        monkeypatch.setattr(store, "customers", customers)
        return Client(create_app(settings, store), client._key)

    return make


REQUESTS = [
    ("GET", "/api/customers/"),
    ("POST", "/api/customers/"),
    ("GET", "/api/customers/1"),
    ("PUT", "/api/customers/1"),
    ("PATCH", "/api/customers/1/"),
    ("DELETE", "/api/customers/1"),
    ("POST", "/api/customers/1/restore"),
    ("GET", "/api/customers/1/history"),
]


def test_a_bug_is_answered_without_its_inside_and_logged_with_the_request_id(
    broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """S19."""
    caller = broken(RuntimeError("SELECT secret FROM customer WHERE password = 'x'"))

    for method, path in REQUESTS:
        caplog.clear()
        answer = caller(method, path, json=ANN if method != "GET" else None)

        assert is_problem(answer, 500, "internal")
        for inside in ("SELECT", "secret", "Traceback", "RuntimeError", ".py"):
            assert inside not in answer.text
        (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
        assert record.__dict__["request_id"] == answer.json["request_id"]
        assert record.exc_info is not None


def test_a_database_that_is_away_is_named_and_nothing_of_where_it_is(broken: Any) -> None:
    """S19."""
    caller = broken(TemporaryError("cannot connect to db.internal:5432 as app", dependency="postgres"))

    for method, path in REQUESTS:
        answer = caller(method, path, json=ANN if method != "GET" else None)

        assert is_problem(answer, 503, "dependency-down")
        assert answer.json["dependency"] == "postgres"
        assert int(answer.headers["Retry-After"]) > 0
        assert "internal" not in answer.text.replace('"code":"internal"', "")


FITS_NOT = [
    wrong_role("postgres", "copy"),
    wrong_role("mongo", "source"),
    Incompatible("the registry at reg.internal does not take it", dependency="registry", fix="repair it"),
    NotInstalled("xlsx", "openpyxl"),
    ConfigurationError("the setting of db.internal is wrong", fix="repair it"),
    NewerSchema("the event of db.internal is newer", fix="repair it"),
]


@pytest.mark.parametrize("error", FITS_NOT, ids=lambda error: type(error).__name__)
def test_what_only_an_operator_can_repair_is_no_bug_and_one_line_of_the_log_has_the_fix(
    broken: Any, caplog: pytest.LogCaptureFixture, error: CustsvcError
) -> None:
    caller = broken(error)

    for method, path in REQUESTS:
        caplog.clear()
        answer = caller(method, path, json=ANN if method != "GET" else None)

        if isinstance(error, Unusable):
            assert is_problem(answer, 503, "dependency-down")
            assert answer.json["dependency"] == error.dependency
        else:
            assert is_problem(answer, 503, "misconfigured")
        assert ".internal" not in answer.text
        (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
        assert record.exc_info is None
        assert record.__dict__["request_id"] == answer.json["request_id"]
        assert record.getMessage() == f"{error}; fix: {error.fix}"


def test_a_customer_that_too_many_change_at_once_is_a_conflict(broken: Any) -> None:
    answer = broken(Conflict("customer 1 is changed by too many at once")).put("/api/customers/1", json=ANN)

    assert is_problem(answer, 409, "conflict")


def test_errors_are_answered_alike_whether_the_app_is_tested_or_debugged(
    settings: Settings, store: Store, client: Client
) -> None:
    """S19."""
    app = create_app(settings, store)
    app.testing = True
    app.debug = True

    assert is_problem(Client(app, client._key).get("/nothing"), 404, "not-found")


def test_every_answer_forbids_guessing_its_type(app: Flask, client: Client) -> None:
    customer = client.create()

    for path in ("/livez", "/nothing", "/api/customers/", f"/api/customers/{customer['id']}"):
        assert client.get(path).headers["X-Content-Type-Options"] == "nosniff"
