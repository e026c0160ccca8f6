"""`schema`: print the published contracts of the API, the events and the topics."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Contract(StrEnum):
    """The contracts that can be printed."""

    OPENAPI = "openapi"
    EVENTS = "events"
    ASYNCAPI = "asyncapi"


def schema(
    which: Annotated[
        Contract, typer.Argument(help="openapi: the HTTP API; events: an event; asyncapi: the topics.")
    ] = Contract.OPENAPI,
) -> None:
    """Print a contract as JSON: the HTTP API (OpenAPI 3.1), events (JSON Schema) or topics (AsyncAPI 3).

    Example: custsvc schema events > customer-event.schema.json
    """
    import orjson

    from ..api.describe import events, openapi
    from .output import write

    made = {
        Contract.OPENAPI: openapi.document,
        Contract.EVENTS: events.event_schema,
        Contract.ASYNCAPI: events.asyncapi,
    }[which]()
    write(orjson.dumps(made, option=orjson.OPT_INDENT_2))
