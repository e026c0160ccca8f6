"""What happens before any resource is called: a request id, and a principal with the role that is needed.

A route is closed unless its view says otherwise, so one that somebody forgets about stays closed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from flask import current_app, g, request
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.sansio.utils import host_is_trusted

from ..accounts.keys import ANONYMOUS, KeyRing, Principal, is_loopback
from ..domain.events import new_event_id
from ..ports.accounts import Role
from .heads import check_head
from .limit import Allowance, RateLimit
from .problems import RETRY_AFTER, Problem, bad_parameter
from .starting import Starting

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
_PAGES: Final = "web."
# Signing in to look at a copy, and out again, writes a session beside it and no customer.
_SIGN_IN: Final = "web.signin_"
PROBES: Final = ("/livez", "/readyz", "/metrics")
# What needs no database.
_ANSWERED_ALWAYS: Final = ("/livez", "/metrics")
_SAFE: Final = ("GET", "HEAD", "OPTIONS")
# What proxies and tunnels add, and programs on this machine have no reason to.
_FORWARDING: Final = (
    *("HTTP_X_FORWARDED", "HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_REAL_IP", "HTTP_X_CLIENT_IP"),
    *("HTTP_TRUE_CLIENT_IP", "HTTP_CF_", "HTTP_CDN_LOOP", "HTTP_X_CLUSTER_CLIENT_IP", "HTTP_FASTLY_"),
    *("HTTP_FLY_", "HTTP_X_ORIGINAL_", "HTTP_X_REWRITE_URL", "HTTP_X_ENVOY_", "HTTP_X_PROXYUSER_IP"),
    *("HTTP_X_AZURE_", "HTTP_X_REMOTE_", "HTTP_X_HOST", "HTTP_X_SCHEME", "HTTP_CLIENT_IP"),
)
# Names of headers that were looked at already: nearly all requests have the same ones.
_harmless: set[str] = set()
_HARMLESS_MAX: Final = 1000
_OWN_SITES: Final = ("same-origin", "none")
# Its page tells browsers not to say where they come from, and the signed link is the permission.
_OPEN_TO_LINKS: Final = ("unsubscribe",)
# In the environ of a request that was counted before its body was read.
ALLOWANCE: Final = "custsvc.allowance"
_CHALLENGE: Final = 'Bearer realm="custsvc"'


class Guard:
    """Lets requests in, or not. `keys` None means that no key is asked, which only loopback may have."""

    def __init__(
        self,
        keys: KeyRing | None,
        *,
        read_only: bool = False,
        hosts: Sequence[str] = (),
        limit: RateLimit | None = None,
        starting: Starting | None = None,
        tries: RateLimit | None = None,
    ) -> None:
        self._keys = keys
        self._read_only = read_only
        self._hosts = hosts
        self._limit = limit
        self._starting = starting
        self._tries = tries
        self._roles: dict[tuple[str, str], Role | None] = {}

    def __call__(self) -> None:
        """The hook before each request. Raises Problem 400, 401, 403, 431 or 503."""
        environ = request.environ
        context = g._get_current_object()  # each use of the proxy looks it up
        given = environ.get("HTTP_X_REQUEST_ID")
        context.request_id = given if given and _REQUEST_ID.fullmatch(given) else new_event_id()
        context.principal = ANONYMOUS
        check_head(environ)
        _check_text(environ)
        if environ["REQUEST_METHOD"] != request.method and request.url_rule is not None:
            # Methods are case-sensitive; Werkzeug would route `post` to what POST does.
            raise MethodNotAllowed(sorted(request.url_rule.methods or ()))
        if self._starting is not None and environ["PATH_INFO"].rstrip("/") not in _ANSWERED_ALWAYS:
            _check_started(self._starting)
        if self._read_only and not (request.endpoint or "").startswith(_SIGN_IN):
            _check_reads(environ["REQUEST_METHOD"])
        if self._hosts:
            _check_trusted(self._hosts)
        if self._keys is None:
            _check_host()
            _check_sender(environ)
            if self._limit is not None:
                context.allowance = _counted(self._limit, address_of(environ))
            return
        endpoint = request.endpoint
        if endpoint is None:
            return  # 404 and 405 are the same for everybody.
        if endpoint.startswith(_PAGES):
            return  # The pages ask for a sign-in of their own; a key opens none of them.
        role = self._role(endpoint, environ["REQUEST_METHOD"])
        if role is None:
            return
        try:
            context.principal = principal = principal_of(self._keys, environ)
        except Problem:
            # Whoever tries out keys has no key to be counted by.
            if self._limit is not None:
                self._limit.check(address_of(environ))
            if self._tries is not None and sent_key(environ) is not None:
                self._tries.check(f"tries of {address_of(environ)}")
            raise
        if self._limit is not None:
            context.allowance = _counted(self._limit, f"key {principal.id}")
        if not principal.may(role):
            raise Problem(403, "forbidden", f"this needs the role {role}; the key has {principal.role}")

    def _role(self, endpoint: str, method: str) -> Role | None:
        known = self._roles.get((endpoint, method), ...)
        if known is not ...:
            return known
        view: Any = getattr(current_app.view_functions[endpoint], "view_class", None)
        role: Role | None = view.role(method) if hasattr(view, "role") else "admin"
        self._roles[endpoint, method] = role
        return role


def _check_started(starting: Starting) -> None:
    if reason := starting.reason():
        members = {"dependency": starting.dependency}
        raise Problem(503, "dependency-down", reason, headers=[RETRY_AFTER], members=members)


def _check_text(environ: dict[str, Any]) -> None:
    """NUL is no character of any text of ours, and one of the databases can hold none.

    Raises NotFound for a path that holds one, Problem 400 for a parameter.
    """
    if "\0" in environ["PATH_INFO"]:
        raise NotFound
    if "%00" in environ.get("QUERY_STRING", ""):
        for name, value in request.args.items(multi=True):
            if "\0" in name or "\0" in value:
                raise bad_parameter(name, "must be text, which holds no NUL")


def _counted(limit: RateLimit, caller: str) -> Allowance:
    """What the caller has left; a request is counted once, which may have been before its body was read."""
    counted: Allowance | None = request.environ.get(ALLOWANCE)
    return counted or limit.check(caller)


def _check_reads(method: str) -> None:
    if method not in _SAFE and request.endpoint is not None:
        detail = "this is a copy, which only shows; write to the system of record"
        raise Problem(405, "read-only", detail, headers=[("Allow", ", ".join(_SAFE))])


def principal_of(keys: KeyRing, environ: dict[str, Any]) -> Principal:
    """Whose key a request holds. Raises Problem 401."""
    key = sent_key(environ)
    if key is None:
        raise _unauthorized("send a key as `Authorization: Bearer KEY`", _CHALLENGE)
    principal = keys.principal(key)
    if principal is None:
        raise _unauthorized("this is not a valid key", f'{_CHALLENGE}, error="invalid_token"')
    return principal


def sent_key(environ: dict[str, Any]) -> str | None:
    """The key that a request holds, None where it holds none."""
    authorization = environ.get("HTTP_AUTHORIZATION")
    if authorization is None:
        return environ.get("HTTP_X_API_KEY") or None
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _unauthorized(detail: str, challenge: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers=[("WWW-Authenticate", challenge)])


def address_of(environ: dict[str, Any]) -> str:
    """Whom a request without a key is counted for."""
    return f"address {environ.get('REMOTE_ADDR', '')}"


def _host() -> str:
    host = request.host.rpartition(":")[0] if not request.host.endswith("]") else request.host
    return (host or request.host).lower()


def _check_trusted(hosts: Sequence[str]) -> None:
    # Probes come by address, and are told nothing of anybody.
    if request.path.rstrip("/") not in PROBES and not host_is_trusted(_host(), hosts):
        raise Problem(400, "untrusted-host", "the Host header is not one that this server is known by")


def _check_host() -> None:
    # Without keys, a page in a browser could reach us through a name of its own that it points to
    # 127.0.0.1 (DNS rebinding). Its requests carry that name.
    if not is_loopback(_host()):
        raise Problem(400, "untrusted-host", "without API keys only loopback names are served")


def _check_sender(environ: dict[str, Any]) -> None:
    """Without keys, refuse what a browser sends for another site's page, and what a proxy passes on.

    Whoever can make a request is taken for the owner of this machine; those two are sent for somebody else.
    """
    unknown = environ.keys() - _harmless
    for name in unknown:
        if name.startswith(_FORWARDING):
            header = name.removeprefix("HTTP_").replace("_", "-").title()
            detail = f"the request came through a proxy ({header}), for which API keys are needed"
            raise Problem(403, "forbidden", f"{detail}; set CUSTSVC_AUTH=on")
    if len(_harmless) < _HARMLESS_MAX:
        _harmless.update(unknown)
    if environ["REQUEST_METHOD"] in _SAFE or request.endpoint in _OPEN_TO_LINKS:
        return
    if environ.get("HTTP_SEC_FETCH_SITE", "none") not in _OWN_SITES or not _is_own_origin(environ):
        raise Problem(
            403,
            "forbidden",
            "the request comes from a page of another site; without API keys only pages of this server "
            "and programs may write",
        )


def _is_own_origin(environ: dict[str, Any]) -> bool:
    origin = environ.get("HTTP_ORIGIN")
    return origin is None or origin == f"{environ['wsgi.url_scheme']}://{request.host}"
