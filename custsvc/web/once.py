"""A form that is sent twice takes effect once: the second request gets the answer of the first.

A browser sends a form again on a double click without JavaScript, on Back and Submit, on a reload. So every
form has a key, and its answer is stored under that key and a hash of the sent fields. A form whose fields
were changed before it is sent again takes effect again.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any, Final, TypeVar

import orjson
from flask import g, request

from ..domain.customers import Stored, utc_now
from ..errors import CustsvcError, InFlight
from ..service.customers import Caller
from ..service.idempotency import Keyed
from .access import caller, services

FIELD: Final = "once"
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")
_LEFT_OUT: Final = frozenset((FIELD, "csrf"))
# Seconds that the second of two simultaneous requests waits for the first; then it fails with InFlight.
_WAIT: Final = 10.0

T = TypeVar("T")


def new_key() -> str:
    """A new key for a form."""
    return secrets.token_urlsafe(18)


def change(work: Callable[[Caller], Stored], part: str = "") -> Stored:
    """The customer that `work` returns, or returned when the form was sent before. `work` is one change.

    `part` distinguishes several changes of one form.
    """
    who = _keyed(part)
    stored, _ = _patiently(lambda: services().customers.once(who, lambda: work(who)))
    return stored


class _NotDone(CustsvcError):
    """The form was not sent before."""


def done() -> Stored | None:
    """The customer that the form returned when it was sent before; None if it was not."""

    def not_yet(_: Caller) -> Stored:
        raise _NotDone

    try:
        return change(not_yet)
    except _NotDone:
        return None


def answer(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The JSON that `work` returns, or returned when the form was sent before."""
    who = _keyed("")

    def kept() -> dict[str, Any]:
        found = work()
        if who.keyed is not None:
            services().store.answers.add(who.keyed.answer(found, utc_now()))
        return found

    answer: dict[str, Any]
    answer, _ = _patiently(lambda: services().customers.once_as(who, kept, lambda body: body))
    return answer


def _keyed(part: str) -> Caller:
    """The caller, with the form's key as idempotency key; a form sent by a script may have none."""
    key = request.form.get(FIELD, "")
    if not _KEY.fullmatch(key):
        return caller()
    fields = [(name, values) for name, values in request.form.lists() if name not in _LEFT_OUT]
    sent = sha256(orjson.dumps([request.path, fields, part])).digest()
    # A client's key has no spaces, so no request of the API can have this key.
    keyed = Keyed(g.principal.id or f"page:{g.principal.name}", f"page {key} {sent.hex()[:32]}", sent)
    return replace(caller(), keyed=keyed)


def _patiently(work: Callable[[], T]) -> T:
    """The result of `work`, waiting for a simultaneous request with the same key. Raises InFlight."""
    deadline = time.monotonic() + _WAIT
    while True:
        try:
            return work()
        except InFlight:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
