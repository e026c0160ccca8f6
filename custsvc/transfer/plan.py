"""Plans an import: each row would create, update or restore a customer, do nothing, or is an error."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, Literal, get_args

import orjson

from ..domain.canonical import canonical_email
from ..domain.customers import EDITABLE, INT64_MAX, Customer, Fields, Stored
from ..domain.email_key import email_key
from ..errors import ValidationError
from ..ports.customers import CustomerStore
from .meaning import Meaning, conflict, guarded_version
from .row import Row, RowError, row_error, shown

Key = Literal["id", "email"]
KEYS: Final[tuple[Key, ...]] = get_args(Key)
Action = Literal["create", "update", "same", "restore", "trashed", "error", "conflict", "delete"]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
CHUNK: Final = 500


# How much of the name of a wrong row is told.
_NAME_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class Planned:
    """The plan of a row. `before` is its customer now, `fields` are that customer's fields afterwards.

    `id` is the id of the customer that was created or changed. `trashed`: the customer is deleted, and the
    import does not restore; the row is skipped.
    `conflict`: the row would overwrite a change that its author has not seen, because its `version` is not
    the customer's, or the customer changed after the plan was made; the row is skipped. `warnings`
    name cells that were skipped, or may be wrong. `duplicates` are the customers that a new one likely is.
    `name` is that of a wrong row, as far as it has one. Only a bulk change of the pages makes `delete`.
    """

    number: int
    action: Action
    before: Stored | None = None
    fields: Fields | None = None
    changed: tuple[str, ...] = ()
    errors: tuple[RowError, ...] = ()
    id: int | None = None
    warnings: tuple[RowError, ...] = ()
    duplicates: tuple[int, ...] = ()
    name: str | None = None

    def signature(self) -> bytes:
        """A hash that is equal for equal plans of a row."""
        about = (
            self.action,
            self.before and (self.before.id, self.before.version),
            [getattr(self.fields, name) for name in EDITABLE] if self.fields else None,
            [error.code for error in self.errors],
        )
        return hashlib.blake2b(orjson.dumps(about), digest_size=8).digest()

    def as_dict(self) -> dict[str, Any]:
        return {
            "row": self.number,
            "action": self.action,
            "id": self.before.id if self.before else self.id,
            "name": self.fields.name if self.fields else self.name,
            "changed": list(self.changed),
            "errors": [error.as_dict() for error in self.errors],
            "warnings": [warning.as_dict() for warning in self.warnings],
            "duplicates": list(self.duplicates),
        }


class Planner:
    """Plans rows against the current customers.

    `on` is the field by which a row finds its customer. A row without it is a new customer; a row with an
    unknown id is an error, because only the database assigns ids. A field that a row does not have stays.
    A row with a `version` changes its customer only at that version. With `remove` each row deletes its
    customer.
    """

    def __init__(
        self,
        store: CustomerStore,
        on: Key,
        *,
        restore: bool = False,
        remove: bool = False,
        meaning: Meaning | None = None,
    ) -> None:
        self._store = store
        self._on = on
        self._restore = restore
        self._remove = remove
        self._meaning = meaning or Meaning()
        self._seen: dict[int | str, int] = {}

    def chunks(self, rows: Iterable[Row]) -> Iterator[tuple[list[Row], list[Planned]]]:
        """Rows with their plans, CHUNK at a time. A key may occur in a file only once."""
        found = iter(rows)
        while chunk := list(islice(found, CHUNK)):
            yield chunk, self.again(chunk)

    def again(self, rows: Sequence[Row]) -> list[Planned]:
        """Plan these rows again, against the customers as they are now."""
        keys = [self._key(row) for row in rows]
        good = [key for key in keys if key is not None and not isinstance(key, RowError)]
        known = self._known(good)
        planned = [self._row(row, key, known) for row, key in zip(rows, keys, strict=True)]
        return [_told(row, plan) for row, plan in zip(rows, planned, strict=True)]

    def _known(self, keys: Sequence[int | str]) -> dict[int | str, list[Stored]]:
        if not keys:
            return {}
        if self._on == "id":
            ids = [key for key in keys if isinstance(key, int)]
            return {key: [stored] for key, stored in self._store.get_many(ids).items()}
        found: dict[int | str, list[Stored]] = {}
        for stored in self._store.get_by_emails([str(key) for key in keys]):
            found.setdefault(email_key(stored.customer().fields.email or ""), []).append(stored)
        return found

    def _key(self, row: Row) -> int | str | RowError | None:
        """The value by which the row finds its customer; None for a new customer."""
        if row.error is not None:
            return row.error
        if spoilt := [each for each in row.warnings if each.field == self._on]:
            return spoilt[0]  # without its key the row would be a new customer
        value = row.raw.get(self._on)
        if value is None or value == "":
            return None
        key = _id(value) if self._on == "id" else _email(value)
        if isinstance(key, RowError) or key is None:
            return key
        if isinstance(key, str):
            key = email_key(key)
        first = self._seen.setdefault(key, row.number)
        if first != row.number:
            return RowError(self._on, "duplicate_row", f"is already in row {first}", shown(value))
        return key

    def _row(
        self, row: Row, key: int | str | RowError | None, known: dict[int | str, list[Stored]]
    ) -> Planned:
        if isinstance(key, RowError):
            return Planned(row.number, "error", errors=(key,))
        before = None
        if key is not None:
            live = [stored for stored in known.get(key, ()) if not stored.deleted]
            gone = [stored for stored in known.get(key, ()) if stored.deleted]
            if len(alike := live or gone) > 1:
                ids = ", ".join(str(stored.id) for stored in alike[:5])
                are = "deleted customers" if gone and not live else "customers"
                return _wrong(row, self._on, "ambiguous", f"{are} {ids} all have it", row.raw[self._on])
            before = next(iter(alike), None)
            if before is None and self._on == "id":
                return _wrong(
                    row, "id", "unknown_id", "no customer has this id; leave it empty to create one", key
                )
        old = before.customer() if before else None
        version = guarded_version(row.raw)
        if isinstance(version, RowError):
            return Planned(row.number, "error", before, errors=(version,))
        try:
            fields = self._meaning.fields(row.raw, old.fields if old else None)
        except ValidationError as exc:
            errors = tuple(row_error(error, row.raw) for error in exc.errors)
            return Planned(row.number, "error", before, errors=errors)
        return _guarded(self._action(row.number, before, old, fields), version)

    def _action(self, number: int, before: Stored | None, old: Customer | None, fields: Fields) -> Planned:
        if before is None or old is None:
            return Planned(number, "create", None, fields)
        if self._remove:
            return Planned(number, "same" if before.deleted else "delete", before, fields, ("deleted",))
        changed = tuple(fields.differing(old.fields))
        if before.deleted:
            action: Action = "restore" if self._restore else "trashed"
            return Planned(number, action, before, fields, (*changed, "deleted"))
        return Planned(number, "update" if changed else "same", before, fields, changed)


def _told(row: Row, planned: Planned) -> Planned:
    """The plan with what a person needs to find the row: its warnings, and the name of a wrong one."""
    name = row.raw.get("name") if planned.action == "error" else None
    if isinstance(name, str) and name.strip():
        planned = replace(planned, name=shown(name.strip(), _NAME_SHOWN))
    return replace(planned, warnings=row.warnings) if row.warnings else planned


def _guarded(planned: Planned, version: int | None) -> Planned:
    """The plan, or a conflict if the row was made from another version of the customer."""
    before = planned.before
    if version is None or before is None or planned.action not in ("update", "restore", "delete"):
        return planned
    if version == before.version:
        return planned
    return replace(planned, action="conflict", errors=(conflict(version, before.version),))


def _wrong(row: Row, field: str, code: str, message: str, value: Any) -> Planned:
    return Planned(row.number, "error", errors=(RowError(field, code, message, shown(value)),))


def _id(value: Any) -> int | RowError:
    text = value.strip() if isinstance(value, str) else ""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else value
    if type(number) is not int or not 0 < number <= INT64_MAX:
        return RowError("id", "bad_id", "must be the id of a customer, or empty", shown(value))
    return number


def _email(value: Any) -> str | RowError | None:
    if not isinstance(value, str):
        return RowError("email", "not_text", "must be text", shown(value))
    try:
        return canonical_email(value)
    except ValidationError as exc:
        return row_error(exc.errors[0], {"email": value})
