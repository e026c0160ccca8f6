"""MongoDB only: its replica set names its port."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from custsvc.errors import TemporaryError
from custsvc.local import LocalServers
from custsvc.local.mongod import Mongod
from tests.local.earlier import earlier_version


@contextmanager
def hanging_up_server(port: int) -> Iterator[None]:
    """Something else on this port: it accepts, says nothing and hangs up."""
    with socketserver.TCPServer(("127.0.0.1", port), socketserver.BaseRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield
        server.shutdown()
        thread.join()


def test_a_folder_from_before_there_were_passwords_gets_one_on_another_port_too(folder: Path) -> None:
    with earlier_version():
        bare = LocalServers(folder, names=("mongo",)).start()["CUSTSVC_MONGO_URL"]
    servers = LocalServers(folder, names=("mongo",))
    assert servers.start()["CUSTSVC_MONGO_URL"] == bare  # joined
    with MongoClient[dict[str, Any]](bare) as client:
        client.get_default_database().kept.insert_one({"_id": 1})
    port = servers.server("mongo").port
    servers.stop()

    with hanging_up_server(port):
        url = servers.start()["CUSTSVC_MONGO_URL"]

    assert servers.server("mongo").port != port
    assert "@" in url
    with MongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=60_000) as client:
        assert client.get_default_database().kept.find_one() == {"_id": 1}


def test_neither_a_stale_lock_file_nor_a_lost_password_keeps_it_from_starting(folder: Path) -> None:
    servers = LocalServers(folder, names=("mongo",))
    before = servers.start()["CUSTSVC_MONGO_URL"]
    servers.server("mongo").kill()
    (folder / "mongo/data/mongod.lock").write_text("1\n")
    for secret in ("password", "keyfile"):
        (folder / "mongo" / secret).unlink()

    after = servers.start()["CUSTSVC_MONGO_URL"]

    assert before != after
    with MongoClient[dict[str, Any]](after, serverSelectionTimeoutMS=60_000) as client:
        assert client.get_default_database().list_collection_names() == []
    with MongoClient[dict[str, Any]](before) as client, pytest.raises(OperationFailure, match="Authentic"):
        client.get_default_database().list_collection_names()


def test_a_system_without_its_library_is_told_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = "mongod: error while loading shared libraries: libcurl.so.4: cannot open shared object file"
    monkeypatch.setattr(Mongod, "command", lambda _: ["sh", "-c", f"echo '{missing}' >&2; exit 127"])

    with pytest.raises(TemporaryError, match="MongoDB ended while starting") as refused:
        LocalServers(folder, names=("mongo",)).start()

    assert (refused.value.fix or "").startswith("apt-get install libcurl4 ")
