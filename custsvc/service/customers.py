"""The use-cases of customers: build the new state and its event, then one call to the store.

An update is optimistic. It reads the current row (which is the event's `before`), builds `after`, and saves
it expecting the version it read; no lock is held in between. After a conflict it tries again from a fresh
read; if the caller named a version, it raises the conflict instead.
"""

from __future__ import annotations

import datetime as dt
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import orjson

from ..domain.customers import Customer, Fields, Stored, utc_now
from ..domain.erasure import scrubbed
from ..domain.events import EVENT_LIMIT, Change, after_of, op_of
from ..errors import (
    Conflict,
    CustomerDeleted,
    CustomerMerged,
    CustsvcError,
    NotFound,
    VersionConflict,
)
from ..ports.answers import Answer, Answers
from ..ports.customers import CustomerStore
from ..runtime import crash
from .batch import Batch, BatchResult, Operation
from .changes import Caller, Changes
from .changes import expected as checked
from .idempotency import Idempotency
from .leftovers import Leftovers
from .merging import Merge, Merged, Merging, Preview, survivor_of, versions_of
from .past import event_of, event_then

__all__ = ["Caller", "CustomerService", "live"]

T = TypeVar("T")

# With 32 writers to one customer, the unluckiest needs about this many rounds.
_ROUNDS = 100


def live(store: CustomerStore, customer_id: int) -> Stored:
    """The live customer. Raises NotFound, or CustomerDeleted for one that can be restored."""
    stored = store.get(customer_id)
    if stored is None:
        raise NotFound(f"there is no customer {customer_id}")
    if stored.deleted:
        raise _gone(store, customer_id)
    return stored


def _gone(store: CustomerStore, customer_id: int) -> CustomerDeleted:
    survivor = survivor_of(store, customer_id)
    if survivor is None:
        return CustomerDeleted(f"customer {customer_id} is deleted")
    return CustomerMerged(f"customer {customer_id} was merged into {survivor}", survivor=survivor)


class CustomerService:
    """Creates and changes customers. Every change that returns is stored together with its event.

    `expected` is the version that a customer must be at, None for any.
    """

    def __init__(
        self,
        store: CustomerStore,
        answers: Answers | None = None,
        *,
        clock: Callable[[], dt.datetime] = utc_now,
        event_limit: Callable[[], int] = lambda: EVENT_LIMIT,
        leftovers: Leftovers | None = None,
    ) -> None:
        """`answers` is needed for idempotency keys, `leftovers` for erasing customers."""
        self._leftovers = leftovers
        self._store = store
        self._changes = Changes(clock, event_limit)
        self._clock = clock
        self._idempotency = Idempotency(answers, clock)
        self._merging = Merging(store, self._changes, self._answer_of)

    # -- requests that may come twice

    def once(self, caller: Caller, work: Callable[[], Stored]) -> tuple[Stored, bool]:
        """The result of `work`, a change by this caller; or that of the same earlier request.

        The second value says whether it is from an earlier request.
        """
        return self._idempotency.once(caller.keyed, work, self._replay)

    def once_as(self, caller: Caller, work: Callable[[], T], replay: Callable[[Any], T]) -> tuple[T, bool]:
        """`once` for answers other than one customer: `replay` reads the stored answer."""
        return self._idempotency.once(caller.keyed, work, replay)

    def answer(self, caller: Caller, body: dict[str, Any]) -> Answer | None:
        """The answer to store for a request by this caller; None without a key."""
        return caller.keyed.answer(body, self._clock()) if caller.keyed else None

    def _replay(self, body: dict[str, Any]) -> Stored:
        customer_id, version = body["id"], body["version"]
        (event,) = self._store.history(customer_id, limit=1, before_version=version + 1)
        doc = after_of(event)
        return Stored(customer_id, version, Customer.decode(doc).deleted, doc)

    # -- reading

    def get(self, customer_id: int) -> Stored:
        """The live customer: `live`."""
        return live(self._store, customer_id)

    def at(self, customer_id: int, time: dt.datetime) -> Stored:
        """The customer as it was at a time, deleted or not. Raises NotFound, HistoryTrimmed."""
        doc = after_of(event_then(self._store, customer_id, time))
        customer = Customer.decode(doc)
        return Stored(customer_id, customer.version, customer.deleted, doc)

    # -- changing

    def create(self, fields: Fields, caller: Caller) -> Stored:
        """Store a new customer, at version 1 and with an id never used before."""
        return self._store_change(self._changes.create(self._store.new_id(), fields, caller), caller)

    def replace(
        self, customer_id: int, fields: Fields, caller: Caller, *, expected: int | None = None
    ) -> Stored:
        """Give a live customer these fields; the same fields make no version and no event."""
        changes, now = self._changes, self._changes.clock()
        if caller.keyed is None:
            stored = self._store.replace(
                lambda: changes.replacement(customer_id, fields, caller, expected, now)
            )
            if stored is not None:
                crash.point("save.stored")
                return stored
        return self._save(
            customer_id,
            lambda before: changes.update(before, lambda _: fields, caller, now),
            caller,
            expected,
        )

    def update(
        self,
        customer_id: int,
        edit: Callable[[Fields], Fields],
        caller: Caller,
        *,
        expected: int | None = None,
    ) -> Stored:
        """Edit the fields of a live customer. An edit that changes nothing makes no version and no event.

        `edit` may be called more than once, each time with the fields as they are then.
        """
        return self._save(
            customer_id, lambda before: self._changes.update(before, edit, caller), caller, expected
        )

    def delete(self, customer_id: int, caller: Caller, *, expected: int | None = None) -> Stored:
        """Mark a customer deleted. A deleted one stays unchanged."""
        return self._save(customer_id, lambda before: self._changes.delete(before, caller), caller, expected)

    def restore(self, customer_id: int, caller: Caller, *, expected: int | None = None) -> Stored:
        """Restore a deleted customer as it was. A live one stays unchanged."""
        return self._save(customer_id, lambda before: self._changes.restore(before, caller), caller, expected)

    def revert(
        self, customer_id: int, version: int, caller: Caller, *, expected: int | None = None
    ) -> Stored:
        """Give a live customer its fields of an earlier version.

        Raises ValidationError for a version that never was, HistoryTrimmed for one no longer there.
        """
        old = Customer.decode(after_of(event_of(self._store, customer_id, version)))
        return self.replace(customer_id, old.fields, caller, expected=expected)

    def erase(self, customer_id: int, caller: Caller, *, expected: int | None = None) -> Stored:
        """Blank a customer's fields and its history, and delete other data that names it.

        Do the same to those that were merged into it, as they are the same person: first, so that a
        repetition after a crash does the rest. A repetition after the end changes nothing.
        """
        before = checked(customer_id, self._store.get(customer_id), expected)
        for other in self._merging.inside(before.id):
            self.erase(other, replace(caller, keyed=None))

        def build(before: Stored) -> Change | None:
            (newest,) = self._store.history(customer_id, limit=1)
            return None if op_of(newest) == "erased" else self._changes.erase(before, caller)

        def store(change: Change, caller: Caller) -> Stored:
            # Do this first, while the history still holds the addresses by which the rest is found.
            if self._leftovers is not None:
                self._leftovers.forget(customer_id)
            return self._store.erase(change, scrubbed, self._answer_of(change, caller))

        return self._save(customer_id, build, caller, expected, store=store)

    def person(self, customer_id: int) -> list[int]:
        """The customer and all that were merged into it, as deep as it goes: those whom `erase` reaches.

        Raises NotFound.
        """
        found = [checked(customer_id, self._store.get(customer_id), None).id]
        for each in found:
            found += [other for other in self._merging.inside(each) if other not in found]
        return found

    # -- merging

    def preview_merge(self, survivor: int, merge: Merge, *, expected: int | None = None) -> Preview:
        """What `merge` would make of the survivor; nothing is stored. Raises the same errors."""
        with self._gone_for(survivor):
            return self._merging.preview(survivor, merge, expected)

    def merge(self, survivor: int, merge: Merge, caller: Caller, *, expected: int | None = None) -> Merged:
        """Make several customers one: `Merging.merge`."""
        with self._gone_for(survivor):
            return self._merging.merge(survivor, merge, caller, expected)

    def unmerge(self, survivor: int, caller: Caller, *, expected: int | None = None) -> Merged:
        """Undo the newest merge of a customer: `Merging.unmerge`."""
        with self._gone_for(survivor):
            return self._merging.unmerge(survivor, caller, expected)

    def replay_merge(self, body: Mapping[str, Any]) -> Merged:
        """The result of an earlier merge or unmerge, out of the answer that was kept."""
        customer_id, version = body["id"], body["version"]
        (event,) = self._store.history(customer_id, limit=1, before_version=version + 1)
        return Merged(Stored(customer_id, version, False, after_of(event)), versions_of(orjson.loads(event)))

    @contextmanager
    def _gone_for(self, customer_id: int) -> Iterator[None]:
        try:
            yield
        except CustomerDeleted as exc:
            raise _gone(self._store, customer_id) from exc

    def batch(
        self,
        operations: Sequence[Operation | CustsvcError],
        caller: Caller,
        *,
        atomic: bool,
        body_of: Callable[[BatchResult], dict[str, Any]],
    ) -> BatchResult:
        """Do many operations; store `body_of` the result under the caller's key."""
        batch = Batch(self._store, self._changes, operations, caller, atomic=atomic)
        return batch.run(lambda result: self.answer(caller, body_of(result)) if caller.keyed else None)

    def _store_change(self, change: Change, caller: Caller) -> Stored:
        stored = self._store.save(change, self._answer_of(change, caller))
        crash.point("save.stored")
        return stored

    def _answer_of(self, change: Change, caller: Caller) -> Answer | None:
        return self.answer(caller, {"id": change.after.id, "version": change.after.version})

    def _save(
        self,
        customer_id: int,
        build: Callable[[Stored], Change | None],
        caller: Caller,
        version: int | None,
        *,
        store: Callable[[Change, Caller], Stored] | None = None,
    ) -> Stored:
        for attempt in range(_ROUNDS):
            before = checked(customer_id, self._store.get(customer_id), version)
            with self._gone_for(customer_id):
                change = build(before)
            if change is None:
                self._idempotency.keep(caller.keyed, {"id": customer_id, "version": before.version})
                return before
            try:
                return (store or self._store_change)(change, caller)
            except VersionConflict:
                # With an expected version, the next round's read raises the conflict with the current state.
                time.sleep(random.uniform(0, 0.001 * min(attempt, 20)))  # noqa: S311 - jitter, not a secret
        raise Conflict(f"customer {customer_id} is changed by too many at once; try again")
