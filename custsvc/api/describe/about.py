"""What the API says about itself."""

from __future__ import annotations

from typing import Any, Final

from ...http.messages import JSON
from .operation import Answer, Operation
from .values import Closed

_DOCUMENT: Final[dict[str, Any]] = {"type": "object"}


_HTML: Final = "text/html"
_PAGE: Final[dict[str, Any]] = {"type": "string"}


class ProblemPage(Closed):
    """What a problem means."""

    code: str
    title: str
    status: int
    cause: str
    cure: str


def _about(operation_id: str, summary: str, content: dict[str, Any], **more: Any) -> Operation:
    answer = Answer(summary + ".", content)
    return Operation(id=operation_id, tag="about", summary=summary, answers={200: answer}, role=None, **more)


ABOUT: Final[dict[tuple[str, str], Operation]] = {
    ("/api/openapi.json", "get"): _about("getOpenApi", "This document", {JSON: _DOCUMENT}),
    ("/api/schema/", "get"): _about("getSchema", "This document, too", {JSON: _DOCUMENT}),
    ("/api/docs", "get"): _about("getDocs", "A page to read and try the API", {_HTML: _PAGE}),
    ("/api/docs/{name}", "get"): _about(
        "getDocsFile", "A file of that page", {"text/css": _PAGE, "text/javascript": _PAGE}, problems=(404,)
    ),
    ("/api/events/schema", "get"): _about(
        "getEventSchema", "The JSON Schema of events", {"application/schema+json": _DOCUMENT}
    ),
    ("/api/events/asyncapi.json", "get"): _about(
        "getAsyncApi", "The AsyncAPI document of the topics", {JSON: _DOCUMENT}
    ),
    ("/problems/", "get"): _about(
        "listProblems",
        "Every problem there is",
        {_HTML: _PAGE, JSON: [ProblemPage]},
    ),
    ("/problems/{code}", "get"): _about(
        "getProblem",
        "What a problem means, its cause and its cure",
        {_HTML: _PAGE, JSON: ProblemPage},
        problems=(404,),
    ),
}
