"""The last checks before mails are sent: empty digests, suppressed addresses, unsubscriptions, rate limits.

They run as late as possible, so that a new unsubscription also applies to mails that have waited for an hour.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from ...domain.address import address_key
from ...domain.digest import has_come_to_nothing
from ...ports.ledger import MailRecords, Notification, Settlement
from ...ports.recipients import EVERY_RULE, Recipients

_NOTHING_LEFT: Final = "all changes of the digest were taken back within it"

HOUR = 3600.0
MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Most mails to one recipient; 0 is no limit. Concurrent senders may exceed them slightly."""

    per_hour: int = 0
    per_minute: int = 0


class Gate:
    """Decides which claimed mails must not be sent now."""

    def __init__(
        self, ledger: MailRecords, recipients: Recipients, limits: Limits, always: Collection[str] = ()
    ) -> None:
        """`always`: rules whose mails cannot be unsubscribed from."""
        self._ledger = ledger
        self._recipients = recipients
        self._limits = limits
        self._always = frozenset(always)

    def refusals(self, claimed: Sequence[Notification]) -> dict[str, Settlement]:
        """The settlements, by id, of the mails that must not be sent now."""
        if not claimed:
            return {}
        # Only now, as a digest may grow until it is claimed.
        refused = {n.id: _suppress(n, _NOTHING_LEFT) for n in claimed if has_come_to_nothing(n.entries)}
        refused |= self._unwanted([n for n in claimed if n.id not in refused])
        return refused | self._too_many([n for n in claimed if n.id not in refused])

    def _unwanted(self, claimed: Sequence[Notification]) -> dict[str, Settlement]:
        suppressed = self._recipients.suppressed(list({address_key(n.recipient) for n in claimed}))
        unwanted = self._recipients.unwanted(
            list({n.customer_id for n in claimed if n.customer_id is not None})
        )
        refused = {}
        for n in claimed:
            optional = n.rule not in self._always
            entry = suppressed.get(address_key(n.recipient))
            if entry is not None and (optional or entry.reason != "unsubscribe"):
                refused[n.id] = _suppress(n, f"the address is suppressed: {entry.reason}")
            elif optional and unwanted.get(n.customer_id or 0, set()) & {EVERY_RULE, n.rule}:
                refused[n.id] = _suppress(n, "the customer unsubscribed")
        return refused

    def _too_many(self, claimed: Sequence[Notification]) -> dict[str, Settlement]:
        refused: dict[str, Settlement] = {}
        per_hour, per_minute = self._limits.per_hour, self._limits.per_minute
        recipients = list({n.recipient for n in claimed})
        if per_hour and recipients:
            for n in _beyond(claimed, self._ledger.sent_since(recipients, HOUR), per_hour):
                refused[n.id] = _suppress(n, f"the recipient got {per_hour} mails within an hour")
        if per_minute and recipients:
            rest = [n for n in claimed if n.id not in refused]
            for n in _beyond(rest, self._ledger.sent_since(recipients, MINUTE), per_minute):
                refused[n.id] = _wait(n, MINUTE / per_minute)
        return refused


def _beyond(claimed: Sequence[Notification], sent: dict[str, int], limit: int) -> list[Notification]:
    """The mails that would exceed the limit, counting mails already sent and those before them here."""
    count = Counter(sent)
    beyond = []
    for n in claimed:
        count[n.recipient] += 1
        if count[n.recipient] > limit:
            beyond.append(n)
    return beyond


def _suppress(n: Notification, reason: str) -> Settlement:
    return Settlement(n, "suppressed", reason, count_attempt=False)


def _wait(n: Notification, seconds: float) -> Settlement:
    due = (n.updated_on or dt.datetime.now(dt.UTC)) + dt.timedelta(seconds=seconds)
    return Settlement(n, "queued", n.reason, next_at=due, count_attempt=False)
