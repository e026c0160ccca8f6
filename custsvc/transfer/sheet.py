"""CSV cells that no spreadsheet runs as a formula, and that import reads back unchanged.

Spreadsheets run a cell that begins with `= + - @` (or their full-width forms), a tab or a line break as a
formula, and anybody may have written it into the database. A spreadsheet whose locale separates cells by
semicolons or tabs, or that ends a row at every line break, splits our cells there, so more places are the
beginning of a cell. `guarded` puts an apostrophe before each such sign at a beginning; if apostrophes stand
there already it puts one more, so that `unguarded` removes exactly what was added. In metadata, which is
JSON, the sign becomes a JSON escape.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from .row import METADATA

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


@dataclass(frozen=True, slots=True)
class Dialect:
    """How CSV is written. `mark`: with a byte order mark, by which Excel knows that it is UTF-8."""

    delimiter: str = ","
    mark: bool = False


PLAIN: Final = Dialect()


def lines(
    customers: Iterable[dict[str, Any]], columns: Sequence[str] = COLUMNS, dialect: Dialect = PLAIN
) -> bytes:
    """Customers as lines of CSV (RFC 4180, UTF-8), in the order of `columns`."""
    return written(
        ([_cell(name, _value(customer, name)) for name in columns] for customer in customers), dialect
    )


def heading(columns: Sequence[str] = COLUMNS, dialect: Dialect = PLAIN) -> bytes:
    """The first line."""
    mark = codecs.BOM_UTF8 if dialect.mark else b""
    return mark + written([[guarded(name) for name in columns]], dialect)


def written(rows: Iterable[Sequence[str]], dialect: Dialect = PLAIN) -> bytes:
    """Cells as lines of CSV. Bytes that were no text of their file, as surrogates, become what they were."""
    out = io.StringIO()
    csv.writer(out, delimiter=dialect.delimiter, lineterminator="\r\n").writerows(rows)
    return out.getvalue().encode(errors="surrogateescape")


def _value(customer: dict[str, Any], name: str) -> Any:
    """A field, or the entry of the metadata that `metadata.KEY` names."""
    return customer["metadata"].get(name[len(METADATA) :]) if name.startswith(METADATA) else customer[name]


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "metadata":
        return _json(value) if value else ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return guarded(value) if isinstance(value, str) else str(value)


def _json(value: dict[str, Any]) -> str:
    return guarded_json(orjson.dumps(value).decode())


def guarded_json(text: str) -> str:
    """A JSON object as a cell that is no formula. Its value is the same."""
    # JSON escapes line breaks and tabs already; semicolons occur only in its strings.
    return _IN_JSON.sub(lambda found: f"{found[1]}\\u{ord(found[2]):04x}", text)
