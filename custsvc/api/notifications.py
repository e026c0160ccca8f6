"""A customer's notifications, from the ledger."""

from __future__ import annotations

from typing import Any

from ..domain.customers import format_time
from ..errors import NotFound
from ..http.answer import Answer
from ..http.messages import json_answer, limit_of, parameters
from ..http.request import Request
from ..http.resource import ApiResource
from ..notify import view
from ..ports.ledger import Attempt, Notification
from ..ports.store import Store


class CustomerNotifications(ApiResource):
    """`/api/customers/{id}/notifications`: the newest first, each with its attempts."""

    def get(self, request: Request, customer_id: int) -> Answer:
        given = parameters(request, "limit")
        store = self.services.store
        if store.customers.get(customer_id) is None:
            raise NotFound(f"there is no customer {customer_id}")
        return json_answer({"results": notifications(store, customer_id, limit_of(given))})


def notifications(store: Store, customer_id: int, limit: int) -> list[dict[str, Any]]:
    """A customer's notifications, the newest first."""
    found = store.ledger.recent(customer_id=customer_id, limit=limit)
    attempts = store.ledger.attempts([each.id for each in found])
    return [_notification(each, attempts.get(each.id, [])) for each in found]


def _notification(each: Notification, attempts: list[Attempt]) -> dict[str, Any]:
    return {
        "id": each.id,
        "event_id": each.event_id,
        "version": each.version,
        "rule": each.rule,
        "channel": each.channel,
        "recipient": each.recipient,
        "subject": each.subject,
        "state": each.state,
        "reason": each.reason,
        "created_on": _time(each.created_on),
        "updated_on": _time(each.updated_on),
        "next_at": _time(each.next_at) if each.state in ("queued", "deferred") else None,
        "attempts": [view.attempt(attempt) for attempt in attempts],
    }


def _time(time: Any) -> str | None:
    return format_time(time) if time else None
