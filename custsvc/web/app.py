"""Puts the pages together: the blueprint, what happens before and after each page, and its errors."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Flask, Response, g, redirect, render_template, request
from werkzeug.exceptions import HTTPException

from .. import __version__
from ..api.codes import CODES
from ..api.problems import Problem, answer, problem_of
from ..api.resource import Services
from . import (
    customers,
    dead,
    editing,
    importing,
    mails,
    oidc,
    once,
    one,
    pipeline,
    security,
    signin,
    static,
    toast,
    words,
)
from .access import EXTENSION, Web, role_of, web

BLUEPRINT: Final = "web"

# Address, name, and where else its tab is the current one.
_NAV: Final = (
    ("/ui/customers", "Customers", "/ui/import"),
    ("/ui/activity", "Activity", "/ui/activity"),
    ("/ui/pipeline", "Pipeline", "/ui/dead-letters"),
    ("/ui/mails", "Mails", "/ui/mailbox"),
)
_PLAIN: Final = frozenset(("web.static_asset", "web.favicon"))
_CURES: Final = {
    403: "Ask somebody with a higher role, or sign in as somebody else.",
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
    for part in (static, signin, oidc, customers, editing, one, pipeline, mails, dead, importing):
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
    """A path that leads nowhere: for pages a page, for the rest a problem."""
    return error_page(exc) if request.path.startswith("/ui") else answer(exc)


def _before() -> Response | None:
    """Who asks, whether they may, and whether an unsafe request comes from a page of ours."""
    security.read_head_as_get()
    if request.endpoint in _PLAIN:
        return None
    if request.endpoint == importing.ENDPOINT and request.mimetype != security.FORM:
        request.max_content_length = importing.LARGEST + 64 * 1024
    g.browser = browser = web().browsers.of_request()
    security.check_fields()
    security.check_origin(browser)
    security.check_text()
    needed = role_of(request.endpoint or "", request.method)
    if needed is None:
        return None
    if browser.principal is None:
        return signin.asked_to_sign_in()
    g.principal = browser.principal
    if not browser.principal.may(needed):
        raise Problem(403, "forbidden", f"this needs the role {needed}; you have {browser.principal.role}")
    return None


def _after(response: Response) -> Response:
    if "browser" in g:
        web().browsers.keep(g.browser, response)
    security.add_headers(response)
    return response


def _context() -> dict[str, Any]:
    """What every page may use."""
    browser = g.get("browser")
    settings = web().services.settings
    principal = browser.principal if browser else None
    return {
        "asset": static.address,
        "browser": browser,
        "nav": _NAV,
        "csrf": browser.csrf if browser else "",
        "may_write": principal is not None and principal.may("write") and not settings.read_only,
        "signs_in": settings.auth == "on",
        "settings": settings,
        "take_toast": toast.take,
        "app_version": __version__,
    }


def error_page(exc: Exception) -> Response:
    """What went wrong, as a page: the same words as the API's, and what to do."""
    problem = problem_of(exc)
    body = render_template(
        "error.html",
        problem=problem,
        title=CODES[problem.code].title,
        cure=_CURES.get(problem.status, ""),
    )
    response = Response(body, problem.status, list(problem.headers), content_type="text/html; charset=utf-8")
    return _after(response)
