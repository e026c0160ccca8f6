"""A doorbell: a process that writes wakes a relay that has nothing to do, with NOTIFY, beside its writes.

NOTIFY within a write would cost writers more than half of their throughput, since transactions with one
commit one after the other. So a thread rings after the commit, at most every 50 ms however many writes there
are. It is a hint: nothing depends on it. A ring that is lost, as behind a pooler or in a crash, costs some
milliseconds until the relay looks by itself.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from contextlib import suppress

import psycopg2

from ...errors import CustsvcError
from .connection import Connection, Connections
from .translate import translated

logger = logging.getLogger(__name__)

_CHANNEL = "custsvc_outbox"
# Seconds between two rings: a relay that has just been woken looks again by itself within this time.
_EVERY = 0.05
# Seconds without a write after which a process gives the connection back.
_LINGER = 60.0
# Seconds before the next try where a ring has failed.
_RETRY = 5.0
# Seconds that closing waits for a ring that hangs.
_PATIENCE = 1.0


def listen(connection: Connection) -> None:
    """Let this connection hear the rings. A pooled one cannot: its session belongs to others too."""
    if not connection.is_pooled:
        with translated(connection), connection.cursor() as cursor:
            cursor.execute(f"LISTEN {_CHANNEL}")


def wait(connection: Connection, seconds: float) -> None:
    """Return when somebody has rung since the call before, or after `seconds`."""
    if connection.is_pooled:
        time.sleep(seconds)
        return
    with translated(connection):
        if not connection.notifies and select.select([connection], [], [], seconds)[0]:
            connection.poll()
        connection.notifies.clear()


class Doorbell:
    """The writers' end."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._lock = threading.Lock()
        self._rung = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        # A fork has none of its parent's threads.
        self._process = os.getpid()

    def ring(self) -> None:
        """Wake the relay soon; to be called after a commit. Neither waits nor raises."""
        if self._rung and self._process == os.getpid():
            return
        with self._lock:
            self._rung = True
            if self._thread is None or self._process != os.getpid():
                self._process = os.getpid()
                self._wake, self._closing = threading.Event(), threading.Event()
                self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
                self._thread.start()
            self._wake.set()

    def close(self) -> None:
        with self._lock:
            thread, self._thread = self._thread, None
            self._closing.set()
            self._wake.set()
        if thread is not None and self._process == os.getpid():
            thread.join(_PATIENCE)

    def _run(self) -> None:
        connection: Connection | None = None
        while self._goes_on():
            try:
                if connection is None or connection.closed:
                    connection = self._connections.another("custsvc doorbell")
                with translated(connection), connection.cursor() as cursor:
                    # Its commit need not be on disk.
                    cursor.execute(f"SET synchronous_commit = off; NOTIFY {_CHANNEL}")
                self._closing.wait(_EVERY)
            except CustsvcError as exc:
                logger.debug("The doorbell is silent: %s", exc, extra={"action": "doorbell_failed"})
                self._closing.wait(_RETRY)
        if connection is not None:
            with suppress(psycopg2.Error):
                connection.close()

    def _goes_on(self) -> bool:
        """Wait until somebody rings. False if nobody did for long, or it is closed."""
        self._wake.wait(_LINGER)
        with self._lock:
            if self._closing.is_set():
                return False
            if not self._wake.is_set():
                self._thread = None
                return False
            self._wake.clear()
            self._rung = False
            return True
