"""The rows of a file to import, of any format, read row by row.

A row that cannot be read is an error of that row, with its line, field and value; reading goes on. An error
of the whole file (an unknown column, a quote that swallows rows, too many rows, a line cut off) ends the
reading. Every line is counted: it is part of a row, part of the heading, or empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any, Final

from ..domain.strict_json import DuplicateKey, parse_json
from .arrays import elements
from .cells import Table
from .encodings import label
from .headings import Columns, fields_of
from .lines import Lines, is_cut_off
from .record import renamed, undecodable
from .row import METADATA, Row, RowError, Tally, bad_file, shown
from .shape import Format, Shape
from .vcards import Cards
from .workbook import Sheet

__all__ = ["Format", "Look", "Reading", "look", "read"]

ROWS_MAX: Final = 500_000
# The formats that have columns with a heading.
TABLES: Final = ("csv", "xlsx")
# The rows by whose cells a column is judged.
SAMPLE: Final = 50

Chosen = Sequence[str] | Columns | None


@dataclass(slots=True)
class Look:
    """How a file is read: its shape, its columns with their fields, and the cells of its first rows."""

    shape: Shape
    heading: list[str] = field(default_factory=list)
    sample: list[list[str]] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def as_dict(self) -> dict[str, Any]:
        shape = self.shape
        columns = [
            {"column": column, "field": name or None}
            for column, name in zip(self.heading, self.fields, strict=True)
        ]
        return {
            "format": shape.fmt,
            "encoding": label(shape.encoding),
            "delimiter": shape.delimiter,
            "columns": columns,
            "unwrapped": self.tally.unwrapped,
        }


class Reading(Iterator[Row]):
    """The rows of a file; `look` says how it is read, `lines` counts the lines read so far by kind."""

    def __init__(self, rows: Iterator[Row], look: Look, most: int) -> None:
        self.look = look
        self._rows = rows
        self._most = most
        self._count = 0

    @property
    def lines(self) -> Tally:
        return self.look.tally

    def __next__(self) -> Row:
        row = next(self._rows)
        self._count += 1
        if self._count > self._most:
            raise bad_file("too_many_rows", f"the file has more than {self._most:,} rows; split it")
        return row


def read(
    source: IO[bytes], shape: Shape | Format, columns: Chosen = None, *, most: int = ROWS_MAX
) -> Reading:
    """The rows of a file, from its beginning. `columns` says which field each column is.

    Raises ValidationError for an error of the whole file, when the reading reaches it.
    """
    found = Look(Shape(shape) if isinstance(shape, str) else shape)
    if found.shape.fmt in ("ndjson", "json"):
        return Reading(_objects(source, found, columns), found, most)
    if found.shape.fmt == "vcard":
        return Reading(_cards(source, found, columns), found, most)
    return Reading(_cells(source, found, columns), found, most)


def look(source: IO[bytes], shape: Shape) -> Look:
    """The columns of a table and its first rows; nothing of another format. Raises ValidationError."""
    if shape.fmt not in TABLES:
        return Look(shape)
    table = _table(source, Tally(), shape)
    sample = table.sample(SAMPLE)
    return Look(shape, table.heading[: _used(table.heading, sample)], sample)


def _cells(source: IO[bytes], found: Look, columns: Chosen) -> Iterator[Row]:
    table = _table(source, found.tally, found.shape)
    sample = table.sample(SAMPLE)
    if found.shape.fmt == "csv":
        table = _table(source, found.tally, found.shape)  # a stream has been read past its sample
    by_place = isinstance(columns, Columns) and any(name.startswith("#") for name in columns.fields)
    found.heading = table.heading if by_place else table.heading[: _used(table.heading, sample)]
    found.fields = fields_of(found.heading, columns, sample)
    yield from table.rows(found.fields)


def _used(heading: Sequence[str], sample: Sequence[Sequence[str]]) -> int:
    """The number of columns without those at the end that have neither heading nor cells.

    Spreadsheets write a column that was used once. A row that has a cell there nevertheless is an error.
    """
    count = len(heading)
    while count > 1 and not heading[count - 1].strip():
        if any(cell.strip() for row in sample for cell in row[count - 1 : count]):
            break
        count -= 1
    return count


def _table(source: IO[bytes], tally: Tally, shape: Shape) -> Table | Sheet:
    source.seek(0)
    return Table(source, tally, shape) if shape.fmt == "csv" else Sheet(source, tally, shape)


def _cards(source: IO[bytes], found: Look, columns: Chosen) -> Iterator[Row]:
    names = columns.of_keys() if isinstance(columns, Columns) else {}
    others = columns.others if isinstance(columns, Columns) else "metadata"
    cards = Cards(found.shape.text(source), found.tally, found.shape.encoding)
    for row in cards.rows():
        found.heading, found.fields = list(cards.properties), list(cards.properties.values())
        if others == "skip":
            row = replace(row, raw={n: v for n, v in row.raw.items() if not n.startswith(METADATA)})
        yield _renamed(row, names) if names and row.error is None else row


# -- JSON --------------------------------------------------------------------------------------------------


def _objects(source: IO[bytes], found: Look, columns: Chosen) -> Iterator[Row]:
    names = columns.of_keys() if isinstance(columns, Columns) else {}
    for number, piece in pieces(source, found.shape, found.tally):
        row = _object(number, piece, found.shape.encoding)
        if found.shape.fmt == "ndjson" and row.error and is_cut_off(piece) and _ends_early(piece):
            raise bad_file("cut_off", f"the file ends in the middle of line {row.number}; send all of it")
        yield _renamed(row, names) if names and row.error is None else row


def pieces(source: IO[bytes], shape: Shape, tally: Tally) -> Iterator[tuple[int, bytes]]:
    """The text of each object of NDJSON or of a JSON array, with the line at which it begins."""
    text = shape.text(source)
    return _lines(text, tally) if shape.fmt == "ndjson" else elements(text, tally)


def _lines(source: IO[bytes], tally: Tally) -> Iterator[tuple[int, bytes]]:
    lines = Lines(source)
    for line in lines:
        if line.strip():
            tally.rows += 1
            yield lines.number, line
        else:
            tally.empty += 1


def _renamed(row: Row, names: dict[str, str]) -> Row:
    raw = renamed(row.raw, names)
    if isinstance(raw, str):
        return Row(row.number, {}, RowError(raw, "duplicate_key", "is there twice after the mapping"))
    return Row(row.number, raw)


def _ends_early(line: bytes) -> bool:
    """Whether a line that is not JSON is the beginning of a JSON object."""
    text = line.decode(errors="ignore").strip()
    if not text.startswith("{"):
        return False
    try:
        parse_json(text)
    except json.JSONDecodeError as exc:
        return not text.endswith("}") or exc.pos >= len(text) or exc.msg.startswith("Unterminated")
    except (ValueError, RecursionError):
        return False
    return False


def _object(number: int, piece: bytes, encoding: str) -> Row:
    try:
        raw = parse_json(piece.decode())
    except UnicodeDecodeError:
        return Row(number, {}, undecodable(encoding, piece.decode("utf-8", "replace").strip()))
    except DuplicateKey as exc:
        return _unread(number, "duplicate_key", f"has the key {str(exc)!r} twice", piece)
    except (ValueError, RecursionError) as exc:
        reason = exc.msg if isinstance(exc, json.JSONDecodeError) else "a number is too big or it is too deep"
        return _unread(number, "bad_json", f"is not JSON: {reason}", piece)
    if not isinstance(raw, dict):
        return _unread(number, "not_an_object", "is not a JSON object", piece)
    return Row(number, raw)


def _unread(number: int, code: str, message: str, line: bytes) -> Row:
    return Row(number, {}, RowError("", code, message, shown(line.decode("utf-8", "replace").strip())))
