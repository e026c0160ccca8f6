"""A client of an app over a real, empty database, by a transport that can lose requests and answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from custsvc.client import Client
from custsvc.config import Settings
from custsvc.ports.store import Store
from custsvc.serve import create_app

from .ways import URL, Clock, Faulty


@pytest.fixture
def settings(store: Store) -> Settings:
    return Settings(backend=store.name, auth="off")  # type: ignore[arg-type]


@pytest.fixture
def way(settings: Settings, store: Store) -> Faulty:
    return Faulty(create_app(settings, store))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(way: Faulty, clock: Clock) -> Iterator[Client]:
    with Client(URL, transport=way, retry=clock.retry()) as client:
        yield client
