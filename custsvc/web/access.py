"""What every page works with, and which role each needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from flask import Blueprint, current_app, g

from ..http.resource import Services
from ..ports.accounts import Role
from ..service.customers import Caller
from .browser import Browsers
from .jobs import Jobs
from .monitor import Monitor

EXTENSION: Final = "custsvc.web"

_SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_ROLES: Final = "page_roles"
_ACTS: Final = "page_acts"
# What strangers may send: a name and a password, or a key.
_SMALL: Final = 16 * 1024

View = TypeVar("View", bound=Callable[..., Any])


class Web:
    """The services of the app, and the browsers that use it."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.browsers = Browsers(services)
        self.monitor = Monitor(services)
        self.jobs = Jobs(services.store.facts)
        self.provider: object = None


def web() -> Web:
    """Of the app at hand."""
    return cast(Web, current_app.extensions[EXTENSION])


def services() -> Services:
    return web().services


def caller() -> Caller:
    """Who makes the change at hand."""
    return Caller(g.principal.name, g.request_id)


def still_may(role: Role = "read") -> tuple[Callable[[], bool], str | None]:
    """How to ask later whether the browser still may do this, and whose it is; None for anybody."""
    browser = g.browser
    if browser.session is None:
        return lambda: True, None  # nobody signs in here
    return web().browsers.permit(browser, role), f"session of {browser.session.subject}"


def anybody(view: View) -> View:
    """Marks a page that is shown without a sign-in. All others are closed."""
    view.__dict__[_ROLES] = None
    return takes(_SMALL)(view)


def needs(role: Role) -> Callable[[View], View]:
    """Marks a page that needs this role. Without, reading needs read and anything else write."""

    def mark(view: View) -> View:
        view.__dict__[_ROLES] = role
        return view

    return mark


def takes(size: int) -> Callable[[View], View]:
    """Marks a page whose form may be so many bytes long."""

    def mark(view: View) -> View:
        view.__dict__["body_max"] = size
        return view

    return mark


def acts(view: View) -> View:
    """Marks a page whose GET changes something, as a protocol of others wants it. It takes no HEAD."""
    view.__dict__[_ACTS] = True
    return view


def acts_on_get(endpoint: str) -> bool:
    """Whether the page is marked so."""
    return bool(getattr(current_app.view_functions.get(endpoint), _ACTS, False))


def role_of(endpoint: str, method: str) -> Role | None:
    """The role that a page needs; None where everybody may see it."""
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
