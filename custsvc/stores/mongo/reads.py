"""Secondaries that answer reads. Which one does, the driver chooses at each call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from pymongo.read_preferences import make_read_preference, read_pref_mode_from_name

from ...ports.customers import CustomerStore
from ..common.arrived import arrived
from .answers import MongoAnswers
from .connection import Connection
from .customers import MongoCustomers

# Seconds. The primary can answer instead, so nobody should wait long for a secondary that hangs.
_ANSWER: Final = 5.0
# Seconds behind the primary from which on the driver does not choose a secondary; it allows no fewer.
_STALEST: Final = 90


class MongoReadServer:
    """The port `ReadServer` on MongoDB."""

    def __init__(self, url: str, preference: str) -> None:
        reads = make_read_preference(read_pref_mode_from_name(preference), None, _STALEST)
        self._connection = Connection(url, reads=reads, timeout=_ANSWER)
        self._customers = MongoCustomers(self._connection, MongoAnswers(self._connection))

    @contextmanager
    def reading(self, wanted: Mapping[int, int], patience: float) -> Iterator[CustomerStore | None]:
        if not wanted:
            yield self._customers
            return
        # In such a session each call sees what the calls before it saw, whichever member answers it.
        with (
            self._connection.client.start_session(causal_consistency=True) as session,
            session.bind(end_session=False),
        ):
            yield self._customers if arrived(self._customers, wanted, patience) else None

    def lag(self) -> float:
        """Not measured: the driver itself leaves out a secondary that is far behind."""
        self._customers.get_many([0])
        return 0.0

    def close(self) -> None:
        self._connection.close()
