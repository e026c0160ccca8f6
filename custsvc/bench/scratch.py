"""Temporary databases and topics for a benchmark, on the user's servers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..config import Backend, Settings
from ..kafka import client as kafka
from ..kafka.topics import ensure_topics
from ..stores import open_store
from . import mongo, postgres


@contextmanager
def databases(settings: Settings, *backends: Backend) -> Iterator[Settings]:
    """Settings with a new, migrated database on each of these backends.

    The database of the settings' backend is a source, the other one a copy without indexes for lists.
    """
    name = f"custsvc_bench_{uuid.uuid4().hex[:12]}"
    made: list[Backend] = []
    try:
        for backend in backends:
            server = postgres if backend == "postgres" else mongo
            url = getattr(settings, f"{backend}_url")
            settings = settings.replace(**{f"{backend}_url": server.create_database(url, name)})
            made.append(backend)
            with open_store(settings, backend) as store:
                store.migrate(lists=backend == settings.backend)
        yield settings
    finally:
        for backend in made:
            server = postgres if backend == "postgres" else mongo
            server.drop_database(getattr(settings, f"{backend}_url"))


@contextmanager
def topics(settings: Settings) -> Iterator[Settings]:
    """Settings with temporary topics."""
    prefix = f"custsvc-bench-{uuid.uuid4().hex[:12]}"
    names = {name: f"{prefix}-{name}" for name in ("updates", "notify", "failed", "dead")}
    settings = settings.replace(**{f"topic_{name}": topic for name, topic in names.items()})
    ensure_topics(settings)
    try:
        yield settings
    finally:
        # Keep the client until the answers are there: its destruction cancels its requests.
        client = kafka.admin(settings)
        for done in client.delete_topics(list(names.values()), request_timeout=60.0).values():
            with suppress(kafka.KafkaException):
                done.result()
