"""One row of a file: its fields, or what is wrong with it; and what is wrong with a file as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..errors import FieldError, ValidationError

METADATA: Final = "metadata."
_SHOWN: Final = 200
_FIELD_SHOWN: Final = 100

BadFile = ValidationError


def bad_file(code: str, message: str) -> ValidationError:
    """The error of a file that is wrong as a whole: nothing of it is imported, whatever may be skipped."""
    return BadFile([FieldError("file", code, message)])


@dataclass(frozen=True, slots=True)
class RowError:
    """What is wrong with a row: the field, a code, a sentence, and the value that it is about."""

    field: str
    code: str
    message: str
    value: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        field = _text(self.field, _FIELD_SHOWN)
        return {"field": field, "code": self.code, "message": _text(self.message), "value": self.value}


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the line it begins at, and its fields, or why there are none."""

    number: int
    raw: dict[str, Any]
    error: RowError | None = None


@dataclass(slots=True)
class Tally:
    """Where the lines of a file went: each line is counted in exactly one of these."""

    heading: int = 0
    empty: int = 0
    rows: int = 0

    def as_dict(self) -> dict[str, int]:
        total = self.heading + self.empty + self.rows
        return {"all": total, "heading": self.heading, "empty": self.empty, "rows": self.rows}


def row_error(error: FieldError, raw: Mapping[str, Any]) -> RowError:
    """A field's error with the value that the row gave."""
    found = raw.get(error.field)
    if found is None and error.field.startswith(METADATA) and isinstance(raw.get("metadata"), dict):
        found = raw["metadata"].get(error.field.removeprefix(METADATA))
    return RowError(error.field, error.code, error.message, shown(found))


def shown(value: Any) -> str | None:
    """A value as an error shows it: as JSON but for text, and never long."""
    if value is None:
        return None
    if isinstance(value, str):
        return _text(value)
    try:
        return _text(json.dumps(value, ensure_ascii=False, default=str))
    except RecursionError:  # writing goes deeper than reading
        return "…"


def _text(text: str, longest: int = _SHOWN) -> str:
    """Text that every answer can hold: without lone surrogates, and not long."""
    text = text[: longest + 1].encode("utf-8", "replace").decode()
    return text if len(text) <= longest else text[: longest - 1] + "…"
