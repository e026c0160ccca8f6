"""What clients that send a byte a second cost the others: the p99 of a GET beside 16 of them, at each route.

    custsvc keys create bench --role write          # its key goes into API_KEY
    python benchmarks/dripping.py http://127.0.0.1:8000 [SECONDS]

Each route that takes a body is dripped at twice: signed in and not. The GETs beside it are compared with
those of the same time without anybody dripping, just before; so the ratio is steadier than the times.
"""

from __future__ import annotations

import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection
from typing import Final, NamedTuple
from urllib.parse import urlsplit

SLOW: Final = 16
JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data; boundary=x"


class Route(NamedTuple):
    """A route that takes a body, and the kind of body."""

    method: str
    path: str
    media: str
    size: int


ROUTES: Final = (
    Route("POST", "/api/customers/", JSON, 100_000),
    Route("PUT", "/api/customers/1/", JSON, 100_000),
    Route("PATCH", "/api/customers/1/", JSON, 100_000),
    Route("POST", "/api/customers/batch", JSON, 2_000_000),
    Route("POST", "/api/customers/import", "application/x-ndjson", 2_000_000),
    Route("POST", "/api/customers/1/erase", JSON, 1_000),
    Route("POST", "/ui/sign-in", FORM, 1_000),
    Route("POST", "/ui/customers/new", FORM, 10_000),
    Route("POST", "/ui/import", MULTIPART, 2_000_000),
    Route("POST", "/unsubscribe/none", FORM, 100),
)


@contextmanager
def dripping(host: str, port: int, route: Route, key: str | None) -> Iterator[None]:
    """So many connections in the middle of their body; who is cut off comes again."""
    ended = threading.Event()
    sign = f"Authorization: Bearer {key}\r\n" if key else ""
    head = (
        f"{route.method} {route.path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: {route.media}\r\n"
        f"{sign}Content-Length: {route.size}\r\n\r\n"
    ).encode()

    def drip() -> None:
        while not ended.is_set():
            with suppress(OSError), socket.create_connection((host, port), timeout=30) as connection:
                connection.sendall(head)
                while not ended.wait(1):
                    connection.sendall(b"x")
            ended.wait(0.2)

    with ExitStack() as stack:
        threads = [threading.Thread(target=drip, daemon=True) for _ in range(SLOW)]
        stack.callback(lambda: [thread.join() for thread in threads])
        stack.callback(ended.set)
        for thread in threads:
            thread.start()
        yield


def reads(host: str, port: int, key: str, seconds: float) -> tuple[float, float, int]:
    """p50 and p99 of reading one customer, in ms, and how many failed."""
    took, failed = [], 0
    connection = HTTPConnection(host, port, timeout=30)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.perf_counter()
        connection.request("GET", "/api/customers/1/", headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        answer.read()
        took.append((time.perf_counter() - begun) * 1000)
        failed += answer.status != 200
        time.sleep(0.002)
    return statistics.median(took), statistics.quantiles(took, n=100)[98], failed


def main() -> None:
    """Measure each route, and print a line for each."""
    parts = urlsplit(sys.argv[1])
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 5.0
    key = os.environ["API_KEY"]
    reads(host, port, key, 1)
    _tell("route", "signed in", "p50", "p99", "beside: p50", "p99", "ratio", "failed")
    for route in ROUTES:
        for own in (key, None):
            alone = reads(host, port, key, seconds)
            with dripping(host, port, route, own):
                time.sleep(0.5)
                beside = reads(host, port, key, seconds)
            times = [f"{ms:.2f}" for ms in (*alone[:2], *beside[:2])]
            ratio = f"{beside[1] / alone[1]:.2f}"
            _tell(f"{route.method} {route.path}", "yes" if own else "no", *times, ratio, str(beside[2]))


def _tell(route: str, *cells: str) -> None:
    sys.stdout.write(f"{route:30}" + "".join(f"{cell:>12}" for cell in cells) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
