"""What the API gives, as values: customers, events, pages, results of a batch. None of them changes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

Scalar = str | int | float | bool | None
Dismissed = Literal["exclude", "include", "only"]


_FIELDS = (
    *("id", "name", "email", "phone", "metadata", "deleted", "version"),
    *("created_on", "created_by", "updated_on", "updated_by"),
)


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer at one version. Times are aware, UTC, whole milliseconds.

    `other` holds fields of a newer server that this client does not know.
    """

    id: int
    name: str
    email: str | None
    phone: str | None
    metadata: Mapping[str, Scalar]
    deleted: bool
    version: int
    created_on: dt.datetime
    created_by: str
    updated_on: dt.datetime
    updated_by: str
    other: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Customer:
        """The customer of its JSON. Raises KeyError, TypeError or ValueError for anything else."""
        known = {name: raw[name] for name in _FIELDS}
        for name in ("created_on", "updated_on"):
            known[name] = dt.datetime.fromisoformat(raw[name])
        return cls(**known, other={name: raw[name] for name in raw if name not in known})

    def as_dict(self) -> dict[str, Any]:
        """The JSON that the API gave."""
        found: dict[str, Any] = {name: getattr(self, name) for name in _FIELDS}
        found["metadata"] = dict(self.metadata)
        for name in ("created_on", "updated_on"):
            found[name] = found[name].isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {**found, **self.other}


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one customer. `before` and `after` are the whole customer, None where there is none.

    `version` is that of `after`: 1, 2, 3 … for each customer. `position` is the place after this event in the
    stream it came from; None for an event of a history. `raw` is the event as it is on the topic.
    """

    id: str
    time: dt.datetime
    op: str
    customer_id: int
    version: int
    changed: tuple[str, ...]
    actor: str | None
    before: Customer | None
    after: Customer | None
    raw: Mapping[str, Any] = field(repr=False)
    position: str | None = None

    @classmethod
    def of(cls, raw: Mapping[str, Any], position: str | None = None) -> Event:
        """The event of its JSON. Raises KeyError, TypeError or ValueError for anything else."""
        before, after = raw["before_change"], raw["after_change"]
        return cls(
            id=raw["id"],
            time=dt.datetime.fromisoformat(raw["event_ts"]),
            op=raw["op"],
            customer_id=raw["customer_id"],
            version=raw["version"],
            changed=tuple(raw.get("changed") or ()),
            actor=raw.get("actor"),
            before=Customer.of(before) if before else None,
            after=Customer.of(after) if after else None,
            raw=raw,
            position=position,
        )


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list. `next` is the cursor of the page behind it, None at the end.

    `count` is how many customers the whole list has, on its first page; about how many with `is_estimate`.
    """

    customers: tuple[Customer, ...]
    next: str | None
    count: int | None = None
    is_estimate: bool = False


@dataclass(frozen=True, slots=True)
class MergePreview:
    """What a merge would make of the survivor, and by field the customer whose value it would take."""

    customer: Customer
    took: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A customer that is likely the same as another one: a score from 0 to 1, and what is alike."""

    customer: Customer
    score: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two customers that are likely one. `is_dismissed`: somebody said that they are not, as they are now."""

    customers: tuple[Customer, Customer]
    score: float
    reasons: tuple[str, ...]
    is_dismissed: bool


class Operation(TypedDict, total=False):
    """One operation of a batch. `version` guards it; `customer` holds the fields, or the patch."""

    op: Literal["create", "replace", "update", "delete", "restore"]
    id: int
    version: int
    customer: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one operation of a batch: an HTTP status, the customer's id and version, or a problem."""

    status: int
    id: int | None
    version: int | None
    error: Mapping[str, Any] | None = None


class Filters(TypedDict, total=False):
    """Which customers a list holds, and in which order. All that is given must hold.

    `q`: words, each the beginning of a word of name, e-mail or phone. `metadata`: keys with their values, as
    text. `sort`: a field's name, with - before it to descend. Times without an offset are UTC.
    """

    q: str
    email: str
    name_startswith: str
    metadata: Mapping[str, str]
    created_since: dt.datetime
    created_before: dt.datetime
    updated_since: dt.datetime
    updated_before: dt.datetime
    deleted: Literal["exclude", "include", "only"]
    sort: str


_NAMED = {
    "name_startswith": "name__startswith",
    "created_since": "created__gte",
    "created_before": "created__lt",
    "updated_since": "updated__gte",
    "updated_before": "updated__lt",
}


def parameters_of(filters: Filters) -> dict[str, str]:
    """The query parameters that ask for these customers."""
    found: dict[str, str] = {}
    for name, value in filters.items():
        if name == "metadata" and isinstance(value, Mapping):
            found |= {f"metadata.{key}": str(text) for key, text in value.items()}
        elif value is not None:
            text = value.isoformat() if isinstance(value, dt.datetime) else str(value)
            found[_NAMED.get(name, name)] = text
    return found
