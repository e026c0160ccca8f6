"""Tables for people, in the width that there is: prose is folded between its words, nothing is ever cut.

A table that does not fit is turned: each item becomes a block with one line per field. What a person may
want to copy (an id, an address, the name of a topic) always stays in one piece. A pipe and a file have no
width, so that each item is one line there, for `grep`.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final

import orjson
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ..runtime import printable

# Columns between two cells, and the least that prose is folded to.
_GAP: Final = 2
_PROSE: Final = 20

Row = list[str]


class Unbroken(Console):
    """A console that reports a closed pipe as `print` does, instead of ending the process."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Unbroken:
    """Stdout, in colour where a terminal and NO_COLOR let it; no line is broken."""
    return Unbroken(highlight=False, soft_wrap=True)


def show(columns: Sequence[str], items: Iterable[Mapping[str, Any]]) -> None:
    """Print the items, of which each has some of these columns."""
    rows = [["" if item.get(name) is None else _cell(item[name]) for name in columns] for item in items]
    room = _room()
    widths = fitted([list(columns), *rows], room)
    out = console()
    if widths is None:
        for number, row in enumerate(rows):
            _block(out, columns, row, first=number == 0)
        return
    for line in _lines(list(columns), widths, room):
        out.print(Text(line, "bold"))
    for row in rows:
        for line in _lines(row, widths, room):
            out.print(Text(line))


def fitted(rows: Sequence[Row], room: int | None) -> list[int] | None:
    """The width of each column in so much room, or None where the table has to be turned.

    Prose gives way down to its longest word. The last column alone may stand out over the edge, where the
    terminal breaks the line and still knows that it is one.
    """
    cells = list(zip(*rows, strict=True))
    widths = [max(_width(cell) for cell in column) for column in cells]
    if room is None:
        return widths
    least = [
        min(width, max(*map(_longest_word, column), _PROSE))
        for width, column in zip(widths, cells, strict=True)
    ]
    gaps = _GAP * (len(widths) - 1)
    while sum(widths) + gaps > room:
        spare = [width - small for width, small in zip(widths, least, strict=True)]
        if not any(spare):
            return widths if sum(widths[:-1]) + gaps + _PROSE <= room else None
        widths[spare.index(max(spare))] -= 1
    return widths


def _lines(row: Row, widths: Sequence[int], room: int | None) -> list[str]:
    """A row as lines: each cell folded to its column."""
    parts = [
        (cell.splitlines() or [""]) if room is None or _longest_word(cell) > width else _folded(cell, width)
        for cell, width in zip(row, widths, strict=True)
    ]
    gap = " " * _GAP
    return [
        gap.join(
            part + " " * (width - cell_len(part)) for part, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in zip_longest(*parts, fillvalue="")
    ]


def _folded(cell: str, width: int) -> list[str]:
    # Wide characters take two columns each: textwrap counts them as one, so give it less room.
    wide = max((cell_len(line) - len(line) for line in cell.splitlines()), default=0)
    return [
        part
        for line in cell.splitlines()
        for part in textwrap.wrap(line, max(1, width - wide), break_long_words=False, break_on_hyphens=False)
    ]


def _block(out: Console, columns: Sequence[str], row: Row, *, first: bool) -> None:
    """One item of a table that was turned; fields without a value are left out."""
    width = max(map(len, columns))
    if not first:
        out.print()
    for name, cell in zip(columns, row, strict=True):
        if cell:
            out.print(Text.assemble((f"{name:{width}}", "bold"), "  ", cell))


def _cell(value: Any) -> str:
    """A value as a person reads it; what is not plain, as JSON."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    plain = value if isinstance(value, str | int | float) else orjson.dumps(value, default=str).decode()
    return printable.lines(str(plain))


def _width(cell: str) -> int:
    return max(map(cell_len, cell.splitlines()), default=0)


def _longest_word(cell: str) -> int:
    return max(map(cell_len, cell.split()), default=0)


def _room() -> int | None:
    """The columns of the terminal, or those that COLUMNS names; None for a pipe or a file."""
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return None
    return shutil.get_terminal_size().columns
