"""The shapes that go over the wire, as pydantic models: what the published documents are made from.

They describe; the checks that decide are those of `custsvc.domain.customers` and `custsvc.domain.events`,
whose limits are used here. Tests hold both against each other.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.json_schema import GenerateJsonSchema

from ...domain.customers import (
    EMAIL_MAX,
    INT64_MAX,
    METADATA_KEY_MAX,
    METADATA_KEYS_MAX,
    METADATA_VALUE_MAX,
    NAME_MAX,
    PHONE_MAX,
    SERVER_OWNED,
)
from ...domain.events import NEWEST_SCHEMA
from ...service.merging import MERGED_MAX
from ...transfer.likely import LOOKED_AT

# Text without control, hidden and unencodable characters, as a regular expression of JSON Schema.
# The last two of each plane beyond the first are no characters; a pattern can only hold them as they are.
_NO_CHARACTERS: Final = "".join(chr(plane << 16 | end) for plane in range(1, 17) for end in (0xFFFE, 0xFFFF))
_NO_TEXT: Final = (
    r"\u0000-\u001f\u007f-\u009f\u200b\u2028-\u202e\u2060\u2066-\u2069\ufeff\ufffe\uffff" + _NO_CHARACTERS
)
_LINES: Final = _NO_TEXT.replace(r"\u0000-\u001f", r"\u0000-\u0008\u000b\u000c\u000e-\u001f")
_TEXT_PATTERN: Final = rf"^[^{_NO_TEXT}]*$"
# What nobody sees, then anything from the first character that is seen: so that a validator reads it once.
_UNSEEN: Final = (
    r" \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    r"\u200c-\u200f\u2061-\u2065\u206a-\u206f\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8"
)
_SEEN: Final = rf"[^\s{_UNSEEN}{_NO_TEXT}"
_NAME_PATTERN: Final = rf"^[{_UNSEEN}]*{_SEEN}][^{_NO_TEXT}]*$"
_VALUE_PATTERN: Final = rf"^[^{_LINES}]*$"
_KEY_PATTERN: Final = rf"^([{_UNSEEN}]+{_SEEN}.]|{_SEEN}.$])[^.{_NO_TEXT}]*$"
_TIME_PATTERN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"


def _described(schema: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema(schema)


def _metadata(values: list[str]) -> dict[str, Any]:
    text = {"type": "string", "maxLength": METADATA_VALUE_MAX, "pattern": _VALUE_PATTERN}
    number = {"type": "integer", "minimum": -INT64_MAX - 1, "maximum": INT64_MAX}
    of = {"string": text, "integer": number}
    return {
        "type": "object",
        "description": "A flat object of your own: text, numbers, true, false and null.",
        "maxProperties": METADATA_KEYS_MAX,
        "propertyNames": {"maxLength": METADATA_KEY_MAX, "minLength": 1, "pattern": _KEY_PATTERN},
        "additionalProperties": {"anyOf": [of.get(name, {"type": name}) for name in values]},
    }


# A number with a fraction may be any that a double can hold; a whole one must fit into 64 bits.
_METADATA: Final = _metadata(["string", "integer", "boolean", "null"])
_METADATA["additionalProperties"]["anyOf"].append(
    {"type": "number", "minimum": -float(2**63), "maximum": float(2**63 - 1024)}
)

Id = Annotated[int, Field(ge=1, le=INT64_MAX, examples=[7])]
Version = Annotated[
    int, Field(ge=1, le=INT64_MAX, description="1, 2, 3 …; rises by one with each change; the entity tag.")
]
Name = Annotated[
    str, Field(min_length=1, max_length=NAME_MAX, pattern=_NAME_PATTERN, examples=["Ada Lovelace"])
]
Email = Annotated[
    str,
    _described(
        {
            "type": "string",
            "anyOf": [{"format": "email"}, {"pattern": r"^ *$"}],
            "maxLength": EMAIL_MAX,
            "description": "An address; a blank one is null.",
            "examples": ["ada@example.org"],
        }
    ),
]
Phone = Annotated[str, Field(max_length=PHONE_MAX, pattern=_TEXT_PATTERN, examples=["+44 20 7946 0000"])]
Metadata = Annotated[dict[str, Any], _described(_METADATA)]
Time = Annotated[
    datetime,
    _described(
        {
            "type": "string",
            "format": "date-time",
            "pattern": _TIME_PATTERN,
            "description": "UTC, in whole milliseconds.",
            "examples": ["2026-11-23T20:40:00.123Z"],
        }
    ),
]
Actor = Annotated[str, Field(description="The name of the API key that made the change.")]


class OurWords(GenerateJsonSchema):
    """A JSON Schema without the titles that pydantic makes up out of the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - the method is pydantic's
        return False


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _with_ignored(schema: dict[str, Any]) -> None:
    # A client may send back what it got: the server's own fields are ignored, whatever they hold.
    for described in schema["properties"].values():
        described.pop("default", None)
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
        _described({"type": "string", "minLength": 1, "maxLength": NAME_MAX, "pattern": _NAME_PATTERN}),
    ] = ""
    email: Email | None = None
    phone: Phone | None = None
    metadata: Metadata | None = None


class Customer(_Closed):
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


class MergeFrom(_Closed):
    """A customer to merge, at the version that was read."""

    id: Id
    version: Version | None = None


class Merge(_Closed):
    """Customers to merge into the one of the path, in the order of their precedence."""

    from_: Annotated[
        list[Id | MergeFrom],
        Field(alias="from", min_length=1, max_length=MERGED_MAX, examples=[[8, {"id": 9, "version": 2}]]),
    ]
    fields: Annotated[
        CustomerPatch | None, Field(description="What the survivor gets, whatever the customers have.")
    ] = None


class MergePreview(_Closed):
    """What a merge would do."""

    customer: Annotated[Customer, Field(description="The survivor as it would be.")]
    took: Annotated[
        dict[str, Id], Field(description="From whom each new value is, by `email` or `metadata.KEY`.")
    ]


class Paged(_Closed):
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


class FieldProblem(_Closed):
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


class ImportRowError(_Closed):
    """What is wrong with a row of a file."""

    field: Annotated[str, Field(description="Empty where the whole row is meant.")]
    code: str
    message: str
    value: str | None


class ImportRow(_Closed):
    """What a row of a file does."""

    row: Annotated[int, Field(ge=1, description="The line at which it begins.")]
    action: Literal["create", "update", "same", "restore", "trashed", "error", "conflict"]
    id: Id | None
    name: str | None
    changed: list[str]
    errors: list[ImportRowError]
    warnings: Annotated[
        list[ImportRowError], Field(description="Cells that a spreadsheet has spoilt: skipped, or doubtful.")
    ] = []
    duplicates: Annotated[
        list[Id],
        Field(description="In a dry run: the customers, at most five, that a new one likely is already."),
    ] = []


class ImportCounts(_Closed):
    """The number of rows by action. `trashed`: rows of deleted customers, skipped without `restore`.

    `delete`: customers that a bulk change of the pages deleted; a file deletes none.
    """

    create: int
    update: int
    same: int
    restore: int
    trashed: int
    error: int
    conflict: int
    delete: int = 0


class ImportLines(_Closed):
    """The lines of the file by kind: `all` is the sum of the others."""

    all: int
    heading: int
    empty: int
    rows: Annotated[int, Field(description="More than there are rows where cells hold line breaks.")]


class ImportColumn(_Closed):
    """A column of the file and its field, null if it was skipped."""

    column: str
    field: str | None


class ImportFile(_Closed):
    """How the file was read."""

    format: Literal["csv", "ndjson", "json", "xlsx", "vcard"]
    encoding: str
    delimiter: str | None
    columns: list[ImportColumn]
    unwrapped: Annotated[int, Field(description='Cells like ="0044", which were read as the text within.')]


class ImportDuplicates(_Closed):
    """How many of the rows that would add a customer are likely stored customers."""

    rows: int
    looked_at: Annotated[
        int,
        Field(description=f"How many rows were compared: the first {LOOKED_AT:,} that would add somebody."),
    ]


class PastImport(_Closed):
    """An import of the last week."""

    id: str
    by: str
    at: Annotated[str, Field(description="When it began.")]
    counts: ImportCounts
    undone: bool
    what: Annotated[
        Literal["import", "edit", "delete", "restore"],
        Field(description="A file, or a bulk change of the pages: of one field, or of which are deleted."),
    ] = "import"


class PastImports(_Closed):
    """The imports of the last week, the newest first."""

    results: list[PastImport]


class UndoCounts(_Closed):
    """How many customers were deleted, got their fields back, went back to the trash, or were left alone.

    `restore`: they had been deleted, and are back.
    """

    delete: int
    revert: int
    trash: int
    restore: int = 0
    left: int


class LeftAlone(_Closed):
    """A customer that was changed after the import."""

    id: Id
    version: int


class UndoReport(_Closed):
    """What undoing an import did, or would do."""

    import_: Annotated[str, Field(alias="import")]
    dry_run: bool
    counts: UndoCounts
    left: Annotated[list[LeftAlone], Field(description="At most a thousand of those that were left alone.")]


class ImportReport(_Closed):
    """The plan of an import, or its result."""

    dry_run: bool
    import_: Annotated[
        str | None, Field(alias="import", description="The id by which the import can be undone for a week.")
    ] = None
    plan: Annotated[str, Field(description="The plan's name: sent back, it is this plan or none.")]
    counts: ImportCounts
    lines: ImportLines
    file: ImportFile
    warnings: Annotated[int, Field(description="How many cells were skipped, or may be wrong.")]
    mails: Annotated[bool, Field(description="Whether rules see the changes, and so send mails.")]
    mails_by_rules: Annotated[
        int | None,
        Field(
            description="How many mails and other notifications the rules send for them, if they see them."
        ),
    ]
    duplicates: Annotated[ImportDuplicates | None, Field(description="Null of an import that was done.")] = (
        None
    )
    resumed: Annotated[int, Field(description="Rows that an earlier try of the same request had done.")]
    rows: Annotated[list[ImportRow], Field(description="The first thousand that do something; errors first.")]
    rows_left_out: int


class Revert(_Closed):
    """Which version's fields the customer is to have again."""

    version: Annotated[int, Field(ge=1, lt=INT64_MAX)]


class BatchOperation(_Closed):
    """One operation. `id` names the customer (never for create), `version` what it must be at.

    `customer` holds the fields of a create or replace, or the merge patch of an update.
    """

    op: Literal["create", "replace", "update", "delete", "restore"]
    id: Id | None = None
    version: Version | None = None
    customer: dict[str, Any] | None = None


class Batch(_Closed):
    """Operations, done in this order; each sees what those before it did."""

    operations: Annotated[list[BatchOperation], Field(min_length=1, max_length=1000)]
    atomic: Annotated[bool, Field(description="All or none of them.")] = False


class BatchResult(_Closed):
    """The result of an operation: the status that it would have as a separate request."""

    index: int
    status: int
    id: int | None
    version: int | None
    error: Problem | None


class BatchResults(_Closed):
    """One result for each operation, in their order."""

    atomic: bool
    done: Annotated[bool, Field(description="False: the batch is atomic, and nothing of it was done.")]
    results: list[BatchResult]


class Attempt(_Closed):
    """One try to send a notification."""

    number: int
    time: Time
    outcome: str
    code: Annotated[int | None, Field(description="The mail server's code.")]
    text: Annotated[str | None, Field(description="The mail server's words.")]
    duration: Annotated[float, Field(description="Seconds.")]


class Notification(_Closed):
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


class NotificationList(_Closed):
    """What was sent to a customer, the newest first."""

    results: list[Notification]


class Outbox(_Closed):
    """Events that are not on Kafka yet."""

    waiting: int
    oldest_age_s: float


class Step(_Closed):
    """A step of the pipeline, and what waits before it."""

    step: str
    state: Annotated[str, Field(description="One word or two: `caught up`, `behind`, `sent`, `identical` …")]
    count: Annotated[int | None, Field(description="How many there are in this state, waiting or not.")]
    waiting: int
    oldest_seconds: float | None
    detail: Annotated[str, Field(description="What is counted, in words.")]


class Status(_Closed):
    """How the pipeline stands."""

    version: str
    backend: str
    outbox: Outbox
    steps: Annotated[list[Step], Field(description="In the order of the flow; none where Kafka is away.")]
    problem: Annotated[str | None, Field(description="Why there are no steps.")]


class Health(_Closed):
    """It is well; anything else is a problem."""

    status: Literal["ok"]


class ProblemPage(_Closed):
    """What a problem means."""

    code: str
    title: str
    status: int
    cause: str
    cure: str


# -- the other records on the topics -----------------------------------------------------------------------


class EventHeaders(BaseModel):
    """CloudEvents 1.0 in binary mode; every header is UTF-8 text."""

    ce_specversion: Literal["1.0"]
    ce_id: str
    ce_type: Annotated[str, Field(pattern=r"^custsvc\.customer\.[a-z]+\.v[0-9]+$")]
    ce_source: Annotated[str, Field(description="The database that the event is from, as a URI.")]
    ce_subject: Annotated[str, Field(description="The customer's id.")]
    ce_time: Time
    content_type: Annotated[Literal["application/json"], Field(alias="content-type")]
    traceparent: Annotated[str, Field(description="Where the request was traced (W3C).")] = ""


class MailRequest(BaseModel):
    """A mail that another service requests. Each recipient gets a separate mail."""

    id: Annotated[str | int | None, Field(description="The same id is never sent twice.")] = None
    notifyTo: str | list[str] | None = None  # noqa: N815 - the originals' names
    notifyCC: str | list[str] | None = None  # noqa: N815
    notifyBCC: str | list[str] | None = None  # noqa: N815
    subject: Annotated[str, Field(min_length=1, max_length=250)]
    textMsg: str | None = None  # noqa: N815
    htmlMsg: str | None = None  # noqa: N815


class MailAttempt(BaseModel):
    """One try to send a mail."""

    number: int
    time: Time
    outcome: str
    code: Annotated[int | None, Field(description="The mail server's code.")]
    text: Annotated[str | None, Field(description="The mail server's words.")]
    duration: Annotated[float, Field(description="Seconds.")]


class FailedMail(BaseModel):
    """A failed mail to one recipient; or, with `request`, a mail request that cannot be read."""

    reason: Annotated[str | None, Field(description="The last reason.")]
    attempts: list[MailAttempt]
    id: str | None = None
    notifyTo: str | None = None  # noqa: N815
    subject: str | None = None
    textMsg: str | None = None  # noqa: N815
    htmlMsg: str | None = None  # noqa: N815
    notification_id: str | None = None
    rule: str | None = None
    customer_id: int | None = None
    version: int | None = None
    request: Annotated[str | None, Field(description="The record's value, where it is no mail request.")] = (
        None
    )


class DeadLetterHeaders(BaseModel):
    """Added to the record's own headers; every header is UTF-8 text."""

    dead_reason: str
    dead_class: Annotated[str, Field(description="A stable word: bad-json, bad-field, bad-key …")]
    dead_topic: str
    dead_partition: Annotated[str, Field(pattern="^[0-9]+$")]
    dead_offset: Annotated[str, Field(pattern="^[0-9]+$")]
