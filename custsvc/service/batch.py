"""Many changes in one request: computed in order from the current customers, stored in one step.

Each operation sees the results of those before it. A failed operation is left out or, if the batch is atomic,
prevents all of it. Customers are read and written in bulk; after a conflict with another writer the whole
batch is computed again from a fresh read.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from ..domain.canonical import canonical_fields, merge_patch
from ..domain.customers import INT64_MAX, Stored
from ..domain.events import Change
from ..errors import (
    Conflict,
    CustsvcError,
    FieldError,
    TemporaryError,
    Unusable,
    ValidationError,
    VersionConflict,
)
from ..ports.answers import Answer
from ..ports.customers import CustomerStore
from .changes import Caller, Changes, expected

OPERATIONS_MAX: Final = 1000
_ROUNDS: Final = 20

Op = Literal["create", "replace", "update", "delete", "restore"]
OPS: Final[tuple[Op, ...]] = ("create", "replace", "update", "delete", "restore")
_MEMBERS: Final = frozenset(("op", "id", "version", "customer"))


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: its kind, customer, expected version, and fields or patch."""

    op: Op
    id: int | None = None
    version: int | None = None
    customer: Any = None

    @classmethod
    def parse(cls, raw: Any) -> Operation:
        """An operation from parsed JSON. Raises ValidationError."""
        if not isinstance(raw, dict):
            raise _wrong("", "not_an_object", "must be a JSON object")
        for name in raw:
            if name not in _MEMBERS:
                raise _wrong(str(name), "unknown_field", f"is not one of {', '.join(sorted(_MEMBERS))}")
        op = raw.get("op")
        if op not in OPS:
            raise _wrong("op", "bad_value", f"must be one of {', '.join(OPS)}")
        for name, needed in (("id", op != "create"), ("version", False)):
            value = raw.get(name)
            if value is None and not needed:
                continue
            if type(value) is not int or not 0 < value <= INT64_MAX:
                raise _wrong(name, "bad_value", "must be a positive 64-bit number")
        if op == "create" and raw.get("id") is not None:
            raise _wrong("id", "bad_value", "is given by the server")
        return cls(op, raw.get("id"), raw.get("version"), raw.get("customer"))


def _wrong(field: str, code: str, message: str) -> ValidationError:
    return ValidationError([FieldError(field, code, message)])


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one operation: the customer, or the error. `created`: the customer is new."""

    stored: Stored | None = None
    error: CustsvcError | None = None
    created: bool = False


@dataclass(frozen=True, slots=True)
class BatchResult:
    """One outcome per operation, in their order. `done` False: atomic, and something failed."""

    outcomes: list[Outcome]
    done: bool


class Batch:
    """Operations of one caller, each parsed, or the error of parsing it."""

    def __init__(
        self,
        store: CustomerStore,
        changes: Changes,
        operations: Sequence[Operation | CustsvcError],
        caller: Caller,
        *,
        atomic: bool,
    ) -> None:
        self._store = store
        self._changes = changes
        self._operations = operations
        self._caller = caller
        self._atomic = atomic
        creates = sum(isinstance(each, Operation) and each.op == "create" for each in operations)
        self._new_ids = list(store.new_ids(creates)) if creates else []

    def run(self, answer_of: Callable[[BatchResult], Answer | None]) -> BatchResult:
        """Do the batch; store `answer_of` its result with it. Raises Conflict after too many conflicts."""
        for attempt in range(_ROUNDS):
            outcomes, changes = self._work_out()
            failed = any(outcome.error for outcome in outcomes)
            result = BatchResult(outcomes, done=not (self._atomic and failed))
            if not result.done:
                return result
            try:
                self._store.save_many(changes, answer_of(result))
                return result
            except VersionConflict:
                time.sleep(random.uniform(0, 0.01 * attempt))  # noqa: S311 - jitter, not a secret
        raise Conflict("the customers of the batch are changed by too many at once; try again")

    def _work_out(self) -> tuple[list[Outcome], list[Change]]:
        ids = sorted({each.id for each in self._operations if isinstance(each, Operation) and each.id})
        current = self._store.get_many(ids) if ids else {}
        new_ids = iter(self._new_ids)
        outcomes: list[Outcome] = []
        changes: list[Change] = []
        for operation in self._operations:
            if not isinstance(operation, Operation):
                outcomes.append(Outcome(error=operation))
                continue
            new = operation.op == "create"
            customer_id = next(new_ids) if new else operation.id or 0
            try:
                before = current.get(customer_id)
                change = self._change(operation, customer_id, before)
            except (TemporaryError, Unusable):
                raise
            except CustsvcError as exc:
                outcomes.append(Outcome(error=exc))
                continue
            if change is not None:
                changes.append(change)
                after = change.after
                hint = before.hint if before else None
                current[customer_id] = Stored(after.id, after.version, after.deleted, change.doc, hint)
            outcomes.append(Outcome(current[customer_id], created=new))
        return outcomes, changes

    def _change(self, operation: Operation, customer_id: int, before: Stored | None) -> Change | None:
        changes, caller, body = self._changes, self._caller, operation.customer
        if operation.op == "create":
            return changes.create(customer_id, canonical_fields(body), caller)
        found = expected(customer_id, before, operation.version)
        if operation.op == "replace":
            fields = canonical_fields(body)
            return changes.update(found, lambda _: fields, caller)
        if operation.op == "update":
            return changes.update(found, lambda fields: merge_patch(fields, body), caller)
        if operation.op == "delete":
            return changes.delete(found, caller)
        return changes.restore(found, caller)
