"""An event loop in a thread of its own, for the servers that tests tell what to do by plain calls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any


class LoopThread:
    """Runs coroutines for other threads. Whoever serves in it closes listeners and connections first."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run `work` in the loop; its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def close(self) -> None:
        """End all tasks and the loop. One left over would fail whichever test Python frees it in."""
        self.call(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(60)
        self.loop.close()

    async def _end(self) -> None:
        await _turns()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await _turns()


async def close_server(server: asyncio.Server) -> None:
    """Take no connection any more. What was accepted has become a connection by then.

    Server.close alone forgets a socket that it accepted in the same turn, and leaves it open (Python 3.11).
    """
    for listening in server.sockets:
        asyncio.get_running_loop().remove_reader(listening.fileno())
    await _turns()
    server.close()


async def _turns() -> None:
    # An accepted socket needs some turns of the loop until its protocol has it, an aborted connection until
    # it is lost. And a task that is cancelled before its first turn closes nothing.
    for _ in range(10):
        await asyncio.sleep(0)
