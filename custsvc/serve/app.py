"""Builds the app: services, routes, the guard before them and the problem answers after them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from flask import Flask, Response, g, request
from flask_restful import Api, Resource
from werkzeug.exceptions import MethodNotAllowed, NotFound, RequestEntityTooLarge
from werkzeug.routing import BaseConverter, Rule

from ..accounts.keys import ANONYMOUS, check_exposure
from ..api import unsubscribe
from ..config import Settings
from ..domain.customers import INT64_MAX
from ..http.asked import ASK, Admitted, Asked
from ..http.framework import (
    BodyRequest,
    body_limit,
    finished,
    problem_response,
    request_at_hand,
    response_of,
)
from ..http.guard import SAFE, Guard, RouteAccess, request_id
from ..http.intake import BODY_MAX, encoding_of
from ..http.limit import RateLimit
from ..http.request import Request
from ..http.resource import ApiResource
from ..http.starting import Starting
from ..ports.store import Store
from ..stores import open_store
from ..web import add_pages
from . import traced
from .access_log import access_log
from .door import DirectDoor
from .finish import Finish
from .measure import observe
from .routes import Route, routes
from .services import services_of

_PAGES: Final = "web."
# Signing in to a copy, and out again, writes a session but no customer.
_SIGN_IN: Final = "web.signin_"
_BY_LINK: Final = "unsubscribe"


class _IdConverter(BaseConverter):
    """A customer id in the path: decimal, as we write it. Anything else is not one of our paths."""

    regex = "[1-9][0-9]{0,18}"

    def to_python(self, value: str) -> int:
        if int(value) > INT64_MAX:
            raise NotFound  # Werkzeug's own refusal would become a 405 for some methods.
        return int(value)


class _Rule(Rule):
    """A route that compiles its URL builder when it first builds a URL.

    Werkzeug compiles two functions for each route, which took four fifths of the time to make the app, and
    few of them are ever called.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        made: list[Callable[..., tuple[str, str]]] = []

        def build(rule: Rule, **values: Any) -> tuple[str, str]:
            if not made:
                made.append(super(_Rule, self)._compile_builder(append_unknown))
            return made[0](rule, **values)

        return build


class _App(Flask):
    """Flask without features that cost time and are unused here, and with the check before a body."""

    request_class = BodyRequest
    url_rule_class = _Rule

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func  # No view is async, so skip that check.

    def dispatch_request(self) -> Any:
        ask: Asked | None = request.environ.get(ASK)
        if ask is None:
            return super().dispatch_request()
        if request.routing_exception is not None:
            self.raise_routing_exception(request)
        encoding_of(request.environ)
        limit = body_limit(request.endpoint)
        if (request.content_length or 0) > limit:
            raise RequestEntityTooLarge
        ask.admitted = self._sender(limit)
        ask.allowance = request_at_hand().allowance
        return Response(status=204)

    def process_response(self, response: Response) -> Response:
        ask: Asked | None = request.environ.get(ASK)
        if ask is not None and ask.admitted is not None:
            return response  # nobody gets it
        return super().process_response(response)

    def _sender(self, limit: int) -> Admitted:
        if g.principal is not ANONYMOUS:
            return Admitted(f"key {g.principal.id}" if g.principal.id else f"user {g.principal.name}", limit)
        is_stranger = self.extensions["custsvc"].settings.auth == "on"
        return Admitted(f"address {request.remote_addr}", limit, is_stranger)


class _Api(Api):  # type: ignore[misc]
    """Flask-RESTful for routing only: Flask handles errors, so that there is one way to answer them."""

    def error_router(self, original_handler: Callable[[Exception], Any], e: Exception) -> Any:
        return original_handler(e)


class _Adapter(Resource):  # type: ignore[misc]
    """A handler of ours as a resource of Flask-RESTful."""

    init_every_request = False

    def __init__(self, handler: ApiResource) -> None:
        self._handler = handler

    def dispatch_request(self, **named: Any) -> Response:
        asked = request_at_hand()
        asked.body_max = self._handler.longest_body()
        return response_of(self._handler.answer(asked, **named))


def build(
    settings: Settings,
    store: Store | None = None,
    limit_table: str | None = None,
    starting: Starting | None = None,
) -> Flask:
    """The app over this store, or over that of the settings. Raises ConfigurationError.

    `limit_table` is the file in which the processes of a server count requests; `starting` says whether they
    may work yet.
    """
    check_exposure(settings.auth, settings.http_host)
    limit = RateLimit(settings.rate_limit, limit_table) if settings.rate_limit else None
    services = services_of(settings, store or open_store(settings), limit, limit_table)
    app = _App("custsvc", static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=BODY_MAX, MAX_FORM_MEMORY_SIZE=BODY_MAX, MAX_FORM_PARTS=100)
    app.extensions["custsvc"] = services
    app.url_map.converters["id"] = _IdConverter
    app.url_map.merge_slashes = False
    guard = Guard(
        services.keys if settings.auth == "on" else None,
        read_only=settings.read_only,
        hosts=[host.strip() for host in settings.trusted_hosts.split(",") if host.strip()],
        limit=limit,
        starting=starting,
        tries=services.tries,
    )
    finish = Finish(services.big, limit, access_log(settings))
    _add_guard(app, guard, finish)
    app.register_error_handler(Exception, problem_response)
    served = list(routes(services))
    _add_routes(app, served)
    unsubscribe.add_to(app, services)
    add_pages(app, services)
    app.wsgi_app = DirectDoor(app.wsgi_app, served, guard, finish)  # type: ignore[method-assign]
    return app


def _add_guard(app: Flask, guard: Guard, finish: Finish) -> None:
    accesses: dict[tuple[str, str], RouteAccess] = {}

    def before() -> None:
        environ = request.environ
        g.asked = asked = Request(environ, request_id(environ))
        g.request_id, g.principal = asked.id, asked.principal
        traced.begin(asked)
        rule, method = request.url_rule, asked.method
        if method != request.method and rule is not None:
            # Methods are case-sensitive; Werkzeug would route `post` like POST.
            raise MethodNotAllowed(sorted(rule.methods or ()))
        endpoint = request.endpoint
        access = None
        if endpoint is not None:
            access = accesses.get((endpoint, method))
            if access is None:
                access = accesses[endpoint, method] = _access_of(app, endpoint, method)
        guard(asked, access)
        g.principal = asked.principal

    def after(response: Response) -> Response:
        asked, rule = request_at_hand(), request.url_rule
        route = rule.rule if rule else None
        observe(asked, route, response.status_code)
        traced.end(asked, route, response.status_code)
        return finished(response, lambda answer: finish(asked, answer, route))

    app.before_request(before)
    app.after_request(after)


def _access_of(app: Flask, endpoint: str, method: str) -> RouteAccess:
    view: Any = getattr(app.view_functions[endpoint], "view_class", None)
    return RouteAccess(
        role=view.role(method) if hasattr(view, "role") else "admin",
        is_page=endpoint.startswith(_PAGES),
        writes=method not in SAFE and not endpoint.startswith(_SIGN_IN),
        by_link=endpoint == _BY_LINK,
    )


def _add_routes(app: Flask, served: Sequence[Route]) -> None:
    api = _Api(app)
    for name, path, handler in served:
        about = {"methods": handler.methods(), "role": handler.role, "body_max": handler.longest_body()}
        resource = type(name, (_Adapter,), about)
        api.add_resource(
            resource, path, path + "/", endpoint=name, resource_class_kwargs={"handler": handler}
        )
