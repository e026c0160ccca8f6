"""The encoding of texts, which must be UTF-8 on both sides of a connection."""

from __future__ import annotations

from typing import Any, Final

from psycopg2 import extensions

from ...errors import Unusable

OURS: Final[dict[str, Any]] = {"client_encoding": "UTF8"}
"""Of a connection: otherwise it is that of the database, or of PGCLIENTENCODING."""


def check(connection: extensions.connection, address: str) -> None:
    """Close the connection and raise ConfigurationError if its database cannot hold every text."""
    name = connection.get_parameter_status("server_encoding")
    if name in (None, "UTF8"):
        return
    connection.close()
    raise Unusable(
        f"the database at {address} is encoded in {name}, which cannot hold every name",
        fix="make one that can, and name it in CUSTSVC_POSTGRES_URL: "
        "CREATE DATABASE custsvc TEMPLATE template0 ENCODING 'UTF8'",
        dependency="postgres",
    )
