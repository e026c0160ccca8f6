"""Counts what waits for a person: mails, dead letters, parked customers, paused webhooks, differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..copies.verify import last_results
from ..errors import CustsvcError
from ..http.problems import NO_KAFKA
from ..http.resource import Services
from ..runtime.cached import Cached
from ..service.parked import parked

_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Need:
    """Something that waits. `count` is None if it could not be counted; `note` then says why."""

    count: int | None
    what: str
    path: str
    about: str
    note: str = ""


class Attention:
    """Counts what waits, for the page of the pipeline."""

    def __init__(self, services: Services) -> None:
        self._services = services
        # Both grow with what is stored; a slow answer is kept ten times as long as it took.
        self._mails = Cached(lambda: services.store.ledger.counts(("failed", "unknown")))
        self._dead = Cached(self._dead_letters)
        self._endpoints = Cached(services.store.endpoints.all)

    def look(self) -> list[Need]:
        """All kinds, first those that are always shown, even at 0."""
        letters = "records that a copy could not read, with the reason"
        return [
            self._need(lambda: self._mails().get("failed", 0), "Failed mails", "/ui/mails?state=failed",
                       "given up; send them again or let them go"),
            self._need(lambda: self._mails().get("unknown", 0), "Mails whose delivery is unknown",
                       "/ui/mails?state=unknown", "they may have arrived"),
            self._need(self._dead, "Dead letters", "/ui/dead-letters", letters),
            self._need(self._differences, "Customers that differ in a copy", "#h-verify",
                       "as the last comparison found them"),
            *self._webhooks(),
            *self._parked(),
        ]  # fmt: skip

    @staticmethod
    def _need(count: Callable[[], int], what: str, path: str, about: str) -> Need:
        try:
            return Need(count(), what, path, about)
        except CustsvcError as exc:
            return Need(None, what, path, about, str(exc))

    def _dead_letters(self) -> int:
        # Imported here because Kafka's client is big and most processes never need it.
        from ..copies.dead_letters import OPEN, DeadLetterBox

        if not self._services.settings.kafka:
            raise CustsvcError(NO_KAFKA)
        with DeadLetterBox(self._services.settings) as box:
            return sum(letter.state in OPEN for letter in box.all())

    def _differences(self) -> int:
        return sum(last["different"] for last in last_results(self._services.store.facts))

    def _webhooks(self) -> list[Need]:
        """One line if endpoints are paused because they failed."""
        try:
            found = self._endpoints()
        except CustsvcError:
            return []  # the database does not answer, which the other lines say
        paused = [each for each in found if each.paused_on is not None and each.paused_by is None]
        about = "their receivers failed for days; resume them once they work"
        return [Need(len(paused), "Paused webhooks", "/ui/admin/webhooks", about)] if paused else []

    def _parked(self) -> list[Need]:
        """One line if there are any: nearly always there are none."""
        try:
            found = parked(self._services.store.facts)
        except CustsvcError:
            return []  # the database does not answer, which the other lines say
        if not found:
            return []
        named = ", ".join(f"#{each.customer_id}" for each in found[:_NAMED])
        rest = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
        about = f"their event is bigger than the topic takes: {named}{rest}"
        return [Need(len(found), "Parked customers", f"/ui/customers/{found[0].customer_id}", about)]
