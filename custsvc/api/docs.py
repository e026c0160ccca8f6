"""The API's documentation: its documents, the page to read and try it, the pages of problems.

None of it needs a key: it describes this software, and holds no personal data. All files come from the
package, so the pages work offline, under a policy that allows nothing else.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any, ClassVar, Final

import orjson
from markupsafe import Markup, escape
from werkzeug.exceptions import NotFound

from ..http.answer import Answer
from ..http.codes import CODES
from ..http.messages import JSON, parameters
from ..http.request import Request
from ..http.resource import ApiResource

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS: Final = (
    ("Content-Security-Policy", _POLICY),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-cache"),
)
_DAY: Final = ("Cache-Control", "public, max-age=86400")
_SCHEMA_JSON: Final = "application/schema+json"

# The files of the documentation page, with their types.
_FILES: Final = {
    "swagger-ui-bundle.js": ("swagger/swagger-ui-bundle.js", "text/javascript"),
    "swagger-ui.css": ("swagger/swagger-ui.css", "text/css"),
    "docs.js": ("docs.js", "text/javascript"),
    "docs.css": ("docs.css", "text/css"),
}


class _About(ApiResource):
    public: ClassVar[bool] = True


class OpenApi(_About):
    """`/api/openapi.json`, and `/api/schema/` as the originals had it."""

    def get(self, request: Request) -> Answer:
        parameters(request)
        from .describe.openapi import openapi

        return _document(openapi(), JSON)


class Schema(OpenApi):
    """`/api/schema/`"""


class EventSchema(_About):
    """`/api/events/schema`: the JSON Schema of what goes to Kafka."""

    def get(self, request: Request) -> Answer:
        parameters(request)
        from .describe.events import event_schema_json

        return _document(event_schema_json(), _SCHEMA_JSON)


class AsyncApi(_About):
    """`/api/events/asyncapi.json`: the topics and what is on them."""

    def get(self, request: Request) -> Answer:
        parameters(request)
        from .describe.events import asyncapi_json

        return _document(asyncapi_json(), JSON)


class Docs(_About):
    """`/api/docs`: Swagger UI."""

    def get(self, request: Request) -> Answer:
        parameters(request)
        return _page(_text("docs.html"))


class DocsFile(_About):
    """`/api/docs/{name}`: the files of that page."""

    def get(self, request: Request, name: str) -> Answer:
        parameters(request)
        if name not in _FILES:
            raise NotFound
        path, media = _FILES[name]
        return Answer(_bytes(path), 200, [_DAY], f"{media}; charset=utf-8")


class ProblemIndex(_About):
    """`/problems/`: all problems."""

    def get(self, request: Request) -> Answer:
        parameters(request)
        if not _wants_page(request):
            return _document(orjson.dumps([_about(code) for code in CODES]), JSON)
        return _page(_problem_page(code="/problems", title="Problems of the API", problems=CODES))


class ProblemPage(_About):
    """`/problems/{code}`: the meaning of a problem, its cause and its cure."""

    def get(self, request: Request, code: str) -> Answer:
        parameters(request)
        if code not in CODES:
            raise NotFound
        if not _wants_page(request):
            return _document(orjson.dumps(_about(code)), JSON)
        return _page(_problem_page(**_about(code)))


def _about(code: str) -> dict[str, Any]:
    return {"code": code, **CODES[code]._asdict()}


def _wants_page(request: Request) -> bool:
    return request.preferred(("text/html", JSON), "") != JSON


def _document(body: bytes, media: str) -> Answer:
    return Answer(body, 200, [("Cache-Control", "no-cache")], media)


def _page(html: str) -> Answer:
    return Answer(html.encode(), 200, _PAGE_HEADERS, "text/html; charset=utf-8")


def _problem_page(**about: Any) -> str:
    from jinja2 import Environment

    env = Environment(autoescape=True)
    env.filters["marked"] = _marked
    return env.from_string(_text("problem.html")).render(**about)


def _marked(text: str) -> Markup:
    """Mark `code` and paths in a text as HTML."""
    html = re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text)))
    return Markup(html)  # noqa: S704 - escaped above


@cache
def _bytes(path: str) -> bytes:
    return (files(__package__) / "static" / path).read_bytes()


def _text(path: str) -> str:
    return _bytes(path).decode()
