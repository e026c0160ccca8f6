"""The customer: pure data and its one canonical form.

Two databases can hold byte-identical copies only if a customer has exactly one encoding. That is `encode()`:
fixed field order, no spaces, UTC times in whole milliseconds, NFC text. A write encodes once; GET bodies,
events, copies and `verify` use those bytes unchanged.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

INT64_MAX = 2**63 - 1

Scalar = str | int | float | bool | None

NAME_MAX = 400
EMAIL_MAX = 254
PHONE_MAX = 50
METADATA_KEYS_MAX = 50
METADATA_KEY_MAX = 40
METADATA_VALUE_MAX = 500

# The fields that a caller may set, in canonical order; the server sets all others.
EDITABLE = ("name", "email", "phone", "metadata")
SERVER_OWNED = ("id", "version", "deleted", "created_on", "created_by", "updated_on", "updated_by")


def same_json(a: Any, b: Any) -> bool:
    """Whether two values have the same JSON. In Python 1, 1.0 and true are equal."""
    try:
        return orjson.dumps(a) == orjson.dumps(b)
    except TypeError:
        return False  # a number too long or a lone surrogate: such values are never stored


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """The fields that a caller may set, in canonical form (see `canonical_fields`).

    Two are equal if their canonical bytes are.
    """

    name: str
    email: str | None = None
    phone: str | None = None
    metadata: Mapping[str, Scalar] = ()  # type: ignore[assignment]

    def __post_init__(self) -> None:
        object.__setattr__(self, "metadata", dict(sorted(dict(self.metadata).items())))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fields) and not self.differing(other)

    def differing(self, other: Fields) -> list[str]:
        """The names of the fields that differ, in canonical order."""
        names = [name for name in ("name", "email", "phone") if getattr(self, name) != getattr(other, name)]
        return names if same_json(self.metadata, other.metadata) else [*names, "metadata"]


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer at one version. Times are aware, UTC, whole milliseconds."""

    id: int
    fields: Fields
    deleted: bool
    version: int
    created_on: dt.datetime
    created_by: str
    updated_on: dt.datetime
    updated_by: str

    def __post_init__(self) -> None:
        if self.created_on.tzinfo is not dt.UTC or self.updated_on.tzinfo is not dt.UTC:
            raise ValueError(f"customer {self.id}: times must be UTC")

    def encode(self) -> bytes:
        """The canonical JSON of this customer."""
        f = self.fields
        return orjson.dumps(
            {
                "id": self.id,
                "name": f.name,
                "email": f.email,
                "phone": f.phone,
                "metadata": f.metadata,
                "deleted": self.deleted,
                "version": self.version,
                "created_on": format_time(self.created_on),
                "created_by": self.created_by,
                "updated_on": format_time(self.updated_on),
                "updated_by": self.updated_by,
            }
        )

    @classmethod
    def decode(cls, doc: bytes | str) -> Customer:
        """Parse canonical JSON without checks. Only for documents of our own stores."""
        d = orjson.loads(doc)
        return cls(
            id=d["id"],
            fields=Fields(d["name"], d["email"], d["phone"], d["metadata"]),
            deleted=d["deleted"],
            version=d["version"],
            created_on=parse_time(d["created_on"]),
            created_by=d["created_by"],
            updated_on=parse_time(d["updated_on"]),
            updated_by=d["updated_by"],
        )

    def changed_to(self, *, fields: Fields, deleted: bool, now: dt.datetime, by: str) -> Customer:
        """The next version of this customer. `updated_on` never goes back, even if the clock does."""
        return replace(
            self,
            fields=fields,
            deleted=deleted,
            version=self.version + 1,
            updated_on=max(now, self.updated_on),
            updated_by=by,
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """A customer as a store holds it: the canonical bytes, and the fields that are read most.

    `hint` is the store's own note on the row (MongoDB's hybrid clock); callers pass it back unchanged.
    """

    id: int
    version: int
    deleted: bool
    doc: bytes
    hint: Any = None

    def customer(self) -> Customer:
        return Customer.decode(self.doc)


def utc_now() -> dt.datetime:
    """The current time in whole milliseconds, which both databases can store."""
    now = dt.datetime.now(dt.UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def format_time(time: dt.datetime) -> str:
    """`2026-11-23T20:40:00.123Z`; these texts sort in the order of their times."""
    return time.isoformat(timespec="milliseconds")[:-6] + "Z"


def parse_time(text: str) -> dt.datetime:
    """Parse a time written by `format_time`. Raises ValueError for anything else."""
    if len(text) != 24 or text[-1] != "Z":
        raise ValueError(f"{text!r} is not a time like 2026-11-23T20:40:00.123Z")
    return dt.datetime.fromisoformat(text[:-1]).replace(tzinfo=dt.UTC)
