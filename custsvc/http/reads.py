"""Which server answers a read of the API: the read server if it is fit for it, else the source.

A read server is behind the source by its lag. So a client that must see its own write sends the position of
it, as to a copy: the read server answers if it has that version at once or in a moment, else the source does.
The source is also asked whatever a read server cannot answer, for instance for an unknown customer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from ..errors import ConfigurationError, CustsvcError, TemporaryError
from ..ports.customers import CustomerQuery, CustomerStore, Page
from ..ports.reads import ReadServer
from .problems import Problem

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds to wait for the version that a client asks for: the source has it already.
_PATIENCE: Final = 0.1
_LOOK_EVERY: Final = 1.0


class Reads:
    """The reads of one process. `longest`: the most seconds that a read server may be behind."""

    def __init__(
        self,
        source: CustomerStore,
        server: ReadServer | None,
        longest: float,
        *,
        count: Callable[[str], None],
        note_lag: Callable[[float], None],
    ) -> None:
        """`count` counts a read by who answered it; `note_lag` gets the lag in seconds, -1 if unusable."""
        self._count = count
        self._note_lag = note_lag
        self._source = source
        self._server = server
        self._longest = longest
        self._lock = threading.Lock()
        self._watching: threading.Thread | None = None
        # Why the server is not used; None if it is.
        self._why: str | None = "starting"

    def read(self, wanted: Mapping[int, int], work: Callable[[CustomerStore], T]) -> T:
        """The result of `work`, on customers that are at these versions or later ones."""
        if self._server is None:
            return work(self._source)
        if self._watching is None:
            self._watch(self._server)
        why = self._why
        if why is None:
            try:
                with self._server.reading(wanted, _PATIENCE) as customers:
                    if customers is not None:
                        done = work(customers)
                        self._count("read server")
                        return done
                why = "behind"
            except (TemporaryError, ConfigurationError) as exc:
                self._lost(exc)
                why = "down"
            except (CustsvcError, Problem):
                why = "unknown"
        self._count(f"source: {why}")
        return work(self._source)

    def pages(self) -> CustomerStore:
        """The customers for a walk over pages, each from the server that is fit for it at that time."""
        return _Pages(self) if self._server is not None else self._source  # type: ignore[return-value]

    def _watch(self, server: ReadServer) -> None:
        with self._lock:
            if self._watching is None:
                self._watching = threading.Thread(
                    target=self._look, args=(server,), name="reads", daemon=True
                )
                self._watching.start()

    def _look(self, server: ReadServer) -> None:
        while True:
            try:
                lag = server.lag()
            except CustsvcError as exc:
                self._lost(exc)
            except Exception:  # the process goes on without a read server
                logger.exception("The read server cannot be watched", extra={"action": "read_server"})
                self._why = "down"
                return
            else:
                self._note_lag(lag)
                if lag > self._longest:
                    self._set("lag", "The read server is %.1f s behind, so the source answers all reads", lag)
                elif self._why is not None:
                    self._why = None
                    logger.info("The read server answers reads", extra={"action": "read_server"})
            time.sleep(_LOOK_EVERY)

    def _lost(self, exc: Exception) -> None:
        self._note_lag(-1.0)
        self._set("down", "The read server cannot be used, so the source answers all reads: %s", exc)

    def _set(self, why: str, message: str, *values: Any) -> None:
        if self._why != why:
            self._why = why
            logger.warning(message, *values, extra={"action": "read_server"})


class _Pages:
    """As much of the port `CustomerStore` as an export needs."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    def find(self, query: CustomerQuery) -> Page:
        return self._reads.read({}, lambda customers: customers.find(query))
