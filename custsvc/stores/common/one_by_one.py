"""Single steps of notifications, by the ledger's bulk steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...ports.ledger import Advanced, Grown, Notification, NotificationState, Overtaken, Settlement


class OneByOne:
    """The steps of a single notification, for a ledger with bulk steps."""

    def add(self, notifications: Sequence[Notification], grown: Sequence[Grown] = ()) -> int:
        raise NotImplementedError

    def advance(self, hand_overs: Sequence[Notification], settlements: Sequence[Settlement]) -> Advanced:
        raise NotImplementedError

    def revise(self, notification: Notification, version: int) -> bool:
        try:
            self.add([], [Grown(notification, version)])
        except Overtaken:
            return False
        return True

    def handing_over(self, notification: Notification) -> bool:
        return bool(self.advance([notification], []).handed_over)

    def settle(self, notification: Notification, state: NotificationState, **how: Any) -> bool:
        return bool(self.advance([], [Settlement(notification, state, **how)]).settled)
