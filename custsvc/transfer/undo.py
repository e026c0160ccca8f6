"""Undo of an import: a change per customer that takes back what the import did, with its own event.

Only customers that are still at the version that the import left are changed; the others are reported. A
created customer is deleted, a changed one gets its fields back, a restored one is deleted again with its old
fields, a deleted one is restored. The events are marked as made in bulk: no rule sends mail about them.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from ..domain.customers import Customer, Fields, Stored, utc_now
from ..domain.events import Change, new_change
from ..errors import Conflict, KeyTaken, NotFound, VersionConflict
from ..ports.answers import Answer, Answers
from ..ports.customers import CustomerStore
from ..service.customers import Caller
from .imported import Imported, Imports, Part

ACTIONS: Final = ("delete", "revert", "trash", "restore", "left")
# The most customers that were left alone in a report.
SHOWN: Final = 1000
_ROUNDS: Final = 20
_PRINCIPAL: Final = "undo of imports"


@dataclass(slots=True)
class Undone:
    """What undoing an import does or did: counts by action, and customers that were left alone.

    `trash` counts restored customers that are deleted again.
    """

    import_id: str
    dry_run: bool
    counts: Counter[str] = field(default_factory=Counter)
    left: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "import": self.import_id,
            "dry_run": self.dry_run,
            "counts": {action: self.counts[action] for action in ACTIONS},
            "left": self.left,
        }


def undo(
    store: CustomerStore,
    answers: Answers,
    imports: Imports,
    import_id: str,
    caller: Caller,
    *,
    dry_run: bool = False,
    clock: Callable[[], dt.datetime] = utc_now,
    progress: Callable[[int], None] = lambda _: None,
) -> Undone:
    """Undo an import. Raises NotFound for an unknown one, Conflict for one that was undone already."""
    imported = imports.find(import_id)
    if imported is None:
        raise NotFound(f"there is no import {import_id}; imports can be undone for a week")
    if imported.undone is not None:
        raise Conflict(f"import {import_id} was undone already")
    work = _Undo(store, answers, imported, caller, clock)
    report = Undone(import_id, dry_run)
    for part in imports.parts(import_id):
        counts, left = work.plan(part)[1:] if dry_run else work.apply(part)
        report.counts.update(counts)
        report.left += left[: SHOWN - len(report.left)]
        progress(sum(counts.values()))
    if not dry_run:
        imports.undone(imported, report.as_dict()["counts"])
    return report


class _Undo:
    def __init__(
        self,
        store: CustomerStore,
        answers: Answers,
        imported: Imported,
        caller: Caller,
        clock: Callable[[], dt.datetime],
    ) -> None:
        self._store = store
        self._answers = answers
        self._imported = imported
        self._caller = caller
        self._clock = clock

    def apply(self, part: Part) -> tuple[Counter[str], list[dict[str, Any]]]:
        """Undo a part in one transaction; concurrent and repeated calls do it once."""
        for _ in range(_ROUNDS):
            kept = self._answers.find(_PRINCIPAL, part.name, self._clock())
            if kept is not None:
                return Counter(orjson.loads(kept.body)), []
            changes, counts, left = self.plan(part)
            answer = Answer(_PRINCIPAL, part.name, b"", orjson.dumps(counts), self._clock())
            try:
                if changes:
                    self._store.save_many(changes, answer)
                return counts, left
            except (VersionConflict, KeyTaken):
                continue
        raise Conflict("others keep changing the same customers; try again")

    def plan(self, part: Part) -> tuple[list[Change], Counter[str], list[dict[str, Any]]]:
        """The changes that undo a part, their number by action, and the customers to leave alone."""
        current = self._store.get_many([customer_id for customer_id, _ in part.rows])
        changes: list[Change] = []
        counts: Counter[str] = Counter()
        left: list[dict[str, Any]] = []
        for customer_id, version in part.rows:
            stored = current.get(customer_id)
            if stored is None or stored.version < version:
                continue  # the row was never stored
            if stored.version != version and self._is_ours(customer_id, version, part):
                counts["left"] += 1
                left.append({"id": customer_id, "version": stored.version})
            elif stored.version == version and (found := self._change(stored, part)) is not None:
                action, change = found
                counts[action] += 1
                changes.append(change)
        return changes, counts, left

    def _change(self, stored: Stored, part: Part) -> tuple[str, Change] | None:
        """The change that takes back the customer's last one; None if that was not the import's."""
        old = stored.customer()
        if stored.version == 1:  # only the import knew this id
            return "delete", self._new("deleted", stored, old.fields, deleted=True)
        event = self._event(stored.id, stored.version, part)
        if event is None:
            return None
        before = event["before_change"]
        fields = Fields(before["name"], before["email"], before["phone"], before["metadata"])
        if before["deleted"]:
            return "trash", self._new("deleted", stored, fields, deleted=True)
        if stored.deleted:
            return "restore", self._new("restored", stored, fields, deleted=False)
        return "revert", self._new("updated", stored, fields, deleted=False)

    def _new(self, op: str, stored: Stored, fields: Fields, *, deleted: bool) -> Change:
        old: Customer = stored.customer()
        who = self._caller
        after = old.changed_to(fields=fields, deleted=deleted, now=self._clock(), by=who.actor)
        request_id = who.request_id or f"undo-{self._imported.id}"
        return new_change(
            op,
            stored,
            after,
            actor=who.actor,
            request_id=request_id,
            traceparent=who.traceparent,
            bulk=True,
        )

    def _is_ours(self, customer_id: int, version: int, part: Part) -> bool:
        return version == 1 or self._event(customer_id, version, part) is not None

    def _event(self, customer_id: int, version: int, part: Part) -> dict[str, Any] | None:
        """The event of this version, if it is of the import."""
        events = self._store.history(customer_id, limit=1, before_version=version + 1)
        event: dict[str, Any] = orjson.loads(events[0]) if events else {}
        is_ours = event.get("version") == version and event.get("request_id") == part.request_id
        return event if is_ours and event.get("before_change") else None
