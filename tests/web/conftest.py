"""The pages over a real database, most without a browser; `browser/` has those with one, and all roles."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import unescape
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser
from werkzeug.test import TestResponse

from custsvc.accounts.keys import new_key
from custsvc.accounts.passwords import hash_password
from custsvc.config import Settings
from custsvc.domain.customers import utc_now
from custsvc.ports.accounts import Role, User
from custsvc.ports.store import Store
from custsvc.serve import create_app

from .site import browsing

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


class Visitor:
    """Somebody with a browser: cookies, and the token of the last page for the next form."""

    def __init__(self, app: Flask, base_url: str = "http://localhost") -> None:
        self.client = app.test_client()
        self.base_url = base_url
        self.csrf = ""

    def get(self, path: str, **kwargs: Any) -> TestResponse:
        answer = self.client.get(path, base_url=self.base_url, **kwargs)
        found = re.search(r'name="csrf" value="(\w+)"', answer.text)
        self.csrf = found[1] if found else self.csrf
        return answer

    def post(self, path: str, /, *, headers: Any = None, **fields: Any) -> TestResponse:
        data = {"csrf": self.csrf, **fields}
        return self.client.post(path, base_url=self.base_url, data=data, headers=headers)

    def sign_in(self, name: str, password: str = PASSWORD, **fields: Any) -> TestResponse:
        self.get("/ui/sign-in")
        return self.post("/ui/sign-in", name=name, password=password, **fields)

    def cookie(self) -> str:
        name = "__Host-custsvc" if self.base_url.startswith("https") else "custsvc"
        found = self.client.get_cookie(name, self.base_url.partition("://")[2])
        return found.value if found else ""


def words(page: TestResponse) -> str:
    """The text of a page, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page.text)).split())


@pytest.fixture
def settings(store: Store) -> Settings:
    return Settings(backend=store.name)  # type: ignore[arg-type]


@pytest.fixture
def app(settings: Settings, store: Store) -> Flask:
    return create_app(settings, store)


@pytest.fixture
def make_user(store: Store) -> Callable[..., User]:
    def make(name: str, role: Role = "write") -> User:
        user = User(name, hash_password(PASSWORD), role, utc_now())
        store.users.add(user)
        return user

    return make


@pytest.fixture
def make_key(store: Store) -> Callable[[Role], str]:
    def make(role: Role) -> str:
        text, key = new_key(f"key-{role}", role)
        store.keys.add(key)
        return text

    return make


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    return Visitor(app)


@pytest.fixture
def ann(app: Flask, make_user: Callable[..., User]) -> Visitor:
    """Somebody who may write, signed in."""
    make_user("ann")
    visitor = Visitor(app)
    assert visitor.sign_in("ann").status_code == 303
    visitor.get("/ui/customers/new")
    return visitor
