"""The format, encoding and delimiter of a file, found by its content unless the user names them.

A file's name says little: spreadsheets save CSV as `.txt`, and browsers send any file under any type. The
report of an import names the guess, and the user can override it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import IO, Final, Literal, cast, get_args

from ..errors import FieldError, ValidationError
from .encodings import UTF_8, AsUtf8, encoding_of, known, of_mark
from .headings import guessed
from .row import bad_file

Format = Literal["csv", "ndjson", "json", "xlsx", "vcard"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
DELIMITERS: Final = ",;\t|"
# Words for delimiters that are hard to type.
_SPELT: Final = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
_SUFFIXES: Final[dict[str, Format]] = {
    "csv": "csv",
    "tsv": "csv",
    "ndjson": "ndjson",
    "jsonl": "ndjson",
    "xlsx": "xlsx",
    "xlsm": "xlsx",
    "vcf": "vcard",
}
# The signs of the empty rows above a heading: blanks and delimiters.
EMPTY: Final = " \r\n\v\f" + DELIMITERS
# The line that Excel writes above the heading to name the delimiter.
SEPARATOR: Final = re.compile(r'"?sep=([,;\t|])"?\s*')
_HEAD: Final = 4096
# The number of rows by which a delimiter is judged.
_ROWS: Final = 30
_ZIP: Final = b"PK\x03\x04"
_OLE: Final = b"\xd0\xcf\x11\xe0"


@dataclass(frozen=True, slots=True)
class Shape:
    """How to read a file. `delimiter` None: by the heading's first line. `sheet` None: the first one."""

    fmt: Format
    encoding: str = UTF_8
    delimiter: str | None = None
    sheet: str | None = None

    def text(self, source: IO[bytes]) -> IO[bytes]:
        """The file as UTF-8."""
        return source if self.encoding == UTF_8 else cast("IO[bytes]", AsUtf8(source, self.encoding))


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user says about a file; None for what is to be found by its content."""

    fmt: Format | None = None
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None

    @classmethod
    def of(
        cls,
        fmt: str | None = None,
        encoding: str | None = None,
        delimiter: str | None = None,
        sheet: str | None = None,
    ) -> Asked:
        """Check the values. Raises ValidationError that names the wrong ones."""
        wrong = []
        if fmt is not None and fmt not in FORMATS:
            wrong.append(FieldError("format", "bad_value", f"must be one of {', '.join(FORMATS)}"))
        name = known(encoding) if encoding is not None else None
        if encoding is not None and name is None:
            message = "is no encoding of text; utf-8, windows-1252 and utf-16 are some"
            wrong.append(FieldError("encoding", "bad_value", message))
        sign = _SPELT.get(delimiter.lower(), delimiter) if delimiter is not None else None
        if sign is not None and (len(sign) != 1 or not sign.isascii() or sign.isalnum() or sign in '" \r\n'):
            message = "must be one sign, as ; or |, or the word tab"
            wrong.append(FieldError("delimiter", "bad_value", message))
        if wrong:
            raise ValidationError(wrong)
        return cls(cast("Format | None", fmt), name, sign, sheet)


def shape_of(source: IO[bytes], asked: Asked | None = None, name: str = "") -> Shape:
    """The shape of a file. Reads it from its beginning and puts it back there.

    `name` is the file's name, for content that fits several formats. Raises ValidationError for a format that
    cannot be imported.
    """
    asked = asked or Asked()
    source.seek(0)
    head = source.read(_HEAD)
    fmt = asked.fmt or _format(head, name)
    shape = Shape(fmt, asked.encoding or _encoding(source, fmt, head), asked.delimiter, asked.sheet)
    if fmt == "csv" and shape.delimiter is None:
        source.seek(0)
        shape = replace(shape, delimiter=delimiter_of(_first_lines(shape.text(source))))
    source.seek(0)
    return shape


def _format(head: bytes, name: str) -> Format:
    if head.startswith(_ZIP):
        return "xlsx"
    if head.startswith(_OLE):
        message = "is a workbook of Excel's old format (.xls); save it as .xlsx or as CSV"
        raise bad_file("old_workbook", message)
    text = head.decode(of_mark(head) or UTF_8, "replace").lstrip("\ufeff \t\r\n")
    if text[:11].upper() == "BEGIN:VCARD":
        return "vcard"
    suffix = _SUFFIXES.get(name.rpartition(".")[2].lower())
    if suffix in ("csv", "ndjson"):
        return suffix
    if text.startswith("["):
        return "json"
    if text.startswith("{") or suffix:
        return "ndjson"
    return "csv" if name.strip("-") or _is_heading(text) else "ndjson"


def _is_heading(text: str) -> bool:
    """Whether a text begins with a heading that has a known column, or names its delimiter."""
    line = (text.lstrip(EMPTY).splitlines() or [""])[0]
    return bool(SEPARATOR.fullmatch(line)) or any(
        guessed([cell.strip(' "') for cell in re.split(r"[,;\t|]", line)])
    )


def _encoding(source: IO[bytes], fmt: Format, head: bytes) -> str:
    if fmt == "csv" or (fmt == "vcard" and b"\0" not in head):
        source.seek(0)
        return encoding_of(source)
    # JSON is UTF-8; only a mark says otherwise.
    return of_mark(head) or UTF_8 if fmt in ("ndjson", "json", "vcard") else UTF_8


# -- delimiters --------------------------------------------------------------------------------------------


def _first_lines(source: IO[bytes]) -> list[str]:
    text = b""
    while len(text) < 16 * _HEAD and (block := source.read(_HEAD)):
        text += block
    lines = text.decode("utf-8", "replace").removeprefix("\ufeff").splitlines(keepends=True)
    # The last line may be cut off.
    return lines[:-1] if len(text) >= 16 * _HEAD and len(lines) > 1 else lines


def delimiter_of(lines: Sequence[str]) -> str | None:
    """The delimiter with which most rows have as many cells as the heading; None if none splits it."""
    first = next((line for line in lines if line.strip(EMPTY)), "")
    if not first or SEPARATOR.fullmatch(first):
        return None
    found = {sign: _alike(lines, sign) for sign in DELIMITERS}
    best = max(DELIMITERS, key=lambda sign: found[sign])
    return best if found[best][1] > 1 else None


def _alike(lines: Sequence[str], sign: str) -> tuple[float, int]:
    """The share of rows with as many cells as the first one, and the number of its cells."""
    try:
        rows = [row for row in islice(csv.reader(lines, delimiter=sign), _ROWS) if any(map(str.strip, row))]
    except csv.Error:
        rows = []
    if not rows or len(rows[0]) < 2:
        return (0.0, 0)
    return (sum(len(row) == len(rows[0]) for row in rows) / len(rows), len(rows[0]))
