"""CSV cells that no spreadsheet runs as a formula, and that import reads back unchanged.

Spreadsheets run a cell that begins with `= + - @` (or their full-width forms), a tab or a line break as a
formula, and anybody may have written it into the database. A spreadsheet whose locale separates cells by
semicolons or tabs, or that ends a row at every line break, splits our cells there, so more places are the
beginning of a cell. `guarded` puts an apostrophe before each such sign at a beginning; if apostrophes stand
there already it puts one more, so that `unguarded` removes exactly what was added. In metadata, which is
JSON, the sign becomes a JSON escape.
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
# Spreadsheets treat the full-width forms as the plain ones.
_SIGNS: Final = "=+\\-@\uff1d\uff0b\uff0d\uff20"
# Characters that may precede a formula at the beginning of a cell.
_LEAD: Final = r'(?:[^\S\t\r\n]|")*'
# The beginning of the cell, or a place in it where spreadsheets split.
_BEGINNING: Final = r"(?:\A|(?<=[;\t\r\n]))"
_FORMULA: Final = re.compile(rf"({_BEGINNING}{_LEAD})('*[{_SIGNS}])|\A('*[\t\r\n])")
_ESCAPED: Final = re.compile(rf"({_BEGINNING}{_LEAD})'('*[{_SIGNS}])|\A'('*[\t\r\n])")
_IN_JSON: Final = re.compile(rf"(;{_LEAD}'*)([{_SIGNS}])")


def guarded(text: str) -> str:
    """The text as a cell that is no formula."""
    return _FORMULA.sub(lambda found: f"{found[1] or ''}'{found[2] or found[3]}", text)


def unguarded(cell: str) -> str:
    """The text of a cell."""
    return _ESCAPED.sub(lambda found: f"{found[1] or ''}{found[2] or found[3]}", cell)


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
        return _json(value) if value else ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return guarded(value) if isinstance(value, str) else str(value)


def _json(value: dict[str, Any]) -> str:
    # JSON escapes line breaks and tabs already; semicolons occur only in its strings.
    return _IN_JSON.sub(lambda found: f"{found[1]}\\u{ord(found[2]):04x}", orjson.dumps(value).decode())
