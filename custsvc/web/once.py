"""Forms that are sent twice do their work once: the second gets the answer of the first.

A browser sends a form again on a double click without JavaScript, on Back and Submit, on a reload. So every
form of a page has a key of its own, and what it changed is kept under that key and what was sent. A form that
was changed before it is sent again asks for something else, and gets it.
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
# The first of two that come at the same time is over by then, or the second says that it is not.
_WAIT: Final = 10.0

T = TypeVar("T")


def new_key() -> str:
    """The key of a form that is put on a page."""
    return secrets.token_urlsafe(18)


def change(work: Callable[[Caller], Stored], part: str = "") -> Stored:
    """The customer that `work`, one change by this caller, gives, or gave when the form was sent before.

    `part` tells the changes of one form apart.
    """
    who = _keyed(part)
    stored, _ = _patiently(lambda: services().customers.once(who, lambda: work(who)))
    return stored


class _NotDone(CustsvcError):
    """The form was not sent before."""


def done() -> Stored | None:
    """The customer that the form gave when it was sent before; None where it was not."""

    def not_yet(_: Caller) -> Stored:
        raise _NotDone

    try:
        return change(not_yet)
    except _NotDone:
        return None


def answer(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` gives, which is JSON, or gave when the form was sent before."""
    who = _keyed("")

    def kept() -> dict[str, Any]:
        found = work()
        if who.keyed is not None:
            services().store.answers.add(who.keyed.answer(found, utc_now()))
        return found

    told: dict[str, Any]
    told, _ = _patiently(lambda: services().customers.once_told(who, kept, lambda body: body))
    return told


def _keyed(part: str) -> Caller:
    """The caller, and the form that is being sent under its key; a form of a script may have none."""
    key = request.form.get(FIELD, "")
    if not _KEY.fullmatch(key):
        return caller()
    fields = [(name, values) for name, values in request.form.lists() if name not in _LEFT_OUT]
    sent = sha256(orjson.dumps([request.path, fields, part])).digest()
    # No client's key has a space, so no request of the API can have this one.
    keyed = Keyed(g.principal.id or f"page:{g.principal.name}", f"page {key} {sent.hex()[:32]}", sent)
    return replace(caller(), keyed=keyed)


def _patiently(work: Callable[[], T]) -> T:
    """`work`, once a request that does the same at the same time is over. Raises InFlight."""
    deadline = time.monotonic() + _WAIT
    while True:
        try:
            return work()
        except InFlight:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
