"""CSV cells that no spreadsheet takes for a formula, and that come back as they were.

A cell that begins with `= + - @`, a tab or a carriage return is run as a formula by spreadsheets, whoever
wrote it into the database. Such a cell gets an apostrophe in front. So that reading takes away exactly
what writing added, a value that begins with apostrophes before such a sign gets one more.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

COLUMNS: Final = (
    *("id", "name", "email", "phone", "metadata", "deleted", "version"),
    *("created_on", "created_by", "updated_on", "updated_by"),
)
_FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")
_ESCAPED: Final = re.compile(r"'+[=+\-@\t\r]")


def guarded(text: str) -> str:
    """The cell of a text."""
    return "'" + text if _FORMULA.match(text) else text


def unguarded(cell: str) -> str:
    """The text of a cell."""
    return cell[1:] if _ESCAPED.match(cell) else cell


def lines(customers: Iterable[dict[str, Any]], columns: Sequence[str] = COLUMNS) -> bytes:
    """Customers as lines of CSV (RFC 4180, UTF-8), in the order of `columns`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerows([_cell(name, customer[name]) for name in columns] for customer in customers)
    return out.getvalue().encode()


def heading(columns: Sequence[str] = COLUMNS) -> bytes:
    """The first line."""
    return (",".join(columns) + "\r\n").encode()


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "metadata":
        return orjson.dumps(value).decode() if value else ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return guarded(value) if isinstance(value, str) else str(value)
