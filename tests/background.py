"""Workers beside a test: each in a thread of its process, ended with the block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from custsvc.runtime.loop import Stop


@contextmanager
def in_background(work: Callable[[], None], stop: Stop) -> Iterator[None]:
    """Run a worker in a thread; at the end it is stopped, and what it raised is raised here."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as exc:  # noqa: BLE001 - handed to the test
            raised.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.ask()
        thread.join(120)
    assert not thread.is_alive(), "the worker does not stop"
    if raised:
        raise raised[0]
