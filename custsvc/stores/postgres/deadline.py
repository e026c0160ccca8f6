"""A client's own deadline for a statement: a server that hangs does not keep its own.

PostgreSQL ends a statement that takes too long, unless PostgreSQL or the machine it is on hangs; then the
driver waits for its answer for ever, and so does the caller. One thread of the process looks at the
statements that are under way, and shuts the connection of one that is overdue: the driver sees a lost
connection.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from psycopg2 import extensions

logger = logging.getLogger(__name__)

_LOOK_EVERY: Final = 0.5
_GONE: Final = (0.0, -1)


class Deadlines:
    """The statements that are under way in this process."""

    def __init__(self) -> None:
        # By statement, when it is overdue and on which socket it waits. Whoever pops an entry decides.
        self._waiting: dict[object, tuple[float, int]] = {}
        self._lock = threading.Lock()
        self._process = 0

    @contextmanager
    def within(self, connection: extensions.connection, seconds: float) -> Iterator[None]:
        """Shut the connection, should the block not be through in time."""
        if self._process != os.getpid():
            self._start()
        statement = object()
        self._waiting[statement] = (time.monotonic() + seconds, connection.fileno())
        try:
            yield
        finally:
            self._waiting.pop(statement, None)

    def _start(self) -> None:
        with self._lock:
            if self._process != os.getpid():
                self._process = os.getpid()
                self._waiting = {}
                threading.Thread(target=self._watch, name="statement-deadlines", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_EVERY)
            now = time.monotonic()
            for statement, (end, number) in self._waiting.copy().items():
                if end < now and self._waiting.pop(statement, _GONE) is not _GONE:
                    _shut(number)


def _shut(number: int) -> None:
    logger.warning(
        "PostgreSQL does not answer a statement; its connection is closed", extra={"action": "cut"}
    )
    # A copy of the socket's number: closing that one leaves the driver's own alone.
    with suppress(OSError), socket.socket(fileno=os.dup(number)) as copy:
        copy.shutdown(socket.SHUT_RDWR)


deadlines: Final = Deadlines()
