"""Operations that show the state of the service and its pipeline."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from ...domain.events import APP_EVENT_TYPE
from ...http.messages import JSON
from .operation import Answer, Operation, Parameter
from .parameters import PAGE_LIMIT, header
from .values import Closed


class Outbox(Closed):
    """Events that are not on Kafka yet."""

    waiting: int
    oldest_age_s: float


class Step(Closed):
    """A step of the pipeline, and what waits before it."""

    step: str
    state: Annotated[str, Field(description="One word or two: `caught up`, `behind`, `sent`, `identical` …")]
    count: Annotated[int | None, Field(description="How many there are in this state, waiting or not.")]
    waiting: int
    oldest_seconds: float | None
    detail: Annotated[str, Field(description="What is counted, in words.")]


class Status(Closed):
    """How the pipeline stands."""

    version: str
    backend: str
    outbox: Outbox
    steps: Annotated[list[Step], Field(description="In the order of the flow; none where Kafka is away.")]
    problem: Annotated[str | None, Field(description="Why there are no steps.")]


class Health(Closed):
    """It is well; anything else is a problem."""

    status: Literal["ok"]


_STREAM: Final = {
    "type": "string",
    "description": "Server-sent events. `data` of each is a CustomerEvent, `id` the place after it.",
}
_EVENT_STREAM = Operation(
    id="streamEvents",
    tag="pipeline",
    summary="Every change as it happens",
    description="Server-sent events, read from Kafka: gap-free and in order per customer. A client that "
    "sends the last `id` it got in `Last-Event-ID` goes on from there, on any process. If events after it "
    "are gone from Kafka, an event `lost` comes first. Every 15 seconds without an event a comment comes.",
    parameters=(
        Parameter(
            "customer", "Only this customer's.", {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
        ),
        Parameter(
            "op",
            "Only these: one or more, with commas.",
            {"type": "array", "items": {"type": "string", "enum": list(APP_EVENT_TYPE)}, "minItems": 1},
            style={"style": "form", "explode": False},
        ),
        Parameter(
            "from",
            "Where to begin without Last-Event-ID.",
            {"type": "string", "enum": ["beginning", "end"], "default": "end"},
        ),
        header("Last-Event-ID", "The id of the last event that came.", pattern=r"^\d{1,9}(\.\d{1,9}){0,99}$"),
    ),
    answers={200: Answer("The stream, which does not end by itself.", {"text/event-stream": _STREAM})},
)

_ACCEPTED = Answer("It was.", {JSON: {"type": "object"}})
_OK = Answer("It is.", {JSON: Health})
PIPELINE: Final[dict[tuple[str, str], Operation]] = {
    ("/api/status", "get"): Operation(
        id="getStatus",
        tag="pipeline",
        summary="What waits at each step",
        answers={200: Answer("How it stands.", {JSON: Status})},
    ),
    ("/api/events/stream", "get"): _EVENT_STREAM,
    ("/metrics", "get"): Operation(
        id="getMetrics",
        tag="pipeline",
        summary="Numbers for Prometheus",
        description="Requests by route, method and status; what waits in the outbox. No label is personal.",
        answers={200: Answer("Text in Prometheus's form.", {"text/plain": {"type": "string"}})},
        role=None,
    ),
    ("/api/failed/", "get"): Operation(
        id="listFailed",
        tag="pipeline",
        summary="Dead letters and failed mails",
        description="Records that a copy could not read (stage `replicate`) and notifications that were "
        "given up (stage `notify`), the newest first.",
        parameters=(
            Parameter("stage", "Only this stage's.", {"type": "string", "enum": ["replicate", "notify"]}),
            PAGE_LIMIT,
        ),
        answers={200: Answer("How many, and the newest of them.", {JSON: {"type": "object"}})},
    ),
    ("/api/failed/{entry_id}/retry", "post"): Operation(
        id="retryFailed",
        tag="pipeline",
        summary="Send a dead letter or failed mail again",
        description="A record goes to the topic and partition that it came from, with its own key, bytes and "
        "headers; 409 if that topic is gone or it is settled. A notification is queued with all tries before "
        "it.",
        answers={202: _ACCEPTED},
        problems=(404, 409),
        role="write",
    ),
    ("/api/failed/{entry_id}/discard", "post"): Operation(
        id="discardFailed",
        tag="pipeline",
        summary="Discard a dead letter or failed mail",
        answers={202: _ACCEPTED},
        problems=(404, 409),
        role="write",
    ),
    ("/livez", "get"): Operation(
        id="isAlive",
        tag="pipeline",
        summary="Whether the process lives",
        description="Asks no other server, so an outage restarts nothing.",
        answers={200: _OK},
        role=None,
    ),
    ("/readyz", "get"): Operation(
        id="isReady",
        tag="pipeline",
        summary="Whether the database answers",
        answers={200: _OK},
        role=None,
    ),
}
