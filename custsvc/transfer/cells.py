"""CSV files as spreadsheets really write them: their heading, and then their rows.

A row that cannot be read is an error of that row. An unclosed quote is an error of the file: it swallows the
lines after it, so that the rows cannot be told apart. The file is refused with the quote's line.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import IO, Any, Final

from ..domain.customers import EDITABLE, SERVER_OWNED
from ..domain.strict_json import DuplicateKey, parse_json
from ..errors import ERRORS_MAX, FieldError
from .lines import Lines
from .row import METADATA, BadFile, Row, RowError, Tally, bad_file, shown
from .sheet import unguarded

# The line that Excel writes above the heading to name the delimiter.
_SEPARATOR: Final = re.compile(rb'"?sep=([,;\t|])"?\s*')
_QUOTED: Final = re.compile(rb'"[^"]*"')
# The error of Python's reader for a file that ends within quotes.
_ENDED: Final = "unexpected end of data"


class Table:
    """A CSV file, read from its beginning. Raises ValidationError for errors of the whole file."""

    def __init__(self, source: IO[bytes], tally: Tally) -> None:
        self._lines = Lines(source)
        self._tally = tally
        self._number = 0  # of the last line given to the reader
        self._begun = 1
        self._signs: list[int] = []  # the number of delimiters in each line of the current row
        self._is_utf8 = True
        first, self._delimiter = self._first()
        texts = self._texts(chain(first, self._lines))
        self._reader = csv.reader(texts, delimiter=self._delimiter, strict=True)
        self.heading = self._heading(first[0])

    def rows(self, fields: Sequence[str]) -> Iterator[Row]:
        """The rows. `fields` names the field of each column in order, "" for a column to skip."""
        while True:
            self._begun, self._signs, self._is_utf8 = self._number + 1, [], True
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as exc:
                self._tally.rows += 1
                yield self._unread(exc)
                continue
            taken = self._number - self._begun + 1
            if any(cell.strip() for cell in cells):
                self._tally.rows += taken
                yield self._row(fields, cells, taken)
            else:
                self._tally.empty += taken

    def _first(self) -> tuple[list[bytes], str]:
        """The heading's first line, with the line after it if that was read too, and the delimiter."""
        line = next(self._lines, b"")
        if found := _SEPARATOR.fullmatch(line):
            self._number += 1
            return [next(self._lines, b"")], found[1].decode()
        if not line.endswith(b"\r"):
            return [line], _delimiter(line)
        second = next(self._lines, b"")
        if second.endswith(b"\n") and second.count(b'"') % 2 == 0:
            message = "the file's first line has a carriage return, which ends no other line; remove it"
            raise bad_file("no_heading", message)
        return [line, second], _delimiter(line)

    def _heading(self, first: bytes) -> list[str]:
        if not first.strip():
            raise bad_file("no_heading", "the file's first line must name its columns")
        try:
            heading = next(self._reader)
        except csv.Error as exc:
            raise bad_file("no_heading", f"the file's first line is not CSV ({exc})") from exc
        if not self._is_utf8:
            raise bad_file("bad_utf8", "the file's first line is not UTF-8; save the file as UTF-8")
        self._tally.heading = self._number
        return heading

    def _texts(self, lines: Iterator[bytes]) -> Iterator[str]:
        for line in lines:
            self._number += 1
            try:
                text = line.decode()
            except UnicodeDecodeError:
                self._is_utf8 = False
                text = line.decode(errors="surrogateescape")
            self._signs.append(text.count(self._delimiter))
            yield text

    def _unread(self, exc: csv.Error) -> Row:
        """The error of the row that the reader refused; raises if the error is not of this line alone."""
        if self._number > self._begun or str(exc) == _ENDED:
            raise self._unclosed() from exc
        message = f"is not CSV: {exc}; a quote within a quoted cell is written twice"
        if "field limit" in str(exc):
            message = f"has a cell of more than {csv.field_size_limit():,} characters"
        return Row(self._begun, {}, RowError("", "bad_csv", message))

    def _unclosed(self) -> BadFile:
        return bad_file(
            "unclosed_quote",
            f"in line {self._begun} a quote opens that is not closed at the end of its cell; close it, or "
            "remove it",
        )

    def _row(self, fields: Sequence[str], cells: Sequence[str], taken: int) -> Row:
        if taken > 1 and (len(cells) != len(fields) or self._swallows(fields, cells)):
            # The lines within the quotes are probably rows.
            raise self._unclosed()
        if len(cells) != len(fields):
            message = f"has {len(cells)} cells, the heading has {len(fields)}"
            return Row(self._begun, {}, RowError("", "wrong_number_of_cells", message))
        if not self._is_utf8:
            message, found = "is not UTF-8; save the file as UTF-8", shown(" ".join(cells).strip())
            return Row(self._begun, {}, RowError("", "bad_utf8", message, found))
        return _row(self._begun, fields, cells)

    def _swallows(self, fields: Sequence[str], cells: Sequence[str]) -> bool:
        """Whether a cell that must not have a line break has one, and each of its lines looks like a row."""
        alone = len(fields) > 1 and all(count == len(fields) - 1 for count in self._signs)
        return alone and any(
            "\n" in cell or "\r" in cell
            for field, cell in zip(fields, cells, strict=True)
            if not field.startswith("metadata")
        )


def _row(number: int, fields: Sequence[str], cells: Sequence[str]) -> Row:
    raw: dict[str, Any] = {}
    for field, cell in zip(fields, cells, strict=True):
        if not field:
            continue
        if field != "metadata":
            raw[field] = unguarded(cell) or None
            continue
        try:
            raw[field] = parse_json(cell) if cell.strip() else None
        except DuplicateKey as exc:
            message = f"has the key {str(exc)!r} twice"
            return Row(number, raw, RowError(field, "duplicate_key", message, shown(cell)))
        except (ValueError, RecursionError):
            return Row(number, raw, RowError(field, "bad_json", "must be a JSON object", shown(cell)))
    return Row(number, raw)


def _delimiter(line: bytes) -> str:
    """The delimiter: spreadsheets write commas, semicolons or tabs, depending on their locale."""
    bare = _QUOTED.sub(b"", line)
    return max(",;\t", key=lambda sign: bare.count(sign.encode()))


# -- columns -----------------------------------------------------------------------------------------------


def field_of(column: str) -> str | None:
    """The field of a column with this name; None if no field matches."""
    name = column.strip()
    if name.startswith(METADATA) and len(name) > len(METADATA):
        return name
    name = name.lower()
    return name if name in EDITABLE or name in SERVER_OWNED else None


def fields_of(heading: Sequence[str], chosen: Sequence[str] | None = None) -> list[str]:
    """The field of each column in order: the chosen one, else the one that its heading names.

    Raises ValidationError for unknown columns, and for two columns of one field.
    """
    if chosen is not None and len(chosen) != len(heading):
        raise bad_file("other_columns", f"the file has {len(heading)} columns, {len(chosen)} were chosen")
    fields = [field_of(column) for column in heading] if chosen is None else list(chosen)
    errors: list[FieldError] = []
    first: dict[str, int] = {}
    for place, (column, field) in enumerate(zip(heading, fields, strict=True)):
        name = column.strip() or f"column {place + 1}"
        if field is None or (field and field_of(field) is None):
            known = ", ".join((*EDITABLE, "id", "metadata.KEY"))
            errors.append(FieldError(name, "unknown_column", f"is not a field of a customer ({known})"))
        elif field and first.setdefault(field, place) != place:
            message = (
                f"is the second column for {field}: columns {first[field] + 1} and {place + 1}; remove one"
            )
            errors.append(FieldError(name, "duplicate_column", message))
    if errors:
        raise BadFile(errors[:ERRORS_MAX])
    return [field or "" for field in fields]
