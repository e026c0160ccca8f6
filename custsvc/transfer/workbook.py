"""A sheet of an Excel workbook (.xlsx), read row by row with the values that Excel stored.

A workbook comes from outside: it is a zip file of XML, so its unpacked size is limited before anything is
unpacked, and entities in its XML are refused. Formulas are never run; their last results are read. Excel
stores each number with 15 digits, so a phone number that is displayed as 4.42E+11 is still complete here.
"""

from __future__ import annotations

import datetime as dt
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, Any, Final
from xml.etree.ElementTree import ParseError

from ..runtime.extras import NotInstalled, needs
from .record import row_of
from .row import Row, RowError, Tally, bad_file
from .shape import Shape

# Bytes unpacked: of the whole workbook, and of the texts that its sheets share, which are kept in memory.
UNPACKED_MAX: Final = 256 * 1024 * 1024
TEXTS_MAX: Final = 64 * 1024 * 1024
_PARTS_MAX: Final = 10_000
_ROWS_MAX: Final = 1_048_576
_COLUMNS_MAX: Final = 1_000
# Columns beyond the heading in which a stray cell is noticed.
_STRAY: Final = 20
_BROKEN: Final = (
    *(KeyError, ValueError, IndexError, TypeError, AttributeError, OverflowError, EOFError),
    *(zipfile.BadZipFile, zlib.error, ParseError, NotImplementedError, RuntimeError),
)
_ZEROS: Final = re.compile(r"0{2,30}")


class Sheet:
    """A sheet, read from its beginning. Raises ValidationError for errors of the whole file."""

    def __init__(self, source: IO[bytes], tally: Tally, shape: Shape) -> None:
        _check(source)
        self._tally = tally
        self._book = _open(source)
        self._sheet = self._find(shape.sheet)
        self._number = 0
        self._cells = self._texts(_COLUMNS_MAX)
        self.heading = self._heading()
        self._cells = self._texts(len(self.heading) + _STRAY, self._number + 1)

    def rows(self, fields: Sequence[str]) -> Iterator[Row]:
        """The rows. `fields` names the field of each column in order, "" for a column to skip."""
        width = len(fields)
        for number, cells in self._cells:
            if not any(cells):
                self._tally.empty += 1
                continue
            self._tally.rows += 1
            if len(cells) > width and any(cells[width:]):
                message = f"has more cells than the heading, which has {width}"
                yield Row(number, {}, RowError("", "wrong_number_of_cells", message))
                continue
            padded = [*cells[:width], *[""] * (width - len(cells))]
            yield row_of(number, fields, padded, self._tally)

    def cells(self) -> Iterator[tuple[int, list[str]]]:
        """The cells of every row, with its number: as many as the heading has, or more."""
        width = len(self.heading)
        for number, cells in self._cells:
            is_longer = any(cells[width:])
            yield number, cells if is_longer else [*cells[:width], *[""] * (width - len(cells))]

    def sample(self, count: int) -> list[list[str]]:
        """The cells of the first rows below the heading."""
        found: list[list[str]] = []
        for _, cells in self._texts(len(self.heading), self._number + 1):
            if any(cells):
                found.append(cells)
            if len(found) == count:
                break
        return found

    def _find(self, name: str | None) -> Any:
        sheets = self._book.worksheets
        if name is not None:
            for sheet in sheets:
                if sheet.title == name:
                    return sheet
            names = ", ".join(sheet.title for sheet in sheets[:20])
            raise bad_file("unknown_sheet", f"has no sheet {name!r}; it has {names}")
        for sheet in sheets:
            self._sheet = sheet
            if sheet.sheet_state == "visible" and any(any(cells) for _, cells in self._texts(_COLUMNS_MAX)):
                return sheet
        raise bad_file("no_heading", "has no sheet whose first row names its columns")

    def _heading(self) -> list[str]:
        for number, cells in self._cells:
            self._number = number
            if any(cells):
                self._tally.heading = 1
                filled = max(place for place, cell in enumerate(cells) if cell) + 1
                return cells[:filled]
            self._tally.empty += 1
        raise bad_file("no_heading", "the sheet's first row must name its columns")

    def _texts(self, columns: int, first: int = 1) -> Iterator[tuple[int, list[str]]]:
        """The rows as texts, with their numbers. The dimensions that a sheet claims may be wrong."""
        try:
            self._sheet.reset_dimensions()
            rows = self._sheet.iter_rows(min_row=first, max_row=_ROWS_MAX, max_col=columns)
            for number, cells in enumerate(rows, first):
                yield number, [_text(cell) for cell in cells]
        except _BROKEN as exc:
            raise _broken(exc) from exc


def _check(source: IO[bytes]) -> None:
    """Refuse what is no workbook, or is too big unpacked. Unpacks nothing."""
    try:
        parts = zipfile.ZipFile(source).infolist()
    except _BROKEN as exc:
        raise _broken(exc) from exc
    size = {part.filename: part.file_size for part in parts}
    if "xl/workbook.xml" not in size:
        raise bad_file("bad_workbook", "is a zip file and no .xlsx workbook; save it as .xlsx or CSV")
    if len(parts) > _PARTS_MAX or sum(size.values()) > UNPACKED_MAX:
        message = f"is a workbook of more than {UNPACKED_MAX // 2**20} MB unpacked; save it as CSV"
        raise bad_file("too_large", message)
    if size.get("xl/sharedStrings.xml", 0) > TEXTS_MAX:
        message = f"is a workbook with more than {TEXTS_MAX // 2**20} MB of texts; save it as CSV"
        raise bad_file("too_large", message)


def _open(source: IO[bytes]) -> Any:
    try:
        with needs("xlsx"):
            import defusedxml  # noqa: F401 - openpyxl uses it if it is there
            import openpyxl
    except NotInstalled as exc:
        message = f"is an Excel workbook, and {exc}: {exc.fix}; or save it as CSV"
        raise bad_file("not_installed", message) from exc
    # Such as of extensions that only change the look of a sheet.
    warnings.filterwarnings("ignore", module=r"openpyxl\..*")
    source.seek(0)
    try:
        return openpyxl.load_workbook(source, read_only=True, data_only=True, keep_links=False)
    except _BROKEN as exc:
        raise _broken(exc) from exc


def _broken(exc: Exception) -> Exception:
    return bad_file("bad_workbook", f"is not a workbook that can be read ({exc!s:.100}); save it as CSV")


def _text(cell: Any) -> str:
    """The value of a cell as text, as the cell of a CSV file would have it, but with all its digits."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return _number(value, cell.number_format)
    if isinstance(value, dt.datetime):
        is_date = value.time() == dt.time()
        return value.date().isoformat() if is_date else value.isoformat(" ", "seconds")
    return str(value)


def _number(value: float, form: str | None) -> str:
    if value != int(value):
        return f"{value:.15g}"
    text = str(int(value))
    # A format such as 00000 displays zeros that are not stored.
    return text.zfill(len(form)) if form and _ZEROS.fullmatch(form) else text
