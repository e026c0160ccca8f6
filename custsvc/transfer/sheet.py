"""CSV cells that no spreadsheet takes for a formula, and that come back as they were.

A cell that begins with `= + - @` (or the full-width forms of these), a tab or a line break is run as a
formula by spreadsheets, whoever wrote it into the database. A spreadsheet whose country separates cells by
semicolons or tabs, or that ends a row at every line break, splits our cells there and sees more beginnings.
So each such sign at a beginning gets an apostrophe in front. So that reading takes away exactly what writing
added, a text that has apostrophes before such a sign gets one more. In metadata, which is JSON, the sign is
written as an escape of JSON, which reads back as the sign.
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
# Spreadsheets fold the full-width forms into the plain ones.
_SIGNS: Final = "=+\\-@\uff1d\uff0b\uff0d\uff20"
# What may stand between the beginning of a cell and a formula in it.
_LEAD: Final = r'(?:[^\S\t\r\n]|")*'
# The whole cell, or what is left of it after a place where spreadsheets split.
_BEGINNING: Final = r"(?:\A|(?<=[;\t\r\n]))"
_FORMULA: Final = re.compile(rf"({_BEGINNING}{_LEAD})('*[{_SIGNS}])|\A('*[\t\r\n])")
_ESCAPED: Final = re.compile(rf"({_BEGINNING}{_LEAD})'('*[{_SIGNS}])|\A'('*[\t\r\n])")
_IN_JSON: Final = re.compile(rf"(;{_LEAD}'*)([{_SIGNS}])")


def guarded(text: str) -> str:
    """The cell of a text."""
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
    # A line break or tab within JSON is escaped already; a semicolon stands only in its texts and keys.
    return _IN_JSON.sub(lambda found: f"{found[1]}\\u{ord(found[2]):04x}", orjson.dumps(value).decode())
