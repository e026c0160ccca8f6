"""Puts the pages together: the blueprint, the steps before and after each page, and error pages."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Flask, Response, g, redirect, render_template, request
from werkzeug.exceptions import HTTPException

from .. import __version__
from ..http.asked import ASK
from ..http.codes import CODES
from ..http.framework import problem_response, request_at_hand
from ..http.guard import ALLOWANCE, address_of
from ..http.problems import Problem, problem_for
from ..http.resource import Services
from . import (
    account,
    admin,
    bulk,
    caught,
    customers,
    dead,
    duplicates,
    editing,
    events,
    importing,
    mails,
    merging,
    oidc,
    once,
    one,
    person,
    pipeline,
    proving,
    reset,
    security,
    sent,
    signin,
    static,
    toast,
    undoing,
    views,
    words,
)
from .access import EXTENSION, Web, role_of, web
from .browser import Browser

BLUEPRINT: Final = "web"

# Address, name, and other addresses at which the tab is the current one.
_NAV: Final = (
    ("/ui/customers", "Customers", ("/ui/import", "/ui/views", "/ui/bulk", duplicates.PATH)),
    ("/ui/activity", "Activity", ("/ui/events",)),
    ("/ui/pipeline", "Pipeline", ("/ui/dead-letters",)),
    ("/ui/mails", "Mails", ("/ui/mailbox",)),
)
_FOR_ADMINS: Final = (("/ui/admin", "Admin", ()),)
_PLAIN: Final = frozenset(("web.static_asset", "web.favicon"))
_CURES: Final = {
    403: "Ask a user with a higher role, or sign in as another user.",
    404: "It may have been moved, or the address may have been mistyped.",
    503: "Nothing was changed. Try again in a moment.",
}


def add_pages(app: Flask, services: Services) -> None:
    """Serve the web app at `/` and below `/ui`."""
    blueprint = Blueprint(BLUEPRINT, __name__, template_folder="templates")
    blueprint.before_request(_before)
    blueprint.after_request(_after)
    blueprint.register_error_handler(Exception, error_page)
    blueprint.add_url_rule("/", "home", _home)
    for part in (
        *(static, signin, oidc, customers, editing, merging, duplicates, one, pipeline, mails, dead),
        *(importing, undoing, views, bulk),
        *(proving, events, caught, sent, person, account, admin, reset),
    ):
        part.add_routes(blueprint)
    app.extensions[EXTENSION] = Web(services)
    app.context_processor(_context)
    app.register_error_handler(HTTPException, _not_routed)
    words.add_filters(app)
    app.jinja_env.globals["once_key"] = once.new_key
    app.register_blueprint(blueprint)


def _home() -> Any:
    return redirect("/ui/customers", 302)


def _not_routed(exc: HTTPException) -> Response:
    """Answer an unknown path: below /ui with an error page, elsewhere with a problem."""
    return error_page(exc) if request.path.startswith("/ui") else problem_response(exc)


def _before() -> Response | None:
    """Find the user, check the role, and check that an unsafe request comes from one of our pages."""
    security.read_head_as_get()
    if request.endpoint in _PLAIN:
        return None
    g.browser = browser = web().browsers.of_request()
    _count(browser)
    security.check_site()
    needed = role_of(request.endpoint or "", request.method)
    if needed is not None:
        if browser.principal is None:
            return signin.asked_to_sign_in()
        g.principal = browser.principal
        if not browser.principal.may(needed):
            detail = f"this needs the role {needed}; you have {browser.principal.role}"
            raise Problem(403, "forbidden", detail)
        if browser.must_enroll and not request.path.startswith(account.PATH):
            return signin.led_to(account.PATH)
    # Last, so that the form of a user without the role is never read.
    if ASK not in request.environ:
        security.check_fields()
        security.check_token(browser)
        security.check_text()
    return None


def _count(browser: Browser) -> None:
    """Count the request for the signed-in user, else for the address, if requests are limited."""
    limit = web().services.limit
    if limit is None or web().services.settings.auth != "on":
        return  # without sign-in it was counted with all other requests
    caller = f"session of {browser.session.subject}" if browser.session else address_of(request.environ)
    request_at_hand().allowance = request.environ.get(ALLOWANCE) or limit.check(caller)


def _after(response: Response) -> Response:
    if "browser" in g:
        web().browsers.keep(g.browser, response)
    security.add_headers(response)
    return response


def _context() -> dict[str, Any]:
    """The variables of every template."""
    browser = g.get("browser")
    settings = web().services.settings
    principal = browser.principal if browser else None
    return {
        "asset": static.address,
        "browser": browser,
        "nav": _NAV + _FOR_ADMINS if principal is not None and principal.may("admin") else _NAV,
        "csrf": browser.csrf if browser else "",
        "may_write": principal is not None and principal.may("write") and not settings.read_only,
        "may_administer": principal is not None and principal.may("admin"),
        "signs_in": settings.auth == "on",
        "settings": settings,
        "take_toast": toast.take,
        "app_version": __version__,
    }


def error_page(exc: Exception) -> Response:
    """An error as a page: the API's words for it, and what the user can do."""
    problem = problem_for(exc, g.request_id)
    body = render_template(
        "error.html",
        problem=problem,
        title=CODES[problem.code].title,
        cure=_CURES.get(problem.status, ""),
    )
    response = Response(body, problem.status, list(problem.headers), content_type="text/html; charset=utf-8")
    return _after(response)
