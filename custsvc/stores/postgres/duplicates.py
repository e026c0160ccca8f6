"""Customers that share something, and dismissed pairs of them, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from psycopg2.extras import execute_values

from ...domain.search import after_prefix
from ...ports.duplicates import Bearer, Key, Kind, Pair, Versions
from ..common.duplicates import number_terms, read_bounded, share_out
from .connection import Connections, Statement

# For each of the texts ($1, with $2 the first text after all that begin with it) some customers ($3).
_FOUND: Final = "SELECT t, c.id, c.version, c.name, c.email, c.phone FROM {texts}, LATERAL ({sought}) AS c"
_ONE: Final = "unnest($1) AS t"
_RANGES: Final = "unnest($1, $2) AS r (t, e)"
_COLUMNS: Final = "SELECT id, version, name, email, phone FROM customer"
# In the order of an index: the planner would read the table in any order until it has found enough.
_NAME: Final = "coalesce(name_key, '') COLLATE \"C\""
_EMAIL: Final = "coalesce(email, '') COLLATE \"C\""


def _between(key: str) -> str:
    return f"{_COLUMNS} WHERE {key} >= t AND {key} < e AND NOT deleted ORDER BY {key}, id LIMIT $3"


# Of any of the numbers at once: each search by terms reads the index's whole list of pending entries first.
_OF_NUMBERS: Final = Statement("bearers_of_numbers", "text, integer", "SELECT * FROM custsvc_bearers($1, $2)")
_BEARERS: Final[dict[Kind, Statement]] = {
    "email": Statement(
        "bearers_of_email",
        "text[], text[], integer",
        _FOUND.format(
            texts=_ONE,
            sought=f"{_COLUMNS} WHERE custsvc_email_key(email) = t AND email IS NOT NULL AND NOT deleted "
            "ORDER BY custsvc_email_key(email) LIMIT $3",
        ),
    ),
    "mailbox": Statement(
        "bearers_of_mailbox",
        "text[], text[], integer",
        _FOUND.format(texts=_RANGES, sought=_between(_EMAIL)),
    ),
    "name": Statement(
        "bearers_of_name", "text[], text[], integer", _FOUND.format(texts=_RANGES, sought=_between(_NAME))
    ),
    "word": Statement(
        "bearers_of_word",
        "text[], text[], integer",
        _FOUND.format(texts=_ONE, sought="SELECT * FROM custsvc_bearers('''' || t || '''', $3)"),
    ),
}
_DISMISS: Final = """
INSERT INTO dismissed_pair (low, high, low_version, high_version, dismissed_by) VALUES %s
ON CONFLICT (low, high) DO UPDATE SET
    low_version = excluded.low_version, high_version = excluded.high_version,
    dismissed_by = excluded.dismissed_by, dismissed_on = now()
"""
_NOTES: Final = "SELECT low, high, low_version, high_version FROM dismissed_pair"


class PostgresDuplicates:
    """The port `Duplicates` on PostgreSQL."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def bearers(self, keys: Collection[Key], limits: Mapping[Kind, int]) -> dict[Key, list[Bearer]]:
        found: dict[Key, list[Bearer]] = {}
        texts: dict[Kind, list[str]] = {}
        for key in keys:
            texts.setdefault(key.kind, []).append(key.text)
        if numbers := texts.pop("number", []):
            rows = read_bounded(numbers, limits["number"], self._of_numbers)
            with_terms = ((bearer, number_terms(bearer)) for bearer in rows)
            share_out(found, "number", with_terms, numbers, limits["number"])
        for kind, asked in texts.items():
            ends = [after_prefix(text) or text for text in asked]
            for text, *bearer in self._connections.read(_BEARERS[kind], (asked, ends, limits[kind])):
                found.setdefault(Key(kind, text), []).append(Bearer(*bearer))
        return found

    def _of_numbers(self, prefixes: Sequence[str], most: int) -> list[Bearer]:
        query = " | ".join(f"'{prefix}':*" for prefix in prefixes)
        return [Bearer(*row) for row in self._connections.read(_OF_NUMBERS, (query, most))]

    def dismiss(self, pairs: Mapping[Pair, Versions], by: str) -> None:
        rows = [(*pair, *versions, by) for pair, versions in sorted(pairs.items())]
        with self._connections.transaction() as cursor:
            execute_values(cursor, _DISMISS, rows)

    def undismiss(self, pairs: Collection[Pair]) -> int:
        lows, highs = zip(*sorted(pairs), strict=True)
        with self._connections.cursor() as cursor:
            cursor.execute(
                "DELETE FROM dismissed_pair WHERE (low, high) IN (SELECT * FROM unnest(%s, %s))",
                (list(lows), list(highs)),
            )
            return int(cursor.rowcount)

    def dismissed(self, pairs: Collection[Pair]) -> dict[Pair, Versions]:
        if not pairs:
            return {}
        lows, highs = zip(*sorted(pairs), strict=True)
        rows = self._connections.query(
            f"{_NOTES} WHERE (low, high) IN (SELECT * FROM unnest(%s, %s))",  # noqa: S608 - constants
            (list(lows), list(highs)),
        )
        return dict(map(_note, rows))

    def dismissals(self, limit: int, after: Pair | None = None) -> list[tuple[Pair, Versions]]:
        rows = self._connections.query(
            f"{_NOTES} WHERE (low, high) > (%s, %s) ORDER BY low, high LIMIT %s",
            (*(after or (0, 0)), limit),
        )
        return list(map(_note, rows))

    def forget(self, customer_ids: Sequence[int]) -> None:
        with self._connections.cursor() as cursor:
            cursor.execute(
                "DELETE FROM dismissed_pair WHERE low = ANY(%(ids)s) OR high = ANY(%(ids)s)",
                {"ids": list(customer_ids)},
            )


def _note(row: Sequence[int]) -> tuple[Pair, Versions]:
    return Pair(row[0], row[1]), Versions(row[2], row[3])
