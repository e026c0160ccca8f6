"""Resets a password by mail: the form that asks for a link, and the page that the link leads to.

Every name gets the same answer after the same work; whether there is such a user is found out later, by the
thread that mails. Opening a link uses nothing up, as programs that check mails open links too.
"""

from __future__ import annotations

import hmac
import logging
from typing import Any, Final

from flask import Blueprint, g, redirect, render_template, request

from ..accounts import users
from ..accounts.passwords import checked_password, folded_name
from ..domain.customers import EMAIL_MAX, utc_now
from ..errors import NotFound, ValidationError
from . import toast
from .access import anybody, route, services, web
from .reset_mail import PATH, hashed, is_set_up
from .signin import sender, short

logger = logging.getLogger(__name__)

_WINDOW: Final = 900.0
# Mails for a name within the window; more are not sent, which the answer does not say.
_MAILS: Final = 3
# Requests of an address within the window.
_TRIES_OF_ADDRESS: Final = 30


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, PATH, ask, "GET", "POST")
    route(blueprint, f"{PATH}/<token>", choose, "GET", "POST")


@anybody
def ask() -> Any:
    """Ask for a link, by name or address: whose it is, and where the mail goes, is found out later."""
    _check()
    if request.method == "GET":
        return render_template("reset.html", asked=False)
    if _is_too_much():
        return render_template("reset.html", asked=False, error=_TOO_MANY), 429, _LATER
    name, now = folded_name(request.form.get("name", "")), utc_now()
    if _is_name(name):
        tries = services().store.sessions.count_try(f"reset:{short(name)}", now, _WINDOW)
        if tries <= _MAILS:
            services().store.resets.ask(name, now)
            web().reset_bell.set()
    return render_template("reset.html", asked=True)


@anybody
def choose(token: str) -> Any:
    """Choose a new password with a link. Ends all sessions of the user; a second factor stays."""
    _check()
    store, token_hash = services().store, hashed(token[:200])
    if request.method == "GET":
        name = store.resets.owner(token_hash, utc_now())
        return _choosing(name) if name else _void()
    password = request.form.get("password", "")
    try:
        checked_password(password)
    except ValidationError as exc:
        name = store.resets.owner(token_hash, utc_now())
        return (_choosing(name, exc.errors[0].message), 400) if name else _void()
    if not _same(password, request.form.get("again", "")):
        name = store.resets.owner(token_hash, utc_now())
        return (_choosing(name, "is not the same in both fields"), 400) if name else _void()
    # First: of two who send the form at once, one sets the password.
    name = store.resets.take(token_hash, utc_now())
    user = store.users.find(name) if name else None
    if user is None or user.disabled_on is not None:
        return _void()
    users.set_password(store, user, password)
    store.sessions.forget_tries(f"user:{short(user.name)}")
    about = {"action": "password_reset", "user": user.name}
    logger.info("%s has a new password, by a mailed link", user.name, extra=about)
    g.browser = web().browsers.sign_out(g.browser)
    toast.put("Your password was changed. Sign in with it.")
    return redirect("/ui/sign-in", 303)


_TOO_MANY: Final = "Too many tries. Wait 15 minutes, then try again."
_LATER: Final = {"Retry-After": str(int(_WINDOW))}


def _is_name(text: str) -> bool:
    """Whether a user can have this name or this address."""
    return 0 < len(text) <= EMAIL_MAX and text.isprintable() and " " not in text


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def _choosing(name: str, error: str | None = None) -> str:
    return render_template("reset_choose.html", name=name, error=error)


def _void() -> Any:
    void = "This link was used, is older than an hour, or a newer one was sent."
    return render_template("reset.html", asked=False, error=void), 404


def _check() -> None:
    if not is_set_up(services().settings):
        raise NotFound("passwords are not reset by mail here; ask an admin for a new one")


def _is_too_much() -> bool:
    """Count the request; whether its address has had too many.

    Opening links needs no limit: nobody guesses 256 bits.
    """
    address = f"reset:{sender()}"
    return services().store.sessions.count_try(address, utc_now(), _WINDOW) > _TRIES_OF_ADDRESS
