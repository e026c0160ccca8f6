"""CSV files as spreadsheets really write them: their heading, and then their rows.

A row that cannot be read is an error of that row. An unclosed quote is an error of the file: it swallows the
lines after it, so that the rows cannot be told apart. The file is refused with the quote's line.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import IO, Final

from .lines import Lines
from .record import row_of, undecodable
from .row import BadFile, Row, RowError, Tally, bad_file
from .shape import DELIMITERS, EMPTY, SEPARATOR, Shape

_QUOTED: Final = re.compile(rb'"[^"]*"')
_EMPTY: Final = EMPTY.encode()
# The error of Python's reader for a file that ends within quotes.
_ENDED: Final = "unexpected end of data"
_PLAIN: Final = Shape("csv")


class Table:
    """A CSV file, read from its beginning. Raises ValidationError for errors of the whole file."""

    def __init__(self, source: IO[bytes], tally: Tally, shape: Shape = _PLAIN) -> None:
        self._encoding = shape.encoding
        self._lines = Lines(shape.text(source))
        self._tally = tally
        self._number = 0  # of the last line given to the reader
        self._begun = 1
        self._signs: list[int] = []  # the number of delimiters in each line of the current row
        self._read: list[str] = []  # the lines of the current row
        self._is_utf8 = True
        self._width = 0  # of the heading, with columns that are left out
        first, found = self._first()
        self.delimiter = shape.delimiter or found
        texts = self._texts(chain(first, self._lines))
        self._reader = csv.reader(texts, delimiter=self.delimiter, strict=True)
        self.heading = self._heading(first[0])

    def rows(self, fields: Sequence[str]) -> Iterator[Row]:
        """The rows. `fields` names the field of each column in order, "" for a column to skip."""
        for cells in self._each():
            taken = self._number - self._begun + 1
            if isinstance(cells, csv.Error):
                self._tally.rows += 1
                yield self._unread(cells)
            elif any(cell.strip() for cell in cells):
                self._tally.rows += taken
                yield self._row(fields, cells, taken)
            else:
                self._tally.empty += taken

    def cells(self) -> Iterator[tuple[int, list[str]]]:
        """The cells of every row, with its number; of a line that is no CSV what its delimiters part."""
        for found in self._each():
            if isinstance(found, csv.Error):
                yield self._begun, "".join(self._read).rstrip("\r\n").split(self.delimiter)
            else:
                yield self._begun, found

    def _each(self) -> Iterator[list[str] | csv.Error]:
        """The cells of each row, or why it has none."""
        while True:
            self._begun, self._signs, self._read, self._is_utf8 = self._number + 1, [], [], True
            try:
                found: list[str] | csv.Error = next(self._reader)
            except StopIteration:
                return
            except csv.Error as exc:
                found = exc
            yield found

    def sample(self, count: int) -> list[list[str]]:
        """The cells of the next rows, up to a row that cannot be read."""
        found: list[list[str]] = []
        while len(found) < count:
            try:
                cells = next(self._reader)
            except (StopIteration, csv.Error):
                break
            if any(cell.strip() for cell in cells):
                found.append(cells)
        return found

    def _first(self) -> tuple[list[bytes], str]:
        """The heading's first line, with the line after it if that was read too, and the delimiter."""
        line = self._filled()
        if found := SEPARATOR.fullmatch(line.decode("utf-8", "replace")):
            self._number += 1
            return [self._filled()], found[1]
        if not line.endswith(b"\r"):
            return [line], _delimiter(line)
        second = next(self._lines, b"")
        if second.endswith(b"\n") and second.count(b'"') % 2 == 0:
            message = "the file's first line has a carriage return, which ends no other line; remove it"
            raise bad_file("no_heading", message)
        return [line, second], _delimiter(line)

    def _filled(self) -> bytes:
        """The next line that is not empty: spreadsheets write the empty rows above a table too."""
        for line in self._lines:
            if line.strip(_EMPTY):
                return line
            self._number += 1
            self._tally.empty += 1
        return b""

    def _heading(self, first: bytes) -> list[str]:
        if not first.strip():
            raise bad_file("no_heading", "the file's first line must name its columns")
        try:
            heading = next(self._reader)
        except csv.Error as exc:
            raise bad_file("no_heading", f"the file's first line is not CSV ({exc})") from exc
        if not self._is_utf8:
            raise bad_file("bad_utf8", f"the file's first line {undecodable(self._encoding).message}")
        self._tally.heading = self._number - self._tally.empty
        self._width = len(heading)
        return heading

    def _texts(self, lines: Iterator[bytes]) -> Iterator[str]:
        for line in lines:
            self._number += 1
            try:
                text = line.decode()
            except UnicodeDecodeError:
                self._is_utf8 = False
                text = line.decode(errors="surrogateescape")
            self._signs.append(text.count(self.delimiter))
            self._read.append(text)
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
        if not any(cell.strip() for cell in cells[len(fields) :]):
            cells = cells[: len(fields)]
        if taken > 1 and (len(cells) != len(fields) or self._swallows(fields, cells)):
            # The lines within the quotes are probably rows.
            raise self._unclosed()
        if len(cells) != len(fields):
            message = f"has {len(cells)} cells, the heading has {len(fields)}"
            return Row(self._begun, {}, RowError("", "wrong_number_of_cells", message))
        if not self._is_utf8:
            return Row(self._begun, {}, undecodable(self._encoding, " ".join(cells).strip()))
        return row_of(self._begun, fields, cells, self._tally)

    def _swallows(self, fields: Sequence[str], cells: Sequence[str]) -> bool:
        """Whether a cell that must not have a line break has one, and each of its lines looks like a row."""
        alone = len(fields) > 1 and all(count == self._width - 1 for count in self._signs)
        return alone and any(
            "\n" in cell or "\r" in cell
            for field, cell in zip(fields, cells, strict=True)
            if not field.startswith("metadata")
        )


def _delimiter(line: bytes) -> str:
    """The delimiter: spreadsheets write commas, semicolons or tabs, depending on their locale."""
    bare = _QUOTED.sub(b"", line)
    return max(DELIMITERS, key=lambda sign: bare.count(sign.encode()))
