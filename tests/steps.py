"""Single steps of notifications, by the ledger's steps of many, and a notification to take them with."""

from __future__ import annotations

import datetime as dt
from typing import Any

from custsvc.ports.ledger import Grown, Ledger, Notification, NotificationState, Overtaken, Settlement


def hand_over(ledger: Ledger, notification: Notification) -> bool:
    """Record that the mail is about to be sent; False if the token is no longer ours."""
    return bool(ledger.advance([notification], []).handed_over)


def settle(ledger: Ledger, notification: Notification, state: NotificationState, **how: Any) -> bool:
    """Record the result of an attempt (`how`: as in Settlement); False if the token is no longer ours."""
    return bool(ledger.advance([], [Settlement(notification, state, **how)]).settled)


def revise(ledger: Ledger, notification: Notification, version: int) -> bool:
    """Give a digest that was at `version` this content; False if it has changed since it was read."""
    try:
        ledger.add([], [Grown(notification, version)])
    except Overtaken:
        return False
    return True


def mail(
    name: str, customer: int | None = 1, version: int = 1, to: str = "a@example.com", **rest: Any
) -> Notification:
    return Notification(
        id=name,
        event_id=f"event-{name}",
        customer_id=customer,
        version=version,
        rule="changed",
        recipient=to,
        subject="$subject",
        text="a $text\n",
        html=rest.pop("html", None),
        **rest,
    )


def names(notifications: list[Notification]) -> list[str]:
    return [notification.id for notification in notifications]


def in_seconds(notification: Notification, seconds: float) -> dt.datetime:
    assert notification.updated_on is not None
    return notification.updated_on + dt.timedelta(seconds=seconds)
