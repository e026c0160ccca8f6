"""The rows of a file that were not imported, as a file to correct and to import again.

A table comes back as CSV in UTF-8: the cells as they were, and before them a column that says what is wrong,
which an import leaves out. Objects come back as NDJSON, each as it was; vCards as they were, each with a
property that says what is wrong, which an import leaves out too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import dropwhile, zip_longest
from typing import IO, Final

from . import cards, sheet, vcards
from .cells import Table
from .headings import WRONG
from .row import Tally
from .rows import pieces
from .shape import Shape
from .spoilt import unwrapped
from .workbook import Sheet

FORMATS: Final = {"csv": "csv", "xlsx": "csv", "json": "ndjson", "ndjson": "ndjson", "vcard": "vcf"}
"""The format in which the rows of each format come back."""
TYPES: Final = {
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "vcf": "text/vcard; charset=utf-8",
}
"""The content type of each of those."""
_AT_ONCE: Final = 500
# Begin a line that goes on the one before.
_FOLD: Final = (b" ", b"\t")


def wrong_rows(
    source: IO[bytes], shape: Shape, fields: Sequence[str] | None, wrong: Mapping[int, str]
) -> Iterator[bytes]:
    """The rows with these numbers, each with what is wrong with it, in parts of the file.

    `fields` are those of the columns of a table, in order.
    """
    if shape.fmt in ("csv", "xlsx"):
        return _table(source, shape, fields or (), wrong)
    return (_cards if shape.fmt == "vcard" else _objects)(source, shape, wrong)


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


def _cards(source: IO[bytes], shape: Shape, wrong: Mapping[int, str]) -> Iterator[bytes]:
    source.seek(0)
    for number, lines in vcards.pieces(shape.text(source), Tally()):
        if number in wrong:
            ended = [line if line.endswith((b"\n", b"\r")) else line + b"\r\n" for line in lines]
            yield b"".join(_marked(ended, wrong[number]) if len(ended) > 1 else ended)


def _marked(lines: list[bytes], text: str) -> list[bytes]:
    """A card with a property that says so, in the place of the one that it was given back with before.

    None is added where a line behind it would go on that property.
    """
    place = 2 if lines[1].upper().startswith(b"VERSION:") else 1
    rest = lines[place:]
    if rest[0].upper().startswith(vcards.WRONG.encode()):
        rest = list(dropwhile(lambda line: line[:1] in _FOLD, rest[1:]))
    if rest[0][:1] in _FOLD or rest[0].strip().upper() == vcards.BEGIN:
        return lines
    return [*lines[:place], cards.written(vcards.WRONG, text), *rest]


def _objects(source: IO[bytes], shape: Shape, wrong: Mapping[int, str]) -> Iterator[bytes]:
    source.seek(0)
    for number, piece in pieces(source, shape, Tally()):
        if number in wrong:
            # An object may stand on several lines; its texts hold no line breaks.
            yield b" ".join(piece.splitlines()).strip() + b"\n"
