"""One change to many customers, done as an import: planned, shown, applied in chunks, and it can be undone.

The ids and versions of the customers are listed when the plan is made. Each becomes a row that changes its
customer only at that version, so that nobody's later change is overwritten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, Literal, get_args

import orjson

from ..domain.customers import EDITABLE, Fields, Scalar
from ..errors import CustsvcError
from ..ports.customers import CustomerFilter, CustomerQuery, CustomerStore
from .load import Options
from .meaning import Meaning
from .plan import Planned
from .row import METADATA, Row
from .rows import Look, Reading
from .shape import Shape

MOST: Final = 100_000
"""The most customers of one change."""
EXAMPLES: Final = 5
_REASONS: Final = 10
_PAGE: Final = 500
_CHANGING: Final = ("update", "delete", "restore")

Do = Literal["edit", "delete", "restore"]
DOINGS: Final[tuple[Do, ...]] = get_args(Do)


class TooMany(CustsvcError):
    """More customers match than one change may have."""


@dataclass(frozen=True, slots=True)
class BulkChange:
    """What is done to each customer. An edit gives `field` the value; None removes it.

    `field` is `name`, `email`, `phone` or `metadata.KEY`.
    """

    do: Do
    field: str = ""
    value: Scalar = None

    def row(self, number: int, customer_id: int, version: int) -> Row:
        """The row of an import that does it to this customer, at this version only."""
        raw: dict[str, Any] = {"id": customer_id, "version": version}
        return Row(number, raw | ({self.field: self.value} if self.do == "edit" else {}))

    def check(self) -> None:
        """Raise ValidationError if no customer could have this value."""
        Meaning().fields(self.row(1, 1, 1).raw, Fields("x"))

    @property
    def key(self) -> str | None:
        """The key of the metadata that it edits; None for another field."""
        return self.field.removeprefix(METADATA) if self.field.startswith(METADATA) else None

    def options(self, *, dry_run: bool, mails: bool = False) -> Options:
        return Options(
            skip_errors=True,
            dry_run=dry_run,
            mails=mails,
            restore=self.do == "restore",
            remove=self.do == "delete",
            what=self.do,
        )


def chosen(store: CustomerStore, ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    """These customers with their versions now, without those that never were."""
    found = store.get_many(ids)
    return ((each, found[each].version) for each in ids if each in found)


def matching(store: CustomerStore, where: CustomerFilter) -> Iterator[tuple[int, int]]:
    """All customers of a filter with their versions now, by id. Raises TooMany for more than MOST."""
    query, seen = CustomerQuery(_PAGE, where), 0
    while True:
        page = store.find(query)
        seen += page.count
        if seen > MOST:
            raise TooMany(f"more than {MOST:,} customers match; narrow the filter to at most that many")
        for each in orjson.loads(b"[" + page.docs + b"]"):
            yield each["id"], each["version"]
        if not page.has_more:
            return
        query = CustomerQuery(_PAGE, where, after=page.last)


def packed(pairs: Iterator[tuple[int, int]], seen: Callable[[int], None]) -> bytes:
    """Ids and versions as text, to be kept with a plan. `seen` gets the number of each."""
    lines = []
    for number, (customer_id, version) in enumerate(pairs, 1):
        lines.append(b"%d %d\n" % (customer_id, version))
        seen(number)
    return b"".join(lines)


def rows(content: bytes, change: BulkChange, beat: Callable[[], None]) -> Reading:
    """The rows of `packed` ids. `beat` is called before each, so that a job shows that it lives."""
    look, numbers = Look(Shape("ndjson")), count(1)

    def read() -> Iterator[Row]:
        for line in content.splitlines():
            beat()
            look.tally.rows += 1
            customer_id, version = map(int, line.split())
            yield change.row(next(numbers), customer_id, version)

    return Reading(read(), look, MOST)


@dataclass(slots=True)
class Preview:
    """What a plan would do, in examples; and why it would leave customers out, with their number."""

    examples: list[dict[str, Any]] = field(default_factory=list)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, row: Planned) -> None:
        if row.action in _CHANGING and row.before and row.fields and len(self.examples) < EXAMPLES:
            before, after = row.before.customer().fields, row.fields
            self.examples.append({"id": row.before.id, "before": _shown(before), "after": _shown(after)})
        for error in row.errors if row.action == "error" else ():
            reason = (error.field, error.message)
            if reason in self.reasons or len(self.reasons) < _REASONS:
                self.reasons[reason] += 1

    def as_dict(self) -> dict[str, Any]:
        reasons = [[field, message, times] for (field, message), times in self.reasons.most_common()]
        return {"examples": self.examples, "reasons": reasons}


def _shown(fields: Fields) -> dict[str, Any]:
    return {name: getattr(fields, name) for name in EDITABLE}
