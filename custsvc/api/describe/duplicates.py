"""Operations on customers that are likely one."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from ...domain.customers import INT64_MAX
from ...domain.likeness import DEFAULT_SCORE
from ...http.messages import JSON
from ...service.duplicates import SCANNED_MAX
from ..duplicates import DISMISSED_MAX
from .models import Customer, Paged
from .operation import Answer, Operation, Parameter
from .parameters import CURSOR, MIN_POSITION, PAGE_LIMIT, WAIT

Score = Annotated[float, Field(ge=0, le=1, description="How likely they are one.", examples=[0.97])]
Reasons = Annotated[
    list[str],
    Field(
        description="What speaks for it, in words for people.", examples=[["same phone", "name alike 0.93"]]
    ),
]
IsDismissed = Annotated[
    bool | None,
    Field(
        description="Somebody said that they are not, and neither changed since. Null from a copy, which "
        "does not know."
    ),
]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Duplicate(_Closed):
    """A customer that is likely the same as the one asked for."""

    customer: Customer
    score: Score
    reasons: Reasons
    dismissed: IsDismissed


class DuplicateList(_Closed):
    """The likely duplicates of a customer, the likeliest first."""

    results: list[Duplicate]


class DuplicatePair(_Closed):
    """Two customers that are likely one, the older id first."""

    customers: Annotated[list[Customer], Field(min_length=2, max_length=2)]
    score: Score
    reasons: Reasons
    dismissed: IsDismissed


class DuplicatePairList(Paged):
    """Some pairs; there may be more behind `next` even if this page is empty."""

    results: list[DuplicatePair]


class NoDuplicates(_Closed):
    """Customers of whom no two are the same."""

    ids: Annotated[
        list[Annotated[int, Field(ge=1, le=INT64_MAX)]],
        Field(min_length=2, max_length=DISMISSED_MAX, json_schema_extra={"uniqueItems": True}),
    ]


class Dismissal(_Closed):
    """What the pairs of these customers are now."""

    ids: list[Annotated[int, Field(ge=1, le=INT64_MAX)]]
    dismissed: bool


_MIN_SCORE: Final = Parameter(
    "min_score",
    "The lowest score shown. Below the default there are more duplicates, and more pairs of different "
    "customers.",
    {"type": "number", "minimum": 0, "maximum": 1, "default": DEFAULT_SCORE},
)
_DISMISSED: Final = Parameter(
    "dismissed",
    "Whether dismissed pairs are shown. A copy does not know which they are: it shows all pairs, and refuses "
    "`exclude` and `only`.",
    {"type": "string", "enum": ["exclude", "include", "only"], "default": "exclude"},
)


def _noting(operation: str, summary: str, description: str, problems: tuple[int, ...]) -> Operation:
    body: dict[str, Any] = {JSON: NoDuplicates}
    return Operation(
        id=operation,
        tag="customers",
        summary=summary,
        description=description,
        body=body,
        answers={200: Answer("Noted.", {JSON: Dismissal})},
        problems=(*problems, 413, 415),
        role="write",
    )


DUPLICATES: Final = {
    ("/api/customers/{customer_id}/duplicates", "get"): Operation(
        id="getCustomerDuplicates",
        tag="customers",
        summary="A customer's likely duplicates",
        description="Customers with the same address in any case, the same number however it is written, or "
        "a name alike, scored by all three. It costs the same however many customers there are.",
        parameters=(_MIN_SCORE, _DISMISSED, PAGE_LIMIT, MIN_POSITION, WAIT),
        answers={200: Answer("The likeliest ones.", {JSON: DuplicateList})},
        problems=(404, 504),
    ),
    ("/api/customers/duplicates", "get"): Operation(
        id="listDuplicates",
        tag="customers",
        summary="All pairs of likely duplicates",
        description="They are found while they are listed, customer by customer, so each answer looks at up "
        f"to {SCANNED_MAX:,} customers: a page may have fewer pairs than `limit`, even none. Go on with "
        "`next` while `has_more`. There is no count.",
        parameters=(_MIN_SCORE, _DISMISSED, PAGE_LIMIT, CURSOR, MIN_POSITION, WAIT),
        answers={200: Answer("Some pairs.", {JSON: DuplicatePairList})},
        problems=(504,),
    ),
    ("/api/customers/duplicates/dismiss", "post"): _noting(
        "dismissDuplicates",
        "Say that customers are not the same",
        "No pair of them is shown any more, until one of its two changes.",
        (404,),
    ),
    ("/api/customers/duplicates/undismiss", "post"): _noting(
        "undismissDuplicates", "Show pairs again that were dismissed", "", ()
    ),
}
