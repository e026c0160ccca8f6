"""The services that every page uses, and the role that each page needs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from flask import Blueprint, current_app, g

from ..http.resource import Services
from ..ports.accounts import Role
from ..service.customers import Caller
from .attention import Attention
from .browser import Browsers
from .jobs import Jobs
from .monitor import Monitor

EXTENSION: Final = "custsvc.web"

_SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_ROLES: Final = "page_roles"
_ACTS: Final = "page_acts"
# The most bytes of a form without sign-in: a name and a password, or a key.
_SMALL: Final = 16 * 1024

View = TypeVar("View", bound=Callable[..., Any])


class Web:
    """The services of the app, and the browsers that use it."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.browsers = Browsers(services)
        self.monitor = Monitor(services)
        self.attention = Attention(services)
        self.jobs = Jobs(services.store.shelf, services.store.facts)
        self.provider: object = None
        # Rung when somebody asks for a link to reset a password.
        self.reset_bell = threading.Event()


def web() -> Web:
    """The `Web` of the current app."""
    return cast(Web, current_app.extensions[EXTENSION])


def services() -> Services:
    return web().services


def has_copy() -> bool:
    """Whether `serve` has the address of a copy."""
    settings = services().settings
    return bool(settings.mongo_url if settings.other_backend == "mongo" else settings.postgres_url)


def caller() -> Caller:
    """The user who makes the current request."""
    return Caller(g.principal.name, g.request_id, g.asked.traceparent)


def still_may(role: Role = "read") -> tuple[Callable[[], bool], str | None]:
    """A check for later whether the user still has the role; and the user's name for limits, or None."""
    browser = g.browser
    if browser.session is None:
        return lambda: True, None  # auth is off
    return web().browsers.permit(browser, role), f"session of {browser.session.subject}"


def anybody(view: View) -> View:
    """Mark a page that needs no sign-in. All others need one."""
    view.__dict__[_ROLES] = None
    return takes(_SMALL)(view)


def needs(role: Role) -> Callable[[View], View]:
    """Mark a page that needs this role. By default GET needs read, other methods need write."""

    def mark(view: View) -> View:
        view.__dict__[_ROLES] = role
        return view

    return mark


def takes(size: int) -> Callable[[View], View]:
    """Mark a page whose form may have up to `size` bytes."""

    def mark(view: View) -> View:
        view.__dict__["body_max"] = size
        return view

    return mark


def acts(view: View) -> View:
    """Mark a page whose GET changes something, as OpenID Connect requires. It accepts no HEAD."""
    view.__dict__[_ACTS] = True
    return view


def acts_on_get(endpoint: str) -> bool:
    """Whether the page is marked by `acts`."""
    return bool(getattr(current_app.view_functions.get(endpoint), _ACTS, False))


def role_of(endpoint: str, method: str) -> Role | None:
    """The role that a page needs; None if it needs no sign-in."""
    view = current_app.view_functions.get(endpoint)
    default: Role = "read" if method in _SAFE else "write"
    if view is None:
        return default
    return cast("Role | None", view.__dict__.get(_ROLES, default))


def route(blueprint: Blueprint, path: str, view: Callable[..., Any], *methods: str) -> None:
    """Serve `view` at `path`, with and without a final slash."""
    name = f"{view.__module__.rpartition('.')[2]}_{view.__name__}"
    for rule in (path, path + "/"):
        blueprint.add_url_rule(rule, name, view, methods=list(methods or ("GET",)))
