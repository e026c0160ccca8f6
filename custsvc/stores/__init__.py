"""Opens a database by its name, `postgres` or `mongo`; no other code asks which one it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import BadArgument

if TYPE_CHECKING:
    from ..config import Backend, Settings
    from ..ports.reads import ReadServer
    from ..ports.store import Store


# The names that a copy can have: a part of the name of its schema or database.
COPY_NAME = re.compile(r"[a-z][a-z0-9_]{0,29}")


def open_store(settings: Settings, backend: Backend | None = None, copy: str | None = None) -> Store:
    """The database of these settings, not connected yet; `backend` overrides theirs. The caller closes it.

    A `copy` with its own name has its own place on that server: in PostgreSQL a schema, in MongoDB a
    database. A copy with its backend's name is the database itself.
    """
    # Each driver takes 50 to 250 ms to import, and a role usually needs only one.
    backend = backend or settings.backend
    url = settings.url(backend)
    name = copy if copy != backend else None
    if name is not None and not COPY_NAME.fullmatch(name):
        raise BadArgument(
            f"{name!r} cannot be the name of a copy", fix="use letters a to z, digits and _, at most 30"
        )
    if backend == "postgres":
        from .postgres import PostgresStore

        return PostgresStore(url, schema=f"copy_{name}" if name else None)
    from .mongo import MongoStore

    return MongoStore(url, suffix=f"_copy_{name}" if name else "")


def open_read_server(settings: Settings, store: Store) -> ReadServer | None:
    """The read server of these settings, not connected yet; None without one. `store` is its source."""
    if settings.read_only:
        return None  # a copy answers by itself
    named = settings.postgres_read_url if store.name == "postgres" else settings.mongo_read_preference
    return store.read_server(named) if named not in ("", "primary") else None
