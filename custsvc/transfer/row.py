"""One row of a file: its fields or its error; and errors of the whole file."""

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
    """An error of the whole file: no row is imported, even with `skip_errors`."""
    return BadFile([FieldError("file", code, message)])


@dataclass(frozen=True, slots=True)
class RowError:
    """An error of a row: the field, a code, a sentence, and the offending value."""

    field: str
    code: str
    message: str
    value: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        field = _text(self.field, _FIELD_SHOWN)
        return {"field": field, "code": self.code, "message": _text(self.message), "value": self.value}


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the number of its first line, and its fields or its error.

    `warnings` name cells whose value a spreadsheet has lost; most of them are skipped.
    """

    number: int
    raw: dict[str, Any]
    error: RowError | None = None
    warnings: tuple[RowError, ...] = ()


@dataclass(slots=True)
class Tally:
    """The lines of a file by kind; each line is counted in one of the first three.

    `unwrapped` counts the cells like `="0044"`, which were read as the text within.
    """

    heading: int = 0
    empty: int = 0
    rows: int = 0
    unwrapped: int = 0

    def as_dict(self) -> dict[str, int]:
        total = self.heading + self.empty + self.rows
        return {"all": total, "heading": self.heading, "empty": self.empty, "rows": self.rows}


def row_error(error: FieldError, raw: Mapping[str, Any]) -> RowError:
    """A field's error with the value that the row gave."""
    found = raw.get(error.field)
    if found is None and error.field.startswith(METADATA) and isinstance(raw.get("metadata"), dict):
        found = raw["metadata"].get(error.field.removeprefix(METADATA))
    return RowError(error.field, error.code, error.message, shown(found))


def shown(value: Any, longest: int = _SHOWN) -> str | None:
    """A value as an error shows it: text as it is, other values as JSON, shortened."""
    if value is None:
        return None
    if isinstance(value, str):
        return _text(value, longest)
    try:
        return _text(json.dumps(value, ensure_ascii=False, default=str), longest)
    except RecursionError:  # `dumps` recurses deeper than `loads`
        return "…"


def _text(text: str, longest: int = _SHOWN) -> str:
    """Text without lone surrogates, which JSON cannot hold, shortened to `longest` characters."""
    text = text[: longest + 1].encode("utf-8", "replace").decode()
    return text if len(text) <= longest else text[: longest - 1] + "…"
