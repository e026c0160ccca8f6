"""Style sheets and scripts, at addresses that change with their content, so that browsers may cache them."""

from __future__ import annotations

import functools
import hashlib
import mimetypes
from importlib.resources import files
from typing import Final

from flask import Blueprint, Response, abort, request

from .access import anybody, route

_FOREVER: Final = "public, max-age=31536000, immutable"
_TYPES: Final = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, "/ui/static/<path:name>", asset)
    blueprint.add_url_rule("/favicon.ico", "favicon", favicon)


@functools.cache
def _content(name: str) -> tuple[bytes, str]:
    """The bytes of a file and their hash.

    Raises FileNotFoundError, which is not cached: anybody may ask for any number of names.
    """
    file = files(__package__) / "static"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            raise FileNotFoundError(name)
        file = file / part
    try:
        content = file.read_bytes()
    except (OSError, ValueError) as exc:  # a folder, or a name with NUL
        raise FileNotFoundError(name) from exc
    return content, hashlib.sha256(content).hexdigest()[:12]


def address(name: str) -> str:
    """The address of a file."""
    return f"/ui/static/{name}?v={_content(name)[1]}"


@anybody
def asset(name: str) -> Response:
    try:
        content, version = _content(name)
    except FileNotFoundError:
        abort(404)
    kind = _TYPES.get(name.rpartition(".")[2]) or mimetypes.guess_type(name)[0] or "text/plain"
    response = Response(content, content_type=kind if "image/" in kind else f"{kind}; charset=utf-8")
    response.set_etag(version)
    response.headers["Cache-Control"] = _FOREVER if request.args.get("v") == version else "public, max-age=60"
    return response.make_conditional(request)  # type: ignore[return-value]


@anybody
def favicon() -> Response:
    return asset("icon.svg")
