"""Migration files, read as steps.

A line `-- @word` begins a step; the text before the first such line is a transaction.

- `@transaction`: all statements in one transaction, which never waits long for a lock (see `patient`). So it
  must not read or write a table that may be big.
- `@concurrently`: each statement by itself, outside a transaction: CREATE INDEX CONCURRENTLY.
- `@fill`: one statement that fills some rows, repeated until it changes none, each time in its own
  transaction. It selects only unfilled rows, so it resumes where a killed run stopped.
- `@terms`: the same for the terms of customers without terms, which SQL cannot compute. It has no SQL.

`-- @compatible` says that the previous release still works with the schema after this file.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Final, Literal, NamedTuple, cast, get_args

Kind = Literal["transaction", "concurrently", "fill", "terms"]
_MARK: Final = re.compile(r"^-- @(\w++)[^\n]*\n", re.MULTILINE)
_COMMENT: Final = re.compile(r"--[^\n]*")


class Step(NamedTuple):
    """A part of a migration that is done or not done."""

    kind: Kind
    sql: str

    def statements(self) -> list[str]:
        """Its statements, without comments."""
        return [each.strip() for each in _COMMENT.sub("", self.sql).split(";") if each.strip()]


class Migration(NamedTuple):
    """A numbered file."""

    number: int
    name: str
    compatible: bool
    steps: tuple[Step, ...]


@cache
def migrations() -> tuple[Migration, ...]:
    """Every migration there is, in order."""
    folder = files(__package__) / "migrations"
    return tuple(
        read(int(match[1]), entry.name, entry.read_text(encoding="utf-8"))
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if (match := re.fullmatch(r"(\d{4})_\w+\.sql", entry.name))
    )


def read(number: int, name: str, text: str) -> Migration:
    """The migration in a file's text. Raises ValueError for an unknown `-- @word`."""
    first, *rest = _MARK.split(text)
    marks = ["transaction", *rest[::2]]
    if unknown := set(marks) - {"compatible", *get_args(Kind)}:
        raise ValueError(f"{name}: no such step: {', '.join(sorted(unknown))}")
    kind, steps = "transaction", []
    for mark, sql in zip(marks, [first, *rest[1::2]], strict=True):
        kind = kind if mark == "compatible" else mark
        if mark == "terms" or _COMMENT.sub("", sql).strip():
            steps.append(Step(cast(Kind, kind), sql))
    return Migration(number, name, "compatible" in marks, tuple(steps))
