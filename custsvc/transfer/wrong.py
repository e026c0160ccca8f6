"""The rows of a file that were not imported, as a file to correct and to import again.

A table comes back as CSV in UTF-8: the cells as they were, and before them a column that says what is wrong,
which an import leaves out. Objects come back as NDJSON, each as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import IO, Final

from . import sheet
from .cells import Table
from .headings import WRONG
from .row import Tally
from .rows import pieces
from .shape import Shape
from .spoilt import unwrapped
from .workbook import Sheet

# The formats whose rows can be given back; a card of a vCard file has no room for what is wrong.
FORMATS: Final = {"csv": "csv", "xlsx": "csv", "json": "ndjson", "ndjson": "ndjson"}
_AT_ONCE: Final = 500


def wrong_rows(
    source: IO[bytes], shape: Shape, fields: Sequence[str] | None, wrong: Mapping[int, str]
) -> Iterator[bytes]:
    """The rows with these numbers, each with what is wrong with it, in parts of the file.

    `fields` are those of the columns of a table, in order.
    """
    if shape.fmt in ("csv", "xlsx"):
        return _table(source, shape, fields or (), wrong)
    return _objects(source, shape, wrong)


def _table(
    source: IO[bytes], shape: Shape, fields: Sequence[str], wrong: Mapping[int, str]
) -> Iterator[bytes]:
    source.seek(0)
    table = (Table if shape.fmt == "csv" else Sheet)(source, Tally(), shape)
    # A spreadsheet that wrote semicolons expects them; the mark tells it that this is UTF-8.
    dialect = sheet.Dialect(shape.delimiter or ",", mark=True)
    yield sheet.heading([WRONG, *table.heading], dialect)
    some: list[list[str]] = []
    for number, cells in table.cells():
        if number in wrong:
            some.append([sheet.guarded(wrong[number]), *_cells(fields, cells)])
        if len(some) == _AT_ONCE:
            yield sheet.written(some, dialect)
            some = []
    yield sheet.written(some, dialect)


def _cells(fields: Sequence[str], cells: Sequence[str]) -> Iterator[str]:
    """The cells of a row, which may be more or fewer than there are columns."""
    for field, cell in zip_longest(fields[: len(cells)], cells, fillvalue=""):
        yield _cell(field, cell)


def _cell(field: str, cell: str) -> str:
    """A cell that import reads as it read this one, and that no spreadsheet runs as a formula."""
    if field == "metadata" and cell.lstrip().startswith("{"):
        return sheet.guarded_json(cell)
    if unwrapped(cell) is not None:  # ="0044", which keeps its zeros
        return cell
    return sheet.guarded(sheet.unguarded(cell))


def _objects(source: IO[bytes], shape: Shape, wrong: Mapping[int, str]) -> Iterator[bytes]:
    source.seek(0)
    for number, piece in pieces(source, shape, Tally()):
        if number in wrong:
            # An object may stand on several lines; its texts hold no line breaks.
            yield b" ".join(piece.splitlines()).strip() + b"\n"
