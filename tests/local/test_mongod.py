"""What is MongoDB's own: its replica set names its port."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from custsvc.local import LocalServers


@contextmanager
def hanging_up_server(port: int) -> Iterator[None]:
    """Something else on this port: it accepts, says nothing and hangs up."""
    with socketserver.TCPServer(("127.0.0.1", port), socketserver.BaseRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield
        server.shutdown()
        thread.join()


def test_on_another_port_the_replica_set_has_its_primary_and_its_data_again(folder: Path) -> None:
    servers = LocalServers(folder, names=("mongo",))
    with MongoClient[dict[str, Any]](servers.start()["CUSTSVC_MONGO_URL"]) as client:
        client.get_default_database().kept.insert_one({"_id": 1})
    port = servers.server("mongo").port
    servers.stop()

    with hanging_up_server(port):
        url = servers.start()["CUSTSVC_MONGO_URL"]

    assert servers.server("mongo").port != port
    with MongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=60_000) as client:
        assert client.get_default_database().kept.find_one() == {"_id": 1}


def test_a_stale_lock_file_does_not_keep_it_from_starting(folder: Path) -> None:
    servers = LocalServers(folder, names=("mongo",))
    servers.start()
    servers.server("mongo").kill()
    (folder / "mongo/data/mongod.lock").write_text("1\n")

    servers.start()

    assert servers.server("mongo").is_running()
