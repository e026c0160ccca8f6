"""The use-cases of customers: build the new state and its event, then one call to the store.

An update is optimistic. It reads the current row (which is the event's `before`), builds `after`, and saves
it expecting the version it read; no lock is held in between. Where the caller named no version, a conflict
is simply tried again from a fresh read; where it did, the conflict is the caller's.
"""

from __future__ import annotations

import datetime as dt
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import crash
from .customer import EDITABLE, Customer, Fields, Stored, utc_now
from .errors import Conflict, CustomerDeleted, FieldError, NotFound, ValidationError, VersionConflict
from .events import EVENT_LIMIT, Change, after_of, new_change
from .idempotency import Idempotency, Keyed
from .stores.base import Answers, CustomerStore

# A hot customer with 32 writers needs about as many rounds for the unluckiest of them.
_ROUNDS = 100


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for a change, for the event and the customer's `created_by` and `updated_by`.

    `keyed` is the request's idempotency key: its answer is stored together with the change.
    """

    actor: str
    request_id: str | None = None
    traceparent: str | None = None
    keyed: Keyed | None = None


class CustomerService:
    """Creates and changes customers. Every change that returns is stored together with its event."""

    def __init__(
        self,
        store: CustomerStore,
        answers: Answers | None = None,
        *,
        clock: Callable[[], dt.datetime] = utc_now,
        event_limit: Callable[[], int] = lambda: EVENT_LIMIT,
    ) -> None:
        """`answers` is needed where callers have idempotency keys."""
        self._store = store
        self._clock = clock
        self._event_limit = event_limit
        self._idempotency = Idempotency(answers, clock)

    def once(self, caller: Caller, work: Callable[[], Stored]) -> tuple[Stored, bool]:
        """What `work`, a change by this caller, gives; or what it gave when the same request came before.

        The second value tells whether it came before.
        """
        return self._idempotency.once(caller.keyed, work, self._replay)

    def _replay(self, body: dict[str, Any]) -> Stored:
        customer_id, version = body["id"], body["version"]
        (event,) = self._store.history(customer_id, limit=1, before_version=version + 1)
        doc = after_of(event)
        return Stored(customer_id, version, Customer.decode(doc).deleted, doc)

    def get(self, customer_id: int) -> Stored:
        """The live customer. Raises NotFound, or CustomerDeleted for one that can be restored."""
        stored = self._store.get(customer_id)
        if stored is None:
            raise NotFound(f"there is no customer {customer_id}")
        if stored.deleted:
            raise CustomerDeleted(f"customer {customer_id} is deleted")
        return stored

    def create(self, fields: Fields, caller: Caller) -> Stored:
        """Store a new customer, at version 1 and with an id never used before."""
        now = self._clock()
        customer = Customer(
            id=self._store.new_id(),
            fields=fields,
            deleted=False,
            version=1,
            created_on=now,
            created_by=caller.actor,
            updated_on=now,
            updated_by=caller.actor,
        )
        return self._store_change(new_change("created", None, customer, **_who(caller)), caller)

    def replace(
        self, customer_id: int, fields: Fields, caller: Caller, *, expected: int | None = None
    ) -> Stored:
        """Give a live customer these fields. `expected` is the version it must be at, None for any."""
        return self.update(customer_id, lambda _: fields, caller, expected=expected)

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

        def build(before: Stored) -> Change | None:
            if before.deleted:
                raise CustomerDeleted(f"customer {customer_id} is deleted")
            old = before.customer()
            fields = edit(old.fields)
            if fields == old.fields:
                return None
            return self._change("updated", before, old, fields, caller, deleted=False)

        return self._save(customer_id, build, caller, expected)

    def delete(self, customer_id: int, caller: Caller, *, expected: int | None = None) -> Stored:
        """Mark a customer deleted. One that is deleted already stays as it is."""

        def build(before: Stored) -> Change | None:
            if before.deleted:
                return None
            old = before.customer()
            return self._change("deleted", before, old, old.fields, caller, deleted=True)

        return self._save(customer_id, build, caller, expected)

    def restore(self, customer_id: int, caller: Caller, *, expected: int | None = None) -> Stored:
        """Bring a deleted customer back as it was. One that is live stays as it is."""

        def build(before: Stored) -> Change | None:
            if not before.deleted:
                return None
            old = before.customer()
            return self._change("restored", before, old, old.fields, caller, deleted=False)

        return self._save(customer_id, build, caller, expected)

    def _change(
        self, op: str, before: Stored, old: Customer, fields: Fields, caller: Caller, *, deleted: bool
    ) -> Change:
        after = old.changed_to(fields=fields, deleted=deleted, now=self._clock(), by=caller.actor)
        return new_change(op, before, after, **_who(caller))

    def _store_change(self, change: Change, caller: Caller) -> Stored:
        keyed, answer = caller.keyed, None
        if keyed is not None:
            answer = keyed.answer({"id": change.after.id, "version": change.after.version}, self._clock())
        stored = self._store.save(self._fitting(change), answer)
        crash.point("save.stored")
        return stored

    def _fitting(self, change: Change) -> Change:
        """The change, if its event fits the topic: one that does not would never leave the database."""
        size, limit = len(change.event.payload), self._event_limit()
        if size > limit:
            message = f"makes an event of {size:,} bytes, the topic takes {limit:,}"
            biggest = max(EDITABLE, key=lambda name: len(str(getattr(change.after.fields, name))))
            raise ValidationError([FieldError(biggest, "too_large", message)])
        return change

    def _save(
        self,
        customer_id: int,
        build: Callable[[Stored], Change | None],
        caller: Caller,
        expected: int | None,
    ) -> Stored:
        for attempt in range(_ROUNDS):
            before = self._store.get(customer_id)
            if before is None:
                raise NotFound(f"there is no customer {customer_id}")
            if expected is not None and before.version != expected:
                raise VersionConflict(
                    f"customer {customer_id} is at version {before.version}, not {expected}", current=before
                )
            change = build(before)
            if change is None:
                self._idempotency.keep(caller.keyed, {"id": customer_id, "version": before.version})
                return before
            try:
                return self._store_change(change, caller)
            except VersionConflict:
                # With `expected`, the next round's read raises it with the state that won.
                time.sleep(random.uniform(0, 0.001 * min(attempt, 20)))  # noqa: S311 - jitter, not a secret
        raise Conflict(f"customer {customer_id} is changed by too many at once; try again")


def _who(caller: Caller) -> dict[str, Any]:
    return {
        "actor": caller.actor,
        "request_id": caller.request_id,
        "traceparent": caller.traceparent,
    }
