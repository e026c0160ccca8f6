"""Webhook endpoints over HTTP: made, changed, paused, tested, and the log of their deliveries."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Final

import orjson

from ..http.answer import Answer
from ..http.messages import (
    JSON,
    idempotency_key,
    json_answer,
    json_body,
    limit_of,
    page_answer,
    parameters,
    word_of,
)
from ..http.problems import Problem, bad_parameter
from ..http.request import Request
from ..http.resource import ApiResource
from ..notify import view
from ..notify.endpoints.fields import shown
from ..notify.endpoints.manage import OVERLAP_DEFAULT, OVERLAP_MAX, Managed
from ..ports.accounts import Role
from ..ports.endpoints import Endpoint
from ..ports.ledger import SETTLED, UNSETTLED, Notification, Place
from ..ports.store import Store

STATES: Final = (*UNSETTLED, *SETTLED)


class _Webhooks(ApiResource):
    # The maker of an endpoint gets all customers, and its address may have a secret in it.
    reading: ClassVar[Role] = "admin"
    writing: ClassVar[Role] = "admin"

    @cached_property
    def managed(self) -> Managed:
        return Managed(self.services.store, self.services.settings)

    def key(self, request: Request) -> str | None:
        """The caller with the Idempotency-Key, by which a repeated request is recognised."""
        given = idempotency_key(request)
        return None if given is None else f"{request.principal.id} {given}"

    def shown(self, endpoint: Endpoint) -> dict[str, Any]:
        return {**shown(endpoint), "waiting": self.managed.waiting(endpoint)}


class WebhookList(_Webhooks):
    """`/api/webhooks`"""

    def get(self, request: Request) -> Answer:
        parameters(request)
        return json_answer({"results": [shown(each) for each in self.managed.all()]})

    def post(self, request: Request) -> Answer:
        parameters(request)
        endpoint, secret = self.managed.create(
            json_body(request, JSON), request.principal.name, self.key(request)
        )
        answer = _secret_answer({**self.shown(endpoint), "secret": secret}, 201)
        answer.headers.append(("Location", f"/api/webhooks/{endpoint.id}"))
        return answer


class OneWebhook(_Webhooks):
    """`/api/webhooks/{endpoint_id}`"""

    def get(self, request: Request, endpoint_id: str) -> Answer:
        parameters(request)
        return json_answer(self.shown(self.managed.find(endpoint_id)))

    def patch(self, request: Request, endpoint_id: str) -> Answer:
        parameters(request)
        return json_answer(self.shown(self.managed.change(endpoint_id, json_body(request, JSON))))

    def delete(self, request: Request, endpoint_id: str) -> Answer:
        parameters(request)
        self.managed.remove(endpoint_id)
        return Answer(b"", 204, [])


class WebhookTest(_Webhooks):
    """`/api/webhooks/{endpoint_id}/test`: `notify` sends a delivery that says it is a test."""

    def post(self, request: Request, endpoint_id: str) -> Answer:
        parameters(request)
        return json_answer({"delivery": self.managed.test(endpoint_id)}, 202)


class WebhookPause(_Webhooks):
    """`/api/webhooks/{endpoint_id}/pause`"""

    def post(self, request: Request, endpoint_id: str) -> Answer:
        parameters(request)
        return json_answer(self.shown(self.managed.pause(endpoint_id, request.principal.name)))


class WebhookResume(_Webhooks):
    """`/api/webhooks/{endpoint_id}/resume`"""

    def post(self, request: Request, endpoint_id: str) -> Answer:
        parameters(request)
        return json_answer(self.shown(self.managed.resume(endpoint_id)))


class WebhookRotate(_Webhooks):
    """`/api/webhooks/{endpoint_id}/rotate`: a new secret, beside the old one for a while."""

    def post(self, request: Request, endpoint_id: str) -> Answer:
        overlap = _overlap(parameters(request, "overlap"))
        return _secret_answer({"secret": self.managed.rotate(endpoint_id, overlap, self.key(request))})


class WebhookDeliveries(_Webhooks):
    """`/api/webhooks/{endpoint_id}/deliveries`: the log, the newest first."""

    def get(self, request: Request, endpoint_id: str) -> Answer:
        given = parameters(request, "state", "limit", "cursor")
        state = word_of(given, "state", STATES, "sent") if "state" in given else None
        limit, scope = limit_of(given), f"deliveries {endpoint_id} {state}"
        after = _place(self.services.cursors.read(given["cursor"], scope)) if "cursor" in given else None
        found = self.managed.deliveries(endpoint_id, state=state, limit=limit + 1, after=after)
        page, more = found[:limit], len(found) > limit
        last = [page[-1].created_on.isoformat(), page[-1].id] if more and page[-1].created_on else None
        return page_answer(
            request,
            orjson.dumps(deliveries_shown(self.services.store, page))[1:-1],
            count=None,
            has_more=more,
            given=given,
            following=self.services.cursors.make(last, scope) if last else None,
        )


class WebhookRedeliver(_Webhooks):
    """`/api/webhooks/{endpoint_id}/deliveries/{delivery_id}/redeliver`"""

    def post(self, request: Request, endpoint_id: str, delivery_id: str) -> Answer:
        parameters(request)
        self.managed.redeliver(endpoint_id, delivery_id)
        return json_answer({"delivery": delivery_id}, 202)


def deliveries_shown(store: Store, found: Sequence[Notification]) -> list[dict[str, Any]]:
    """Deliveries as plain data, each with its attempts."""
    return [
        {
            "id": row["id"],
            "state": row["state"],
            "op": row["subject"],
            "event_id": row["event_id"],
            "customer_id": row["customer_id"],
            "version": row["version"],
            "reason": row["reason"],
            "next_at": row["next_at"],
            "created_on": row["created_on"],
            "updated_on": row["updated_on"],
            "attempts": row["attempts"],
        }
        for row in view.with_attempts(store.ledger, found)
    ]


def _secret_answer(value: Any, status: int = 200) -> Answer:
    """An answer with a secret, which nothing in between may keep."""
    answer = json_answer(value, status)
    answer.put("Cache-Control", "private, no-store")
    return answer


def _overlap(given: Mapping[str, str]) -> int:
    text = given.get("overlap", str(OVERLAP_DEFAULT))
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) > OVERLAP_MAX:
        raise bad_parameter("overlap", f"must be a number of seconds from 0 to {OVERLAP_MAX}")
    return int(text)


def _place(value: Any) -> Place:
    match value:
        case [str() as created_on, str() as id_]:
            return Place(dt.datetime.fromisoformat(created_on), id_)
    raise Problem(400, "bad-cursor", "take the cursor as `next` gave it")
