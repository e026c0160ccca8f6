"""The page of the user's own account: the second factor is set up, renewed and turned off here.

Setting it up asks for the password, turning it off for a code, so that a session left open is not enough.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any, Final

from flask import Blueprint, g, redirect, render_template, request
from markupsafe import Markup

from ..accounts import second_factor
from ..accounts.keys import Principal
from ..accounts.passwords import check_password
from ..domain.customers import utc_now
from ..http.problems import Problem
from ..ports.accounts import Factor
from . import signin, toast
from .access import needs, route, services, web
from .reset_mail import is_set_up

# Within this a second factor that was begun must be confirmed.
_SETUP: Final = dt.timedelta(minutes=15)

logger = logging.getLogger(__name__)

PATH: Final = "/ui/account"
_TOO_MANY: Final = "Too many tries. Wait 15 minutes, then try again."
_WRONG_CODE: Final = "That code is wrong, or was used already."


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, PATH, show)
    route(blueprint, f"{PATH}/factor/begin", begin, "POST")
    route(blueprint, f"{PATH}/factor/confirm", confirm, "POST")
    route(blueprint, f"{PATH}/factor/renew", renew, "POST")
    route(blueprint, f"{PATH}/factor/remove", remove, "POST")


@needs("read")
def show() -> Any:
    return _page()


def _page(error: str | None = None, codes: list[str] | None = None, status: int = 200) -> Any:
    name = g.browser.user
    factor = services().store.factors.find(name) if name else None
    if factor is not None and _was_left(factor):
        factor = None  # the password is asked for again
    resets = is_set_up(services().settings)
    unconfirmed = factor if factor is not None and factor.confirmed_on is None else None
    page = render_template(
        "account.html",
        name=name,
        address=_address(name) if resets else None,
        principal=g.principal,
        factor=factor if unconfirmed is None else None,
        unconfirmed=unconfirmed,
        picture=_picture(unconfirmed) if unconfirmed else None,
        codes=codes,
        error=error,
        must=_must(g.principal),
        must_enroll=g.browser.must_enroll and (factor is None or unconfirmed is not None),
    )
    return page, status


def _address(name: str | None) -> str | None:
    """Where links to reset the user's password go."""
    user = services().store.users.find(name) if name else None
    return user.address if user else None


def _picture(factor: Factor) -> Markup:
    """The QR code as an SVG. The library writes only shapes into it."""
    import segno

    code = segno.make(second_factor.address_of(factor), error="m", micro=False)
    return Markup(code.svg_inline(scale=4, border=2, svgclass="qr", omitsize=False))  # noqa: S704


def _must(principal: Principal) -> bool:
    """Whether the settings ask this user for a second factor."""
    asked = services().settings.second_factor
    return asked == "everyone" or (asked == "admins" and principal.role == "admin")


@needs("read")
def begin() -> Any:
    """Make a secret, and show it until a code of it is entered."""
    name = _user()
    user = services().store.users.find(name)
    account = f"user:{signin.short(name)}"
    if signin.tried_too_often(account):
        return _page(_TOO_MANY, status=429)
    if not check_password(request.form.get("password", ""), user.password if user else None):
        return _page("The password is wrong.", status=400)
    services().store.sessions.forget_tries(account)
    if not services().store.factors.begin(name, second_factor.new_secret(), utc_now()):
        toast.put("The second factor is on already.", kind="bad")
    return redirect(PATH, 303)


def _was_left(factor: Factor) -> bool:
    """Whether its set-up began too long ago: a stranger at an open session must not see the secret."""
    return factor.confirmed_on is None and factor.created_on < utc_now() - _SETUP


@needs("read")
def confirm() -> Any:
    """Turn the factor on by a first code; shows the recovery codes this once, and ends all other sessions."""
    name, store = _user(), services().store
    factor = store.factors.find(name)
    if factor is None or factor.confirmed_on is not None or _was_left(factor):
        return redirect(PATH, 303)
    if signin.tried_too_often(_tries(name)):
        return _page(_TOO_MANY, status=429)
    now = utc_now()
    step = second_factor.step_of(factor.secret, request.form.get("code", ""), now)
    codes = second_factor.new_recovery_codes()
    hashes = [second_factor.hash_code(code) for code in codes]
    if step is None or not store.factors.confirm(name, factor.secret, step, hashes, now):
        return _page("That code is wrong. Is the clock of your phone right?", status=400)
    store.sessions.forget_tries(_tries(name))
    _note("factor_on", "turned the second factor on")
    subject = g.browser.session.subject
    store.sessions.remove_of(subject)
    web().browsers.look_again(name)
    g.browser = web().browsers.sign_in(subject, g.principal)
    return _page(codes=codes)


@needs("read")
def renew() -> Any:
    """Replace the recovery codes; shows the new ones this once."""
    name = _user()
    if (refused := _check_code(name)) is not None:
        return refused
    codes = second_factor.new_recovery_codes()
    services().store.factors.renew(name, [second_factor.hash_code(code) for code in codes])
    _note("factor_renewed", "made new recovery codes")
    return _page(codes=codes)


@needs("read")
def remove() -> Any:
    name = _user()
    if _must(g.principal):
        raise Problem(403, "forbidden", "a second factor is required here (CUSTSVC_SECOND_FACTOR)")
    if (refused := _check_code(name)) is not None:
        return refused
    services().store.factors.remove(name)
    web().browsers.look_again(name)
    _note("factor_off", "turned the second factor off")
    toast.put("The second factor is off.")
    return redirect(PATH, 303)


def _user() -> str:
    """The signed-in user. Raises Problem 403 for sign-ins by a key or OpenID Connect, or on a copy."""
    if g.browser.user is None:
        raise Problem(403, "forbidden", "only users who sign in by a password have a second factor here")
    if services().settings.read_only:
        raise Problem(403, "forbidden", "this serves a copy: change it where the system of record is served")
    name: str = g.browser.user
    return name


def _check_code(name: str) -> Any:
    """Use the code in the form; None if it was right, else the page that says why not."""
    factor = services().store.factors.find(name)
    if factor is None or factor.confirmed_on is None:
        return redirect(PATH, 303)
    if signin.tried_too_often(_tries(name)):
        return _page(_TOO_MANY, status=429)
    if not second_factor.use(services().store.factors, factor, request.form.get("code", ""), utc_now()):
        return _page(_WRONG_CODE, status=400)
    services().store.sessions.forget_tries(_tries(name))
    return None


def _tries(name: str) -> str:
    return f"code:{signin.short(name)}"


def _note(action: str, what: str) -> None:
    by = g.principal.name
    logger.info("%s %s", by, what, extra={"action": action, "by": by})
