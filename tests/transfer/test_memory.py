"""Exports and imports of a real server use constant memory for any number of customers."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from custsvc.local import ports
from custsvc.ports.store import Store
from custsvc.transfer.seed import seed_customers
from tests.sizes import on_one
from tests.waiting import until

MB = 2**20


class Server:
    """A `custsvc serve` of one process."""

    def __init__(self, environ: dict[str, str], folder: Path) -> None:
        self.port = ports.choose()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "custsvc", "serve", "--port", str(self.port)),
                *("--workers", "1", "--auth", "off"),
            ],
            env=environ,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def get(self, path: str, seen: Callable[[], None] = lambda: None) -> tuple[int, int]:
        """The status, and the size of the body, which is read as it comes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("GET", path)
        answer, size = connection.getresponse(), 0
        while piece := answer.read(1 << 20):
            size += len(piece)
            seen()
        answer.close()
        connection.close()
        return answer.status, size

    def wait(self) -> None:
        away = (OSError, http.client.HTTPException)
        until("serve starts", lambda: self.get("/livez")[0] == 200, despite=away)

    def rss(self) -> int:
        children = psutil.Process(self._process.pid).children()
        return max(int(child.memory_info().rss) for child in children)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)


@pytest.fixture
def server(backend: str, database_url: str, tmp_path: Path) -> Iterator[Server]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CUSTSVC_")}
    environ |= {
        "CUSTSVC_BACKEND": backend,
        f"CUSTSVC_{backend.upper()}_URL": database_url,
        "CUSTSVC_LOCAL": "never",
    }
    server = Server(environ, tmp_path)
    yield server
    server.stop()


def growth(server: Server, path: str) -> tuple[int, int]:
    """The size of an export, and by how much the process grew meanwhile."""
    before = server.rss()
    most = [before]
    status, size = server.get(path, lambda: most.append(server.rss()))
    assert status == 200
    return size, max(most) - before


@on_one("postgres")
def test_an_export_streams(server: Server, store: Store) -> None:
    seed_customers(store.customers, 30_000, 1)
    server.wait()
    server.get("/api/customers/export?format=csv&q=ada")  # what is loaded once is loaded

    for fmt in ("ndjson", "csv"):
        size, grown = growth(server, f"/api/customers/export?format={fmt}")

        assert size > 5_000_000
        assert grown < 15 * MB, grown / MB


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_an_export_of_a_million_grows_by_less_than_thirty_megabytes(server: Server, store: Store) -> None:
    seed_customers(store.customers, 1_000_000, 1)
    server.wait()

    for fmt in ("ndjson", "csv", "json"):
        began = time.monotonic()
        size, grown = growth(server, f"/api/customers/export?format={fmt}")
        print(
            f"{store.name} {fmt}: {size / MB:.0f} MB, +{grown / MB:.1f} MB, {time.monotonic() - began:.0f} s"
        )

        assert size > 150_000_000
        assert grown < 30 * MB, grown / MB
