"""Puts the app together: services, routes, the guard before them and the problems after them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from flask import Flask, Response, current_app, g, request
from flask_restful import Api
from werkzeug.exceptions import NotFound, RequestEntityTooLarge
from werkzeug.routing import BaseConverter, Rule

from ..accounts.keys import ANONYMOUS, KeyRing, check_exposure
from ..api import batch, bulk, customers, docs, events, failed, health, notifications, unsubscribe
from ..config import Settings
from ..domain.customers import INT64_MAX
from ..http.asked import ASK, Admitted, Asked
from ..http.compress import SHORTEST, compress
from ..http.copy import Copy
from ..http.cursors import Cursors
from ..http.guard import Guard
from ..http.intake import BODY_MAX, BodyRequest, body_limit, encoding_of
from ..http.limit import TRIES, RateLimit
from ..http.problems import Problem, answer
from ..http.resource import ApiResource, Services
from ..http.starting import Starting
from ..http.streams import BigAnswers, LazyFeed, Streams
from ..ports.store import Store
from ..service.customers import CustomerService
from ..service.event_limit import EventLimit
from ..service.leftovers import Leftovers
from ..stores import open_store
from ..web import add_pages
from . import measure

logger = logging.getLogger(__name__)

# Every route there is. Each path answers with and without a final slash.
ROUTES: Final[tuple[tuple[str, type[ApiResource]], ...]] = (
    ("/api/customers", customers.CustomerList),
    ("/api/customers/export", bulk.CustomerExport),
    ("/api/customers/import", bulk.CustomerImport),
    ("/api/customers/<id:customer_id>", customers.OneCustomer),
    ("/api/customers/<id:customer_id>/restore", customers.CustomerRestore),
    ("/api/customers/<id:customer_id>/revert", customers.CustomerRevert),
    ("/api/customers/<id:customer_id>/erase", customers.CustomerErase),
    ("/api/customers/<id:customer_id>/history", customers.CustomerHistory),
    ("/api/customers/batch", batch.CustomerBatch),
    ("/api/customers/<id:customer_id>/notifications", notifications.CustomerNotifications),
    ("/api/failed", failed.FailedList),
    ("/api/failed/<entry_id>/retry", failed.FailedRetry),
    ("/api/failed/<entry_id>/discard", failed.FailedDiscard),
    ("/api/status", health.Status),
    ("/api/openapi.json", docs.OpenApi),
    ("/api/schema", docs.Schema),
    ("/api/docs", docs.Docs),
    ("/api/docs/<name>", docs.DocsFile),
    ("/api/events/stream", events.EventStream),
    ("/api/events/schema", docs.EventSchema),
    ("/api/events/asyncapi.json", docs.AsyncApi),
    ("/problems", docs.ProblemIndex),
    ("/problems/<code>", docs.ProblemPage),
    ("/metrics", measure.Metrics),
    ("/livez", health.Live),
    ("/readyz", health.Ready),
)

# The original services' paths, and what their answers say of them (RFC 9745, RFC 8288).
ORIGINALS: Final[tuple[tuple[str, type[ApiResource]], ...]] = (
    ("/customers", customers.CustomerList),
    ("/customers/<id:customer_id>", customers.OneCustomer),
)
_DEPRECATION: Final = "@1795392000"
_SUCCESSOR: Final = '</api/customers/>; rel="successor-version"'


class _IdConverter(BaseConverter):
    """A customer id in the path: decimal, as we write it. Anything else is no path of ours."""

    regex = "[1-9][0-9]{0,18}"

    def to_python(self, value: str) -> int:
        if int(value) > INT64_MAX:
            raise NotFound  # Werkzeug's own refusal would turn into a 405 for some methods.
        return int(value)


class _Rule(Rule):
    """A route that compiles its way to write addresses when it is first asked for one.

    Werkzeug compiles two functions for each, which was four fifths of the time that making the app took,
    and few of them are ever called.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        made: list[Callable[..., tuple[str, str]]] = []

        def build(rule: Rule, **values: Any) -> tuple[str, str]:
            if not made:
                made.append(super(_Rule, self)._compile_builder(append_unknown))
            return made[0](rule, **values)

        return build


class _App(Flask):
    """Flask without what costs each request and serves none here, and with the question before a body."""

    request_class = BodyRequest
    url_rule_class = _Rule

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func  # Nothing is async here, so nothing need be asked whether it is.

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
        ask.allowance = g.get("allowance")
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
    """Flask-RESTful for routing only: errors stay Flask's, so that there is one way to answer them."""

    def error_router(self, original_handler: Callable[[Exception], Any], e: Exception) -> Any:
        return original_handler(e)


def build(
    settings: Settings,
    store: Store | None = None,
    limit_table: str | None = None,
    starting: Starting | None = None,
) -> Flask:
    """The app over this store, or over that of the settings. Raises ConfigurationError.

    `limit_table` is the file that the processes of a server count requests in; `starting` says whether they
    may work yet.
    """
    check_exposure(settings.auth, settings.http_host)
    store = store or open_store(settings)
    limit = RateLimit(settings.rate_limit, limit_table) if settings.rate_limit else None
    services = Services(
        settings=settings,
        store=store,
        customers=CustomerService(
            store.customers,
            store.answers,
            event_limit=EventLimit(store.facts),
            leftovers=Leftovers(store.customers, store.facts, store.recipients),
        ),
        cursors=Cursors(store.secret),
        keys=KeyRing(store.keys),
        streams=Streams(settings.streams),
        big=BigAnswers(),
        limit=limit,
        tries=RateLimit(TRIES, limit_table),
        feed=LazyFeed(settings),
        copy=Copy(store.customers, settings.threads) if settings.read_only else None,
    )
    app = _App("custsvc", static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=BODY_MAX, MAX_FORM_MEMORY_SIZE=BODY_MAX, MAX_FORM_PARTS=100)
    app.extensions["custsvc"] = services
    app.url_map.converters["id"] = _IdConverter
    app.url_map.merge_slashes = False
    app.before_request(
        Guard(
            services.keys if settings.auth == "on" else None,
            read_only=settings.read_only,
            hosts=[host.strip() for host in settings.trusted_hosts.split(",") if host.strip()],
            limit=limit,
            starting=starting,
            tries=services.tries,
        )
    )
    if limit is not None:
        app.after_request(partial(_tell_limit, limit))
    app.after_request(_finish)
    measure.observe(app)
    app.register_error_handler(Exception, answer)
    _add_routes(app, services)
    unsubscribe.add_to(app, services)
    add_pages(app, services)
    return app


def _add_routes(app: Flask, services: Services) -> None:
    api = _Api(app)
    for prefix, routes in (("", ROUTES), ("original_", ORIGINALS)):
        for path, resource in routes:
            api.add_resource(
                resource,
                path,
                path + "/",
                endpoint=prefix + resource.__name__,
                resource_class_kwargs={"services": services},
            )
    if logger.isEnabledFor(logging.DEBUG):
        app.before_request(_start_clock)


def _tell_limit(limit: RateLimit, response: Response) -> Response:
    if "allowance" in g:
        response.headers.extend(limit.headers(g.allowance))
    return response


def _start_clock() -> None:
    g.started = time.perf_counter()


def _finish(response: Response) -> Response:
    """The headers of every answer, and its compression."""
    parts: Any = response.response
    if not isinstance(parts, list) or sum(map(len, parts)) >= SHORTEST:
        response = _put_long(response)
    headers = response.headers
    headers.add("X-Request-Id", g.request_id)
    headers.add("X-Content-Type-Options", "nosniff")
    if request.environ["PATH_INFO"].startswith("/customers"):
        headers.add("Deprecation", _DEPRECATION)
        headers.add("Link", _SUCCESSOR)
    if logger.isEnabledFor(logging.DEBUG):
        _log(response)
    return response


def _put_long(response: Response) -> Response:
    compress(response)
    try:
        current_app.extensions["custsvc"].big.carry(response)
    except Problem as exc:
        return exc.response()
    return response


def _log(response: Response) -> None:
    started = g.get("started")
    logger.debug(
        "%s %s %d",
        request.method,
        request.path,
        response.status_code,
        extra={
            "action": "request",
            "request_id": g.request_id,
            "actor": g.principal.name,
            "ms": round((time.perf_counter() - started) * 1000, 2) if started else None,
        },
    )
