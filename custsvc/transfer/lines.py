"""The lines of a file, ended by LF, CR LF or CR, with or without a byte order mark."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import IO, Final

from .row import bad_file

# A customer has at most about 150 kB; a longer line is not a customer.
LINE_MAX: Final = 1_000_000
_BLOCK: Final = 65536
_END_OF_TEXT: Final = b"\x1a"
_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Lines(Iterator[bytes]):
    """The lines with their line ends. `number` is the number of the last line; the first has number 1.

    Raises ValidationError if the file is not lines of UTF-8.
    """

    def __init__(self, source: IO[bytes]) -> None:
        self.number = 0
        self._pieces = _pieces(source)

    def __next__(self) -> bytes:
        line = next(self._pieces)
        self.number += 1
        if len(line) > LINE_MAX:
            raise bad_file("too_long", f"line {self.number} is longer than {LINE_MAX:,} bytes")
        return _first(line) if self.number == 1 else line


def is_cut_off(line: bytes) -> bool:
    """Whether a line has no line end; only the last line of a file may lack it."""
    return not line.endswith((b"\n", b"\r"))


def _first(line: bytes) -> bytes:
    # Text in UTF-16 begins with its mark, or has a zero byte in its first character.
    if line.startswith(_UTF_16) or b"\0" in line[:2]:
        raise bad_file("bad_utf8", "is not UTF-8, perhaps UTF-16; save it as UTF-8")
    return line.removeprefix(codecs.BOM_UTF8)


def _pieces(source: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while block := source.read(_BLOCK):
        pieces = (rest + block).splitlines(keepends=True)
        # A carriage return at the end of a block may be the first half of CR LF.
        rest = b"" if pieces[-1].endswith(b"\n") else pieces.pop()
        yield from pieces
        if len(rest) > LINE_MAX:
            break
    # The mark that some programs of DOS and Windows put at the end of a text.
    if rest := rest.removesuffix(_END_OF_TEXT):
        yield rest
