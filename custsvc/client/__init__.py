"""A typed client of the API: calls that are repeated until they are answered, and done once.

>>> from custsvc.client import Client
>>> with Client("http://localhost:8000", key) as customers:
...     ann = customers.create("Ann Lee", email="ann@example.org")
...     customers.update(ann.id, {"phone": "+49 30 1234"}, version=ann.version)

`AsyncClient` has the same calls for asyncio and trio. Both need httpx and nothing of the server.
docs/client.md has it all.
"""

from __future__ import annotations

from .aio import AsyncClient
from .client import Client
from .errors import (
    ApiError,
    Busy,
    Conflict,
    CopyBehind,
    Deleted,
    EventsLost,
    Invalid,
    KeyReused,
    Merged,
    NotFound,
    NotPermitted,
    Refused,
    ServerFailed,
    Unavailable,
    VersionMismatch,
)
from .latest import Latest
from .models import Customer, Duplicate, DuplicatePair, Event, Filters, MergePreview, Operation, Page, Result
from .positions import Positions
from .retry import Retry
from .stream import AsyncEventStream, EventStream

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncEventStream",
    "Busy",
    "Client",
    "Conflict",
    "CopyBehind",
    "Customer",
    "Deleted",
    "Duplicate",
    "DuplicatePair",
    "Event",
    "EventStream",
    "EventsLost",
    "Filters",
    "Invalid",
    "KeyReused",
    "Latest",
    "MergePreview",
    "Merged",
    "NotFound",
    "NotPermitted",
    "Operation",
    "Page",
    "Positions",
    "Refused",
    "Result",
    "Retry",
    "ServerFailed",
    "Unavailable",
    "VersionMismatch",
]
