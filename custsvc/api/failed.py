"""Failures that wait for an operator: dead letters of the copies, and failed mails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from ..errors import Conflict, NotFound
from ..http.answer import Answer
from ..http.messages import json_answer, limit_of, parameters, word_of
from ..http.problems import no_kafka
from ..http.request import Request
from ..http.resource import ApiResource

if TYPE_CHECKING:
    from ..copies.dead_letters import DeadLetterBox

STAGES: Final = ("replicate", "notify")
_DEAD: Final = "dead-"


class FailedList(ApiResource):
    """List the failures of both stages, or one."""

    def get(self, request: Request) -> Answer:
        given = parameters(request, "stage", "limit")
        limit = limit_of(given)
        stages = (word_of(given, "stage", STAGES, "replicate"),) if "stage" in given else STAGES
        results: list[dict[str, Any]] = []
        count = 0
        if "replicate" in stages:
            found = self._dead_letters()
            results += found[:limit]
            count += len(found)
        if "notify" in stages:
            results += self._notifications(limit - len(results))
            count += self.services.store.ledger.counts(["failed"]).get("failed", 0)
        return json_answer({"count": count, "results": results})

    def _dead_letters(self) -> list[dict[str, Any]]:
        from ..copies.dead_letters import OPEN, as_row

        with _box(self) as box:
            return [as_row(letter) for letter in reversed(box.all()) if letter.state in OPEN]

    def _notifications(self, limit: int) -> list[dict[str, Any]]:
        from ..notify import view

        if limit < 1:
            return []
        found = self.services.store.ledger.recent(state="failed", limit=limit)
        return [{**view.row(each), "stage": "notify"} for each in found]


class FailedRetry(ApiResource):
    """Send one again."""

    def post(self, request: Request, entry_id: str) -> Answer:
        parameters(request)

        def resend(box: DeadLetterBox) -> None:
            from ..copies.pipeline import send_again

            send_again(self.services.settings, self.services.store, box, box.find([entry_id]))

        ledger = self.services.store.ledger
        return _settle(self, entry_id, "retried", resend, lambda: ledger.retry([entry_id]))


class FailedDiscard(ApiResource):
    """Discard one."""

    def post(self, request: Request, entry_id: str) -> Answer:
        parameters(request)
        why = f"discarded by {self.caller(request).actor}"
        ledger = self.services.store.ledger
        return _settle(
            self,
            entry_id,
            "discarded",
            lambda box: box.discard(box.find([entry_id]), why),
            lambda: ledger.discard([entry_id], why),
        )


def _settle(
    resource: ApiResource,
    entry_id: str,
    state: str,
    dead: Callable[[DeadLetterBox], object],
    notification: Callable[[], list[str]],
) -> Answer:
    if entry_id.startswith(_DEAD):
        with _box(resource) as box:
            dead(box)
        return json_answer({"id": entry_id, "stage": "replicate", "state": state}, 202)
    found = resource.services.store.ledger.find([entry_id])
    if not found:
        raise NotFound(f"nothing that failed has the id {entry_id}")
    if not notification():
        raise Conflict(f"notification {entry_id} is {found[0].state}, or a newer one went out since")
    return json_answer({"id": entry_id, "stage": "notify", "state": state}, 202)


@contextmanager
def _box(resource: ApiResource) -> Iterator[DeadLetterBox]:
    # Imported here: Kafka's client is not small, and most processes never need it.
    from ..copies.dead_letters import DeadLetterBox

    if not resource.services.settings.kafka:
        raise no_kafka()
    with resource.services.few_at_kafka(), DeadLetterBox(resource.services.settings) as box:
        yield box
