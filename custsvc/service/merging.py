"""Merging customers that turn out to be one, and undoing it: all of them change in one step, or none.

The survivor's event `merged` says which customers it took in and whose values it took; the event
`merged_into` of each of those says where it went. So the history alone is enough to undo a merge, and nothing
else has to be kept in step with it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from ..domain.customers import INT64_MAX, Customer, Fields, Stored
from ..domain.events import Change
from ..domain.merging import Combined, combined, undone
from ..errors import Conflict, CustomerDeleted, FieldError, ValidationError, VersionConflict
from ..ports.answers import Answer
from ..ports.customers import CustomerStore
from .changes import Caller, Changes, expected

MERGED_MAX: Final = 20
_ROUNDS: Final = 20
_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Merge:
    """A request to merge: the other customers with the version each must be at (None: any), and a patch."""

    others: Mapping[int, int | None]
    patch: Mapping[str, Any]

    @classmethod
    def parse(cls, survivor: int, raw: Any) -> Merge:
        """From parsed JSON, as `{"from": [8, {"id": 9, "version": 2}], "fields": {"email": null}}`.

        Raises ValidationError.
        """
        if not isinstance(raw, dict):
            raise ValidationError([FieldError("", "not_an_object", "the body must be a JSON object")])
        errors = [
            FieldError(str(name), "unknown_field", "is not one of from, fields")
            for name in list(raw)[:100]
            if name not in ("from", "fields")
        ]
        patch = raw.get("fields", {})
        if not isinstance(patch, dict):
            errors.append(FieldError("fields", "not_an_object", "must be an object of fields, as in a PATCH"))
        others = _others(survivor, raw.get("from"), errors)
        if errors:
            raise ValidationError(errors)
        return cls(others, patch)


def _others(survivor: int, raw: Any, errors: list[FieldError]) -> dict[int, int | None]:
    if not isinstance(raw, list) or not 0 < len(raw) <= MERGED_MAX:
        message = f"must be a list of 1 to {MERGED_MAX} customers, as [8, 9]"
        errors.append(FieldError("from", "bad_value", message))
        return {}
    found: dict[int, int | None] = {}
    for index, each in enumerate(raw):
        customer_id, version = each, None
        if isinstance(each, dict) and set(each) <= {"id", "version"}:
            customer_id, version = each.get("id"), each.get("version")
        where = f"from.{index}"
        if not _is_number(customer_id) or not (version is None or _is_number(version)):
            message = 'must be the id of a customer, or {"id": 8, "version": 2}'
            errors.append(FieldError(where, "bad_value", message))
        elif customer_id == survivor:
            errors.append(FieldError(where, "bad_value", "is the customer to merge into"))
        elif customer_id in found:
            errors.append(FieldError(where, "bad_value", f"names customer {customer_id} again"))
        else:
            found[customer_id] = version
    return found


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 < value <= INT64_MAX


@dataclass(frozen=True, slots=True)
class Merged:
    """The survivor, and the version of each customer that changed with it, its own included."""

    stored: Stored
    versions: dict[int, int]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a merge would make of the survivor, and from whom each new value is (see `Combined`)."""

    customer: Customer
    took: dict[str, int]


class Merging:
    """Merges customers of a store. `answer_of` makes the answer to keep under the caller's key."""

    def __init__(
        self,
        store: CustomerStore,
        changes: Changes,
        answer_of: Callable[[Change, Caller], Answer | None],
    ) -> None:
        self._store = store
        self._changes = changes
        self._answer_of = answer_of

    def preview(self, survivor: int, merge: Merge, version: int | None = None) -> Preview:
        """What `merge` would do. Raises the same errors."""
        before, others = self._read(survivor, merge, version)
        result = _combined(before, others, merge)
        now = self._changes.clock()
        old = before.customer()
        return Preview(
            old.changed_to(fields=result.fields, deleted=False, now=now, by=old.updated_by), result.took
        )

    def merge(self, survivor: int, merge: Merge, caller: Caller, version: int | None = None) -> Merged:
        """Merge the others into the survivor, expected at `version`.

        Raises NotFound and CustomerDeleted for the survivor, ValidationError for the others, and
        VersionConflict for any that is not at the version asked for.
        """

        def plan() -> list[Change]:
            before, others = self._read(survivor, merge, version)
            return self._changes.merge(before, _combined(before, others, merge), others, caller)

        return self._store_all(plan, caller)

    def unmerge(self, survivor: int, caller: Caller, version: int | None = None) -> Merged:
        """Undo the newest merge of the survivor that is not undone yet. Raises Conflict where it cannot.

        The customers it took in live again. Its own fields become what they were, but not those that were
        changed since the merge.
        """

        def plan() -> list[Change]:
            before = self._live(survivor, version)
            merged = self._newest_merge(survivor)
            others = self._taken_in(merged)
            was, became = (_fields(merged[side]) for side in ("before_change", "after_change"))
            result = undone(before.customer().fields, was, became)
            return self._changes.unmerge(before, result, others, merged["version"], caller)

        return self._store_all(plan, caller)

    def inside(self, survivor: int) -> list[int]:
        """The customers that were merged into this one and still are."""
        merges = (event["merge"]["from"] for event in self._events(survivor) if event["op"] == "merged")
        ids = dict.fromkeys(each["id"] for merge in merges for each in merge)
        return [each for each in ids if survivor_of(self._store, each) == survivor]

    def _store_all(self, plan: Callable[[], list[Change]], caller: Caller) -> Merged:
        for attempt in range(_ROUNDS):
            changes = plan()
            try:
                self._store.save_many(changes, self._answer_of(changes[0], caller))
            except VersionConflict:
                # If a version was asked for, the next reading raises the conflict with the current state.
                time.sleep(random.uniform(0, 0.01 * attempt))  # noqa: S311 - jitter, not a secret
                continue
            first = changes[0]
            stored = Stored(first.after.id, first.after.version, first.after.deleted, first.doc)
            return Merged(stored, {each.after.id: each.after.version for each in changes})
        raise Conflict("the customers to merge are changed by too many at once; try again")

    def _live(self, customer_id: int, version: int | None) -> Stored:
        return _live(customer_id, self._store.get(customer_id), version)

    def _read(self, survivor: int, merge: Merge, version: int | None) -> tuple[Stored, list[Stored]]:
        found = self._store.get_many([survivor, *merge.others])
        before = _live(survivor, found.get(survivor), version)
        errors = [
            FieldError(f"from.{index}", code, f"customer {customer_id} {problem}")
            for index, customer_id in enumerate(merge.others)
            for code, problem in _why_not(found.get(customer_id))
        ]
        if errors:
            raise ValidationError(errors)
        others = [expected(each, found.get(each), asked) for each, asked in merge.others.items()]
        return before, others

    def _newest_merge(self, survivor: int) -> dict[str, Any]:
        """The event of the newest merge that was not undone. Raises Conflict."""
        undone_before: set[int] = set()
        for event in self._events(survivor):
            if event["op"] == "erased":
                raise Conflict(f"customer {survivor} was erased at version {event['version']}")
            if event["op"] == "unmerged":
                undone_before.add(event["merge"]["undid"])
            if event["op"] == "merged" and event["version"] not in undone_before:
                return event
        raise Conflict(f"no customer was merged into customer {survivor}, or all of it is undone")

    def _events(self, customer_id: int) -> Iterator[dict[str, Any]]:
        before: int | None = None
        while page := self._store.history(customer_id, limit=_PAGE, before_version=before):
            events = [orjson.loads(each) for each in page]
            yield from events
            before = events[-1]["version"]

    def _taken_in(self, merged: Mapping[str, Any]) -> list[Stored]:
        """The customers of a merge that are still as it left them. Raises Conflict for other changes."""
        left = {each["id"]: each["version"] for each in merged["merge"]["from"]}
        found = self._store.get_many(list(left))
        others = []
        for customer_id, version in left.items():
            stored = found.get(customer_id)
            if stored is None or (stored.deleted and stored.version != version):
                raise Conflict(f"customer {customer_id} was {self._what_became(customer_id)} after the merge")
            if stored.deleted:
                others.append(stored)
            # Otherwise somebody restored it: it lives already.
        return others

    def _what_became(self, customer_id: int) -> str:
        newest = self._store.history(customer_id, limit=1)
        return str(orjson.loads(newest[0])["op"]) if newest else "removed"


def _fields(doc: Mapping[str, Any]) -> Fields:
    return Fields(doc["name"], doc["email"], doc["phone"], doc["metadata"])


def _live(customer_id: int, stored: Stored | None, version: int | None) -> Stored:
    before = expected(customer_id, stored, version)
    if before.deleted:
        raise CustomerDeleted(f"customer {customer_id} is deleted")
    return before


def _why_not(stored: Stored | None) -> list[tuple[str, str]]:
    if stored is None:
        return [("not_found", "is not there")]
    return [("deleted", "is deleted")] if stored.deleted else []


def _combined(before: Stored, others: Sequence[Stored], merge: Merge) -> Combined:
    fields: dict[int, Fields] = {each.id: each.customer().fields for each in others}
    return combined(before.customer().fields, fields, merge.patch)


def versions_of(event: Mapping[str, Any]) -> dict[int, int]:
    """The version of each customer that changed together with a survivor, by the survivor's event."""
    merge = event["merge"]
    others = merge["from"] if "from" in merge else merge["restored"]
    return {event["customer_id"]: event["version"], **{each["id"]: each["version"] for each in others}}


def survivor_of(store: CustomerStore, customer_id: int) -> int | None:
    """The customer into which a deleted one was merged; None if it was deleted in another way."""
    newest = store.history(customer_id, limit=1)
    event = orjson.loads(newest[0]) if newest else {}
    return int(event["merge"]["into"]["id"]) if event.get("op") == "merged_into" else None
