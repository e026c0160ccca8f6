"""The OpenAPI 3.1 document: the table of operations and the models, put together."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import orjson

from ... import __version__
from ...http.codes import CODES
from .models import Problem
from .operation import HEADERS, Registry
from .operations import OPERATIONS, PATH_PARAMETERS, TAGS

_ABOUT = """\
A customer master record whose every change is an event.

- **Versions.** Each customer has a version, which is its ETag. Send it in `If-Match`, and nobody's change is
  overwritten unseen.
- **Bodies.** The server's own fields (`id`, `version`, …) are ignored in a body, so what you got can be sent
  back; any other unknown field is refused by name. So is an unknown query parameter.
- **Compression.** A body may come with `Content-Encoding: gzip`. Longer answers are compressed for who sends
  `Accept-Encoding: gzip`; their ETag is weak then (`W/"v3"`), and `If-Match` takes it as well.
- **Errors** are `application/problem+json` everywhere. `code` says which; `/problems/CODE` explains it.
- **Paths** answer with and without their final slash.
"""


def document() -> dict[str, Any]:
    """The whole document."""
    registry = Registry()
    paths: dict[str, dict[str, Any]] = {}
    for (path, method), operation in OPERATIONS.items():
        item = paths.setdefault(path, {})
        if names := re.findall(r"{(\w+)}", path):
            item["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in names]
        item[method] = registry.operation(operation)
    responses = {
        str(status): registry.problem(status, Problem)
        for status in sorted({c.status for c in CODES.values()})
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "custsvc",
            "summary": "Customers, and every change of them as an event.",
            "description": _ABOUT,
            "version": __version__,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "This server"}],
        "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": registry.schemas(),
            "parameters": {
                name: {"name": name, "in": "path", "required": True, "schema": schema}
                for name, schema in PATH_PARAMETERS.items()
            },
            "headers": HEADERS,
            "responses": responses,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
                "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
        },
    }


@cache
def openapi() -> bytes:
    """The document as JSON."""
    return orjson.dumps(document())
