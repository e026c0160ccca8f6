"""A MongoDB for the tests that requires a sign-in."""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from custsvc.local import mongod as embedded
from custsvc.local import ports
from tests.waiting import until

_SECONDS = 120.0
_SMALL = ("--oplogSize", "64", "--wiredTigerCacheSizeGB", "0.25", "--nounixsocket")


class SecureMongo:
    """One node; `client` may do everything."""

    def __init__(self, port: int) -> None:
        self.at = f"{ports.HOST}:{port}"
        self._port = port
        password = secrets.token_hex(8)
        self._as_owner = f"mongodb://owner:{password}@{self.at}/admin?replicaSet=rs0"
        self._wait("it is a replica set", self._initiate)
        self._wait("it has an owner", lambda: self._make_owner(password))
        self.client: MongoClient[dict[str, Any]] = MongoClient(self._as_owner)

    def url(self, user: str, password: str, database: str) -> str:
        return f"mongodb://{user}:{password}@{self.at}/{database}?replicaSet=rs0&authSource={database}"

    def owner_url(self, database: str) -> str:
        """The address of a database for who may do everything."""
        return self._as_owner.replace("/admin?", f"/{database}?authSource=admin&")

    # Until there is a user, who is on this machine may make the first.
    def _initiate(self) -> bool:
        with self._local() as client, suppress(PyMongoError):
            members = [{"_id": 0, "host": self.at}]
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
        with self._local() as client:
            return bool(client.admin.command("hello").get("isWritablePrimary"))

    def _make_owner(self, password: str) -> bool:
        with self._local() as client:
            client.admin.command("createUser", "owner", pwd=password, roles=["root"])
        return True

    def _local(self) -> MongoClient[dict[str, Any]]:
        return MongoClient(ports.HOST, self._port, directConnection=True, serverSelectionTimeoutMS=1000)

    @staticmethod
    def _wait(what: str, done: Callable[[], object]) -> None:
        until(what, done, _SECONDS, despite=PyMongoError)


@contextmanager
def secure_mongo() -> Iterator[SecureMongo]:
    """One that runs within the block."""
    with tempfile.TemporaryDirectory(prefix="custsvc-secure-mongo-") as name:
        folder, port = Path(name), ports.choose()
        key = folder / "key"
        key.write_text(secrets.token_hex(64))
        key.chmod(0o600)
        guarded: list[str | Path] = ["--auth", "--keyFile", key, "--replSet", "rs0", "--bind_ip", ports.HOST]
        command: list[str | Path] = [
            embedded._binary(),
            "--dbpath",
            folder,
            "--port",
            str(port),
            *guarded,
            *_SMALL,
        ]
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            server = SecureMongo(port)
            with server.client:
                yield server
        finally:
            process.kill()
            process.wait()
