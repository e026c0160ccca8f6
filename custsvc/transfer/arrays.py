"""A JSON array of objects, taken apart element by element, so that memory stays flat."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Final

from ..errors import ValidationError
from .lines import LINE_MAX
from .row import Tally, bad_file

_BLOCK: Final = 1 << 16
_MARK: Final = b"\xef\xbb\xbf"
# What ends the search within a text, outside of texts, and within white space.
_IN_TEXT: Final = re.compile(rb'\\.?|"', re.DOTALL)
_OUTSIDE: Final = re.compile(rb'[\[\]{}",]')
_SIGN: Final = re.compile(rb"[^ \t\r\n]")


def elements(source: IO[bytes], tally: Tally) -> Iterator[tuple[int, bytes]]:
    """The elements with the lines at which they begin. Raises ValidationError where it is no array.

    `tally` counts a line in which an element is as one of rows, one with nothing but signs as heading.
    """
    return _Array(source, tally).elements()


class _Array:
    def __init__(self, source: IO[bytes], tally: Tally) -> None:
        self._source = source
        self._tally = tally
        self._buffer = source.read(_BLOCK).removeprefix(_MARK)
        self._at = 0  # all before it is done with
        self._line = 1
        self._counted = 0  # up to this line all are in the tally

    def elements(self) -> Iterator[tuple[int, bytes]]:
        if self._sign() != b"[":
            raise bad_file("not_an_array", "is not a JSON array of objects")
        self._take(self._at + 1)
        is_empty = self._sign() == b"]"
        while not is_empty:
            self._sign()
            begun, element = self._line, self._element()
            if not element.strip():
                message = f"in line {self._line} an element is missing, or there is a comma too many"
                raise bad_file("bad_json", message)
            self._count(begun, self._line)
            yield begun, element
            sign = self._sign()
            if sign == b"]":
                break
            if sign != b",":
                raise self._cut_off()
            self._take(self._at + 1)
        self._take(self._at + 1)
        self._end()

    def _end(self) -> None:
        last = self._line
        self._tally.heading += last - self._counted
        if self._sign():
            raise bad_file("bad_json", f"in line {self._line} something follows the end of the array")
        self._tally.empty += max(0, self._line - last - 1)

    def _cut_off(self) -> ValidationError:
        return bad_file("cut_off", f"the file ends in the middle of line {self._line}; send all of it")

    def _count(self, begun: int, ended: int) -> None:
        """Count an element's lines, and those between it and the one before."""
        self._tally.heading += max(0, begun - 1 - self._counted)
        self._tally.rows += ended - max(begun - 1, self._counted)
        self._counted = ended

    def _more(self) -> bool:
        block = self._source.read(_BLOCK)
        self._buffer, self._at = self._buffer[self._at :] + block, 0
        return bool(block)

    def _take(self, end: int) -> bytes:
        taken, self._at = self._buffer[self._at : end], end
        self._line += taken.count(b"\n")
        return taken

    def _sign(self) -> bytes:
        """Pass over white space; returns the next sign, which stays. None of them at the end."""
        while (found := _SIGN.search(self._buffer, self._at)) is None:
            self._take(len(self._buffer))
            if not self._more():
                return b""
        self._take(found.start())
        return found[0]

    def _element(self) -> bytes:
        """The text up to the comma or bracket that ends an element."""
        depth, at, in_text = 0, self._at, False
        while True:
            found = (_IN_TEXT if in_text else _OUTSIDE).search(self._buffer, at)
            if found is None or found[0] == b"\\":  # the second half of an escape is still to come
                at = (len(self._buffer) if found is None else found.start()) - self._at
                if at > LINE_MAX:
                    message = f"the element in line {self._line} is longer than {LINE_MAX:,} bytes"
                    raise bad_file("too_long", message)
                if not self._more():
                    raise self._cut_off()
                continue
            sign, at = found[0], found.end()
            if sign == b'"':
                in_text = not in_text
            elif in_text:
                continue
            elif sign in b"[{":
                depth += 1
            elif depth == 0:
                return self._take(found.start())
            elif sign in b"]}":
                depth -= 1
