"""An account's permissions in MongoDB, and the MongoDB role that grants exactly what one of ours needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ...ports.rights import Doing, Need, RoleName, by_doings, needs
from .connection import Connection, Document

_NAMES: Final[Mapping[str, str | None]] = {"outbox_cursor": None}
_WORDS: Final[Mapping[Doing, str]] = {
    "read": "find",
    "add": "insert",
    "change": "update",
    "remove": "remove",
}
# A customer carries its last events until the relay puts them into the history. A secret is added by an
# update that inserts, because only an update knows the server's time; it is deleted with its endpoint.
_MORE: Final = {
    "relay": {"customer": "read change", "customer_event": "read add change"},
    "serve": {"webhook_secret": "add change remove"},
}
# At the start we check whether lists have their indexes.
_INDEXES: Final = {"customer": ["listIndexes"]}
# For the change stream that wakes the relay; without it the relay polls.
_WOKEN: Final[RoleName] = "relay"
_CHANGES: Final = ["changeStream", "find"]
_SCHEMA: Final = ("createCollection", "createIndex", "dropIndex", "collMod", "insert", "update")


def _needs(role: RoleName) -> list[Need]:
    return needs(role, names=_NAMES, more=_MORE)


def privileges(role: RoleName, *, database: str = "custsvc") -> list[dict[str, Any]]:
    """The privileges of a role in the form of `createRole`."""
    found = []
    for doings, tables in by_doings(_needs(role)).items():
        for table in tables:
            actions = [*(_WORDS[doing] for doing in doings), *_INDEXES.get(table, ())]
            found.append({"resource": {"db": database, "collection": table}, "actions": actions})
    if role == _WOKEN:
        found.append({"resource": {"db": database, "collection": ""}, "actions": _CHANGES})
    return found


def lacking(connection: Connection, role: RoleName) -> list[str]:
    """The permissions that a role needs and the account lacks: `insert on customer`."""
    name = connection.database.name
    allowed = _allowed(connection)
    if allowed is None:
        return []
    return [
        f"{action} on {each['resource']['collection'] or name}"
        for each in privileges(role, database=name)
        for action in each["actions"]
        if not any(_covers(one, name, each["resource"]["collection"], action) for one in allowed)
    ]


def may_migrate(connection: Connection) -> bool:
    """Whether the account may change the schema."""
    name, allowed = connection.database.name, _allowed(connection)
    return allowed is None or all(
        any(_covers(one, name, "customer", action) for one in allowed) for action in _SCHEMA
    )


def _allowed(connection: Connection) -> list[Document] | None:
    """The account's permissions; None if the server has no access control."""
    with connection.translated():
        answer = connection.database.command({"connectionStatus": 1, "showPrivileges": True})
    info = answer["authInfo"]
    return list(info["authenticatedUserPrivileges"]) if info["authenticatedUsers"] else None


def _covers(allowed: Document, database: str, collection: str, action: str) -> bool:
    resource = allowed["resource"]
    return action in allowed["actions"] and (
        bool(resource.get("anyResource"))
        or (
            resource.get("db") in ("", database)
            and (resource.get("collection") == "" or resource.get("collection") == collection)
        )
    )


def _lines(found: list[dict[str, Any]]) -> Iterator[str]:
    import orjson

    for each in found:
        yield "    " + orjson.dumps(each).decode().replace(":", ": ").replace(",", ", ")


def role_command(role: RoleName, name: str, *, database: str = "custsvc") -> str:
    """The mongosh command that makes a role of this name with exactly the permissions of ours."""
    inner = ",\n".join(_lines(privileges(role, database=database)))
    return f'db.createRole({{"role": "{name}", "roles": [], "privileges": [\n{inner}\n]}})'
