"""An account's permissions in PostgreSQL, and the statements that grant a role exactly what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ...ports.rights import Doing, Need, RoleName, by_doings, needs
from .connection import Connections

_NAMES: Final[Mapping[str, str | None]] = {"position": "replica_position", "counter": None}
_WORDS: Final[Mapping[Doing, str]] = {
    "read": "SELECT",
    "add": "INSERT",
    "change": "UPDATE",
    "remove": "DELETE",
}
# Batches use temporary tables.
_TEMPORARY: Final = ("serve", "replicate", "commands")
_IDS: Final = "customer_id_seq"
_SEQUENCE: Final[Mapping[RoleName, str]] = {"serve": "USAGE", "commands": "USAGE, UPDATE"}
_LACKING: Final = """
    SELECT need FROM unnest(%s, %s, %s) AS n (need, name, word)
    WHERE NOT coalesce(CASE WHEN name = 'customer_id_seq'
        THEN has_sequence_privilege(to_regclass(name), word) ELSE has_table_privilege(to_regclass(name), word)
    END, false)
    UNION ALL SELECT 'USAGE on the schema'
    WHERE NOT coalesce(has_schema_privilege(current_schema(), 'USAGE'), false)
    UNION ALL SELECT 'TEMPORARY on the database'
    WHERE %s AND NOT has_database_privilege(current_database(), 'TEMPORARY')
"""
# The owner of the tables may change them.
_MAY_MIGRATE: Final = """
    SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)
        AND coalesce((
            SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('customer')
        ), true)
"""


def _needs(role: RoleName) -> list[Need]:
    return needs(role, names=_NAMES, more={})


def lacking(connections: Connections, role: RoleName) -> list[str]:
    """The permissions that a role needs and the account lacks: `INSERT on customer`."""
    wanted = [(each.table, _WORDS[each.doing]) for each in _needs(role)]
    wanted += [(_IDS, word) for word in _SEQUENCE.get(role, "").split(", ") if word]
    names, words = [list(each) for each in zip(*wanted, strict=True)]
    texts = [f"{word} on {name}" for name, word in wanted]
    with connections.cursor() as cursor:
        cursor.execute(_LACKING, (texts, names, words, role in _TEMPORARY))
        return [need for (need,) in cursor.fetchall()]


def may_migrate(connections: Connections) -> bool:
    """Whether the account may change the schema."""
    with connections.cursor() as cursor:
        cursor.execute(_MAY_MIGRATE)
        (may,) = cursor.fetchone() or (False,)
    return bool(may)


def grants(role: RoleName, account: str, *, database: str = "custsvc", schema: str = "public") -> list[str]:
    """The statements that grant an account exactly what a role needs."""
    found = [f"GRANT USAGE ON SCHEMA {schema} TO {account};"]
    if role in _TEMPORARY:
        found.append(f"GRANT TEMPORARY ON DATABASE {database} TO {account};")
    for doings, tables in by_doings(_needs(role)).items():
        words = ", ".join(_WORDS[doing] for doing in doings)
        found.append(f"GRANT {words} ON {', '.join(tables)} TO {account};")
    if role in _SEQUENCE:
        found.append(f"GRANT {_SEQUENCE[role]} ON SEQUENCE {_IDS} TO {account};")
    return found
