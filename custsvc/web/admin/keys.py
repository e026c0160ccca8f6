"""The page of API keys: lists, creates and revokes them."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from flask import Blueprint, redirect, render_template, request

from ...accounts.keys import NAME_MAX, ROLES, new_key, state_of
from ...domain.customers import utc_now
from ...errors import ValidationError
from ...http.problems import bad_parameter
from .. import once, toast
from ..access import needs, route, services
from .common import SHOWN, check_writable, note, role_asked

_PATH: Final = "/ui/admin/keys"
# The choices for how long a key is valid, in days; 0 is for ever.
_DAYS: Final = {"30": "30 days", "90": "90 days", "365": "a year", "0": "for ever"}


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, _PATH, index)
    route(blueprint, f"{_PATH}/create", create, "POST")
    route(blueprint, f"{_PATH}/revoke", revoke, "POST")


@needs("admin")
def index() -> Any:
    return _page()


def _page(**more: Any) -> str:
    now = utc_now()
    keys = services().store.keys.all()[::-1]
    live = [key for key in keys if state_of(key, now) == "live"]
    ended = [key for key in keys if state_of(key, now) != "live"]
    shown = (live + ended)[:SHOWN]
    return render_template(
        "admin/keys.html",
        keys=[(key, state_of(key, now)) for key in shown],
        more=len(keys) - len(shown),
        roles=ROLES,
        days=_DAYS,
        name_max=NAME_MAX,
        form=request.form,
        **more,
    )


@needs("admin")
def create() -> Any:
    """Create a key, and show it this once: it is stored nowhere, not even as the form's answer."""
    check_writable()
    role, days = role_asked(), request.form.get("days", "")
    if days not in _DAYS:
        raise bad_parameter("days", f"must be one of {', '.join(_DAYS)}")
    secret = []

    def made() -> dict[str, Any]:
        now = utc_now()
        ends = now + dt.timedelta(days=int(days)) if days != "0" else None
        text, key = new_key(request.form.get("name", ""), role, now=now, expires_on=ends)
        services().store.keys.add(key)
        secret.append(text)
        note("key_created", f"created the API key {key.prefix}, role {role}", prefix=key.prefix, role=role)
        return {"prefix": key.prefix}

    try:
        answer = once.answer(made)
    except ValidationError as exc:
        return _page(errors={each.field: [each.message] for each in exc.errors}), 400
    return _page(made=answer["prefix"], secret=secret[0] if secret else None)


@needs("admin")
def revoke() -> Any:
    check_writable()
    prefix = request.form.get("prefix", "")[:100]
    if services().store.keys.revoke(prefix, utc_now()):
        note("key_revoked", f"revoked the API key {prefix}", prefix=prefix)
        toast.put(f"Key {prefix} is revoked: every process refuses it within two seconds.")
    else:
        toast.put("That key was revoked already.", kind="bad")
    return redirect(_PATH, 303)
