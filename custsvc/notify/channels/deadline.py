"""A deadline for a whole call: at its end the connection is cut, whatever comes over it meanwhile.

A timeout of a socket holds for one read only: a receiver that sends a byte now and then would block a caller
for ever.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class Deadline:
    """Cuts the watched connection when the time is over. Used with `with`, once."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        self._changed = threading.Condition()
        self._watched: socket.socket | None = None
        self._is_done = False
        self._thread = threading.Thread(target=self._wait, name="deadline", daemon=True)

    def __enter__(self) -> Deadline:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            self._is_done = True
            self._changed.notify()
        self._thread.join()
        self._unwatch()

    @property
    def left(self) -> float:
        """Seconds until the end, at least 0."""
        return max(0.0, self._ends - time.monotonic())

    @property
    def is_late(self) -> bool:
        """Whether the time is over."""
        return self.left == 0.0

    def shorten(self, seconds: float) -> None:
        """Leave at most so many seconds from now on."""
        with self._changed:
            self._ends = min(self._ends, time.monotonic() + seconds)
            self._changed.notify()

    def watch(self, sock: socket.socket) -> None:
        """Cut this connection at the end, even during its TLS handshake."""
        with self._changed:
            self._unwatch()
            self._watched = socket.socket(fileno=os.dup(sock.fileno()))
            if self.is_late:
                self._cut()

    def within(self, work: Callable[[], T]) -> T:
        """Do work that nothing can cut, in a thread that is left behind at the end. Raises TimeoutError."""
        found: queue.SimpleQueue[tuple[bool, T | BaseException]] = queue.SimpleQueue()

        def do() -> None:
            try:
                found.put((True, work()))
            except BaseException as exc:  # noqa: BLE001 - raised below
                found.put((False, exc))

        threading.Thread(target=do, name="left-behind", daemon=True).start()
        try:
            is_result, result = found.get(timeout=self.left)
        except queue.Empty:
            raise TimeoutError("no result in time") from None
        if not is_result:
            raise result  # type: ignore[misc]
        return result  # type: ignore[return-value]

    def _wait(self) -> None:
        with self._changed:
            while not self._is_done:
                if self.left == 0.0:
                    self._cut()
                    return
                self._changed.wait(self.left)

    def _cut(self) -> None:
        if self._watched is not None:
            with suppress(OSError):
                self._watched.shutdown(socket.SHUT_RDWR)

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._watched.close()
            self._watched = None
