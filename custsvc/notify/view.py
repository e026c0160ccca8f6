"""Notifications as plain data, for the command line, the API and the web app."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..domain.customers import format_time
from ..ports.ledger import Attempt, MailRecords, Notification


def with_attempts(ledger: MailRecords, notifications: Sequence[Notification]) -> list[dict[str, Any]]:
    """The notifications, each with its attempts; always one query for all attempts."""
    attempts = ledger.attempts([notification.id for notification in notifications])
    return [
        {**row(notification), "attempts": [attempt(each) for each in attempts.get(notification.id, [])]}
        for notification in notifications
    ]


def row(notification: Notification) -> dict[str, Any]:
    """One notification without its content; `tries` counts the attempts."""
    return {
        "id": notification.id,
        "state": notification.state,
        "customer_id": notification.customer_id,
        "version": notification.version,
        "rule": notification.rule,
        "channel": notification.channel,
        "recipient": notification.recipient,
        "subject": notification.subject,
        "tries": notification.attempts,
        "reason": notification.reason,
        "next_at": _time(notification.next_at) if notification.state in ("queued", "deferred") else None,
        "created_on": _time(notification.created_on),
        "updated_on": _time(notification.updated_on),
        "event_id": notification.event_id,
    }


def attempt(tried: Attempt) -> dict[str, Any]:
    """One attempt as plain data."""
    return {
        "number": tried.number,
        "time": format_time(tried.tried_on),
        "outcome": tried.outcome,
        "code": tried.code,
        "text": tried.text,
        "duration": round(tried.duration, 3),
    }


def _time(value: Any) -> str | None:
    return None if value is None else format_time(value)
