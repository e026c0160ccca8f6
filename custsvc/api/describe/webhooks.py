"""Operations on webhook endpoints."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from ...http.messages import JSON
from ...notify.endpoints.fields import (
    CHANGED_MAX,
    CHANGED_TEXT_MAX,
    DESCRIPTION_MAX,
    OPS_DEFAULT,
    URL_MAX,
)
from ...notify.endpoints.manage import ENDPOINTS_MAX, OVERLAP_DEFAULT, OVERLAP_MAX
from ..webhooks import STATES
from .models import Attempt, Op, Paged
from .operation import Answer, Operation, Parameter
from .parameters import CURSOR, KEY, PAGE_LIMIT
from .values import Time

State = Annotated[str, WithJsonSchema({"type": "string", "enum": list(STATES)})]
Url = Annotated[
    str,
    Field(
        max_length=URL_MAX,
        pattern="^https?://[!-~]+$",
        description="Where to call: https://, or http:// for hosts of CUSTSVC_WEBHOOK_ALLOW. Addresses "
        "inside are refused unless that setting lists them.",
        examples=["https://crm.example.com/hooks/customers"],
    ),
]
Ops = Annotated[
    list[Op],
    Field(
        min_length=1,
        json_schema_extra={"uniqueItems": True},
        description="The kinds of events; by default all but `snapshot`.",
    ),
]
Changed = Annotated[
    list[
        Annotated[
            str, Field(max_length=CHANGED_TEXT_MAX, pattern=r"^(name|email|phone|metadata(\.[ -~]+)?)$")
        ]
    ],
    Field(
        max_length=CHANGED_MAX,
        description="Only events that changed one of these fields; none: all events.",
        examples=[["email", "metadata.plan"]],
    ),
]
When = Annotated[
    dict[str, Any],
    Field(
        description="Only events that meet all these conditions, as `when` of a rule: a field with a value, "
        "a list of values, or tests.",
        examples=[{"metadata.plan": ["gold", "platinum"]}],
    ),
]
Payload = Annotated[
    Literal["event", "state"],
    Field(description="event: the event as on Kafka. state: the customer as the event left it, in `data`."),
]
Email = Annotated[str | None, Field(description="Gets a mail when the endpoint is paused because it failed.")]
Description = Annotated[str, Field(max_length=DESCRIPTION_MAX, description="One line for people.")]
Secret = Annotated[
    str,
    Field(
        pattern="^whsec_",
        description="Signs each call, as Standard Webhooks describe. It is shown only here.",
    ),
]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WebhookFields(_Closed):
    """A new webhook endpoint."""

    url: Url
    ops: Ops = cast(list[Op], list(OPS_DEFAULT))
    changed: Changed = []
    when: When = {}
    payload: Payload = "event"
    email: Email = None
    description: Description = ""


def _without_defaults(schema: dict[str, Any]) -> None:
    for described in schema["properties"].values():
        described.pop("default", None)


class WebhookChange(_Closed):
    """What to change of a webhook endpoint; the rest stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_without_defaults)

    url: Url = ""
    ops: Ops = []
    changed: Changed = []
    when: When = {}
    payload: Payload = "event"
    email: Email = None
    description: Description = ""


class Webhook(_Closed):
    """A webhook endpoint, without its secret."""

    id: str
    url: str
    description: str
    email: str | None
    ops: list[Op]
    changed: list[str]
    when: dict[str, Any]
    payload: Payload
    state: Annotated[
        Literal["active", "failing", "paused"],
        Field(description="failing: the last call failed. paused: nothing is sent, everything waits."),
    ]
    failing_since: Annotated[Time | None, Field(description="When it first failed since its last success.")]
    failure: Annotated[str | None, Field(description="Its last answer, where that was a failure.")]
    paused_on: Time | None
    paused_by: Annotated[str | None, Field(description="Who paused it; null where it was for failing.")]
    paused_why: str | None
    created_on: Time | None
    created_by: str
    updated_on: Time | None
    secret_made_on: Time | None


class WebhookNow(Webhook):
    """A webhook endpoint, and how much waits for it."""

    waiting: Annotated[int, Field(description="Deliveries that are not settled.")]


class NewWebhook(WebhookNow):
    """A new webhook endpoint, with its secret."""

    secret: Secret


class WebhookList(_Closed):
    """All webhook endpoints, the oldest first."""

    results: list[Webhook]


class NewSecret(_Closed):
    """The new secret."""

    secret: Secret


class Delivery(_Closed):
    """One event for one webhook endpoint; `id` is its webhook-id."""

    id: str
    state: State
    op: Annotated[str, Field(description="The event's; `test` for a test.")]
    event_id: str
    customer_id: int | None
    version: int
    reason: Annotated[str | None, Field(description="The last answer: its code and first characters.")]
    next_at: Annotated[Time | None, Field(description="When the next try is due.")]
    created_on: Time | None
    updated_on: Time | None
    attempts: list[Attempt]


class DeliveryList(Paged):
    """The log of a webhook endpoint, the newest first. There is no count."""

    results: list[Delivery]


class DeliveryAsked(_Closed):
    """It will be sent."""

    delivery: Annotated[str, Field(description="The delivery's id.")]


_NOW: Final = Answer("As it is now.", {JSON: WebhookNow})
_STATE: Final = Parameter("state", "Only deliveries in this state.", {"type": "string", "enum": list(STATES)})


_OVERLAP: Final = Parameter(
    "overlap",
    "Seconds for which the secrets before sign too; 0: they end at once.",
    {"type": "integer", "minimum": 0, "maximum": OVERLAP_MAX, "default": OVERLAP_DEFAULT},
)


def _on_one(id_: str, summary: str, description: str, answers: dict[int, Answer], **more: Any) -> Operation:
    problems = (404, *more.pop("problems", ()))
    return Operation(
        id=id_,
        tag="webhooks",
        summary=summary,
        description=description,
        answers=answers,
        problems=problems,
        role="admin",
        **more,
    )


_ONE: Final = "/api/webhooks/{endpoint_id}"
WEBHOOKS: Final = {
    ("/api/webhooks", "get"): Operation(
        id="listWebhooks",
        tag="webhooks",
        summary="All webhook endpoints",
        answers={200: Answer("All of them.", {JSON: WebhookList})},
        role="admin",
    ),
    ("/api/webhooks", "post"): Operation(
        id="createWebhook",
        tag="webhooks",
        summary="Make a webhook endpoint",
        description="It gets every change that it asks for from now on. The answer holds the secret that "
        f"signs its calls, which is shown only here. There are at most {ENDPOINTS_MAX}.",
        parameters=(KEY,),
        body={JSON: WebhookFields},
        answers={201: Answer("Made.", {JSON: NewWebhook}, headers=("Location",))},
        problems=(409, 413, 415, 422),
        role="admin",
    ),
    (_ONE, "get"): _on_one("getWebhook", "A webhook endpoint", "", {200: _NOW}),
    (_ONE, "patch"): _on_one(
        "changeWebhook",
        "Change a webhook endpoint",
        "Holds for events that are read from now on; what waits is sent to the new address.",
        {200: _NOW},
        body={JSON: WebhookChange},
        problems=(413, 415),
    ),
    (_ONE, "delete"): _on_one(
        "deleteWebhook",
        "Delete a webhook endpoint",
        "Its waiting deliveries are discarded.",
        {204: Answer("Deleted.")},
    ),
    (f"{_ONE}/test", "post"): _on_one(
        "testWebhook",
        "Send a test",
        "A delivery of the type `webhook.test`, sent by `notify`. Look for it in the log.",
        {202: Answer("It will be sent.", {JSON: DeliveryAsked})},
        problems=(409,),
    ),
    (f"{_ONE}/pause", "post"): _on_one(
        "pauseWebhook", "Pause a webhook endpoint", "Its deliveries wait.", {200: _NOW}
    ),
    (f"{_ONE}/resume", "post"): _on_one(
        "resumeWebhook",
        "Resume a webhook endpoint",
        "Waiting deliveries are sent at once, in order per customer, with all tries left.",
        {200: _NOW},
    ),
    (f"{_ONE}/rotate", "post"): _on_one(
        "rotateWebhookSecret",
        "Replace the secret",
        "The secrets before sign too for a while, so that the receiver can be changed in that time.",
        {200: Answer("The new one.", {JSON: NewSecret})},
        parameters=(_OVERLAP, KEY),
    ),
    (f"{_ONE}/deliveries", "get"): _on_one(
        "listWebhookDeliveries",
        "The log of a webhook endpoint",
        "Each delivery with its attempts, kept for CUSTSVC_NOTIFY_KEEP_DAYS.",
        {200: Answer("Some of it.", {JSON: DeliveryList})},
        parameters=(_STATE, PAGE_LIMIT, CURSOR),
    ),
    (f"{_ONE}/deliveries/{{delivery_id}}/redeliver", "post"): _on_one(
        "redeliverWebhook",
        "Send a delivery again",
        "Under the same webhook-id, whatever became of it; one that waits is sent anyway.",
        {202: Answer("It will be sent.", {JSON: DeliveryAsked})},
        problems=(409,),
    ),
}
