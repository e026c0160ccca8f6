"""Single steps of notifications, by the ledger's steps of many."""

from __future__ import annotations

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
