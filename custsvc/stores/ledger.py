"""What the ledger keeps beyond the port `Ledger`: the record of each attempt.

The words for states that both backends and the senders share are here too, so that they cannot differ.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from .base import Ledger, Notification, NotificationState

# A later mail to the same recipient about the same customer waits while one of these is before it. An
# unknown one does not hold it back: it may have arrived, and only a person can tell.
UNSETTLED: Final = ("queued", "claimed", "handing_over", "deferred")
SETTLED: Final = ("sent", "failed", "unknown", "suppressed")

# Two halves of one conversation: whoever died between them left a mail that may have arrived.
LOST_IN_HAND_OVER: Final = "the sender stopped while it handed the mail over; whether it arrived is not known"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to send: when it began, how it ended, the mail server's code and words, and its duration."""

    number: int
    tried_on: dt.datetime
    outcome: NotificationState
    code: int | None
    text: str | None
    duration: float


class AttemptLedger(Ledger, Protocol):
    """A ledger that keeps every counted attempt."""

    def settle(
        self,
        notification: Notification,
        state: NotificationState,
        *,
        reason: str | None = None,
        next_at: dt.datetime | None = None,
        count_attempt: bool = True,
        code: int | None = None,
        duration: float = 0.0,
    ) -> bool:
        """As in the port; keeps the attempt too, unless it is given back.

        An unknown one may still be settled as sent or failed by the sender that handed it over, when the
        answer came after its lease ran out.
        """

    def attempts(self, ids: Sequence[str]) -> dict[str, list[Attempt]]:
        """The attempts of these notifications, the first one first; ids without any are left out."""

    def unpublished_failures(self, limit: int, lease: float = 0.0) -> list[Notification]:
        """As in the port; with a `lease`, nobody else that asks for one is given them for as long."""
