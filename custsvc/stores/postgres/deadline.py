"""A client-side deadline for statements, because a server that hangs does not enforce statement_timeout.

PostgreSQL ends a statement that takes too long, unless PostgreSQL or its machine hangs; then the driver waits
for an answer for ever, and so does the caller. One thread of the process watches the running statements, and
shuts the connection of an overdue one: the driver sees a lost connection.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import suppress
from typing import Final

from psycopg2 import extensions

logger = logging.getLogger(__name__)

_LOOK_EVERY: Final = 0.5
_GONE: Final = (0.0, -1)


class _Within:
    """One running statement."""

    __slots__ = ("_entry", "_waiting")

    def __init__(self, waiting: dict[object, tuple[float, int]], entry: tuple[float, int]) -> None:
        self._waiting = waiting
        self._entry = entry

    def __enter__(self) -> None:
        self._waiting[self] = self._entry

    def __exit__(self, *_: object) -> None:
        self._waiting.pop(self, None)


class Deadlines:
    """The running statements of this process."""

    def __init__(self) -> None:
        # By statement: its deadline and its socket. The thread that pops an entry decides its outcome.
        self._waiting: dict[object, tuple[float, int]] = {}
        self._lock = threading.Lock()
        self._process = 0

    def within(self, connection: extensions.connection, seconds: float) -> _Within:
        """A block that shuts the connection if it does not finish in time."""
        if self._process != os.getpid():
            self._start()
        return _Within(self._waiting, (time.monotonic() + seconds, connection.fileno()))

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
    # A duplicate of the file descriptor: closing it leaves the driver's own open.
    with suppress(OSError), socket.socket(fileno=os.dup(number)) as copy:
        copy.shutdown(socket.SHUT_RDWR)


deadlines: Final = Deadlines()
