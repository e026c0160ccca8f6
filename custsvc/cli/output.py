"""Prints results on stdout: a table for people; JSON, NDJSON or CSV for programs."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer

from ..domain.text import as_json
from ..runtime import printable
from ..transfer.sheet import guarded
from .common import say

FORMATS = ("table", "json", "ndjson", "csv")


def checked(fmt: str, allowed: Sequence[str] = FORMATS) -> str:
    """The format, or a usage error that names the allowed ones."""
    if fmt not in allowed:
        raise typer.BadParameter(f"{fmt!r} is not one of {', '.join(allowed)}", param_hint="--output")
    return fmt


def rows(
    fmt: str, columns: Sequence[str], items: Iterable[Mapping[str, Any]], *, empty: str = "nothing to show"
) -> None:
    """Print items that share columns. `empty` says to a person why the list is empty, and what to do then."""
    if fmt == "ndjson":
        for item in items:
            write(as_json(item))
    elif fmt == "json":
        write(as_json(list(items), indent=True))
    elif fmt == "csv":
        out: Any = _OfTerminal() if sys.stdout.isatty() else _OfProgram()
        writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(item.get(name)) for name in columns} for item in items)
    elif found := list(items):
        from . import table

        table.show(columns, found)
    else:
        say(empty)


def one(fmt: str, item: Mapping[str, Any]) -> None:
    """Print one item: in JSON by itself, not as a list."""
    if fmt == "json":
        write(as_json(item, indent=True))
    else:
        rows(fmt, tuple(item), [item])


def _cell(value: Any) -> Any:
    """A CSV cell that no spreadsheet runs as a formula: the values come from outside."""
    return guarded(value) if isinstance(value, str) else value


def write(line: bytes) -> None:
    """Write one line to stdout and flush it, so that the reader of a pipe gets it at once."""
    sys.stdout.buffer.write(for_terminal(line, "json") + b"\n")
    sys.stdout.buffer.flush()


def for_terminal(data: bytes, fmt: str) -> bytes:
    """Bytes for stdout: unchanged for a file or a program, without control characters for a terminal."""
    if not sys.stdout.isatty():
        return data
    text = data.decode("utf-8", "replace")
    return (printable.lines(text) if fmt == "csv" else printable.json_text(text)).encode()


def text(value: str) -> None:
    """Print text that came from outside, without control characters."""
    typer.echo(printable.lines(value))


class _OfTerminal:
    """The file that `csv` writes to if stdout is a terminal."""

    def write(self, line: str) -> int:
        return sys.stdout.write(printable.lines(line))


class _OfProgram:
    """The file that `csv` writes to if stdout is a file or a program: UTF-8 in every locale, as JSON is."""

    def write(self, line: str) -> int:
        return sys.stdout.buffer.write(line.encode())
