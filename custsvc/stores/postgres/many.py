"""Statements that store many rows: their parameters are arrays, one for each column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import psycopg2

from ...errors import CustsvcError
from .connection import Connections, Statement
from .translate import ConnectionLost

# Bytes of a customer that is stored alone: it would keep those waiting that are stored with it.
LONG: Final = 32 * 1024


def array_types(types: str) -> str:
    """The types of the arrays of columns of these types."""
    return ", ".join(f"{each.strip()}[]" for each in types.split(","))


def unnested(count: int) -> str:
    """The parameters `$1` … as a table again."""
    return f"unnest({', '.join(f'${number}' for number in range(1, count + 1))})"


def run_many(
    connections: Connections, statement: Statement, rows: Sequence[Sequence[Any]]
) -> list[tuple[Any, ...]] | None:
    """Run a statement for many rows. None if it is refused: then each row must be tried alone."""
    try:
        return connections.run(statement, arrays(rows))
    except ConnectionLost:
        raise
    except (CustsvcError, psycopg2.IntegrityError):
        return None


def arrays(rows: Sequence[Sequence[Any]]) -> list[str]:
    """The columns of these rows, each as PostgreSQL reads an array.

    Not the driver's own arrays: those are expressions of the type text[], which no other array is made from.
    """
    return [f"{{{','.join(_elements(column))}}}" for column in zip(*rows, strict=True)]


def _elements(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        if value is None:
            yield "NULL"
        else:
            text = str(value).replace("\\", "\\\\").replace('"', '\\"')
            yield f'"{text}"'
