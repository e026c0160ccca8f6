"""Clients that send a byte now and then: half of them never finish their head, half never their body."""

from __future__ import annotations

import random
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType

_HEAD = b"POST /api/customers/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
_BODY = b'Content-Length: 1000\r\n\r\n{"name":"'


class SlowClients:
    """N of them while the block runs. One that is cut off connects again."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._sockets = [self._connect(number) for number in range(count)]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> SlowClients:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        for each in self._sockets:
            each.close()

    def _connect(self, number: int) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=60)
        connection.sendall(_HEAD + (_BODY if number % 2 else b"X-Slow: "))
        return connection

    def _run(self) -> None:
        pause = 10 / len(self._sockets)
        while not self._ended.is_set():
            time.sleep(pause)
            number = random.randrange(len(self._sockets))
            try:
                self._sockets[number].sendall(b"x")
            except OSError:
                self._sockets[number].close()
                with suppress(OSError):
                    self._sockets[number] = self._connect(number)
