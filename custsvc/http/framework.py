"""Converts Flask's request into ours before a handler, and our answer into Flask's after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any, cast

from flask import Request as FlaskRequest
from flask import Response, current_app, g
from werkzeug.utils import cached_property

from .answer import Answer
from .intake import BODY_MAX, TAKEN, stream_of
from .problems import problem_for
from .request import Request


def request_at_hand() -> Request:
    """Flask's current request, as the guard has admitted it."""
    return cast(Request, g.asked)


def response_of(answer: Answer) -> Response:
    """Our answer as a response of Flask."""
    response = Response(answer.body, answer.status)
    response.headers.clear()
    response.headers.extend(answer.headers)
    return response


def finished(response: Response, finish: Callable[[Answer], Answer]) -> Response:
    """A response of Flask, with the same last step as our answers."""
    parts: Any = response.response
    body = b"".join(parts) if isinstance(parts, list) else parts
    answer = finish(Answer.of(body, response.status_code, list(response.headers)))
    response.status_code = answer.status
    response.headers.clear()
    response.headers.extend(answer.headers)
    if answer.body is not body:
        response.response = [answer.body] if isinstance(answer.body, bytes) else answer.body
    return response


def problem_response(exc: Exception) -> Response:
    """The response to the current request, which ended in `exc`."""
    request_id = request_at_hand().id
    return response_of(problem_for(exc, request_id).answer(request_id))


def body_limit(endpoint: str | None) -> int:
    """The longest body that a route accepts, in bytes."""
    view: Any = current_app.view_functions.get(endpoint or "")
    view = getattr(view, "view_class", view)
    return int(getattr(view, "body_max", BODY_MAX))


class BodyRequest(FlaskRequest):
    """A request that enforces the body limit of its route, however the body is sent."""

    @property
    def max_content_length(self) -> int | None:
        """The limit of the route."""
        return body_limit(self.endpoint)

    @max_content_length.setter
    def max_content_length(self, _: int | None) -> None:
        raise AttributeError("a route's limit is said where it is made, with `body_max` or `takes`")

    @cached_property
    def stream(self) -> IO[bytes]:
        """The body, decoded."""
        return stream_of(self.environ, self.max_content_length or 0)

    def close(self) -> None:
        """Close the file with the body. Flask calls this at the end of the request."""
        super().close()
        if (body := self.environ.get(TAKEN)) is not None:
            body.close()
