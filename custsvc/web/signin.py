"""Sign-in with a name and password (and a second factor) or with an API key, and sign-out.

Tries are counted in the database, by account and by address, before the password is checked. So neither
simultaneous requests nor requests to another process get more tries.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
from typing import Any, Final
from urllib.parse import quote, urlsplit

from flask import Blueprint, Response, current_app, g, redirect, render_template, request
from itsdangerous import BadData, URLSafeTimedSerializer
from werkzeug.exceptions import HTTPException

from ..accounts.keys import Principal
from ..accounts.passwords import NAME, check_password, folded_name
from ..accounts.second_factor import use
from ..domain.customers import utc_now
from ..ports.accounts import Factor, User
from . import toast
from .access import anybody, route, services, web
from .reset_mail import is_set_up

logger = logging.getLogger(__name__)

_WINDOW: Final = 900.0
# This try and all later ones in the window are refused without a check.
_TRIES: Final = 10
_TRIES_OF_ADDRESS: Final = 100

_WRONG: Final = "The name or the password is wrong."
_WRONG_CODE: Final = "That code is wrong, or was used already."
_NOT_DONE: Final = (
    "You were not signed in any more, so what you sent was not saved. Sign in, and do it again: your "
    "browser's Back button may still show what you typed."
)
_TOO_LATE: Final = "That took too long. Sign in again."
# Seconds between the password and the code.
_CODE_WITHIN: Final = 300
_WRONG_KEY: Final = "That is not a valid API key."
_TOO_MANY: Final = "Too many tries. Wait 15 minutes, then try again."

_HOME: Final = "/ui/customers"
# Says in the sign-in's address that somebody sent a form, and not only asked for a page.
_UNDONE: Final = "undone"


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, "/ui/sign-in", sign_in, "GET", "POST")
    route(blueprint, "/ui/sign-in/code", enter_code, "POST")
    route(blueprint, "/ui/sign-out", sign_out, "POST")


def asked_to_sign_in() -> Response:
    """Redirect to the sign-in, which leads back to the page; after a form it says that nothing was done."""
    if request.method == "GET":
        return led_to(_address(request.full_path.rstrip("?")))
    return led_to(f"{_address(_page_of_form())}&{_UNDONE}=yes")


def _address(back: str) -> str:
    return f"/ui/sign-in?next={quote(back, safe='/')}"


def _page_of_form() -> str:
    """The page that the form was on, as the browser says, if it can be opened again."""
    try:
        page = urlsplit(request.headers.get("Referer", ""))
        current_app.url_map.bind(request.host).match(page.path, method="GET")
    except (ValueError, HTTPException):
        return _HOME
    path = f"{page.path}?{page.query}" if page.query else page.path
    return path if page.netloc == request.host and _is_ours(path) else _HOME


def led_to(target: str) -> Response:
    """Redirect to a page of ours, also from a request of the script."""
    if request.headers.get("HX-Request"):
        return Response(status=401, headers={"HX-Redirect": target})
    return redirect(target, 303)  # type: ignore[return-value]


@anybody
def sign_in() -> Any:
    if g.browser.principal is not None:
        return redirect(next_page(), 303)
    if request.method == "GET":
        return _page(_NOT_DONE if _UNDONE in request.args else None, "password")
    by = "key" if "key" in request.form else "password"
    found = _by_key() if by == "key" else _by_password()
    if isinstance(found, str):
        return _refused(_page(found, by), found)
    if not isinstance(found, User):
        return _begin(*found)
    if _confirmed(found.name) is not None:
        return _code_page(None, _pending(found))
    return _begin_of(found, by_code=False)


@anybody
def enter_code() -> Any:
    """The second step of a sign-in: the code of a user whose password was right."""
    if g.browser.principal is not None:
        return redirect(next_page(), 303)
    pending = request.form.get("pending", "")
    user = _user_of(pending)
    factor = _confirmed(user.name) if user else None
    if user is None or factor is None or user.disabled_on is not None:
        return _page(_TOO_LATE, "password"), 401
    tries = f"code:{short(user.name)}"
    if tried_too_often(tries):
        return _refused(_code_page(_TOO_MANY, pending), _TOO_MANY)
    if not use(services().store.factors, factor, request.form.get("code", ""), utc_now()):
        about = {"action": "second_factor_wrong", "user": user.name}
        logger.warning("A wrong second factor of %s, whose password was right", user.name, extra=about)
        return _refused(_code_page(_WRONG_CODE, pending), _WRONG_CODE)
    services().store.sessions.forget_tries(tries)
    return _begin_of(user, by_code=True)


def _begin_of(user: User, *, by_code: bool) -> Any:
    """Begin a user's session; end it again if what was checked changed before the session was stored.

    A change ends all sessions after it is stored, so one of the two sees the other.
    """
    answer = _begin(f"user:{user.name}", Principal(user.name, user.role))
    now = services().store.users.find(user.name)
    is_same = now is not None and _same_text(now.password, user.password) and now.disabled_on is None
    if not is_same or (not by_code and _confirmed(user.name) is not None):
        g.browser = web().browsers.sign_out(g.browser)
        return _page(_TOO_LATE, "password"), 401
    return answer


def _same_text(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _begin(subject: str, principal: Principal) -> Any:
    """Begin the session, under a new token."""
    web().browsers.sign_out(g.browser)
    g.browser = web().browsers.sign_in(subject, principal)
    return redirect(next_page(), 303)


def _refused(page: str, why: str) -> Any:
    if why == _TOO_MANY:
        return page, 429, {"Retry-After": str(int(_WINDOW))}
    return page, 401


def _confirmed(name: str) -> Factor | None:
    """The user's second factor, if it counts."""
    factor = services().store.factors.find(name)
    return factor if factor is not None and factor.confirmed_on is not None else None


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(services().store.secret(), salt="custsvc.second-factor")


def _pending(user: User) -> str:
    """Says that this browser gave the right password of this user. Good for five minutes."""
    return str(_signer().dumps([user.name, _seal_of(user)]))


def _seal_of(user: User) -> str:
    """Of this browser, and void once the password is another one."""
    return web().browsers.seal(g.browser, f"pending:{user.name}:{user.password}")


def _user_of(pending: str) -> User | None:
    """The user in a text of `_pending`, if it is of this browser, of this password and young enough."""
    try:
        name, seal = _signer().loads(pending, max_age=_CODE_WITHIN)
    except (BadData, ValueError):
        return None
    user = services().store.users.find(str(name))
    return user if user is not None and _same_text(str(seal), _seal_of(user)) else None


def _code_page(error: str | None, pending: str) -> str:
    return render_template("sign_in_code.html", next=next_page(), error=error, pending=pending)


@anybody
def sign_out() -> Any:
    g.browser = web().browsers.sign_out(g.browser)
    toast.put("You are signed out.")
    return redirect("/ui/sign-in", 303)


def next_page() -> str:
    """The page after the sign-in: one of ours, never an address that a browser takes for another site."""
    path = request.values.get("next", "")
    return path if _is_ours(path) else _HOME


def _is_ours(path: str) -> bool:
    """Whether a path is that of a page of ours, beside those of the sign-in."""
    is_page = path.startswith("/ui/") and not path.startswith("/ui/sign-")
    return is_page and path.isprintable() and "\\" not in path


def _page(error: str | None, by: str) -> str:
    name = request.form.get("name", "")
    return render_template(
        "sign_in.html",
        next=next_page(),
        error=error,
        by=by,
        name=name,
        oidc_name=_oidc_name(),
        resets=is_set_up(services().settings),
    )


def _oidc_name() -> str:
    """The label of the OpenID Connect provider's button; empty if there is no provider."""
    settings = services().settings
    return settings.oidc_name if settings.oidc_issuer else ""


def _by_password() -> User | str:
    name, password = folded_name(request.form.get("name", "")), request.form.get("password", "")
    account = f"user:{short(name)}"
    if tried_too_often(account):
        return _TOO_MANY
    user = services().store.users.find(name) if NAME.fullmatch(name) else None
    is_right = check_password(password, user.password if user else None)
    if user is None or not is_right or user.disabled_on is not None:
        return _WRONG
    services().store.sessions.forget_tries(account)
    return user


def _by_key() -> tuple[str, Principal] | str:
    if tried_too_often(None):
        return _TOO_MANY
    text = request.form.get("key", "").strip()
    principal = services().keys.principal(text)
    return (f"key:{text.split('_')[1]}", principal) if principal else _WRONG_KEY


def tried_too_often(account: str | None) -> bool:
    """Count a try to sign in; whether this account or this address has had too many."""
    sessions, now = services().store.sessions, utc_now()
    address = f"address:{sender()}"
    if sessions.count_try(address, now, _WINDOW) >= _TRIES_OF_ADDRESS:
        return True
    return account is not None and sessions.count_try(account, now, _WINDOW) >= _TRIES


def sender() -> str:
    """The address of a request, for limits: of IPv6 its network, since a host has a whole one."""
    text = request.remote_addr or "unknown"
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    if address.version == 4:
        return str(address)
    mapped = address.ipv4_mapped
    return str(mapped or ipaddress.ip_network((address.packed, 64), strict=False))


def short(name: str) -> str:
    """A key of fixed length that does not reveal the name."""
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
