"""Every operation of the API, by path and method. A test holds this table against the app's routes."""

from __future__ import annotations

from typing import Any, Final, get_args

from ...customer import EMAIL_MAX, NAME_MAX
from ...events import APP_EVENT_TYPE
from ...stores.base import SortField
from ..lists import FIELDS
from ..messages import JSON, LIMIT_DEFAULT, LIMIT_MAX, MERGE_PATCH
from . import models
from .operation import Answer, Operation, Parameter

TAGS: Final = {
    "customers": "The customer record: every change of it is an event.",
    "pipeline": "How the service and its pipeline stand.",
    "about": "What this API says about itself. Needs no key.",
    "originals": "The original services' paths: the same as under /api, kept for their clients.",
}

_DELETED = Parameter(
    "deleted",
    "Whether deleted customers are in the list.",
    {"type": "string", "enum": ["exclude", "include", "only"], "default": "exclude"},
)
_LIMIT = Parameter(
    "limit",
    "How many at most.",
    {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
)
_CURSOR = Parameter("cursor", "Where the page before ended, as its `next` gave it.", {"type": "string"})
_COUNT = Parameter(
    "count",
    "Whether to count all that match; by default only on the first page.",
    {"type": "string", "enum": ["exact", "estimated", "none"]},
)


def _text(name: str, description: str, longest: int, **schema: Any) -> Parameter:
    return Parameter(name, description, {"type": "string", "maxLength": longest, **schema})


_NOT_NUL: Final = "^[^\\x00]*$"
_FILTERS: Final = (
    _text(
        "q",
        "Words, each of which begins a word of name, email or phone; case and accents do not matter.",
        100,
        pattern=_NOT_NUL,
    ),
    _text("email", "Exactly this address.", EMAIL_MAX, pattern=_NOT_NUL),
    _text("name__startswith", "The name begins with this, letter by letter.", NAME_MAX, pattern=_NOT_NUL),
    *(
        Parameter(
            f"{field}__{sign}",
            f"Last {verb} {words} this time." if field == "updated" else f"Created {words} this time.",
            {"type": "string", "format": "date-time"},
        )
        for field, verb in (("created", "created"), ("updated", "changed"))
        for sign, words in (
            ("gte", "at or after"),
            ("gt", "after"),
            ("lte", "at or before"),
            ("lt", "before"),
        )
    ),
    _DELETED,
)
_SORT = Parameter(
    "sort",
    "The field to sort by, with - before it to descend. Customers alike in it follow by id.",
    {
        "type": "string",
        "enum": [f"{sign}{field}" for field in get_args(SortField) for sign in ("", "-")],
        "default": "id",
    },
)
_FIELDS = _text(
    "fields",
    "The fields to show, separated by commas: `id,name`. All of them by default.",
    200,
    pattern=f"^({'|'.join(FIELDS)})(,({'|'.join(FIELDS)}))*$",
)


def _header(name: str, description: str, **schema: Any) -> Parameter:
    return Parameter(name, description, {"type": "string", **schema}, place="header")


_IF_MATCH = _header(
    "If-Match",
    'The ETag of the version this write is based on, as "v3"; where it is no more, 412.',
    pattern=r'^(\*|"v[1-9][0-9]{0,17}")$',
)
_IF_NONE_MATCH = _header("If-None-Match", "ETags that you have; 304 where nothing changed.")
_PREFER = _header(
    "Prefer",
    "`return=minimal`: no body back (RFC 7240). What is not understood is passed over.",
    examples=["return=minimal", "return=representation"],
)
_KEY = _header(
    "Idempotency-Key",
    "Any text of your own. The same request sent again with it, within 24 hours, gets the same answer and "
    "does nothing; another request with it is 422.",
    pattern="^[!#-~]{1,255}$",
)
_WAIT = _header(
    "Prefer", "`wait=N`: wait up to N seconds (at most 10) for X-Custsvc-Min-Position.", examples=["wait=2"]
)
_MIN_POSITION = _header(
    "X-Custsvc-Min-Position",
    "X-Custsvc-Position of a write. A copy that has not got it answers 504 `copy-behind`.",
    pattern="^[1-9][0-9]{0,17}-[1-9][0-9]{0,17}$",
)
_ID: Final = {"$ref": "#/components/parameters/customer_id"}

_WRITTEN: Final = ("X-Custsvc-Position", "Idempotency-Replayed")
_CUSTOMER = Answer("The customer.", {JSON: models.Customer}, ("ETag", "Last-Modified"))
_CHANGED = Answer("The customer.", {JSON: models.Customer}, ("ETag", "Last-Modified", *_WRITTEN))
_MINIMAL = Answer("Done; no body, as `Prefer: return=minimal` asked.", {}, ("ETag", *_WRITTEN))


def _links() -> dict[str, Any]:
    """From a customer that was made to what can be done with it."""
    return {
        operation: {"operationId": operation, "parameters": {"customer_id": "$response.body#/id"}}
        for operation in (
            "getCustomer",
            "replaceCustomer",
            "patchCustomer",
            "deleteCustomer",
            "restoreCustomer",
            "getCustomerHistory",
        )
    }


_CREATED = Answer(
    "The new customer.", {JSON: models.Customer}, ("ETag", "Last-Modified", "Location", *_WRITTEN), _links()
)
# The problems of a write to a customer that is there: those of its body come on top.
_WRITE: Final = (404, 409, 412, 422, 428)

_AT = Parameter(
    "at", "A time: the customer as it was then, alone.", {"type": "string", "format": "date-time"}
)

_CUSTOMERS: Final[dict[tuple[str, str], Operation]] = {
    ("/api/customers/", "get"): Operation(
        id="listCustomers",
        tag="customers",
        summary="List customers",
        description="A page costs the same at any depth. `next` and `previous` lead to its neighbours. "
        "`metadata.KEY=VALUE` keeps those that have this metadata entry.",
        parameters=(*_FILTERS, _SORT, _FIELDS, _COUNT, _LIMIT, _CURSOR, _MIN_POSITION, _WAIT),
        answers={200: Answer("A page.", {JSON: models.CustomerList}, ())},
        problems=(504,),
    ),
    ("/api/customers/", "post"): Operation(
        id="createCustomer",
        tag="customers",
        summary="Create a customer",
        parameters=(_KEY, _PREFER),
        body={JSON: models.CustomerFields},
        answers={201: _CREATED},
        problems=(409, 413, 415, 422),
        role="write",
    ),
    ("/api/customers/{customer_id}/", "get"): Operation(
        id="getCustomer",
        tag="customers",
        summary="Get a customer",
        description="HEAD answers the same without the body.",
        parameters=(_IF_NONE_MATCH, _MIN_POSITION, _WAIT),
        answers={200: _CUSTOMER, 304: Answer("You have it already.", {}, ("ETag",))},
        problems=(404, 504),
    ),
    ("/api/customers/{customer_id}/", "put"): Operation(
        id="replaceCustomer",
        tag="customers",
        summary="Replace a customer's fields",
        description="Never creates. A body that changes nothing makes no version and no event.",
        parameters=(_IF_MATCH, _KEY, _PREFER),
        body={JSON: models.CustomerFields},
        answers={200: _CHANGED, 204: _MINIMAL},
        problems=(*_WRITE, 413, 415),
        role="write",
    ),
    ("/api/customers/{customer_id}/", "patch"): Operation(
        id="patchCustomer",
        tag="customers",
        summary="Change some of a customer's fields",
        parameters=(_IF_MATCH, _KEY, _PREFER),
        body={MERGE_PATCH: models.CustomerPatch, JSON: models.CustomerPatch},
        answers={200: _CHANGED, 204: _MINIMAL},
        problems=(*_WRITE, 413, 415),
        role="write",
    ),
    ("/api/customers/{customer_id}/", "delete"): Operation(
        id="deleteCustomer",
        tag="customers",
        summary="Delete a customer",
        description="It can be restored. For one that is deleted already the answer is the same.",
        parameters=(_IF_MATCH, _KEY),
        answers={204: Answer("It is deleted.", {}, ("ETag", *_WRITTEN))},
        problems=_WRITE,
        role="write",
    ),
    ("/api/customers/{customer_id}/restore", "post"): Operation(
        id="restoreCustomer",
        tag="customers",
        summary="Bring a deleted customer back",
        parameters=(_IF_MATCH, _KEY, _PREFER),
        answers={200: _CHANGED, 204: _MINIMAL},
        problems=_WRITE,
        role="write",
    ),
    ("/api/customers/{customer_id}/revert", "post"): Operation(
        id="revertCustomer",
        tag="customers",
        summary="Give a customer the fields of an earlier version",
        description="They become a new version. After /erase there is nothing earlier.",
        parameters=(_IF_MATCH, _KEY, _PREFER),
        body={JSON: models.Revert},
        answers={200: _CHANGED, 204: _MINIMAL},
        problems=(*_WRITE, 413, 415),
        role="write",
    ),
    ("/api/customers/{customer_id}/erase", "post"): Operation(
        id="eraseCustomer",
        tag="customers",
        summary="Erase what is personal of a customer",
        description="The fields are blanked, in the record and in all of its history. It cannot be undone.",
        parameters=(_IF_MATCH, _KEY, _PREFER),
        answers={200: _CHANGED, 204: _MINIMAL},
        problems=_WRITE,
        role="admin",
    ),
    ("/api/customers/batch", "post"): Operation(
        id="batchCustomers",
        tag="customers",
        summary="Do many operations in one request",
        description="Up to 1,000, in one step. One that fails is left out, or, where the batch is atomic, "
        "keeps all of it from being done. The status is 200 in each case: look at the results.",
        parameters=(_KEY,),
        body={JSON: models.Batch},
        answers={200: Answer("One result per operation.", {JSON: models.BatchResults}, _WRITTEN)},
        problems=(409, 413, 415, 422),
        role="write",
    ),
    ("/api/customers/{customer_id}/history", "get"): Operation(
        id="getCustomerHistory",
        tag="customers",
        summary="A customer's events, the newest first",
        description="Or, with `at`, the customer as it was at a time.",
        parameters=(_AT, _LIMIT, _CURSOR),
        answers={200: Answer("A page.", {JSON: (models.CustomerHistory, models.Customer)})},
        problems=(404,),
    ),
}

_STREAM: Final = {
    "type": "string",
    "description": "Server-sent events. `data` of each is a CustomerEvent, `id` the place after it.",
}
_EVENT_STREAM = Operation(
    id="streamEvents",
    tag="pipeline",
    summary="Every change as it happens",
    description="Server-sent events, read from Kafka: gap-free and in order per customer. A client that "
    "sends the last `id` it got in `Last-Event-ID` goes on from there, on any process. Where events "
    "after it are gone, an event `lost` says so first. A comment comes every 15 seconds of silence.",
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
        _header(
            "Last-Event-ID", "The id of the last event that came.", pattern=r"^\d{1,9}(\.\d{1,9}){0,99}$"
        ),
    ),
    answers={200: Answer("The stream, which does not end by itself.", {"text/event-stream": _STREAM})},
)

_NDJSON: Final = "application/x-ndjson"
_CSV: Final = "text/csv"
_LINES: Final = {"type": "string", "description": "One customer on each line, as JSON."}
_SHEET: Final = {
    "type": "string",
    "description": "A heading and one customer on each line (RFC 4180). A cell that a spreadsheet would take "
    "for a formula has an apostrophe in front.",
}


def _yes_or_no(name: str, description: str) -> Parameter:
    return Parameter(name, description, {"type": "boolean", "default": False})


_BULK: Final[dict[tuple[str, str], Operation]] = {
    ("/api/customers/export", "get"): Operation(
        id="exportCustomers",
        tag="customers",
        summary="All customers of a filter, as a file",
        description="Streamed, whatever its size, as CSV, NDJSON or a JSON array.",
        parameters=(
            Parameter(
                "format",
                "csv, ndjson or json; without it, Accept decides.",
                {"type": "string", "enum": ["csv", "ndjson", "json"]},
            ),
            *_FILTERS,
            _SORT,
            _FIELDS,
        ),
        answers={
            200: Answer(
                "The file.",
                {JSON: {"type": "array", "items": {"type": "object"}}, _NDJSON: _LINES, _CSV: _SHEET},
            )
        },
    ),
    ("/api/customers/import", "post"): Operation(
        id="importCustomers",
        tag="customers",
        summary="Create and change many customers from a file",
        description="The whole file is planned first; where any row is wrong, nothing is done (unless "
        "`skip_errors`). Then that plan is applied: a row whose customer somebody changes meanwhile is "
        "reported as a conflict and left alone. A field that a row does not have stays as it is. With an "
        "Idempotency-Key, a request that was cut off can be sent again and goes on where it was.",
        parameters=(
            Parameter(
                "on",
                "The field by which a row finds its customer; a row without it is a new customer.",
                {"type": "string", "enum": ["id", "email"], "default": "id"},
            ),
            _yes_or_no("dry_run", "Only tell what would be done."),
            _yes_or_no("restore", "Bring deleted customers back that are in the file."),
            _yes_or_no("skip_errors", "Import the rows that are right."),
            _text("plan", "The name of a plan that was shown: anything else is not applied (409).", 64),
            _KEY,
        ),
        body={_NDJSON: _LINES, _CSV: _SHEET},
        answers={200: Answer("What was done, or would be.", {JSON: models.ImportReport})},
        problems=(409, 413, 415, 422),
        role="write",
    ),
}

_NOTIFICATIONS = Operation(
    id="getCustomerNotifications",
    tag="customers",
    summary="What was sent to a customer, the newest first",
    parameters=(_LIMIT,),
    answers={200: Answer("The newest ones.", {JSON: models.NotificationList})},
    problems=(404,),
)

_ACCEPTED = Answer("It was.", {JSON: {"type": "object"}})
_OK = Answer("It is.", {JSON: models.Health})
_PIPELINE: Final[dict[tuple[str, str], Operation]] = {
    ("/api/status", "get"): Operation(
        id="getStatus",
        tag="pipeline",
        summary="What waits at each step",
        answers={200: Answer("How it stands.", {JSON: models.Status})},
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
        summary="What failed and waits for somebody",
        description="Records that a copy could not read (stage `replicate`) and notifications that were "
        "given up (stage `notify`), the newest first.",
        parameters=(
            Parameter("stage", "Only this stage's.", {"type": "string", "enum": ["replicate", "notify"]}),
            _LIMIT,
        ),
        answers={200: Answer("How many, and the newest of them.", {JSON: {"type": "object"}})},
    ),
    ("/api/failed/{entry_id}/retry", "post"): Operation(
        id="retryFailed",
        tag="pipeline",
        summary="Send what failed again",
        description="A record goes to the topic and partition that it came from, with its own key, bytes and "
        "headers; a notification is queued with all tries before it.",
        answers={202: _ACCEPTED},
        problems=(404, 409),
        role="write",
    ),
    ("/api/failed/{entry_id}/discard", "post"): Operation(
        id="discardFailed",
        tag="pipeline",
        summary="Give up what failed",
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

_DOCUMENT: Final[dict[str, Any]] = {"type": "object"}
_HTML: Final = "text/html"
_PAGE: Final[dict[str, Any]] = {"type": "string"}


def _about(operation_id: str, summary: str, content: dict[str, Any], **more: Any) -> Operation:
    answer = Answer(summary + ".", content)
    return Operation(id=operation_id, tag="about", summary=summary, answers={200: answer}, role=None, **more)


_ABOUT: Final[dict[tuple[str, str], Operation]] = {
    ("/api/openapi.json", "get"): _about("getOpenApi", "This document", {JSON: _DOCUMENT}),
    ("/api/schema/", "get"): _about("getSchema", "This document, too", {JSON: _DOCUMENT}),
    ("/api/docs", "get"): _about("getDocs", "A page to read and try the API", {_HTML: _PAGE}),
    ("/api/docs/{name}", "get"): _about(
        "getDocsFile", "A file of that page", {"text/css": _PAGE, "text/javascript": _PAGE}, problems=(404,)
    ),
    ("/api/events/schema", "get"): _about(
        "getEventSchema", "The JSON Schema of events", {"application/schema+json": _DOCUMENT}
    ),
    ("/api/events/asyncapi.json", "get"): _about(
        "getAsyncApi", "The AsyncAPI document of the topics", {JSON: _DOCUMENT}
    ),
    ("/problems/", "get"): _about(
        "listProblems",
        "Every problem there is",
        {_HTML: _PAGE, JSON: [models.ProblemPage]},
    ),
    ("/problems/{code}", "get"): _about(
        "getProblem",
        "What a problem means, its cause and its cure",
        {_HTML: _PAGE, JSON: models.ProblemPage},
        problems=(404,),
    ),
}


def _original(operation: Operation) -> Operation:
    return Operation(
        id=f"original{operation.id[:1].upper()}{operation.id[1:]}",
        tag="originals",
        summary=operation.summary,
        description=operation.description,
        answers=operation.answers,
        parameters=operation.parameters,
        body=operation.body,
        problems=operation.problems,
        role=operation.role,
        deprecated=True,
    )


_ORIGINALS: Final = {
    (path.removeprefix("/api"), method): _original(operation)
    for (path, method), operation in _CUSTOMERS.items()
    if path in ("/api/customers/", "/api/customers/{customer_id}/")
}

OPERATIONS: Final = (
    _CUSTOMERS
    | {("/api/customers/{customer_id}/notifications", "get"): _NOTIFICATIONS}
    | _BULK
    | _PIPELINE
    | _ABOUT
    | _ORIGINALS
)
PATH_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "entry_id": {"type": "string", "minLength": 1, "maxLength": 200},
    "customer_id": {"type": "integer", "format": "int64", "minimum": 1, "maximum": 2**63 - 1},
    "name": {"type": "string"},
    "code": {"type": "string"},
}
