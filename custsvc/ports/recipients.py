"""The port of recipients: which addresses get no mail, and what customers do not want."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

SuppressionReason = Literal["bounce", "unsubscribe", "complaint", "manual"]
EVERY_RULE: Final = "*"


@dataclass(frozen=True, slots=True)
class Suppression:
    """An address that gets no mail, why, and until when (None: for good)."""

    address: str
    reason: str
    detail: str | None = None
    created_on: dt.datetime | None = None
    expires_on: dt.datetime | None = None


class Recipients(Protocol):
    """Who gets no mail: addresses that are suppressed, and what customers do not want."""

    def suppress(
        self, address: str, reason: str, *, detail: str | None = None, seconds: float | None = None
    ) -> None:
        """Send nothing to this address any more, for `seconds` or for good.

        One that is suppressed already keeps the longer time; a later reason takes the place of the earlier.
        """

    def allow(self, address: str) -> bool:
        """Take an address off the list; False where it was not on it."""

    def suppressed(self, addresses: Sequence[str]) -> dict[str, Suppression]:
        """Those of these addresses that are suppressed now."""

    def suppressions(self, limit: int = 1000) -> list[Suppression]:
        """All that are suppressed now, the newest first."""

    def set_wanted(self, customer_id: int, rule: str, wanted: bool) -> None:
        """Keep whether a customer wants the mails of a rule, or of EVERY_RULE."""

    def unwanted(self, customer_ids: Sequence[int]) -> dict[int, set[str]]:
        """The rules that these customers do not want; those who want all are left out."""
