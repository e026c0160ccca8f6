"""Opens a database by its word, `postgres` or `mongo`; nobody else asks which one it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config import Backend, Settings
    from .base import Store


def open_store(settings: Settings, backend: Backend | None = None) -> Store:
    """The database of these settings, not connected yet; `backend` overrides theirs. The caller closes it."""
    # Each driver takes 50 to 250 ms to import, and a role mostly needs one of them.
    backend = backend or settings.backend
    url = settings.url(backend)
    if backend == "postgres":
        from .postgres import PostgresStore

        return PostgresStore(url)
    from .mongo import MongoStore

    return MongoStore(url)
