"""The app over a real, empty database, and clients of it with and without a key."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from custsvc.accounts.keys import new_key
from custsvc.config import Settings
from custsvc.ports.accounts import Role
from custsvc.ports.store import Store
from custsvc.serve import create_app

from .serving import Serve

ANN = {"name": "Ann Lee", "email": "ann@example.org", "phone": "+49 30 1234"}


class Answer(TestResponse):
    """An answer of the API: the tests know what its JSON is."""

    json: Any


class Client:
    """A caller of the API. Every method gives the answer; `key` goes along where there is one."""

    def __init__(self, app: Flask, key: str | None = None) -> None:
        self._client = app.test_client()
        self._key = key

    def __call__(self, method: str, path: str, **kwargs: Any) -> Answer:
        given = kwargs.pop("headers", {})
        headers = list(given.items() if isinstance(given, dict) else given)
        if self._key is not None:
            headers.append(("Authorization", f"Bearer {self._key}"))
        return cast(Answer, self._client.open(path, method=method, headers=headers, **kwargs))

    def get(self, path: str, **kwargs: Any) -> Answer:
        return self("GET", path, **kwargs)

    def head(self, path: str, **kwargs: Any) -> Answer:
        return self("HEAD", path, **kwargs)

    def post(self, path: str, **kwargs: Any) -> Answer:
        return self("POST", path, **kwargs)

    def put(self, path: str, **kwargs: Any) -> Answer:
        return self("PUT", path, **kwargs)

    def patch(self, path: str, **kwargs: Any) -> Answer:
        return self("PATCH", path, **kwargs)

    def delete(self, path: str, **kwargs: Any) -> Answer:
        return self("DELETE", path, **kwargs)

    def create(self, **fields: Any) -> dict[str, Any]:
        """A new customer, as the API answers."""
        answer = self.post("/api/customers/", json={**ANN, **fields})
        assert answer.status_code == 201, answer.text
        return dict(answer.json)


@pytest.fixture
def settings(store: Store) -> Settings:
    return Settings(backend=store.name)  # type: ignore[arg-type]


@pytest.fixture
def app(settings: Settings, store: Store) -> Flask:
    return create_app(settings, store)


@pytest.fixture
def make_key(store: Store) -> Callable[[Role], str]:
    """A function that makes a key of a role, named after it."""

    def make(role: Role) -> str:
        text, key = new_key(role, role)
        store.keys.add(key)
        return text

    return make


@pytest.fixture
def client(app: Flask, make_key: Callable[[Role], str]) -> Client:
    """A caller who may write."""
    return Client(app, make_key("write"))


@pytest.fixture
def stranger(app: Flask) -> Client:
    """A caller without a key."""
    return Client(app)


@pytest.fixture
def serve(tmp_path: Path, backend: str, store: Store, database_url: str) -> Iterator[Serve]:
    """Serve on the test's database, not started yet."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CUSTSVC_")}
    environ |= {
        "CUSTSVC_BACKEND": backend,
        f"CUSTSVC_{backend.upper()}_URL": database_url,
        "CUSTSVC_LOCAL": "never",
        "CUSTSVC_LOG_FORMAT": "json",
        # A test that is about several says so.
        "CUSTSVC_WORKERS": "1",
    }
    serve = Serve(tmp_path, environ)
    yield serve
    serve.end()


@pytest.fixture
def key(make_key: Callable[[Role], str]) -> str:
    return make_key("write")
