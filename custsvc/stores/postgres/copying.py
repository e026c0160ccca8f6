"""The text format of COPY: how our rows are written in it, fast."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO

NULL = "\\N"


def text(value: str | None) -> str:
    """A value of any characters but NUL."""
    if value is None:
        return NULL
    if "\\" in value:
        value = value.replace("\\", "\\\\")
    if not value.isprintable():
        value = value.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return value


def json(document: bytes) -> str:
    """JSON without white space: it holds no control characters, they are escaped in it."""
    return document.decode().replace("\\", "\\\\")


def lines(rows: Iterable[str]) -> BytesIO:
    """Rows, each with its values joined by tabs and ended, as a file for COPY."""
    # Joined as text, one character from far away would take four bytes for each of all the others.
    return BytesIO(b"".join([row.encode() for row in rows]))
