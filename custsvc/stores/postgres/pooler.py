"""PostgreSQL behind a pooler that gives each transaction another session, as PgBouncer does.

Nothing lasts there beyond a transaction: no prepared statement, setting, temporary table or session lock. So
each transaction sends its settings along, in the round trip of its first statement, and statements are sent
as text. A pooler is detected by its process id, which is not the server's. A client cannot ask for the
pooler's mode, so all modes are treated alike; statement pooling is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import psycopg2
from psycopg2 import extensions
from psycopg2.sql import SQL, Composed, Literal

from ...errors import Unusable

ISOLATION: Final = "default_transaction_isolation"
_NO_OPTIONS: Final = re.compile(r"unsupported startup parameter")
_WORD: Final = re.compile(r"(?:\\.|\S)+")
_PLACE: Final = re.compile(r"\$(\d+)")


def refuses_options(exc: psycopg2.Error) -> bool:
    """Whether the server at this address refuses settings at connect, which PostgreSQL itself accepts."""
    return bool(_NO_OPTIONS.search(str(exc)))


def no_transactions(address: str) -> Unusable:
    """The error of a pooler that gives each statement another session."""
    return Unusable(
        f"the pooler at {address} hangs up when a transaction begins, as PgBouncer does in statement mode",
        fix="set its pool_mode to transaction, or point CUSTSVC_POSTGRES_URL at PostgreSQL itself",
        dependency="postgres",
    )


def settings_of(options: str) -> dict[str, str]:
    """The settings in libpq's `options`; of two of the same name the later one counts."""
    settings = {}
    words = iter(_WORD.findall(options))
    for word in words:
        if word.startswith("--"):
            given = word[2:]
        elif word.startswith("-c"):
            given = word[2:] or next(words, "")
        else:
            continue
        name, is_set, value = given.partition("=")
        if is_set:
            settings[name.replace("-", "_").lower()] = re.sub(r"\\(.)", r"\1", value)
    return settings


def bringing(settings: Mapping[str, str]) -> Composed:
    """The statements that apply these settings to their transaction, and begin it."""
    each = SQL("set_config({}, {}, true)")
    calls = [each.format(Literal(name), Literal(value)) for name, value in settings.items()]
    bring = SQL("SELECT ") + SQL(", ").join(calls) + SQL("; ")
    if (level := settings.get(ISOLATION)) is None:
        return bring
    # A default is for later transactions. In this one the level must be set before the first SELECT.
    return SQL("SET LOCAL transaction_isolation = {}; ").format(Literal(level)) + bring


class PooledCursor(extensions.cursor):
    """A cursor whose first statement of each transaction brings the connection's settings along."""

    def execute(self, query: Any, vars: Any = None) -> None:
        connection: Any = self.connection
        if connection.get_transaction_status() == extensions.TRANSACTION_STATUS_IDLE:
            query, vars = connection.brings + self.mogrify(query, vars), None
        super().execute(query, vars)


@cache
def as_text(sql: str, types: str) -> str:
    """Turn a statement with `$1` … into one with the driver's placeholders, named by number."""
    names = [each.strip() for each in types.split(",")]
    return _PLACE.sub(lambda found: f"CAST(%({found[1]})s AS {names[int(found[1]) - 1]})", sql)
