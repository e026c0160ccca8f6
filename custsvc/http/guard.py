"""The guard before every handler: it finds the principal, who must have the required role.

A route is closed unless it says otherwise, so a forgotten one stays closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from werkzeug.exceptions import NotFound
from werkzeug.sansio.utils import host_is_trusted
from werkzeug.wsgi import get_host

from ..accounts.keys import KeyRing, Principal, is_loopback
from ..domain.events import new_event_id
from ..domain.requests import valid_request_id
from ..ports.accounts import Role
from .heads import check_head
from .limit import Allowance, RateLimit
from .problems import RETRY_AFTER, Problem, bad_parameter
from .request import Request
from .starting import Starting

PROBES: Final = ("/livez", "/readyz", "/metrics")
# Paths that need no database.
_ANSWERED_ALWAYS: Final = ("/livez", "/metrics")
SAFE: Final = ("GET", "HEAD", "OPTIONS")
# Headers that proxies and tunnels add; programs on this machine have no reason to.
_FORWARDING: Final = (
    *("HTTP_X_FORWARDED", "HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_REAL_IP", "HTTP_X_CLIENT_IP"),
    *("HTTP_TRUE_CLIENT_IP", "HTTP_CF_", "HTTP_CDN_LOOP", "HTTP_X_CLUSTER_CLIENT_IP", "HTTP_FASTLY_"),
    *("HTTP_FLY_", "HTTP_X_ORIGINAL_", "HTTP_X_REWRITE_URL", "HTTP_X_ENVOY_", "HTTP_X_PROXYUSER_IP"),
    *("HTTP_X_AZURE_", "HTTP_X_REMOTE_", "HTTP_X_HOST", "HTTP_X_SCHEME", "HTTP_CLIENT_IP"),
)
# Header names that were checked already: nearly all requests have the same ones.
_harmless: set[str] = set()
# Values of Host that are known to name this machine: nearly all requests have the same one.
_loopback: set[str] = set()
_KNOWN_MAX: Final = 1000
_OWN_SITES: Final = ("same-origin", "none")
# Set in the environ of a request that was counted before its body was read.
ALLOWANCE: Final = "custsvc.allowance"
_CHALLENGE: Final = 'Bearer realm="custsvc"'


class RouteAccess(NamedTuple):
    """The guard's facts about a route and a method: the required role, None if it needs no key.

    `is_page`: it has its own sign-in, and no key opens it. `writes`: it may change a customer, so a copy
    refuses it. `by_link`: a signed link is the permission, and its page tells browsers to send no Referer.
    """

    role: Role | None
    is_page: bool = False
    writes: bool = False
    by_link: bool = False


def request_id(environ: dict[str, Any]) -> str:
    """The id of a request: the one it came with, if that is valid, or a new one."""
    return valid_request_id(environ.get("HTTP_X_REQUEST_ID")) or new_event_id()


class Guard:
    """Admits or refuses requests. `keys` None means that no key is needed, which only loopback may have."""

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

    def __call__(self, request: Request, access: RouteAccess | None) -> None:
        """Admit a request, and set its principal and allowance. Without a `RouteAccess` its path is unknown.

        Raises Problem 400, 401, 403, 405, 429, 431 or 503.
        """
        environ = request.environ
        check_head(environ)
        _check_text(request)
        if self._starting is not None and environ["PATH_INFO"].rstrip("/") not in _ANSWERED_ALWAYS:
            _check_started(self._starting)
        if self._read_only and access is not None and access.writes:
            raise _read_only()
        if self._hosts:
            _check_trusted(environ, self._hosts)
        if self._keys is None:
            _check_host(environ)
            _check_sender(environ, access)
            if self._limit is not None:
                request.allowance = _counted(self._limit, environ, address_of(environ))
            return
        # 404 and 405 need no key.
        if access is None or access.is_page or access.role is None:
            return
        self._check_key(self._keys, request, access.role)

    def _check_key(self, keys: KeyRing, request: Request, role: Role) -> None:
        environ = request.environ
        try:
            request.principal = principal = principal_of(keys, environ)
        except Problem:
            # Count wrong keys by address: they belong to no caller.
            if self._limit is not None:
                self._limit.check(address_of(environ))
            if self._tries is not None and sent_key(environ) is not None:
                self._tries.check(f"tries of {address_of(environ)}")
            raise
        if self._limit is not None:
            request.allowance = _counted(self._limit, environ, f"key {principal.id}")
        if not principal.may(role):
            raise Problem(403, "forbidden", f"this needs the role {role}; the key has {principal.role}")


def _check_started(starting: Starting) -> None:
    if reason := starting.reason():
        members = {"dependency": starting.dependency}
        raise Problem(503, "dependency-down", reason, headers=[RETRY_AFTER], members=members)


def _check_text(request: Request) -> None:
    """Refuse NUL: it is in no text of ours, and one of the databases cannot store it.

    Raises NotFound for a path that holds one, Problem 400 for a parameter.
    """
    if "\0" in request.environ["PATH_INFO"]:
        raise NotFound
    if "%00" in request.query_string:
        for name, value in request.query:
            if "\0" in name or "\0" in value:
                raise bad_parameter(name, "must be text without NUL characters")


def _counted(limit: RateLimit, environ: dict[str, Any], caller: str) -> Allowance:
    """The caller's allowance; a request is counted once, maybe already before its body was read."""
    counted: Allowance | None = environ.get(ALLOWANCE)
    return counted or limit.check(caller)


def _read_only() -> Problem:
    detail = "this is a copy, which only shows; write to the system of record"
    return Problem(405, "read-only", detail, headers=[("Allow", ", ".join(SAFE))])


def principal_of(keys: KeyRing, environ: dict[str, Any]) -> Principal:
    """The owner of the request's key. Raises Problem 401."""
    key = sent_key(environ)
    if key is None:
        raise _unauthorized("send a key as `Authorization: Bearer KEY`", _CHALLENGE)
    principal = keys.principal(key)
    if principal is None:
        raise _unauthorized("this is not a valid key", f'{_CHALLENGE}, error="invalid_token"')
    return principal


def sent_key(environ: dict[str, Any]) -> str | None:
    """The key of a request, or None."""
    authorization = environ.get("HTTP_AUTHORIZATION")
    if authorization is None:
        return environ.get("HTTP_X_API_KEY") or None
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _unauthorized(detail: str, challenge: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers=[("WWW-Authenticate", challenge)])


def address_of(environ: dict[str, Any]) -> str:
    """The address for which a request without a key is counted."""
    return f"address {environ.get('REMOTE_ADDR', '')}"


def _host(environ: dict[str, Any]) -> str:
    whole = get_host(environ)
    host = whole.rpartition(":")[0] if not whole.endswith("]") else whole
    return (host or whole).lower()


def _check_trusted(environ: dict[str, Any], hosts: Sequence[str]) -> None:
    # Probes come by address, and their answers hold no personal data.
    if environ["PATH_INFO"].rstrip("/") not in PROBES and not host_is_trusted(_host(environ), hosts):
        raise Problem(400, "untrusted-host", "the Host header is not one that this server is known by")


def _check_host(environ: dict[str, Any]) -> None:
    # Without keys, a web page could reach us through its own host name, pointed to 127.0.0.1 (DNS rebinding).
    # Its requests carry that name as Host.
    said = environ.get("HTTP_HOST")
    if said in _loopback:
        return
    if is_loopback(_host(environ)):
        if said and len(_loopback) < _KNOWN_MAX:
            _loopback.add(said)
    else:
        raise Problem(400, "untrusted-host", "without API keys only loopback names are served")


def _check_sender(environ: dict[str, Any], access: RouteAccess | None) -> None:
    """Without keys, refuse requests that a browser sends for another site's page, and proxied ones.

    Any local program that sends a request counts as the machine's owner; those two act for someone else.
    """
    unknown = environ.keys() - _harmless
    for name in unknown:
        if name.startswith(_FORWARDING):
            header = name.removeprefix("HTTP_").replace("_", "-").title()
            detail = f"the request came through a proxy ({header}), for which API keys are needed"
            raise Problem(403, "forbidden", f"{detail}; set CUSTSVC_AUTH=on")
    if len(_harmless) < _KNOWN_MAX:
        _harmless.update(unknown)
    if environ["REQUEST_METHOD"] in SAFE or (access is not None and access.by_link):
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
    return origin is None or origin == f"{environ['wsgi.url_scheme']}://{get_host(environ)}"
