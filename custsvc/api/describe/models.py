"""The shapes that go over the wire, as pydantic models: what the published documents are made from.

They describe; the checks that decide are those of `custsvc.domain.canonical` and `custsvc.domain.events`,
whose limits are used here. Tests hold both against each other.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...domain.customers import EMAIL_MAX, INT64_MAX, METADATA_KEYS_MAX, NAME_MAX, PHONE_MAX, SERVER_OWNED
from ...domain.events import NEWEST_SCHEMA
from ...service.merging import MERGED_MAX
from .values import (
    NAME_PATTERN,
    Actor,
    Closed,
    Email,
    Id,
    Metadata,
    Name,
    Phone,
    Time,
    Version,
    described,
)


def _with_ignored(schema: dict[str, Any]) -> None:
    # A client may send back what it got: the server's own fields are ignored, whatever they hold.
    for member in schema["properties"].values():
        member.pop("default", None)
    for name in SERVER_OWNED:
        schema["properties"][name] = {"description": "The server's own; ignored.", "readOnly": True}


class CustomerFields(BaseModel):
    """A customer as a caller writes it: all of its fields. Those left out are null or empty."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_with_ignored)

    name: Name
    email: Email | None = None
    phone: Phone | None = None
    metadata: Metadata | None = None


class CustomerPatch(BaseModel):
    """A JSON merge patch (RFC 7396): what is left out stays, null removes, metadata merges key by key."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_with_ignored)

    name: Annotated[
        str,
        described({"type": "string", "minLength": 1, "maxLength": NAME_MAX, "pattern": NAME_PATTERN}),
    ] = ""
    email: Email | None = None
    phone: Phone | None = None
    metadata: Metadata | None = None


class Customer(Closed):
    """One customer at one version, byte for byte as stored."""

    id: Id
    name: Annotated[str, Field(min_length=1, max_length=NAME_MAX)]
    email: Annotated[str, Field(max_length=EMAIL_MAX)] | None
    phone: Annotated[str, Field(max_length=PHONE_MAX)] | None
    metadata: Annotated[dict[str, str | int | float | bool | None], Field(max_length=METADATA_KEYS_MAX)]
    deleted: bool
    version: Version
    created_on: Time
    created_by: Actor
    updated_on: Time
    updated_by: Actor


def _all_optional(schema: dict[str, Any]) -> None:
    schema.pop("required", None)


class CustomerPart(Customer):
    """Some fields of a customer: those that `fields` asked for."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_all_optional)


Op = Literal[
    "created", "updated", "deleted", "restored", "erased", "snapshot", "merged", "merged_into", "unmerged"
]


class At(BaseModel):
    """A customer at a version."""

    id: Id
    version: Version


class EventMerge(BaseModel):
    """What a merge, or undoing it, did: a survivor's event names the others, theirs name the survivor."""

    from_: Annotated[
        list[At] | None, Field(alias="from", description="merged: those taken in, at their new versions.")
    ] = None
    took: Annotated[
        dict[str, Id] | None,
        Field(description="merged: from whom a value is, by `email` or `metadata.KEY`."),
    ] = None
    into: Annotated[At | None, Field(description="merged_into: the survivor.")] = None
    undid: Annotated[Version | None, Field(description="unmerged: the version that the merge made.")] = None
    restored: Annotated[list[At] | None, Field(description="unmerged: those that live again.")] = None
    kept: Annotated[
        list[str] | None, Field(description="unmerged: what was changed since the merge, and stayed.")
    ] = None
    out_of: Annotated[At | None, Field(description="restored by unmerging: the former survivor.")] = None


class CustomerEvent(BaseModel):
    """One change of one customer: the value of a record on the updates topic.

    A reader ignores members that it does not know; new ones may come without a new `schema`.
    """

    id: Annotated[str, Field(description="A UUID; the same event always has the same.")]
    event_ts: Time
    app_event_type: Annotated[
        Literal[100, 200, 300], Field(description="100 created or snapshot, 200 changed, 300 deleted.")
    ]
    op: Op
    customer_id: Id
    version: Version
    changed: Annotated[list[str], Field(description="The names of the fields that differ.")]
    actor: Annotated[str, Field(description="Who made the change.")]
    request_id: Annotated[str | None, Field(description="The X-Request-Id of the request that made it.")]
    schema_: Annotated[
        int,
        Field(
            alias="schema",
            ge=1,
            description=f"The version of this layout; {NEWEST_SCHEMA} is the newest: the events of merges.",
        ),
    ]
    merge: Annotated[
        EventMerge | None, Field(description="Only in events of merges and of undoing them.")
    ] = None
    bulk: Annotated[
        bool,
        Field(
            description="True for one of many changes (seed, import, replay) without a wish for mails: only "
            "rules with `bulk = true` see it. All other events leave it out."
        ),
    ] = False
    before_change: Annotated[Customer | None, Field(description="Null where there was none.")]
    after_change: Annotated[Customer, Field(description="A deleted one has `deleted: true`.")]


class MergeFrom(Closed):
    """A customer to merge, at the version that was read."""

    id: Id
    version: Version | None = None


class Merge(Closed):
    """Customers to merge into the one of the path, in the order of their precedence."""

    from_: Annotated[
        list[Id | MergeFrom],
        Field(alias="from", min_length=1, max_length=MERGED_MAX, examples=[[8, {"id": 9, "version": 2}]]),
    ]
    fields: Annotated[
        CustomerPatch | None, Field(description="What the survivor gets, whatever the customers have.")
    ] = None


class MergePreview(Closed):
    """What a merge would do."""

    customer: Annotated[Customer, Field(description="The survivor as it would be.")]
    took: Annotated[
        dict[str, Id], Field(description="From whom each new value is, by `email` or `metadata.KEY`.")
    ]


class Paged(Closed):
    """A page of a list, with the way to its neighbours."""

    count: Annotated[
        int | None, Field(description="How many match in all: on the first page, or where asked for.")
    ]
    count_estimated: Annotated[
        bool, Field(description="There, and true, where `count` is about how many: too many to be counted.")
    ] = False
    next: Annotated[str | None, Field(description="Path and query of the next page.")]
    previous: Annotated[str | None, Field(description="Path and query of the page before.")]
    has_more: bool


class CustomerList(Paged):
    """One page of customers."""

    results: list[Customer | CustomerPart]


class CustomerHistory(Paged):
    """One page of a customer's events, the newest first, exactly as they go to Kafka.

    `count` counts all changes that there ever were.
    """

    begins_at: Annotated[
        str | None,
        Field(
            description="Events whose state was replaced before this time may be gone. null: all are there.",
            examples=["2026-08-31T00:00:00.000Z"],
        ),
    ]
    results: list[CustomerEvent]


class FieldProblem(Closed):
    """One thing wrong with one field or parameter."""

    field: str
    code: Annotated[str, Field(examples=["invalid_email"])]
    message: str


class Problem(BaseModel):
    """What went wrong (RFC 9457). For wrong fields, their names stand at top level too."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(examples=["/problems/validation"], description="The page about it.")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    code: str
    errors: list[FieldProblem] = []
    request_id: Annotated[str | None, Field(description="Also in the log and in X-Request-Id.")] = None


class Revert(Closed):
    """Which version's fields the customer is to have again."""

    version: Annotated[int, Field(ge=1, lt=INT64_MAX)]


class BatchOperation(Closed):
    """One operation. `id` names the customer (never for create), `version` what it must be at.

    `customer` holds the fields of a create or replace, or the merge patch of an update.
    """

    op: Literal["create", "replace", "update", "delete", "restore"]
    id: Id | None = None
    version: Version | None = None
    customer: dict[str, Any] | None = None


class Batch(Closed):
    """Operations, done in this order; each sees what those before it did."""

    operations: Annotated[list[BatchOperation], Field(min_length=1, max_length=1000)]
    atomic: Annotated[bool, Field(description="All or none of them.")] = False


class BatchResult(Closed):
    """The result of an operation: the status that it would have as a separate request."""

    index: int
    status: int
    id: int | None
    version: int | None
    error: Problem | None


class BatchResults(Closed):
    """One result for each operation, in their order."""

    atomic: bool
    done: Annotated[bool, Field(description="False: the batch is atomic, and nothing of it was done.")]
    results: list[BatchResult]


class Attempt(Closed):
    """One try to send a notification."""

    number: int
    time: Time
    outcome: str
    code: Annotated[int | None, Field(description="The mail server's code.")]
    text: Annotated[str | None, Field(description="The mail server's words.")]
    duration: Annotated[float, Field(description="Seconds.")]


class Notification(Closed):
    """A mail, or a message on another channel, to one recipient because of one event."""

    id: str
    event_id: str
    version: int
    rule: str
    channel: str
    recipient: str
    subject: str
    state: str
    reason: str | None
    created_on: Time | None
    updated_on: Time | None
    next_at: Annotated[Time | None, Field(description="When the next try is due.")]
    attempts: list[Attempt]


class NotificationList(Closed):
    """What was sent to a customer, the newest first."""

    results: list[Notification]
