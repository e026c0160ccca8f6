"""What this client wrote last, so that a copy can be asked to have it before it answers."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final

# The server takes 100 of them, and no header that is longer than 2 KB.
_MOST: Final = 100
_LONGEST: Final = 2000


class Positions:
    """The versions of the customers that were written last: at most 100 of them, the newest ones.

    `text` can be handed to another process, whose reads then see these writes too (`add`).
    """

    def __init__(self, text: str = "") -> None:
        self._lock = threading.Lock()
        self._versions: dict[int, int] = {}
        self.add(text)

    def add(self, text: str) -> None:
        """Note a position, as `X-Custsvc-Position` gives it: `7-3,9-1`. Raises ValueError."""
        pairs = [part.split("-") for part in text.split(",") if part]
        self.note({int(customer_id): int(version) for customer_id, version in pairs})

    def note(self, versions: Mapping[int, int]) -> None:
        """Note that these customers were written, and are at these versions."""
        with self._lock:
            for customer_id, version in versions.items():
                version = max(version, self._versions.pop(customer_id, 0))
                self._versions[customer_id] = version  # behind all others
            while len(self._versions) > _MOST or len(self._joined()) > _LONGEST:
                del self._versions[next(iter(self._versions))]

    @property
    def text(self) -> str:
        """All of them, as a copy is asked for them; empty where nothing was written."""
        with self._lock:
            return self._joined()

    def of(self, customer_id: int) -> str:
        """That of one customer; empty where it was not written."""
        with self._lock:
            version = self._versions.get(customer_id)
        return f"{customer_id}-{version}" if version else ""

    def _joined(self) -> str:
        return ",".join(f"{customer_id}-{version}" for customer_id, version in self._versions.items())
