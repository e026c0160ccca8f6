"""Every operation of the API, by path and method. A test holds this table against the app's routes."""

from __future__ import annotations

from typing import Any, Final

from .about import ABOUT
from .customers import CUSTOMERS, ORIGINALS
from .duplicates import DUPLICATES
from .files import FILES
from .pipeline import PIPELINE
from .webhooks import WEBHOOKS

TAGS: Final = {
    "customers": "The customer record: every change of it is an event.",
    "pipeline": "How the service and its pipeline stand.",
    "webhooks": "Receivers of changes over HTTP, and the log of deliveries. Needs the role admin.",
    "about": "What this API says about itself. Needs no key.",
    "originals": "The original services' paths: the same as under /api, kept for their clients.",
}

OPERATIONS: Final = CUSTOMERS | DUPLICATES | FILES | PIPELINE | WEBHOOKS | ABOUT | ORIGINALS
PATH_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "endpoint_id": {"type": "string", "minLength": 1, "maxLength": 200},
    "delivery_id": {"type": "string", "minLength": 1, "maxLength": 200},
    "entry_id": {"type": "string", "minLength": 1, "maxLength": 200},
    "import_id": {"type": "string", "minLength": 1, "maxLength": 200},
    "customer_id": {"type": "integer", "format": "int64", "minimum": 1, "maximum": 2**63 - 1},
    "name": {"type": "string"},
    "code": {"type": "string"},
}
