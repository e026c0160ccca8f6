"""The words in which the operations are described: parameters, bodies, answers; and their OpenAPI form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel

from ...http.codes import CODES

JsonSchema = dict[str, Any]
# A model, a schema, `[model]` for an array of them, or a tuple of models for one of them.
Shape = type[BaseModel] | JsonSchema | list[type[BaseModel]] | tuple[type[BaseModel], ...]

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter or a request header."""

    name: str
    description: str
    schema: JsonSchema
    place: str = "query"
    style: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> JsonSchema:
        return {
            "name": self.name,
            "in": self.place,
            "description": self.description,
            "schema": self.schema,
            **self.style,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is a success: its body by media type, and the names of its headers."""

    description: str
    content: Mapping[str, Shape] = field(default_factory=dict)
    headers: Sequence[str] = ()
    links: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `problems` are the statuses beyond those that every operation may give."""

    id: str
    tag: str
    summary: str
    answers: Mapping[int, Answer]
    description: str = ""
    parameters: Sequence[Parameter] = ()
    body: Mapping[str, Shape] = field(default_factory=dict)
    problems: Sequence[int] = ()
    role: str | None = "read"
    deprecated: bool = False


BODY: Final = (
    "May be compressed with gzip: then send `Content-Encoding: gzip`. Any other encoding is a 415, whose "
    "`Accept-Encoding` names what is taken. A limit of length holds for the body as it is sent and as it is "
    "decoded."
)
# What an operation may answer besides its own: for those that need a key, and for all.
_ALWAYS: Final = (400, 431, 500, 501, 503)
_WITH_KEY: Final = (401, 403)

# Headers of answers, by the name under which operations list them.
HEADERS: Final[dict[str, JsonSchema]] = {
    "ETag": {
        "description": "The version of the customer as stored, to send back in If-Match.",
        "schema": {"type": "string", "pattern": '^(W/)?"v[1-9][0-9]*"$', "examples": ['"v3"']},
    },
    "Last-Modified": {
        "description": "When it last changed, in whole seconds.",
        "schema": {"type": "string"},
    },
    "Location": {"description": "The path of what was made.", "schema": {"type": "string"}},
    "Link": {"description": 'The next page, as rel="next".', "schema": {"type": "string"}},
    "X-Custsvc-Duplicates": {
        "description": "Likely duplicates, the likeliest first, where `duplicates=warn` asked for them.",
        "schema": {"type": "string", "examples": ["8,9"]},
    },
    "X-Custsvc-Position": {
        "description": "Where this write stands, to send to a copy in X-Custsvc-Min-Position.",
        "schema": {"type": "string"},
    },
    "Idempotency-Replayed": {
        "description": "true: the answer of the first request with this Idempotency-Key.",
        "schema": {"type": "string"},
    },
    "X-Request-Id": {
        "description": "The request's id: the one sent, else a new one. It is in the log and in the event.",
        "schema": {"type": "string", "minLength": 1},
    },
    "WWW-Authenticate": {"description": "How to send a key.", "schema": {"type": "string"}},
    "Accept-Encoding": {
        "description": "The encodings of a body that are taken, where it was one of its Content-Encoding.",
        "schema": {"type": "string", "examples": ["gzip"]},
    },
    "Retry-After": {"description": "Seconds to wait before trying again.", "schema": {"type": "string"}},
    "Allow": {"description": "The methods this path has.", "schema": {"type": "string"}},
}
_PROBLEM_HEADERS: Final = {
    401: ("WWW-Authenticate",),
    412: ("ETag",),
    415: ("Accept-Encoding",),
    503: ("Retry-After",),
}


class Registry:
    """Collects the models that a document refers to."""

    def __init__(self) -> None:
        self.models: dict[str, type[BaseModel]] = {}

    def ref(self, shape: Shape) -> JsonSchema:
        """The schema that stands for a model or is one already."""
        if isinstance(shape, dict):
            return shape
        if isinstance(shape, tuple):
            return {"anyOf": [self.ref(each) for each in shape]}
        if isinstance(shape, list):
            return {"type": "array", "items": self.ref(shape[0])}
        self.models[shape.__name__] = shape
        return {"$ref": f"#/components/schemas/{shape.__name__}"}

    def schemas(self) -> JsonSchema:
        from pydantic.json_schema import models_json_schema

        from .values import OurWords

        _, top = models_json_schema(
            [(model, "validation") for model in self.models.values()],
            ref_template="#/components/schemas/{model}",
            schema_generator=OurWords,
        )
        found: JsonSchema = top.get("$defs", {})
        return dict(sorted(found.items()))

    def operation(self, operation: Operation) -> JsonSchema:
        """The OpenAPI object of an operation."""
        statuses = {*_ALWAYS, *(_WITH_KEY if operation.role else ()), *operation.problems}
        parameters = [parameter.document() for parameter in operation.parameters]
        document: JsonSchema = {
            "operationId": operation.id,
            "tags": [operation.tag],
            "summary": operation.summary,
            "description": operation.description,
            "parameters": parameters,
            "requestBody": {
                "description": BODY,
                "required": True,
                "content": self._content(operation.body),
            },
            "responses": {
                **{str(status): self._answer(answer) for status, answer in operation.answers.items()},
                **{str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)},
            },
            "security": [{"bearer": []}, {"header": []}] if operation.role else [],
        }
        if operation.role:
            document["description"] = f"{operation.description}\n\nNeeds the role `{operation.role}`.".strip()
        if operation.deprecated:
            document["deprecated"] = True
        if not operation.body:
            del document["requestBody"]
        return {
            name: value for name, value in document.items() if value not in ("", []) or name == "security"
        }

    def _content(self, content: Mapping[str, Shape]) -> JsonSchema:
        return {media: {"schema": self.ref(shape)} for media, shape in content.items()}

    def _answer(self, answer: Answer) -> JsonSchema:
        document: JsonSchema = {"description": answer.description, "headers": _headers(answer.headers)}
        if answer.content:
            document["content"] = self._content(answer.content)
        if answer.links:
            document["links"] = dict(answer.links)
        return document

    def problem(self, status: int, model: type[BaseModel]) -> JsonSchema:
        """The response component of a status that is no success."""
        codes = sorted(code for code, about in CODES.items() if about.status == status)
        named = ", ".join(f"[`{code}`](/problems/{code})" for code in codes)
        # Not `const`: generators of clients cannot bring that together with the integer of the model.
        exactly = {"type": "integer", "minimum": status, "maximum": status}
        own = {"properties": {"status": exactly, "code": {"type": "string", "enum": codes}}}
        shape = {"allOf": [self.ref(model), own]}
        return {
            "description": f"{HTTPStatus(status).phrase}: {named}",
            "headers": _headers(_PROBLEM_HEADERS.get(status, ())),
            "content": {PROBLEM: {"schema": shape}},
        }


def _headers(names: Sequence[str]) -> JsonSchema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, "X-Request-Id")}
