"""The port of recipients: suppressed addresses, and mails from which customers unsubscribed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

EVERY_RULE: Final = "*"


@dataclass(frozen=True, slots=True)
class Suppression:
    """A suppressed address, the reason, and the end (None: for ever)."""

    address: str
    reason: str
    detail: str | None = None
    created_on: dt.datetime | None = None
    expires_on: dt.datetime | None = None


class Recipients(Protocol):
    """Suppressed addresses, and the rules from which customers unsubscribed."""

    def suppress(
        self, address: str, reason: str, *, detail: str | None = None, seconds: float | None = None
    ) -> None:
        """Suppress this address for `seconds`, or for ever.

        An already suppressed one keeps the longer time; the later reason replaces the earlier.
        """

    def allow(self, address: str) -> bool:
        """Remove an address from the list; False if it was not on it."""

    def suppressed(self, addresses: Sequence[str]) -> dict[str, Suppression]:
        """The addresses among these that are suppressed now."""

    def suppressions(self, limit: int = 1000) -> list[Suppression]:
        """All addresses that are suppressed now, the newest first."""

    def set_wanted(self, customer_id: int, rule: str, wanted: bool) -> None:
        """Store whether a customer wants the mails of a rule, or of EVERY_RULE."""

    def unwanted(self, customer_ids: Sequence[int]) -> dict[int, set[str]]:
        """The rules that these customers do not want; customers who want all are left out."""
