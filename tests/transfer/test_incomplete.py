"""An export whose database goes away or hangs ends, and its file cannot pass for a complete one."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from custsvc.domain.customers import Fields
from custsvc.errors import ExitCode, TemporaryError
from custsvc.local import ports
from custsvc.ports.store import Store
from custsvc.service.customers import Caller, CustomerService
from custsvc.stores.postgres import connection as postgres
from custsvc.transfer import export
from custsvc.transfer.seed import seed_customers
from tests.addresses import through
from tests.chaos.faultproxy import FaultProxy
from tests.sizes import on_one
from tests.waiting import until


@pytest.fixture
def environ(backend: str, database_url: str, proxy: FaultProxy) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CUSTSVC_")}
    # MongoDB's driver would look for a server that is gone for all of this, at each of five tries.
    soon = {"timeoutMS": "3000"} if backend == "mongo" else {}
    return kept | {
        "CUSTSVC_BACKEND": backend,
        f"CUSTSVC_{backend.upper()}_URL": through(database_url, proxy.port, **soon),
        "CUSTSVC_LOCAL": "never",
    }


@pytest.fixture
def port(environ: dict[str, str], tmp_path: Path) -> Iterator[int]:
    port = ports.choose()
    command = [sys.executable, "-m", "custsvc", "serve", "--port", str(port), "--workers", "1"]
    with (tmp_path / "serve.log").open("wb") as log:
        process = subprocess.Popen([*command, "--auth", "off"], env=environ, cwd=tmp_path, stderr=log)
        try:
            _wait(port, tmp_path / "serve.log")
            yield port
        finally:
            process.terminate()
            process.wait(60)


def _wait(port: int, log: Path) -> None:
    def lives() -> bool:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            connection.request("GET", "/livez")
            with connection.getresponse() as answer:
                return answer.status == 200

    until(f"serve starts; its log is {log}", lives, despite=(OSError, http.client.HTTPException))


@on_one("postgres")
def test_a_client_sees_that_an_export_was_cut_off(port: int, store: Store, proxy: FaultProxy) -> None:
    """In CSV and NDJSON nothing but the broken connection tells."""
    # More than all buffers on the way hold: 12 MB, as few big customers, which are soon stored.
    big, caller = Fields("Ann", metadata={f"k{n}": "x" * 240 for n in range(50)}), Caller("test", "r1")
    for _ in range(1000):
        CustomerService(store.customers).create(big, caller)
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=180)) as connection:
        connection.request("GET", "/api/customers/export?format=ndjson")
        with connection.getresponse() as answer:
            assert (answer.status, len(answer.read(1000))) == (200, 1000)

            proxy.shut()
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                while answer.read(1 << 16):
                    pass


@on_one("postgres")
def test_a_file_gets_its_name_when_it_is_whole(
    environ: dict[str, str], store: Store, proxy: FaultProxy, tmp_path: Path
) -> None:
    seed_customers(store.customers, 3000, 1)
    file = tmp_path / "out.csv"
    command = [sys.executable, "-m", "custsvc", "export", "out.csv", "--backend", store.name]
    whole = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, check=False)
    assert whole.returncode == ExitCode.OK
    before = file.read_bytes()
    assert before.count(b"\n") == 3001

    proxy.slow(300_000)
    cut = subprocess.Popen(command, env=environ, cwd=tmp_path, stderr=subprocess.DEVNULL)
    part = tmp_path / "out.csv.part"
    until("it writes", lambda: part.exists() and part.stat().st_size, every=0.02)
    assert cut.poll() is None
    proxy.shut()
    cut.wait(300)

    assert cut.returncode == ExitCode.UNREACHABLE
    assert file.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir() if "out" in each.name] == ["out.csv"]


def test_a_database_that_hangs_ends_an_export(
    proxied: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "ANSWER_TIMEOUT", 2.0)
    monkeypatch.setattr(export, "_PATIENCE", 1.0)
    seed_customers(proxied.customers, 1000, 1)
    parts = export.export(proxied.customers, "ndjson")
    next(parts)

    proxy.blackhole("requests", "replies")
    with pytest.raises(TemporaryError):
        list(parts)

    proxy.heal()
    assert len(list(export.export(proxied.customers, "ndjson"))) == 5
