"""The fault proxy causes the faults that it promises; the tests that use it rely on that."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from tests.chaos.faultproxy import FaultProxy
from tests.waiting import until


class Echo:
    """A server that answers with what it was sent, and remembers it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.got = b""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            while data := client.recv(1 << 16):
                self.got += data
                client.sendall(data)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    with closing(Echo()) as echo:
        yield echo


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy(("127.0.0.1", echo.port)) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), 10) as client:
        yield client


def ask(client: socket.socket, text: bytes) -> bytes:
    """The answer to `text`, empty where the connection broke instead."""
    try:
        client.sendall(text)
        return client.recv(1 << 16)
    except OSError:
        return b""


def test_it_passes_everything_on(client: socket.socket) -> None:
    assert [ask(client, text) for text in (b"one", b"two")] == [b"one", b"two"]


def test_latency_is_added_each_way(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.latency(0.1)
    started = time.monotonic()

    assert ask(client, b"late") == b"late"
    assert time.monotonic() - started >= 0.2


def test_a_reset_breaks_open_connections_and_accepts_the_next(
    proxy: FaultProxy, client: socket.socket
) -> None:
    assert ask(client, b"x") == b"x"

    proxy.reset()

    assert ask(client, b"y") == b""
    with socket.create_connection(("127.0.0.1", proxy.port), 10) as another:
        assert ask(another, b"z") == b"z"


@pytest.mark.parametrize(("way", "arrived"), [("requests", b""), ("replies", b"x"), (None, b"")])
def test_a_black_hole_swallows_one_way_or_both_and_gives_it_back_when_healed(
    proxy: FaultProxy, client: socket.socket, echo: Echo, way: str | None, arrived: bytes
) -> None:
    proxy.blackhole(*([way] if way else []))  # type: ignore[arg-type]
    client.settimeout(0.3)

    assert ask(client, b"x") == b""
    until("what is to arrive has arrived", lambda: echo.got == arrived)

    client.settimeout(60)
    proxy.heal()
    assert client.recv(10) == b"x"


def test_a_connection_is_cut_after_so_many_bytes(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.cut_after(10)

    assert ask(client, b"12345") == b"12345"
    assert ask(client, b"678901") == b""


@pytest.mark.parametrize(("what", "arrived"), [("request", b""), ("reply", b"COMMIT")])
def test_a_request_is_lost_before_or_after_it_is_done(
    proxy: FaultProxy, client: socket.socket, echo: Echo, what: str, arrived: bytes
) -> None:
    proxy.lose(what, b"COMMIT")  # type: ignore[arg-type]

    assert ask(client, b"COMMIT") == b""
    assert echo.got == arrived
    assert proxy.left == 0


def test_a_shut_one_takes_nobody(proxy: FaultProxy) -> None:
    proxy.shut()

    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", proxy.port), 1)


def test_a_proxy_that_closes_while_clients_come_leaves_no_connection_open(echo: Echo) -> None:
    """An open one would fail whichever test Python frees it in."""
    for _ in range(6):
        proxy = FaultProxy(("127.0.0.1", echo.port))
        stopped = threading.Event()
        clients = [threading.Thread(target=_come_and_go, args=(proxy.port, stopped)) for _ in range(3)]
        for thread in clients:
            thread.start()
        until("clients have come", lambda proxy=proxy: proxy.connections > 10, every=0.001)
        proxy.close()
        stopped.set()
        for thread in clients:
            thread.join()
    gc.collect()


def _come_and_go(port: int, stopped: threading.Event) -> None:
    while not stopped.is_set():
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 10):
            pass
