"""Operations on one customer, on lists of them, and the same under the originals' paths."""

from __future__ import annotations

from typing import Any, Final

from ...http.messages import JSON, MERGE_PATCH
from . import models
from .operation import Answer, Operation, Parameter
from .parameters import (
    COUNT,
    CURSOR,
    FILTERS,
    GUARDS,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    KEY,
    MIN_POSITION,
    PAGE_LIMIT,
    PREFER,
    SHOWN,
    SORT,
    UNMODIFIED_SINCE,
    WAIT,
    yes_or_no,
)

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
    "The new customer.",
    {JSON: models.Customer},
    ("ETag", "Last-Modified", "Location", "X-Custsvc-Duplicates", *_WRITTEN),
    _links(),
)
# The problems of a write to a customer that is there: those of its body come on top.
_WRITE: Final = (404, 409, 412, 422, 428)

_WARN = Parameter(
    "duplicates",
    "`warn`: X-Custsvc-Duplicates names customers with this address or number that are likely the same one. "
    "The customer is created nevertheless.",
    {"type": "string", "enum": ["warn", "off"], "default": "off"},
)
_AT = Parameter(
    "at", "A time: the customer as it was then, alone.", {"type": "string", "format": "date-time"}
)

_DRY_RUN = yes_or_no("dry_run", "Only answer what would be done.")

_RECORD: Final[dict[tuple[str, str], Operation]] = {
    ("/api/customers/", "get"): Operation(
        id="listCustomers",
        tag="customers",
        summary="List customers",
        description="A page costs the same at any depth. `next` and `previous` lead to its neighbours. "
        "`metadata.KEY=VALUE` keeps those that have this metadata entry.",
        parameters=(*FILTERS, SORT, SHOWN, COUNT, PAGE_LIMIT, CURSOR, MIN_POSITION, WAIT),
        answers={200: Answer("A page.", {JSON: models.CustomerList}, ())},
        problems=(504,),
    ),
    ("/api/customers/", "post"): Operation(
        id="createCustomer",
        tag="customers",
        summary="Create a customer",
        parameters=(KEY, PREFER, _WARN),
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
        parameters=(IF_MATCH, UNMODIFIED_SINCE, IF_NONE_MATCH, IF_MODIFIED_SINCE, MIN_POSITION, WAIT),
        answers={200: _CUSTOMER, 304: Answer("You have it already.", {}, ("ETag",))},
        problems=(404, 410, 412, 504),
    ),
    ("/api/customers/{customer_id}/", "put"): Operation(
        id="replaceCustomer",
        tag="customers",
        summary="Replace a customer's fields",
        description="Never creates. A body that changes nothing makes no version and no event.",
        parameters=(*GUARDS, KEY, PREFER),
        body={JSON: models.CustomerFields},
        answers={200: _CHANGED, 204: _MINIMAL},
        problems=(*_WRITE, 410, 413, 415),
        role="write",
    ),
    ("/api/customers/{customer_id}/", "patch"): Operation(
        id="patchCustomer",
        tag="customers",
        summary="Change some of a customer's fields",
        parameters=(*GUARDS, KEY, PREFER),
        body={MERGE_PATCH: models.CustomerPatch, JSON: models.CustomerPatch},
        answers={200: _CHANGED, 204: _MINIMAL},
        problems=(*_WRITE, 410, 413, 415),
        role="write",
    ),
    ("/api/customers/{customer_id}/", "delete"): Operation(
        id="deleteCustomer",
        tag="customers",
        summary="Delete a customer",
        description="It can be restored. For one that is deleted already the answer is the same.",
        parameters=(*GUARDS, KEY),
        answers={204: Answer("It is deleted.", {}, ("ETag", *_WRITTEN))},
        problems=_WRITE,
        role="write",
    ),
    ("/api/customers/{customer_id}/restore", "post"): Operation(
        id="restoreCustomer",
        tag="customers",
        summary="Restore a deleted customer",
        parameters=(*GUARDS, KEY, PREFER),
        answers={200: _CHANGED, 204: _MINIMAL},
        problems=_WRITE,
        role="write",
    ),
    ("/api/customers/{customer_id}/revert", "post"): Operation(
        id="revertCustomer",
        tag="customers",
        summary="Give a customer the fields of an earlier version",
        description="They become a new version. After /erase there is nothing earlier.",
        parameters=(*GUARDS, KEY, PREFER),
        body={JSON: models.Revert},
        answers={200: _CHANGED, 204: _MINIMAL},
        problems=(*_WRITE, 410, 413, 415),
        role="write",
    ),
    ("/api/customers/{customer_id}/erase", "post"): Operation(
        id="eraseCustomer",
        tag="customers",
        summary="Erase a customer's personal data",
        description="The fields are blanked, in the record and in all of its history. It cannot be undone.",
        parameters=(*GUARDS, KEY, PREFER),
        answers={200: _CHANGED, 204: _MINIMAL},
        problems=_WRITE,
        role="admin",
    ),
    ("/api/customers/{customer_id}/merge", "post"): Operation(
        id="mergeCustomers",
        tag="customers",
        summary="Merge other customers into this one",
        description="All of them change in one step, or none. This one keeps its values and gets those that "
        "it lacks; `fields` decides otherwise. The others are deleted and answer 410 with this one's link. "
        "Their versions are checked where the body has them, this one's by If-Match. With `dry_run` nothing "
        "is stored, and the answer is what would be.",
        parameters=(*GUARDS, KEY, PREFER, _DRY_RUN),
        body={JSON: models.Merge},
        answers={
            200: Answer(
                "The survivor, or the preview.",
                {JSON: (models.Customer, models.MergePreview)},
                ("ETag", *_WRITTEN),
            ),
            204: _MINIMAL,
        },
        problems=(*_WRITE, 410, 413, 415),
        role="write",
    ),
    ("/api/customers/{customer_id}/unmerge", "post"): Operation(
        id="unmergeCustomers",
        tag="customers",
        summary="Undo the newest merge of a customer",
        description="Those that it took in live again, and its fields are what they were, but for what was "
        "changed since. 409 says what makes it impossible.",
        parameters=(*GUARDS, KEY, PREFER),
        answers={200: _CHANGED, 204: _MINIMAL},
        problems=(*_WRITE, 410),
        role="write",
    ),
    ("/api/customers/batch", "post"): Operation(
        id="batchCustomers",
        tag="customers",
        summary="Do many operations in one request",
        description="Up to 1,000, in one step. One that fails is left out, or, where the batch is atomic, "
        "keeps all of it from being done. The status is 200 in each case: look at the results. Beyond 1,000 "
        "wrong fields each operation names its first one only.",
        parameters=(KEY,),
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
        parameters=(_AT, PAGE_LIMIT, CURSOR),
        answers={200: Answer("A page.", {JSON: (models.CustomerHistory, models.Customer)})},
        problems=(404, 410),
    ),
}

_NOTIFICATIONS = Operation(
    id="getCustomerNotifications",
    tag="customers",
    summary="What was sent to a customer, the newest first",
    parameters=(PAGE_LIMIT,),
    answers={200: Answer("The newest ones.", {JSON: models.NotificationList})},
    problems=(404,),
)


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


ORIGINALS: Final = {
    (path.removeprefix("/api"), method): _original(operation)
    for (path, method), operation in _RECORD.items()
    if path in ("/api/customers/", "/api/customers/{customer_id}/")
}

CUSTOMERS: Final = _RECORD | {("/api/customers/{customer_id}/notifications", "get"): _NOTIFICATIONS}
