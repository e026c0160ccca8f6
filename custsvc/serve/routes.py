"""The handler of each path. Each path answers with and without a final slash."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from ..api import (
    batch,
    bulk,
    customers,
    docs,
    duplicates,
    events,
    failed,
    health,
    merging,
    notifications,
    webhooks,
)
from ..http.resource import ApiResource, Services
from . import measure

# All routes.
ROUTES: Final[tuple[tuple[str, type[ApiResource]], ...]] = (
    ("/api/customers", customers.CustomerList),
    ("/api/customers/export", bulk.CustomerExport),
    ("/api/customers/import", bulk.CustomerImport),
    ("/api/customers/imports", bulk.ImportList),
    ("/api/customers/imports/<import_id>/undo", bulk.ImportUndo),
    ("/api/customers/<id:customer_id>", customers.OneCustomer),
    ("/api/customers/<id:customer_id>/restore", customers.CustomerRestore),
    ("/api/customers/<id:customer_id>/revert", customers.CustomerRevert),
    ("/api/customers/<id:customer_id>/erase", customers.CustomerErase),
    ("/api/customers/<id:customer_id>/history", customers.CustomerHistory),
    ("/api/customers/<id:customer_id>/merge", merging.CustomerMerge),
    ("/api/customers/<id:customer_id>/unmerge", merging.CustomerUnmerge),
    ("/api/customers/<id:customer_id>/duplicates", duplicates.CustomerDuplicates),
    ("/api/customers/duplicates", duplicates.DuplicatePairs),
    ("/api/customers/duplicates/dismiss", duplicates.DuplicatesDismiss),
    ("/api/customers/duplicates/undismiss", duplicates.DuplicatesUndismiss),
    ("/api/customers/batch", batch.CustomerBatch),
    ("/api/customers/<id:customer_id>/notifications", notifications.CustomerNotifications),
    ("/api/failed", failed.FailedList),
    ("/api/failed/<entry_id>/retry", failed.FailedRetry),
    ("/api/failed/<entry_id>/discard", failed.FailedDiscard),
    ("/api/webhooks", webhooks.WebhookList),
    ("/api/webhooks/<endpoint_id>", webhooks.OneWebhook),
    ("/api/webhooks/<endpoint_id>/test", webhooks.WebhookTest),
    ("/api/webhooks/<endpoint_id>/pause", webhooks.WebhookPause),
    ("/api/webhooks/<endpoint_id>/resume", webhooks.WebhookResume),
    ("/api/webhooks/<endpoint_id>/rotate", webhooks.WebhookRotate),
    ("/api/webhooks/<endpoint_id>/deliveries", webhooks.WebhookDeliveries),
    ("/api/webhooks/<endpoint_id>/deliveries/<delivery_id>/redeliver", webhooks.WebhookRedeliver),
    ("/api/status", health.Status),
    ("/api/openapi.json", docs.OpenApi),
    ("/api/schema", docs.Schema),
    ("/api/docs", docs.Docs),
    ("/api/docs/<name>", docs.DocsFile),
    ("/api/events/stream", events.EventStream),
    ("/api/events/schema", docs.EventSchema),
    ("/api/events/asyncapi.json", docs.AsyncApi),
    ("/problems", docs.ProblemIndex),
    ("/problems/<code>", docs.ProblemPage),
    ("/metrics", measure.Metrics),
    ("/livez", health.Live),
    ("/readyz", health.Ready),
)

# The original services' paths.
ORIGINALS: Final[tuple[tuple[str, type[ApiResource]], ...]] = (
    ("/customers", customers.CustomerList),
    ("/customers/<id:customer_id>", customers.OneCustomer),
)


class Route(NamedTuple):
    """A path with its handler, and the endpoint name in the app."""

    name: str
    path: str
    handler: ApiResource


def routes(services: Services) -> Iterator[Route]:
    """All routes, each with a handler that uses these services."""
    for prefix, table in (("", ROUTES), ("original_", ORIGINALS)):
        for path, resource in table:
            yield Route(prefix + resource.__name__, path, resource(services))
