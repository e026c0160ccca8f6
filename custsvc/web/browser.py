"""The browser that sent a request: its cookie, its signed-in user, and its CSRF token.

Each browser has a random token in a cookie. After sign-in, the token's hash is the id of a session in the
database; before it, the token only seals forms. Sign-in and sign-out always give a new token, so that an
attacker cannot plant a known one (session fixation).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, NamedTuple

from flask import Response, current_app, request

from ..accounts.keys import ANONYMOUS, Principal
from ..domain.customers import utc_now
from ..http.resource import Services
from ..ports.accounts import Role, Session

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
# Seconds between two writes of a session's last use, and between two reads of its user's role.
_NOTE_EVERY: Final = 60.0
_TRUST: Final = 2.0


@dataclass(frozen=True, slots=True)
class Browser:
    """The sender of a request. `principal` is None if a sign-in is required and missing.

    `must_enroll`: the user must set up a second factor before anything else.
    """

    token: str
    csrf: str
    principal: Principal | None
    session: Session | None = None
    is_new: bool = False
    must_enroll: bool = False

    @property
    def user(self) -> str | None:
        """The name of the user who signed in by a password; None for all others."""
        kind, _, name = self.session.subject.partition(":") if self.session else ("", "", "")
        return name if kind == "user" else None


class _User(NamedTuple):
    """What a process knows of a user for a moment; `role` is None for a disabled or deleted one."""

    until: float
    role: Role | None
    must_enroll: bool


class Browsers:
    """Finds the browser of a request; signs browsers in and out."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        self._sessions = services.store.sessions
        self._users: dict[str, _User] = {}

    @cached_property
    def _secret(self) -> bytes:
        return self._services.store.secret()

    @property
    def signs_in(self) -> bool:
        return self._settings.auth == "on"

    def of_request(self) -> Browser:
        """The browser that sent the current request."""
        token = request.cookies.get(cookie_name(), "")
        if not _TOKEN.fullmatch(token):
            return self._new(None if self.signs_in else ANONYMOUS)
        if not self.signs_in:
            return Browser(token, self._csrf(token), ANONYMOUS)
        session = self._live(token)
        principal = self._principal(session) if session else None
        if principal is None:
            return Browser(token, self._csrf(token), None)
        found = Browser(token, self._csrf(token), principal, session)
        return replace(found, must_enroll=found.user is not None and self._user(found.user).must_enroll)

    def look_again(self, name: str) -> None:
        """Forget what this process knows of a user, after a change."""
        self._users.pop(name, None)

    def permit(self, browser: Browser, role: Role) -> Callable[[], bool]:
        """A check for later, outside of any request: whether the browser's user still has the role."""
        token = browser.token

        def may() -> bool:
            session = self._session(token)
            principal = self._principal(session) if session else None
            return principal is not None and principal.may(role)

        return may

    def sign_in(self, subject: str, principal: Principal) -> Browser:
        """A new session, under a new token."""
        now = utc_now()
        browser = self._new(principal)
        session = Session(_id(browser.token), subject, principal.name, principal.role, now, now)
        self._sessions.add(session)
        if secrets.randbelow(50) == 0:
            self._sessions.purge(now - dt.timedelta(seconds=max(self._settings.session_max, 86400)))
        return replace(browser, session=session)

    def sign_out(self, browser: Browser) -> Browser:
        """End the session; the browser gets a new token without a session."""
        self._sessions.remove(_id(browser.token))
        return self._new(None if self.signs_in else ANONYMOUS)

    def keep(self, browser: Browser, response: Response) -> None:
        """Set the cookie if the browser does not have it yet."""
        if browser.is_new:
            response.set_cookie(
                cookie_name(),
                browser.token,
                secure=is_secure(),
                httponly=True,
                samesite="Lax",
                path="/",
            )

    def seal(self, browser: Browser, text: str) -> str:
        """A signature of `text` that only this browser's requests can show."""
        return hmac.new(self._secret, f"{text}:{browser.token}".encode(), hashlib.sha256).hexdigest()

    def _new(self, principal: Principal | None) -> Browser:
        token = secrets.token_urlsafe(32)
        return Browser(token, self._csrf(token), principal, is_new=True)

    def _csrf(self, token: str) -> str:
        return hmac.new(self._secret, b"csrf:" + token.encode(), hashlib.sha256).hexdigest()

    def _live(self, token: str) -> Session | None:
        """The session of a token; writes that it was used now."""
        session, now = self._session(token), utc_now()
        if session is None:
            return None
        idle = (now - session.seen_on).total_seconds()
        if idle > min(_NOTE_EVERY, self._settings.session_idle / 4):
            self._sessions.seen(session.id, now)
        return session

    def _session(self, token: str) -> Session | None:
        """The session of a token, unless it is too old or was not used for too long."""
        session = self._sessions.find(_id(token))
        if session is None:
            return None
        now = utc_now()
        idle = (now - session.seen_on).total_seconds()
        age = (now - session.created_on).total_seconds()
        if idle > self._settings.session_idle or age > self._settings.session_max:
            self._sessions.remove(session.id)
            return None
        return session

    def _principal(self, session: Session) -> Principal | None:
        """The session's user with the current role; None for a disabled user or a revoked key."""
        kind, _, name = session.subject.partition(":")
        if kind == "key":
            return self._services.keys.by_prefix(name)
        role = self._user(name).role if kind == "user" else session.role
        return Principal(session.actor, role) if role else None

    def _user(self, name: str) -> _User:
        now = time.monotonic()
        known = self._users.get(name)
        if known is None or known.until < now:
            user = self._services.store.users.find(name)
            role = user.role if user and user.disabled_on is None else None
            if len(self._users) > 1000:
                self._users.clear()
            self._users[name] = known = _User(now + _TRUST, role, self._must_enroll(name, role))
        return known

    def _must_enroll(self, name: str, role: Role | None) -> bool:
        """Whether the settings ask for a second factor that the user has not set up."""
        asked = self._settings.second_factor
        if role is None or asked == "optional" or (asked == "admins" and role != "admin"):
            return False
        factor = self._services.store.factors.find(name)
        return factor is None or factor.confirmed_on is None


def _id(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def is_secure() -> bool:
    """Whether the browser uses TLS, to this server or to the proxy at public_url."""
    services: Services = current_app.extensions["custsvc"]
    return request.is_secure or services.settings.public_url.startswith("https://")


def cookie_name() -> str:
    """The cookie's name: `__Host-` pins it to this host, but browsers accept that over TLS only."""
    return "__Host-custsvc" if is_secure() else "custsvc"
