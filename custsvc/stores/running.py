"""How a role starts: it opens its database, answers probes, and migrates the schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from ..config import Backend, Settings
from ..ports.store import Store
from ..runtime.loop import Stop
from ..runtime.metrics_server import Checks, Gauges, serving
from ..runtime.tracing import tracing
from . import open_store
from .prepare import Preparing


@contextmanager
def running(
    role: str,
    settings: Settings,
    stop: Stop,
    *,
    backend: Backend | None = None,
    copy: str | None = None,
    lists: bool = True,
    gauges: Callable[[Store], Gauges] = lambda _: dict,
    needs: Checks | None = None,
) -> Iterator[Store | None]:
    """The role's database, ready for work; None if stop was asked before the schema was up to date.

    `backend`, `copy`: as for `open_store`. `lists`: as for `Store.migrate`. `needs`:
    what else `/readyz` asks.
    """
    with tracing(settings, role), open_store(settings, backend, copy) as store:
        schema = Preparing(store, lambda waiting: store.migrate(lists=lists, waiting=waiting), stop)
        checks: Checks = {store.name: partial(store.ping, writing=True), "schema": schema, **(needs or {})}
        with serving(settings, role, checks, gauges(store)):
            yield store if schema.run() else None
