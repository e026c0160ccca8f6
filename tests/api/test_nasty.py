"""Whatever stands in a path, a parameter, a header, a form or a body: no answer is the server's own fault.

Every route there is, with each of its places filled with each of a table of values that broke something once.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from custsvc.accounts.keys import new_key
from custsvc.config import Settings
from custsvc.http.lists import PARAMETERS
from custsvc.ports.accounts import Role
from custsvc.ports.store import Store
from custsvc.serve import create_app

pytestmark = pytest.mark.slow

NASTY = {
    "nul": "a\0b",
    "only nul": "\0",
    "half a character": "\ud800",
    "no character": "\uffff",
    "5,000 digits": "9" * 5000,
    "64 bits": str(2**63),
    "minus": "-1",
    "other digits": "٣",
    "exponent": "1e400",
    "nan": "NaN",
    "deep list": "[" * 2000,
    "deep object": '{"a":' * 2000,
    "json of a list": "[1]",
    "json of text": '"a"',
    "no json": "{",
    "mongo": "$where",
    "dots": "../../etc/passwd",
    "percent": "%00",
    "line ends": "a\r\nb: c",
    "quotes": "'\";--",
    "format": "{0.__class__}%s%n",
    "marks": "\u0315\u0300" * 500,
    "reordered": "\u202eabc",
    "empty": "",
    "spaces": " \u3000\t",
}
# The values that broke most; the long run tries all of them, in every place.
WORST = ("nul", "half a character", "5,000 digits", "deep list", "no json", "64 bits")
PARAMETER_NAMES = (
    *PARAMETERS,
    *("metadata.a", "at", "before", "format", "on", "dry_run", "skip_errors", "plan", "stage", "restore"),
    *("customer_id", "op", "from", "state", "to", "key", "value", "next", "code", "error", "v", "back"),
)
FORM_NAMES = (
    *("name", "email", "phone", "meta_key", "meta_value", "password", "key", "version", "to", "base", "mine"),
    *("ids", "action", "state", "on", "next", "back", "format", "wanted", "column-0", "pick:name"),
)
HEADERS = (
    *("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "Idempotency-Key", "Prefer"),
    *("X-Request-Id", "traceparent", "X-Custsvc-Min-Position", "Last-Event-ID", "Accept", "Range", "Cookie"),
    *("Origin", "Sec-Fetch-Site", "Content-Type", "Authorization", "X-Api-Key", "X-Csrf-Token", "Host"),
    *("Accept-Encoding", "Content-Length", "HX-Request", "Content-Encoding"),
)
MEDIA = ("application/json", "application/merge-patch+json", "application/x-ndjson", "text/csv")
# It waits for events, and then for more of them.
ENDLESS = ("/stream", "/live")


@pytest.fixture
def open_app(settings: Settings, store: Store) -> Flask:
    """Without a sign-in, so that every page is reached."""
    return create_app(settings.replace(auth="off"), store)


@pytest.fixture
def ask(app: Flask, open_app: Flask, store: Store, make_key: Callable[[Role], str]) -> Ask:
    text, key = new_key("nasty", "admin")
    store.keys.add(key)
    return Ask(app, open_app, text)


class Ask:
    """Sends a request to the API with a key, and to a page as its own forms do. Notes answers of 5xx."""

    def __init__(self, app: Flask, open_app: Flask, key: str) -> None:
        self._key = key
        self._api = app.test_client()
        self._pages = open_app.test_client()
        self._signed_out = app.test_client()
        self._csrf = {id(c): _csrf(c) for c in (self._pages, self._signed_out)}
        self.wrong: list[str] = []

    def __call__(self, rule: Rule, method: str, path: str, about: str, **given: Any) -> None:
        is_page = rule.endpoint.startswith("web.")
        client = self._api
        headers = {"Authorization": f"Bearer {self._key}"}
        if is_page:
            client = self._signed_out if "sign-in" in rule.rule else self._pages
            headers = {"X-Csrf-Token": self._csrf[id(client)]}
        headers |= given.pop("headers", {})
        answer = client.open(
            path, method=method, headers=headers, base_url="http://localhost", buffered=False, **given
        )
        # A missing server is not the value's fault.
        if answer.status_code >= 500 and answer.json is not None and "dependency" in answer.json:
            return
        # A precondition that a request cannot have is refused by this number, whatever it says.
        if answer.status_code == 501 and about.startswith("header If-"):
            return
        if answer.status_code >= 500 and "Kafka" not in answer.text:
            self.wrong.append(f"{method} {rule.rule} {about}: {answer.status_code}")


def _csrf(client: FlaskClient) -> str:
    found = re.search(
        r'name="csrf" value="(\w+)"', client.get("/ui/sign-in", base_url="http://localhost").text
    )
    if found is None:
        page = client.get("/ui/customers/new", base_url="http://localhost").text
        found = re.search(r'name="csrf" value="(\w+)"', page)
    return found[1] if found else ""


def _rules(app: Flask) -> Iterator[tuple[Rule, str]]:
    for rule in app.url_map.iter_rules():
        if not rule.rule.endswith(ENDLESS) and (rule.rule == "/" or not rule.rule.endswith("/")):
            for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"}):
                yield rule, method


def _path(rule: Rule, filled: str = "1") -> str:
    return re.sub(r"<[^>]*>", lambda _: filled, rule.rule)


def _in_path(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="") or "-"


Some = Callable[..., list[Any]]


def _some(rule: Rule, method: str, name: str) -> Some:
    """One of many, another one for each route and value: all of them are too many for every run."""

    def some(values: Sequence[Any], count: int = 1) -> list[Any]:
        start = zlib.crc32(f"{rule.rule} {method} {name}".encode())
        return [values[(start + number) % len(values)] for number in range(min(count, len(values)))]

    return some


def _every(rule: Rule, method: str, name: str) -> Some:
    del rule, method, name
    return lambda values, count=0: list(values)


@pytest.mark.parametrize("name", WORST)
def test_no_value_anywhere_causes_a_server_error(ask: Ask, open_app: Flask, name: str) -> None:
    _walk(ask, open_app, name, _some)


@pytest.mark.long
@pytest.mark.parametrize("name", NASTY)
def test_no_value_in_any_place_at_all_causes_a_server_error(ask: Ask, open_app: Flask, name: str) -> None:
    _walk(ask, open_app, name, _every)


def _walk(ask: Ask, app: Flask, name: str, choice: Callable[[Rule, str, str], Some]) -> None:
    for rule, method in _rules(app):
        some = choice(rule, method, name)
        _try_address(ask, rule, method, name, some)
        _try_headers(ask, rule, method, name, some)
        if method != "GET":
            _try_bodies(ask, rule, method, name, some)
    assert ask.wrong == []


def _try_address(ask: Ask, rule: Rule, method: str, name: str, some: Some) -> None:
    quoted = _in_path(NASTY[name])
    if "<" in rule.rule:
        ask(rule, method, _path(rule, quoted), f"path {name}")
    query = "&".join(f"{each}={quoted}" for each in PARAMETER_NAMES)
    if len(query) < 15_000:
        ask(rule, method, f"{_path(rule)}?{query}", f"all parameters {name}")
    for each in some(PARAMETER_NAMES):
        ask(rule, method, f"{_path(rule)}?{each}={quoted}", f"parameter {each} {name}")


def _try_headers(ask: Ask, rule: Rule, method: str, name: str, some: Some) -> None:
    value = NASTY[name].encode("utf-8", "replace").decode("latin-1")
    if any(char in value for char in "\r\n"):
        return  # no server takes it, nor does the client
    for each in some(HEADERS):
        variable = f"HTTP_{each.upper().replace('-', '_')}".replace("HTTP_CONTENT_", "CONTENT_")
        ask(rule, method, _path(rule), f"header {each} {name}", environ_overrides={variable: value})


def _try_bodies(ask: Ask, rule: Rule, method: str, name: str, some: Some) -> None:
    text = NASTY[name].encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    for each in some(FORM_NAMES):
        for kind in ("text", "number"):
            form = {"name": "A", "meta_kind": kind, "version": "1", "base": "1", "meta_key": "k"}
            ask(rule, method, _path(rule), f"form {each} {name}", data={**form, each: text})
    for body in some(list(_bodies(NASTY[name])), 2):
        for media in some(MEDIA):
            ask(rule, method, _path(rule), f"{media} {name}", data=body, content_type=media)


def _bodies(value: str) -> Iterator[bytes]:
    yield value.encode("utf-8", "surrogatepass")
    quoted = json.dumps(value)
    for field in ("name", "email", "phone", "metadata", "version", "id", "operations", "op", value):
        yield f'{{"name": "A", {json.dumps(field)}: {quoted}}}'.encode()
    yield f'{{"name": "A", "metadata": {{"k": {quoted}, {quoted}: 1}}}}'.encode()
    yield f'{{"operations": [{{"op": {quoted}, "id": {quoted}, "customer": {quoted}}}]}}'.encode()
    yield f'{{"operations": [{{"op": "update", "id": 1, "fields": {{{quoted}: {quoted}}}}}]}}'.encode()
    if re.fullmatch(r"-?[0-9e]+|\[+|NaN", value):
        yield f'{{"name": "A", "version": {value}, "metadata": {{"k": {value}}}}}'.encode()
