"""`custsvc.client` while `serve` is killed many times: each call gets its answer, and is done once."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from custsvc.client import Client, Retry
from custsvc.local import ports
from custsvc.ports.customers import CustomerFilter
from custsvc.ports.store import Store
from tests.chaos.roles import Role, serves
from tests.sizes import sizes
from tests.waiting import until


class Writers:
    """Threads that create and change customers, each by its own client, and note what they were told."""

    def __init__(self, url: str, count: int) -> None:
        self._url = url
        self._stop = threading.Event()
        self.versions: dict[int, int] = {}
        self.failed: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(count)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def done(self) -> int:
        return sum(list(self.versions.values()))

    def _run(self, number: int) -> None:
        try:
            with Client(self._url, retry=Retry(within=120, timeout=5)) as client:
                while not self._stop.is_set():
                    made = client.create(f"writer {number}")
                    self.versions[made.id] = made.version
                    for n in range(3):
                        # Without a version, so that only the key keeps it from being done twice.
                        changed = client.update(made.id, {"phone": f"{number} {n}"})
                        self.versions[made.id] = changed.version
        except BaseException as exc:  # noqa: BLE001 - handed to the test
            self.failed.append(exc)


@pytest.mark.slow
@sizes("kills", 2, 60)
def test_nothing_is_done_twice_or_lost_while_the_server_is_killed(
    store: Store, backend: str, database_url: str, tmp_path: Path, kills: int
) -> None:
    port = ports.choose()
    env = {
        f"CUSTSVC_{backend.upper()}_URL": database_url,
        "CUSTSVC_BACKEND": backend,
        "CUSTSVC_LOCAL": "never",
    }
    serve = Role(["serve", "--auth", "off", "--port", str(port)], env, tmp_path / "serve.log")
    try:
        with Writers(f"http://127.0.0.1:{port}", 4) as writers:
            for _ in range(kills):
                serve.start()
                until("the API answers", lambda: serves(port), 60)
                known = writers.done()
                until("writes go on", lambda n=known: writers.done() > n + 20 or writers.failed, 60)
                serve.kill()
                time.sleep(0.2)
            serve.start()
            until("the API answers", lambda: serves(port), 60)
    finally:
        serve.kill()

    assert writers.failed == []
    assert store.customers.count(CustomerFilter("include")) == len(writers.versions)
    for customer_id, version in writers.versions.items():
        stored = store.customers.get(customer_id)
        assert stored is not None
        assert stored.version == version <= 4
