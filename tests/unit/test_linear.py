"""Functions that read text from outside take linear time."""

from __future__ import annotations

import datetime as dt
import io
import logging
import string
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import css_inline
import orjson
import pytest
from flask import Flask, request
from markupsafe import escape
from werkzeug.datastructures import MultiDict
from werkzeug.test import create_environ

from custsvc.accounts import passwords
from custsvc.accounts.keys import KeyRing
from custsvc.domain import received, search
from custsvc.domain.address import one_address
from custsvc.domain.canonical import canonical_fields
from custsvc.domain.customers import Customer, Fields, Stored
from custsvc.domain.text import body, one_line
from custsvc.http import messages
from custsvc.http.cursors import Cursors
from custsvc.http.guard import principal_of
from custsvc.http.heads import _LIMITS, HEAD_MAX
from custsvc.http.preconditions import not_modified, preconditions
from custsvc.http.request import Request
from custsvc.notify.channels import bounce
from custsvc.notify.channels.refusal import is_gone, reported_gone
from custsvc.notify.channels.unsubscribe import UnsubscribeLinks
from custsvc.notify.intake import request as mail_request
from custsvc.notify.intake.plain import text_of
from custsvc.ports.accounts import Keys
from custsvc.runtime import logs
from custsvc.transfer import rows, sheet
from custsvc.web import words
from custsvc.web.forms import CustomerForm
from tests.growth import too_fast

from .patterns import askers, attacks, modules, patterns_of


@pytest.mark.parametrize("module", modules())
def test_the_patterns_of_a_module_are_linear(module: str) -> None:
    try:
        patterns = patterns_of(module)
    except ModuleNotFoundError as exc:
        pytest.skip(f"an extra is not installed: {exc}")
    for found in patterns:
        for ask in askers(found):
            for attack in attacks(found.pattern):
                grown = too_fast(
                    lambda size, f=found, a=attack, ask=ask: lambda: ask(a.text(f.pattern, size))
                )
                assert grown is None, f"{found.where}: {found.pattern.pattern!r} with {attack}: {grown}"


def test_the_patterns_of_the_package_are_found() -> None:
    known = ("custsvc.http.messages", "custsvc.notify.intake.plain", "custsvc.web.browser")

    assert set(known) <= set(modules())
    assert all(patterns_of(name) for name in known)
    assert len(modules()) > 60


TEXTS = [
    *(("", part, "") for part in string.punctuation + " \t\n\r0a"),
    *(('"a",', " ", "x"), ("", '"a" ', "x"), ("", 'W/"a",', "!"), ("", "a=", ";"), ("", "a,", "!")),
    *(("", part, "") for part in ("<script>", "<script", "<style x>", "<!--", "<!-->", "</p ", "]]>")),
    *(("", part, "") for part in ("<br", "<a href='", "&#", "&#9", "&#x", "&amp", "&lt;", "\\", '\\"')),
    *(("", part, "") for part in ("%", "%25", "%C3", "''", "=?utf-8?q?", "\x1b[", "\u009b")),
    *(("", part, "") for part in ("\u0315\u0300", "\u0f73", "\u00e9\u0301", "\ufdfa", "İ", "ﬃ", "\u1161")),
    *(("a@", part, "") for part in ("a.", "-", "xn--", "é.", "\u0301", "@")),
    *(("", part, "") for part in ("a@b.c, ", "<a@b.c>", "[1.1.1.1]", "(a)", '"a"@')),
    *(("bytes=", part, "") for part in ("0-", "0-0,", "-,")),
    *(("text/html", part, "") for part in (";q=0.1", "; a=b", ',a/b;q="', ";a*0=b", ';a="\\')),
    *(("00-", part, "") for part in ("0", "a-")),
    *(("", part, "") for part in ("a: b\r\n", " \r\n", "a\r\n b", "\r\n.", "5.1.", "a b ")),
    *(("[", part, "") for part in ("[", "1,", '"a",', "{", "1e5,")),
    *(("{", part, "") for part in ('"a":{', '"a":1,')),
    *(("name,email\r\n", part, "") for part in ('"', '""', ",", 'a,"b', "a,b\n", '"a"b')),
]

APP = Flask("texts")


class _NoKeys(Keys):
    def find(self, prefix: str) -> None:
        del prefix


KEYS = KeyRing(_NoKeys())  # type: ignore[abstract]


def _header(name: str, read: Callable[[], object]) -> Callable[[str], object]:
    """Reading a header, which is refused before anybody reads it where it is longer than `heads` allows."""
    variable = name if name == "CONTENT_TYPE" else f"HTTP_{name.upper().replace('-', '_')}"
    environ = create_environ("/", base_url="http://localhost")
    most = _LIMITS.get(variable, HEAD_MAX)

    def work(text: str) -> object:
        with APP.request_context(
            {**environ, variable: text.encode("utf-8", "replace").decode("latin-1")[:most]}
        ):
            return read()

    return work


def _asked(name: str, read: Callable[[Request], object]) -> Callable[[str], object]:
    """The same where a handler reads it."""
    return _header(name, lambda: read(Request(request.environ, "id")))


def _form(text: str, kind: str) -> object:
    data = text.encode("utf-8", "replace")
    if kind.startswith("multipart"):
        data = (
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n'
            + data
            + b"\r\n\r\n"
            + data
            + b"\r\n--x--\r\n"
        )
    with APP.test_request_context("/", method="POST", data=data, content_type=kind):
        return request.form, request.files


def _query(text: str) -> object:
    with APP.request_context(
        {**create_environ("/"), "QUERY_STRING": text.encode("utf-8", "replace").decode("latin-1")}
    ):
        return request.args, request.query_string, Request(request.environ, "id").query


def _mail(text: str) -> object:
    return mail_request.read(orjson.dumps({"notifyTo": ["a@b.c"], "subject": "s", "htmlMsg": clean(text)}))


def _recipient(text: str) -> object:
    return mail_request.read(
        orjson.dumps({"notifyTo": clean(text), "subject": clean(text), "textMsg": clean(text)})
    )


def _customer(text: str) -> object:
    return canonical_fields({"name": text, "email": text, "phone": text, "metadata": {text: text, "a": text}})


def _customer_cut(text: str) -> object:
    """The longest that is looked at."""
    values = {f"k{number}": text[:2000] for number in range(50)}
    return canonical_fields({"name": text[:1600], "email": text[:254], "metadata": values})


def _page(text: str) -> object:
    notification = {"style": "<style>p {color: red}</style>", "text": escape(text)}
    return css_inline.inline("{style}<p>{text}</p>".format(**notification), load_remote_stylesheets=False)


def _log(text: str) -> object:
    record = logging.makeLogRecord({"msg": text, "levelname": "INFO", "created": 0.0, "key": text})
    return logs.JsonFormatter("role").format(record), logs.TextFormatter("role").format(record)


def _fields(text: str) -> object:
    form = MultiDict([("meta_key", "k"), ("meta_value", text), ("meta_kind", "number"), ("name", text)])
    return CustomerForm.of_request(form).body()


def _csv(text: str) -> object:
    return (
        list(rows.read(io.BytesIO(text.encode("utf-8", "replace")), "csv")),
        sheet.guarded(text),
        sheet.unguarded(text),
    )


def _ndjson(text: str) -> object:
    return list(rows.read(io.BytesIO(text.encode("utf-8", "replace")), "ndjson"))


def clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


NOON = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
ADA = Customer(7, Fields("Ada"), False, 3, NOON, "me", NOON, "me")
STORED = Stored(7, 3, False, ADA.encode())

READERS: dict[str, Callable[[str], object]] = {
    "If-Match": _asked("If-Match", preconditions),
    "If-None-Match": _asked("If-None-Match", lambda asked: not_modified(asked, STORED)),
    "If-Unmodified-Since": _asked("If-Unmodified-Since", preconditions),
    "Prefer": _asked("Prefer", lambda asked: (messages.wants_minimal(asked), messages.prefer_wait(asked))),
    "Idempotency-Key": _asked("Idempotency-Key", messages.idempotency_key),
    "traceparent": _asked("traceparent", lambda asked: asked.traceparent),
    "X-Custsvc-Min-Position": _asked(
        "X-Custsvc-Min-Position", lambda asked: messages.min_position(asked, 100)
    ),
    "Authorization": _asked("Authorization", lambda asked: principal_of(KEYS, asked.environ)),
    "Accept": _asked("Accept", lambda asked: asked.preferred(("text/csv", "application/json"), "")),
    "Accept-Encoding": _asked("Accept-Encoding", lambda asked: asked.takes_coding("gzip")),
    "Range": _header("Range", lambda: request.range),
    "If-Modified-Since": _asked("If-Modified-Since", lambda asked: not_modified(asked, STORED)),
    "Cookie": _header("Cookie", lambda: request.cookies),
    "Content-Type": _header("CONTENT_TYPE", lambda: (request.mimetype, request.mimetype_params)),
    "Content-Type of a handler": _asked("CONTENT_TYPE", lambda asked: asked.media_type),
    "Host": _header("Host", lambda: request.host),
    "Cache-Control": _header("Cache-Control", lambda: request.cache_control),
    "query": _query,
    "form": lambda text: _form(text, "application/x-www-form-urlencoded"),
    "multipart form": lambda text: _form(text, "multipart/form-data; boundary=x"),
    "sign-in name": passwords.folded_name,
    "mail request": _mail,
    "recipient": _recipient,
    "address": one_address,
    "text of HTML": text_of,
    "mail body": lambda text: (body(text, 200_000), one_line(text, 200)),
    "HTML mail": _page,
    "delivery report": lambda text: bounce.read(text.encode("utf-8", "replace")),
    "answer of a mail server": lambda text: is_gone(550, text),
    "report of a mail server": lambda text: reported_gone(text, text),
    "words": lambda text: search.terms_of(text, text, text, {"k": text}),
    "metadata filter": lambda text: search.metadata_terms("k", clean(text)),
    "customer": _customer,
    "longest customer": _customer_cut,
    "entry of the form": _fields,
    "CSV": _csv,
    "NDJSON": _ndjson,
    "cursor": lambda text: Cursors(lambda: b"s").read(text, ""),
    "unsubscribe link": UnsubscribeLinks(b"s", "").customer,
    "record": lambda text: received.decode(text.encode("utf-8", "replace"), b"1"),
    "filters": lambda text: (words.initials(text), words.shown(text), words.hue(clean(text))),
    "log line": _log,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.slow
def test_a_reader_is_linear(reader: str) -> None:
    def work(text: str) -> None:
        with suppress(Exception):
            READERS[reader](text)

    # Names that are all different too: what looks for each among those before it is a square.
    grown = too_fast(lambda size: partial(work, ",".join(f"metadata.k{n}" for n in range(size // 12)) + "\n"))
    assert grown is None, f"columns: {grown}"
    for begin, part, end in TEXTS:
        grown = too_fast(lambda size, b=begin, p=part, e=end: partial(work, b + p * (size // len(p)) + e))
        assert grown is None, f"{begin!r} {part!r} {end!r}: {grown}"
