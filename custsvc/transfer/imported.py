"""The records of imports: which customers each import left at which version.

Imports can be undone for a week. A record holds ids and versions and no personal data. Each part is written
before its chunk of rows is stored, so no stored row is missing after a crash. A part may name rows that were
never stored; undoing checks each.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

import orjson

from ..ports.shelf import Shelf, Shelved
from ..service.idempotency import Keyed

KEPT: Final = 7 * 86400.0
_ID_LENGTH: Final = 16

What = Literal["import", "edit", "delete", "restore"]
"""What a record is of: an import of a file, or a bulk change of the pages."""


@dataclass(frozen=True, slots=True)
class Imported:
    """An import. `at` and `undone_at` are Unix times; `undone` counts what undoing it did, None before."""

    id: str
    by: str
    at: float
    counts: dict[str, int] = field(default_factory=dict)
    undone: dict[str, int] | None = None
    undone_at: float | None = None
    what: What = "import"


@dataclass(frozen=True, slots=True)
class Part:
    """The customers of a chunk of rows, each with its version after the import, and the id of the request."""

    name: str
    request_id: str
    rows: list[tuple[int, int]]


class Imports:
    """The records of one database."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def begin(self, by: str, keyed: Keyed | None, what: What = "import") -> Recorder:
        """Start a record. The same keyed request, sent again, goes on with its record."""
        import_id = id_of(keyed) if keyed else secrets.token_hex(_ID_LENGTH // 2)
        imported = Imported(import_id, by, time.time(), what=what)
        self._shelf.keep(f"{Shelved.IMPORTED}{imported.id}", _text(imported), KEPT)
        return Recorder(self._shelf, imported.id)

    def find(self, import_id: str) -> Imported | None:
        """The record; None if it has expired."""
        text = self._shelf.get(f"{Shelved.IMPORTED}{import_id}") if import_id.isalnum() else None
        return Imported(**orjson.loads(text)) if text else None

    def all(self) -> list[Imported]:
        """All records, the newest first."""
        found = [Imported(**orjson.loads(text)) for text in self._shelf.all(Shelved.IMPORTED).values()]
        return sorted(found, key=lambda each: each.at, reverse=True)

    def parts(self, import_id: str) -> list[Part]:
        """The parts in order. A row that a crash recorded twice is in only one of them."""
        found = self._shelf.all(f"{Shelved.IMPORTED_PART}{import_id}.")
        parts = [_part(name, text) for name, text in sorted(found.items(), key=lambda each: _number(each[0]))]
        seen: set[tuple[str, int, int]] = set()
        for at, part in enumerate(parts):
            new = [row for row in part.rows if (part.request_id, *row) not in seen]
            seen.update((part.request_id, *row) for row in new)
            parts[at] = replace(part, rows=new)
        return parts

    def undone(self, imported: Imported, counts: dict[str, int]) -> None:
        """Note what undoing the import did."""
        _put(self._shelf, replace(imported, undone=counts, undone_at=time.time()))


class Recorder:
    """Writes the record of an import that is going on."""

    def __init__(self, shelf: Shelf, import_id: str) -> None:
        self.id = import_id
        self._shelf = shelf
        # Two processes that do the same request at the same time must not overwrite each other's parts.
        self._token = secrets.token_hex(4)

    def add(self, number: int, request_id: str, rows: Sequence[tuple[int, int]]) -> None:
        """Write a part, before its chunk of rows is stored."""
        body = {"request_id": request_id, "rows": rows}
        name = f"{Shelved.IMPORTED_PART}{self.id}.{number}.{self._token}"
        self._shelf.put(name, orjson.dumps(body), KEPT)

    def end(self, counts: dict[str, int]) -> None:
        """Note what the import did."""
        text = self._shelf.get(f"{Shelved.IMPORTED}{self.id}")
        if text is not None:
            _put(self._shelf, replace(Imported(**orjson.loads(text)), counts=counts))


def id_of(keyed: Keyed) -> str:
    """The id of the record of a keyed request."""
    return hashlib.sha256(f"{keyed.principal}\0{keyed.key}".encode()).hexdigest()[:_ID_LENGTH]


def _put(shelf: Shelf, imported: Imported) -> None:
    shelf.put(f"{Shelved.IMPORTED}{imported.id}", _text(imported), imported.at + KEPT - time.time())


def _text(imported: Imported) -> bytes:
    return orjson.dumps(asdict(imported))


def _part(name: str, text: bytes) -> Part:
    body: dict[str, Any] = orjson.loads(text)
    return Part(name, body["request_id"], [(row[0], row[1]) for row in body["rows"]])


def _number(name: str) -> int:
    return int(name.split(".")[-2])
