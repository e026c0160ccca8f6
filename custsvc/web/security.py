"""Protects the pages: checks the origin and token of unsafe requests, and sets security headers."""

from __future__ import annotations

import hmac
from typing import Final
from urllib.parse import urlsplit

from flask import Response, request
from werkzeug.exceptions import MethodNotAllowed, RequestEntityTooLarge

from ..http.problems import Problem, bad_parameter
from .access import acts_on_get, services
from .browser import Browser, is_secure

_SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))

# Only content of this origin. Images in style sheets are data: URLs.
CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# The HTML of a mail is not ours: it may use styles and its own images, and load nothing.
_MAIL_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'self'"
)
_HEADERS: Final = (
    ("Content-Security-Policy", CSP),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
    ("Cache-Control", "private, no-store"),
    ("X-Frame-Options", "DENY"),
)
_HSTS: Final = "max-age=31536000"
FORM: Final = "application/x-www-form-urlencoded"
# More fields than any page has. Parsed, a field of 4 bytes takes hundreds of bytes of memory.
_FIELDS_MAX: Final = 2000


def read_head_as_get() -> None:
    """Turn HEAD into GET for the views; the server sends the answer without its body.

    So no view treats HEAD as POST. Answers 405 for a page whose GET changes something.
    """
    if request.method == "HEAD":
        if acts_on_get(request.endpoint or ""):
            raise MethodNotAllowed(("GET",))
        request.method = "GET"


def check_fields() -> None:
    """Refuse a form with very many fields before it is parsed. Answers 413.

    The app's MAX_FORM_PARTS limits multipart forms.
    """
    if request.mimetype == FORM and request.get_data().count(b"&") >= _FIELDS_MAX:
        raise RequestEntityTooLarge


def check_site() -> None:
    """Refuse an unsafe request that does not come from one of our pages. Raises Problem 403.

    Two proofs are needed, since each has gaps: the browser's headers about the request's origin, and the
    token that only our pages have (`check_token`).
    """
    if request.method in _SAFE:
        return
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if (site is not None and site != "same-origin") or (origin is not None and not _is_ours(origin)):
        raise Problem(403, "forbidden", "the request comes from another site")


def check_token(browser: Browser) -> None:
    """Refuse an unsafe request without the token of one of our pages. Raises Problem 403."""
    if request.method in _SAFE:
        return
    token = request.headers.get("X-Csrf-Token") or request.form.get("csrf", "")
    if not hmac.compare_digest(token.encode("utf-8", "replace"), browser.csrf.encode()):
        raise Problem(
            403, "forbidden", "the page was open for too long, or its cookie is gone; load it again and retry"
        )


def check_text() -> None:
    """Refuse a form with a NUL character, which PostgreSQL cannot store. Raises Problem 400."""
    if request.method in _SAFE:
        return
    for name, value in request.form.items(multi=True):
        if "\0" in name or "\0" in value:
            raise bad_parameter(name, "must be text without NUL characters")


def _is_ours(origin: str) -> bool:
    try:
        host = urlsplit(origin).netloc
    except ValueError:  # as of an open bracket
        return False
    return host in (request.host, urlsplit(services().settings.public_url).netloc) and bool(host)


def add_headers(response: Response) -> None:
    """Add the security headers, except those that the page has set."""
    for name, value in _HEADERS:
        response.headers.setdefault(name, value)
    if is_secure():
        response.headers.setdefault("Strict-Transport-Security", _HSTS)


def isolated(html: str) -> Response:
    """The HTML of a mail for a frame: no scripts, no requests to other sites, no access to our pages."""
    response = Response(html, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = _MAIL_POLICY
    response.headers["X-Frame-Options"] = "SAMEORIGIN"
    return response
