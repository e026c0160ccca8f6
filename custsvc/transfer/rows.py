"""The rows of a file to import, NDJSON or CSV, read line by line.

A row that cannot be read is an error of that row, with its line, field and value; reading goes on. An error
of the whole file (an unknown column, a quote that swallows rows, too many rows, a line cut off) ends the
reading. Every line is counted: it is part of a row, part of the heading, or empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import IO, Final, Literal

from ..domain.strict_json import DuplicateKey, parse_json
from .cells import Table, fields_of
from .lines import Lines, is_cut_off
from .row import Row, RowError, Tally, bad_file, shown

Format = Literal["csv", "ndjson"]
ROWS_MAX: Final = 500_000


class Reading(Iterator[Row]):
    """The rows of a file; `lines` counts the lines read so far by kind."""

    def __init__(self, rows: Iterator[Row], lines: Tally, most: int) -> None:
        self.lines = lines
        self._rows = rows
        self._most = most
        self._count = 0

    def __next__(self) -> Row:
        row = next(self._rows)
        self._count += 1
        if self._count > self._most:
            raise bad_file("too_many_rows", f"the file has more than {self._most:,} rows; split it")
        return row


def read(
    source: IO[bytes], fmt: Format, columns: Sequence[str] | None = None, *, most: int = ROWS_MAX
) -> Reading:
    """The rows of a file. `columns` names the field of each CSV column in order, "" for a column to skip.

    Raises ValidationError for an error of the whole file, when the reading reaches it.
    """
    tally = Tally()
    if fmt == "ndjson":
        return Reading(_objects(source, tally), tally, most)
    return Reading(_cells(source, tally, columns), tally, most)


def heading(source: IO[bytes]) -> list[str]:
    """The heading of a CSV file."""
    return Table(source, Tally()).heading


def _cells(source: IO[bytes], tally: Tally, columns: Sequence[str] | None) -> Iterator[Row]:
    table = Table(source, tally)
    yield from table.rows(fields_of(table.heading, columns))


# -- NDJSON ------------------------------------------------------------------------------------------------


def _objects(source: IO[bytes], tally: Tally) -> Iterator[Row]:
    lines = Lines(source)
    for line in lines:
        if not line.strip():
            tally.empty += 1
            continue
        tally.rows += 1
        row = _object(lines.number, line)
        if row.error and is_cut_off(line) and _ends_early(line):
            raise bad_file("cut_off", f"the file ends in the middle of line {row.number}; send all of it")
        yield row


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


def _object(number: int, line: bytes) -> Row:
    try:
        raw = parse_json(line.decode())
    except UnicodeDecodeError:
        return _unread(number, "bad_utf8", "is not UTF-8; save the file as UTF-8", line)
    except DuplicateKey as exc:
        return _unread(number, "duplicate_key", f"has the key {str(exc)!r} twice", line)
    except (ValueError, RecursionError) as exc:
        reason = exc.msg if isinstance(exc, json.JSONDecodeError) else "a number is too big or it is too deep"
        return _unread(number, "bad_json", f"is not JSON: {reason}", line)
    if not isinstance(raw, dict):
        return _unread(number, "not_an_object", "is not a JSON object", line)
    return Row(number, raw)


def _unread(number: int, code: str, message: str, line: bytes) -> Row:
    return Row(number, {}, RowError("", code, message, shown(line.decode("utf-8", "replace").strip())))
