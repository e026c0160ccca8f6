"""A TCP proxy that fails as networks do: late, slow, silent, cut, or cut right after a certain request.

It runs in a thread of its own and is told what to do by plain calls from any thread. What it holds back in a
black hole is not lost: like TCP it delivers after the hole is healed, unless a side has given up by then.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from tests.loop_thread import LoopThread, close_server

Way = Literal["requests", "replies"]
WAYS: tuple[Way, Way] = ("requests", "replies")

_CHUNK = 1 << 16


@dataclass(eq=False)
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    replies_lost: bool = False
    passed: dict[Way, int] = field(default_factory=lambda: {"requests": 0, "replies": 0})

    def abort(self) -> None:
        for each in (self.client, self.server):
            if each is not None:
                each.transport.abort()


class FaultProxy:
    """A way to `target` on 127.0.0.1:`port`. Without a target (set one later) nobody gets through."""

    def __init__(self, target: tuple[str, int] | None = None) -> None:
        self.target = target
        self.connections = 0
        self.seen_as: list[str] = []  # the addresses that the target sees as its clients
        self._latency = (0.0, 0.0)
        self._rate = 0.0
        self._holes: set[Way] = set()
        self._limit: dict[Way, int] = {}
        self._lose: tuple[Literal["request", "reply"], bytes] = ("reply", b"")
        self.left = 0
        self._open: set[_Connection] = set()
        self._shut_for_good = False
        self._healed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = LoopThread("faultproxy")
        self._server = self._thread.call(asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_CHUNK))
        self.port: int = self._server.sockets[0].getsockname()[1]

    # -- what it is told

    def latency(self, seconds: float, jitter: float = 0.0) -> None:
        """Everything comes this much later, each way."""
        self._latency = (seconds, jitter)

    def slow(self, bytes_per_second: float) -> None:
        """Each connection passes this much, each way; 0 is as fast as it can."""
        self._rate = bytes_per_second

    def reset(self) -> None:
        """Break every connection there is; new ones are welcome."""
        self._thread.call(self._reset())

    def blackhole(self, *ways: Way) -> None:
        """Nothing comes through these ways (both, where none is named) until `heal`."""
        self._holes = set(ways or WAYS)

    def cut_after(self, number: int, way: Way = "requests") -> None:
        """Break each connection, new ones too, once so many bytes of it have passed this way."""
        self._limit = {way: number}

    def lose(self, what: Literal["request", "reply"], pattern: bytes, times: int = 1) -> None:
        """Break the connection at the next requests that hold `pattern`, before or after they are done."""
        self._lose = (what, pattern)
        self.left = times

    def heal(self) -> None:
        """Be an ordinary network again."""
        self._latency, self._rate, self.left = (0.0, 0.0), 0.0, 0
        self._holes, self._limit = set(), {}
        self._thread.call(self._wake())

    def shut(self) -> None:
        """Break every connection and take no new one, for good."""
        self._thread.call(self._shut())
        self._thread.call(asyncio.sleep(0))

    def close(self) -> None:
        self.heal()
        self.shut()
        self._thread.close()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- what it does

    async def _shut(self) -> None:
        # In the loop's thread, as all that touches the server: it counts its connections without a lock.
        self._shut_for_good = True
        await close_server(self._server)
        await self._reset()

    async def _reset(self) -> None:
        for each in list(self._open):
            each.abort()

    async def _wake(self) -> None:
        self._healed.set()
        self._healed = asyncio.Event()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not a coroutine: a task that is cancelled before its first turn would leave the connection open.
        self.connections += 1
        connection = _Connection(writer)
        if self._shut_for_good:
            connection.abort()
            return
        self._open.add(connection)
        task = asyncio.get_running_loop().create_task(self._pass_on(reader, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        try:
            host, port = self.target or ("127.0.0.1", 0)
            from_server, to_server = await asyncio.open_connection(host, port, limit=_CHUNK)
            connection.server = to_server
            self.seen_as.append("{}:{}".format(*to_server.get_extra_info("sockname")))
            await asyncio.gather(
                self._pump("requests", reader, to_server, connection),
                self._pump("replies", from_server, connection.client, connection),
            )
        except OSError:
            pass  # the target takes no connection
        finally:
            self._open.discard(connection)
            connection.abort()

    async def _pump(
        self, way: Way, source: asyncio.StreamReader, sink: asyncio.StreamWriter, connection: _Connection
    ) -> None:
        """Pass one direction on until a side ends, or a fault does."""
        with suppress(OSError):
            while data := await source.read(_CHUNK):
                if not await self._passes(way, data, connection):
                    break
                sink.write(data)
                await sink.drain()
        if connection.replies_lost and way == "requests":
            return
        connection.abort()

    async def _passes(self, way: Way, data: bytes, connection: _Connection) -> bool:
        """Let the faults act on this piece; False where the connection is to break before it."""
        while way in self._holes:
            await self._healed.wait()
        seconds, jitter = self._latency
        if seconds or jitter:
            await asyncio.sleep(max(0.0, seconds + random.uniform(-jitter, jitter)))
        if self._rate:
            await asyncio.sleep(len(data) / self._rate)
        connection.passed[way] += len(data)
        if connection.passed[way] > self._limit.get(way, 1 << 62):
            return False
        what, pattern = self._lose
        if way == "requests" and self.left > 0 and pattern in data:
            self.left -= 1
            if what == "request":
                return False
            connection.replies_lost = True
        return not (way == "replies" and connection.replies_lost)
