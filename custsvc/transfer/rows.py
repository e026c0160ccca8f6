"""The rows of a file that somebody wants imported: NDJSON or CSV, read line by line.

A row that cannot be read is an error of that row, with its line, its field and its value; the others go on.
Only what is wrong with the whole file (a column that nobody knows, too many rows) ends it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final, Literal, NoReturn

from ..customer import EDITABLE, SERVER_OWNED
from ..errors import FieldError, ValidationError
from .sheet import unguarded

Format = Literal["csv", "ndjson"]
ROWS_MAX: Final = 500_000
# A customer is at most some 150 kB; a line that is longer is none.
LINE_MAX: Final = 1_000_000
_SHOWN: Final = 200
METADATA: Final = "metadata."

BadFile = ValidationError


@dataclass(frozen=True, slots=True)
class RowError:
    """What is wrong with a row: the field, a code, a sentence, and the value that it is about."""

    field: str
    code: str
    message: str
    value: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        return {"field": self.field, "code": self.code, "message": self.message, "value": self.value}


def row_error(error: FieldError, raw: Mapping[str, Any]) -> RowError:
    """A field's error with the value that the row gave."""
    found = raw.get(error.field)
    if found is None and error.field.startswith(METADATA) and isinstance(raw.get("metadata"), dict):
        found = raw["metadata"].get(error.field.removeprefix(METADATA))
    return RowError(error.field, error.code, error.message, shown(found))


def shown(value: Any) -> str | None:
    """A value as an error shows it: as JSON but for text, and never long."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the line it begins at, and its fields, or why there are none."""

    number: int
    raw: dict[str, Any]
    error: RowError | None = None


def read(
    source: IO[bytes], fmt: Format, mapping: Mapping[str, str] | None = None, *, most: int = ROWS_MAX
) -> Iterator[Row]:
    """The rows of a file. `mapping` names the field of a column where the heading does not, "" for none.

    Raises ValidationError for what is wrong with the whole file.
    """
    found = _lines(source) if fmt == "ndjson" else _cells(source, mapping or {})
    for count, row in enumerate(found, 1):
        if count > most:
            raise _bad_file("too_many_rows", f"the file has more than {most:,} rows; split it")
        yield row


def _bad_file(code: str, message: str) -> ValidationError:
    return BadFile([FieldError("file", code, message)])


# -- NDJSON ------------------------------------------------------------------------------------------------


def _lines(source: IO[bytes]) -> Iterator[Row]:
    number = 0
    while line := source.readline(LINE_MAX + 1):
        number += 1
        if len(line) > LINE_MAX:
            raise _bad_file("too_long", f"line {number} is longer than {LINE_MAX:,} bytes")
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if text.strip():
            yield _line(number, text)


def _line(number: int, text: bytes) -> Row:
    try:
        raw = json.loads(text.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError:
        return _unread(number, "bad_utf8", "is not UTF-8", text)
    except (ValueError, RecursionError) as exc:
        reason = exc.msg if isinstance(exc, json.JSONDecodeError) else "a number or its depth is not ours"
        return _unread(number, "bad_json", f"is not JSON: {reason}", text)
    if not isinstance(raw, dict):
        return _unread(number, "not_an_object", "is not a JSON object", text)
    return Row(number, raw)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unread(number: int, code: str, message: str, text: bytes) -> Row:
    return Row(number, {}, RowError("", code, message, shown(text.decode("utf-8", "replace").strip())))


# -- CSV ---------------------------------------------------------------------------------------------------


def columns(source: IO[bytes]) -> list[str]:
    """The heading of a CSV file, which is left at its second line."""
    return _heading(source.readline(LINE_MAX))


def _heading(line: bytes) -> list[str]:
    if not line.strip():
        raise _bad_file("no_heading", "the file's first line must name its columns")
    try:
        return next(csv.reader([line.decode("utf-8-sig", "replace")], delimiter=_delimiter(line)))
    except (csv.Error, StopIteration) as exc:
        raise _bad_file("no_heading", f"the file's first line is not CSV ({exc})") from exc


def field_of(column: str) -> str | None:
    """The field that a column of this name is for; None where nobody can tell."""
    name = column.strip()
    if name.startswith(METADATA) and len(name) > len(METADATA):
        return name
    name = name.lower()
    return name if name in EDITABLE or name in SERVER_OWNED else None


def _delimiter(line: bytes) -> str:
    """Spreadsheets write commas, semicolons or tabs, as their country has it."""
    return max(",;\t", key=lambda sign: line.count(sign.encode()))


def _cells(source: IO[bytes], mapping: Mapping[str, str]) -> Iterator[Row]:
    line = source.readline(LINE_MAX)
    fields = _fields(_heading(line), mapping)
    unclosed: Any = _Unclosed(source)
    text = io.TextIOWrapper(unclosed, "utf-8", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=_delimiter(line), strict=True)
    while True:
        number = reader.line_num + 2
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            yield Row(number, {}, RowError("", "bad_csv", f"is not CSV: {exc}"))
            continue
        if any(cells):
            yield _cells_row(number, fields, cells)


class _Unclosed(io.BufferedIOBase):
    """A stream that does not close the one it reads when it is dropped."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1, /) -> bytes:
        return self._source.read(size if size > 0 else 65536)

    def read(self, size: int | None = -1, /) -> bytes:
        return self._source.read(-1 if size is None else size)


def _fields(heading: Sequence[str], mapping: Mapping[str, str]) -> list[str]:
    fields: list[str] = []
    errors: list[FieldError] = []
    for column in heading:
        field = mapping.get(column, field_of(column))
        if field is None or (field and field_of(field) is None):
            known = ", ".join((*EDITABLE, "id", "metadata.KEY"))
            errors.append(FieldError(column, "unknown_column", f"is not a field of a customer ({known})"))
        elif field and field in fields:
            errors.append(FieldError(column, "duplicate_column", f"is the second column for {field}"))
        fields.append(field or "")
    if errors:
        raise BadFile(errors)
    return fields


def _cells_row(number: int, fields: Sequence[str], cells: Sequence[str]) -> Row:
    if len(cells) != len(fields):
        message = f"has {len(cells)} cells, the heading has {len(fields)}"
        return Row(number, {}, RowError("", "wrong_number_of_cells", message))
    raw: dict[str, Any] = {}
    for field, cell in zip(fields, cells, strict=True):
        if not field:
            continue
        text = unguarded(cell)
        if field == "metadata" and text:
            try:
                raw[field] = json.loads(text, parse_constant=_no_constant)
            except (ValueError, RecursionError):
                error = RowError(field, "bad_json", "must be a JSON object", shown(text))
                return Row(number, raw, error)
        else:
            raw[field] = text or None
    return Row(number, raw)
