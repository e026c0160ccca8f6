"""The short message after an action, with its undo, carried over the redirect in a signed cookie."""

from __future__ import annotations

from typing import Any, Final

from flask import Response, after_this_request, g, request
from itsdangerous import BadData, URLSafeTimedSerializer

from .access import services
from .browser import is_secure

_COOKIE: Final = "custsvc_toast"
_MAX_AGE: Final = 60
# Browsers drop a cookie of more than 4 kB.
_LONGEST: Final = 3500


def _serializer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(services().store.secret(), salt="custsvc.toast")


def put(
    text: str,
    *,
    kind: str = "good",
    undo: str | None = None,
    fields: dict[str, str] | None = None,
    label: str = "Undo",
    link: tuple[str, str] | None = None,
) -> None:
    """Show `text` on the next page; its button posts `fields` to the address `undo`."""
    message: dict[str, Any] = {"text": text, "kind": kind, "undo": undo, "fields": fields, "label": label}
    message["link"] = list(link) if link else None
    value = _serializer().dumps(message)
    if len(value) > _LONGEST:
        value = _serializer().dumps({**message, "undo": None, "fields": None})

    @after_this_request
    def keep(response: Response) -> Response:
        response.set_cookie(
            _COOKIE,
            str(value),
            max_age=_MAX_AGE,
            secure=is_secure(),
            httponly=True,
            samesite="Lax",
            path="/ui",
        )
        return response


def take() -> dict[str, Any] | None:
    """The message for this page; it is shown once."""
    if "toast" in g:
        return g.toast  # type: ignore[no-any-return]
    g.toast = None
    value = request.cookies.get(_COOKIE)
    if not value or request.environ["REQUEST_METHOD"] != "GET":
        return None

    @after_this_request
    def forget(response: Response) -> Response:
        response.delete_cookie(_COOKIE, path="/ui", secure=is_secure(), httponly=True, samesite="Lax")
        return response

    try:
        g.toast = _serializer().loads(value, max_age=_MAX_AGE)
    except BadData:
        return None
    return g.toast  # type: ignore[no-any-return]
