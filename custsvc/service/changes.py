"""Makes changes: a customer's next state with its event, from its current state.

Nothing here reads or stores. The callers (`customers.py` for one, `batch.py` for many) store the change,
expecting the version from which it was made, and make it again after a version conflict.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..domain.customers import EDITABLE, Customer, Fields, Stored, utc_now
from ..domain.erasure import ERASED, blanked
from ..domain.events import EVENT_LIMIT, Change, new_change
from ..domain.merging import Combined, Undone
from ..domain.replacing import Replacement, replacement
from ..errors import CustomerDeleted, FieldError, NotFound, ValidationError, VersionConflict
from .idempotency import Keyed

Edit = Callable[[Fields], Fields]


@dataclass(frozen=True, slots=True)
class Caller:
    """The author of a change, for the event and the customer's `created_by` and `updated_by`.

    `keyed` is the request's idempotency key: its answer is stored together with the change.
    """

    actor: str
    request_id: str | None = None
    traceparent: str | None = None
    keyed: Keyed | None = None


def expected(customer_id: int, before: Stored | None, version: int | None) -> Stored:
    """The customer, if it exists and is at this version. Raises NotFound, VersionConflict."""
    if before is None:
        raise NotFound(f"there is no customer {customer_id}")
    if version is not None and before.version != version:
        raise VersionConflict(
            f"customer {customer_id} is at version {before.version}, not {version}", current=before
        )
    return before


class Changes:
    """Makes changes. Its methods return None if nothing would change: then there is no version or event."""

    def __init__(
        self,
        clock: Callable[[], dt.datetime] = utc_now,
        event_limit: Callable[[], int] = lambda: EVENT_LIMIT,
    ) -> None:
        self.clock = clock
        self._event_limit = event_limit

    def create(self, customer_id: int, fields: Fields, caller: Caller) -> Change:
        now, by = self.clock(), caller.actor
        customer = Customer(
            id=customer_id,
            fields=fields,
            deleted=False,
            version=1,
            created_on=now,
            created_by=by,
            updated_on=now,
            updated_by=by,
        )
        return self._fitting(new_change("created", None, customer, **_who(caller)))

    def update(
        self, before: Stored, edit: Edit, caller: Caller, now: dt.datetime | None = None
    ) -> Change | None:
        """Raise CustomerDeleted if the customer is not live."""
        if before.deleted:
            raise CustomerDeleted(f"customer {before.id} is deleted")
        old = before.customer()
        fields = edit(old.fields)
        if fields == old.fields:
            return None
        return self._change("updated", before, old, fields, caller, deleted=False, now=now)

    def replacement(
        self, customer_id: int, fields: Fields, caller: Caller, expected: int | None, now: dt.datetime
    ) -> Replacement:
        """`update` to these fields, for a customer that was not read."""
        return replacement(
            customer_id,
            fields,
            now,
            expected=expected,
            event_limit=self._event_limit(),
            **_who(caller),
        )

    def delete(self, before: Stored, caller: Caller) -> Change | None:
        return None if before.deleted else self._marked("deleted", before, caller, deleted=True)

    def restore(self, before: Stored, caller: Caller) -> Change | None:
        return self._marked("restored", before, caller, deleted=False) if before.deleted else None

    def erase(self, before: Stored, caller: Caller) -> Change:
        """The event names the blanked fields; not even its `before` holds their values."""
        old = before.customer()
        changed = old.fields.differing(ERASED)
        blank = Stored(before.id, before.version, before.deleted, blanked(before.doc), before.hint)
        after = old.changed_to(fields=ERASED, deleted=old.deleted, now=self.clock(), by=caller.actor)
        return new_change("erased", blank, after, changed=changed, **_who(caller))

    def merge(
        self, before: Stored, result: Combined, others: Sequence[Stored], caller: Caller
    ) -> list[Change]:
        """The survivor's change, then that of each customer that it takes in."""
        about = {"from": _next_versions(others), "took": result.took}
        into = {"into": {"id": before.id, "version": before.version + 1}}
        return [
            self._change(
                "merged", before, before.customer(), result.fields, caller, deleted=False, merge=about
            ),
            *(self._marked("merged_into", each, caller, deleted=True, merge=into) for each in others),
        ]

    def unmerge(
        self, before: Stored, result: Undone, others: Sequence[Stored], undid: int, caller: Caller
    ) -> list[Change]:
        """The survivor's change, then that of each customer that lives again.

        `undid` is the version that the merge made.
        """
        about = {"undid": undid, "restored": _next_versions(others), "kept": result.kept}
        out_of = {"out_of": {"id": before.id, "version": before.version + 1}}
        return [
            self._change(
                "unmerged", before, before.customer(), result.fields, caller, deleted=False, merge=about
            ),
            *(self._marked("restored", each, caller, deleted=False, merge=out_of) for each in others),
        ]

    def _marked(
        self,
        op: str,
        before: Stored,
        caller: Caller,
        *,
        deleted: bool,
        merge: Mapping[str, Any] | None = None,
    ) -> Change:
        """The customer with the same fields, deleted or not."""
        old = before.customer()
        return self._change(op, before, old, old.fields, caller, deleted=deleted, merge=merge)

    def _change(
        self,
        op: str,
        before: Stored,
        old: Customer,
        fields: Fields,
        caller: Caller,
        *,
        deleted: bool,
        now: dt.datetime | None = None,
        merge: Mapping[str, Any] | None = None,
    ) -> Change:
        after = old.changed_to(fields=fields, deleted=deleted, now=now or self.clock(), by=caller.actor)
        return self._fitting(new_change(op, before, after, **_who(caller), merge=merge))

    def _fitting(self, change: Change) -> Change:
        """The change, if its event fits the topic: a bigger one would never leave the database."""
        size, limit = len(change.event.payload), self._event_limit()
        if size > limit:
            message = f"makes an event of {size:,} bytes, the topic takes {limit:,}"
            biggest = max(EDITABLE, key=lambda name: len(str(getattr(change.after.fields, name))))
            raise ValidationError([FieldError(biggest, "too_large", message)])
        return change


def _who(caller: Caller) -> dict[str, Any]:
    return {
        "actor": caller.actor,
        "request_id": caller.request_id,
        "traceparent": caller.traceparent,
    }


def _next_versions(customers: Sequence[Stored]) -> list[dict[str, int]]:
    return [{"id": each.id, "version": each.version + 1} for each in customers]
