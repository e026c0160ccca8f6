"""A client of an app over a real, empty database, by a transport that can lose requests and answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from custsvc.config import Settings
from custsvc.ports.store import Store
from custsvc.serve import create_app

from .ways import Clock, Faulty, Kind, Scripted, client_of
from .ways import scripted as _scripted


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
def kind(store: Store) -> Kind:
    """Each client over one of the databases: they share all but the sending."""
    return "Client" if store.name == "postgres" else "AsyncClient"


@pytest.fixture
def client(kind: Kind, way: Faulty, clock: Clock) -> Iterator[Any]:
    with client_of(kind, way, clock.retry()) as client:
        yield client


@pytest.fixture(params=["Client", "AsyncClient"])
def scripted(request: pytest.FixtureRequest) -> Iterator[Scripted]:
    """Either client, with answers that are given in turn."""
    with ExitStack() as stack:

        def make(*answers: Any, **options: Any) -> tuple[Any, list[httpx.Request]]:
            client, seen = _scripted(request.param, *answers, **options)
            return stack.enter_context(client), seen

        yield make
