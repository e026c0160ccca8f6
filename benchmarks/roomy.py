"""Servers with room for millions of customers: the embedded ones, with a cache of a chosen size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from custsvc.config import Backend, Settings
from custsvc.local import LocalServers
from custsvc.local.mongod import Mongod
from custsvc.local.postgres import Postgres
from custsvc.local.server import Server

_MONGO_CACHE = "--wiredTigerCacheSizeGB"


def postgres_options(cache_mb: int) -> dict[str, str]:
    """The settings beside those of an embedded PostgreSQL.

    Without autovacuum, which would fall into the turns of one side and not of the other: `grown` does its
    work between them. A checkpoint writes each page whole once more, so they are as far apart as one would
    set them for as much data.
    """
    return {
        "shared_buffers": f"{cache_mb}MB",
        "effective_cache_size": f"{3 * cache_mb}MB",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "15min",
        "autovacuum": "off",
    }


class Roomy(LocalServers):
    """Embedded servers, the databases with a cache of so many megabytes."""

    def __init__(self, folder: Path, names: Sequence[str], cache_mb: int) -> None:
        super().__init__(folder, names=names)
        self._cache_mb = cache_mb

    def _make(self, name: str) -> Server:
        cache_mb = self._cache_mb

        class BigPostgres(Postgres):
            def command(self) -> Sequence[str | Path]:
                options = postgres_options(cache_mb).items()
                return [*super().command(), *(part for k, v in options for part in ("-c", f"{k}={v}"))]

        class BigMongod(Mongod):
            def command(self) -> Sequence[str | Path]:
                command = list(super().command())
                # mongod takes no smaller cache.
                command[command.index(_MONGO_CACHE) + 1] = str(max(0.25, math.floor(cache_mb / 10.24) / 100))
                return command

        kind = {"postgres": BigPostgres, "mongo": BigMongod}.get(name)
        if kind is None:
            return super()._make(name)
        return kind(self.home, self._state(), self._say, self.cancelled)


@contextmanager
def running(folder: Path, backend: Backend, cache_mb: int) -> Iterator[tuple[Settings, int]]:
    """A database server and Kafka within the block: settings for them, and the database's process id."""
    servers = Roomy(folder, [backend, "kafka"], cache_mb)
    env = servers.start()
    try:
        settings = Settings(
            **{f"{backend}_url": env[f"CUSTSVC_{backend.upper()}_URL"]},  # type: ignore[arg-type]
            backend=backend,
            kafka=env["CUSTSVC_KAFKA"],
            data_dir=folder,
            event_format="json",
        )
        yield settings, servers.server(backend).pid or 0
    finally:
        servers.stop()
