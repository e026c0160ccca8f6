"""The port of a read server: a stand-by of the source, or its secondaries, which answers reads of the API."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from .customers import CustomerStore


class ReadServer(Protocol):
    """A server that follows the source of its own accord, by replication of the database.

    Every method raises TemporaryError when the server is away, ConfigurationError when it is of another
    database.
    """

    def reading(
        self, wanted: Mapping[int, int], patience: float
    ) -> AbstractContextManager[CustomerStore | None]:
        """The customers to read from within the block, none older than these versions.

        None if the server does not have these versions within `patience` seconds. Only the reading methods
        work.
        """

    def lag(self) -> float:
        """By how many seconds it is behind the source, as far as it is known. Call it once a second."""

    def close(self) -> None: ...
