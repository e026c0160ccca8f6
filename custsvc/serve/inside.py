"""The third door: the API's own handlers within this process, without a port, a key or a server.

Commands that work at the database use it, so that they say, check and store the same as over the API.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..accounts.keys import Principal
from ..config import Settings
from ..http.guard import RouteAccess
from ..http.problems import Problem
from ..http.request import Request
from ..ports.store import Store
from .door import DirectDoor, Environ, Wsgi
from .finish import Finish
from .routes import routes
from .services import services_of


def api_inside(settings: Settings, store: Store, actor: str) -> Wsgi:
    """A WSGI application over this store, for one caller who may do everything.

    `actor` is the author of the changes. With `settings.read_only` the store is a copy.
    """
    services = services_of(settings, store)
    principal = Principal(actor, "admin", f"inside {actor}")

    def admit(request: Request, access: RouteAccess | None) -> None:
        if settings.read_only and access is not None and access.writes:
            raise Problem(405, "read-only", "this is a copy; write to the system of record")
        request.principal = principal

    return DirectDoor(_nowhere, routes(services), admit, Finish(services.big, None))


def _nowhere(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    answer = Problem(404, "not-found", f"there is nothing at {environ['PATH_INFO']}").answer("inside")
    start_response("404 Not Found", [("Content-Type", "application/problem+json"), *answer.headers])
    return [answer.body] if isinstance(answer.body, bytes) else answer.body
