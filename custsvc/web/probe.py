"""Reads positions from Kafka and the copy, on connections that stay open while a page shows them."""

from __future__ import annotations

from ..config import Settings
from ..copies.replicate import group
from ..errors import ConfigurationError
from ..kafka import client as kafka
from ..kafka import offsets
from ..kafka.reader import Reader
from ..ports.store import Store
from ..stores import open_store

_NOTIFY: str = "notify"


class Probe:
    """For one thread. Its creator must close it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.topic_updates
        self._servers = settings.kafka_servers
        self._clients: dict[str, kafka.Consumer] = {}
        self._reader: Reader | None = None
        self._parts: list[int] = []
        self._copy: Store | None = None

    def _client(self, name: str) -> kafka.Consumer:
        if name not in self._clients:
            self._clients[name] = kafka.consumer(self._settings, name)
        return self._clients[name]

    def ends(self) -> dict[int, int]:
        """The end of each partition of the updates topic."""
        if self._reader is None:
            self._reader = Reader(self._settings)
        self._parts = self._reader.partitions()
        return {part: high for part, (_, high) in self._reader.marks(self._parts).items()}

    def copy_positions(self) -> dict[int, int] | None:
        """The positions stored in the copy, else those of its consumer group; None if neither is known."""
        if self._copy is None:
            try:
                self._copy = open_store(self._settings, self._settings.other_backend)
            except ConfigurationError:
                return self._committed(group(self._settings.other_backend)) or None
        return self._copy.replica.positions(self._topic) or None

    def notify_positions(self) -> dict[int, int]:
        return self._committed(_NOTIFY)

    def _committed(self, name: str) -> dict[int, int]:
        if not self._parts:
            return {}
        return offsets.committed(self._client(name), self._topic, self._parts, self._servers)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        if self._reader is not None:
            self._reader.close()
        if self._copy is not None:
            self._copy.close()
