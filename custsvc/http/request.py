"""A request for the API's handlers: made from a WSGI environ, independent of any framework."""

from __future__ import annotations

import time
from functools import cached_property
from typing import IO, Any, Final
from urllib.parse import parse_qsl

import werkzeug.urls  # noqa: F401 - it registers the error handler `werkzeug.url_quote`
from werkzeug.datastructures import Accept, MIMEAccept
from werkzeug.http import parse_accept_header, parse_options_header

from ..accounts.keys import ANONYMOUS, Principal
from ..domain.requests import valid_traceparent
from .intake import BODY_MAX, length_of, stream_of
from .limit import Allowance

# The type of nearly all bodies: it needs no parsing.
_JSON: Final = "application/json"


class Request:
    """One request. Its parts are parsed at first use.

    The guard sets `principal` and `allowance`; `span` is there while tracing is on. `began` is a reading of
    `time.perf_counter`, `body_max` the longest body that the route accepts, in bytes. Headers are read from
    `environ` by their WSGI names, such as HTTP_IF_MATCH.
    """

    def __init__(self, environ: dict[str, Any], request_id: str, body_max: int = BODY_MAX) -> None:
        self.began = time.perf_counter()
        self.environ = environ
        self.id = request_id
        self.method: str = environ["REQUEST_METHOD"]
        self.body_max = body_max
        self.principal: Principal = ANONYMOUS
        self.allowance: Allowance | None = None
        self.span: Any = None

    @property
    def path(self) -> str:
        """The path, decoded; it begins with one slash."""
        path: str = self.environ["PATH_INFO"]
        return "/" + path.encode("latin-1").decode(errors="replace").lstrip("/")

    @property
    def query_string(self) -> str:
        """The query as it came, each byte a character."""
        query: str = self.environ.get("QUERY_STRING", "")
        return query

    @cached_property
    def query(self) -> list[tuple[str, str]]:
        """The names and values of the query, in its order."""
        text = self.query_string.encode("latin-1").decode()
        return parse_qsl(text, keep_blank_values=True, errors="werkzeug.url_quote")

    @property
    def media_type(self) -> str:
        """The media type of the body without parameters, in small letters; empty if there is none."""
        named: str = self.environ.get("CONTENT_TYPE", "")
        return named if named == _JSON else str(parse_options_header(named)[0]).lower()

    @property
    def charset(self) -> str | None:
        """The encoding of the body that its Content-Type names."""
        return parse_options_header(self.environ.get("CONTENT_TYPE", ""))[1].get("charset")

    @property
    def content_length(self) -> int | None:
        """The length of the body in bytes, None if it is not known beforehand."""
        return length_of(self.environ)

    @cached_property
    def stream(self) -> IO[bytes]:
        """The body, decoded. Raises RequestEntityTooLarge for a longer one than the route accepts."""
        return stream_of(self.environ, self.body_max)

    @cached_property
    def data(self) -> bytes:
        """The whole body."""
        return self.stream.read()

    @cached_property
    def traceparent(self) -> str | None:
        """The trace context of the request (W3C); a malformed header is ignored."""
        return valid_traceparent(self.environ.get("HTTP_TRACEPARENT"))

    def preferred(self, media_types: tuple[str, ...], default: str) -> str:
        """The one of these types that the caller prefers."""
        accepted = parse_accept_header(self.environ.get("HTTP_ACCEPT"), MIMEAccept)
        return accepted.best_match(media_types, default=default) or default

    def takes_coding(self, coding: str) -> bool:
        """Whether the caller accepts this content coding."""
        # Most callers without compression do not send the header, and parsing it is expensive.
        said = self.environ.get("HTTP_ACCEPT_ENCODING")
        return bool(said) and parse_accept_header(said, Accept).quality(coding) > 0
