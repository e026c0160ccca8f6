"""The connection to MongoDB: one client, durability, transactions, translation of the driver's errors."""

from __future__ import annotations

import logging
import re
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pymongo
from bson import CodecOptions
from bson.errors import BSONError
from pymongo import MongoClient, ReadPreference, ReturnDocument, WriteConcern, errors
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError, ServerSelectionTimeoutError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import _ServerMode

from ...errors import CustsvcError, DataRefused, TemporaryError, Unusable
from .spoken import mismatch

logger = logging.getLogger(__name__)

Document = dict[str, Any]
T = TypeVar("T")

# Seconds. No call blocks an API worker for longer; bulk work and migrations set their own timeout.
CONNECT_TIMEOUT = 3.0
TIMEOUT = 10.0
BULK_TIMEOUT = 55.0  # the server ends a transaction after 60
# For `pymongo.timeout`. None would mean the client's timeout, after which the server aborts an index build.
UNLIMITED = 0.0

# Seconds of inactivity after which a blocking transaction is taken for that of a dead process.
ABANDONED = 2.0
APP = "custsvc"

DURABLE = WriteConcern("majority", j=True)
COMMITTED = ReadConcern("majority")
# A linearizable read: sees all earlier writes, and returns when they are durable. For one document by key.
LATEST = ReadConcern("linearizable")
SNAPSHOT = ReadConcern("snapshot")

# Options of the client; the URL may override them.
_OPTIONS: dict[str, Any] = {
    "appname": APP,
    "connectTimeoutMS": int(CONNECT_TIMEOUT * 1000),
    "serverSelectionTimeoutMS": int(CONNECT_TIMEOUT * 1000),
    "timeoutMS": int(TIMEOUT * 1000),
}

# The errors of a server without replication, and of the driver when the URL names a replica set. Not the
# error that no "replica set members match": then there is no primary at the moment.
_STANDALONE = re.compile(r"Transaction numbers are only allowed|to be a replica set member|named .* 'None'")
# Errors that waiting does not fix: a different set name, an untrusted certificate, a port without TLS.
_MISTAKEN = re.compile(
    r"configured to connect to a replica set named|CERTIFICATE_VERIFY_FAILED|WRONG_VERSION_NUMBER"
    r"|certificate (required|unknown|has expired|verify failed)|unknown ca|(?i:hostname mismatch)"
)
_FIX_TLS = "correct CUSTSVC_MONGO_URL (replicaSet=, tls=, tlsCAFile=, tlsCertificateKeyFile=)"
# Errors of a server that is spoken to by the wrong protocol, and of one that is shutting down.
_HUNG_UP = re.compile(r"connection closed|SSL handshake failed|EOF occurred|Connection reset|Broken pipe")
_NAME_THE_SET = (
    "let CUSTSVC_MONGO_URL name the set, ?replicaSet=name without directConnection: it has a primary"
)
# Also while the driver looks for a server, which it takes for lost after a refused sign-in.
_SIGN_IN = "Authentication failed"
_REFUSED = frozenset({13, 18, 8000})  # Unauthorized, AuthenticationFailed, Atlas's own
_INTERRUPTED = 11601
_BAD_NAME = 73  # InvalidNamespace
# Errors about the server, not the data, so they may be temporary.
# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
_PASSING = frozenset(
    {6, 7, 89, 141, 145, 172, 173, 202, 230, 231, 279, 317, 384, 407, 9001}  # HostUnreachable …: the network
    | {90, 91, 94, 133, 134, 135, 189, 216, 281, 282, 355, 10107, 11600, 11602, 13435, 13436}  # elections
    | {24, 46, 107, 112, 117, 225, 226, 239, 246, 250, 251, 267, 272, 290, 356, 363}  # LockTimeout …
    | {204, 205, 206, 209, 210, 211, 217, 228, 261}  # KeyNotFound, NoSuchSession …: after a restart
    | {43, 50, 136, 143, 175, 221, 237, 262, 286, 314, _INTERRUPTED}  # CursorNotFound, MaxTimeMSExpired …
    | {64, 100, 146, 208, 264, 365, 371, 402, 412, 433, 449, 12586, 12587, 14031}  # OutOfDiskSpace …
    | {63, 149, 150, 203, 249, 343, 358, 391, 406, 13388}  # StaleShardVersion …: shards
)


class Connection:
    """One client for all threads. Nothing is connected before the first call."""

    def __init__(
        self, url: str, suffix: str = "", *, reads: _ServerMode | None = None, timeout: float = TIMEOUT
    ) -> None:
        """`reads`: where to read, in a connection that only reads; else from the primary."""
        self.address = address(url)
        self._url = url
        given = {name.lower() for name in re.findall(r"[?&]([^=&?]+)=", url)}
        options = {name: value for name, value in _OPTIONS.items() if name.lower() not in given}
        options["timeoutMS"] = min(int(timeout * 1000), int(options.get("timeoutMS", timeout * 1000)))
        # Whatever the URL prefers: a secondary is stale, and has no transactions of the primary.
        options |= {"readPreference": "primary", "maxStalenessSeconds": -1, "readPreferenceTags": [""]}
        self._reads = reads
        preference = reads or ReadPreference.PRIMARY
        codec: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=UTC)
        with translated(self.address):
            self.client = _client(url, options)
            self.database: Database[Document] = self.client.get_default_database(
                "custsvc", codec, preference, DURABLE, COMMITTED
            )
            _tell_of_dot(self.address, self.database.name)
            if suffix:
                self.database = self.client.get_database(
                    self.database.name + suffix, codec, preference, DURABLE, COMMITTED
                )

    def __getitem__(self, collection: str) -> Collection[Document]:
        """A collection with durable writes, and reads of committed data from the current primary."""
        return self.database[collection]

    def transaction(self, work: Callable[[ClientSession], T], *, timeout: float = TIMEOUT) -> T:
        """Run `work` in a transaction until it is known to be committed, for at most `timeout` seconds.

        `work` runs again after a write conflict, a lost connection or an abort from outside. If the reply to
        a commit was lost too, it may run although it is already committed, and must recognise its own writes.
        """
        look = time.monotonic() + ABANDONED

        def attempt(session: ClientSession) -> T:
            nonlocal look
            if time.monotonic() > look:
                self._end_abandoned()
                look = time.monotonic() + ABANDONED
            return work(session)

        with self.translated(), pymongo.timeout(timeout), self.client.start_session() as session:
            while True:
                try:
                    return session.with_transaction(attempt, SNAPSHOT, DURABLE)
                except OperationFailure as exc:
                    # Another process aborted it as abandoned: the driver does not retry that.
                    if exc.code != _INTERRUPTED:
                        raise

    def patiently(self, write: Callable[[], T], *, timeout: float = TIMEOUT) -> T:
        """Run one write, for at most `timeout` seconds after abandoned transactions that block it are ended.

        It may run twice, and must recognise its own writes.
        """
        with self.translated():
            try:
                with pymongo.timeout(min(ABANDONED, timeout)):
                    return write()
            except PyMongoError as exc:
                if not exc.timeout and not isinstance(exc, errors.ConnectionFailure):
                    raise
            self._end_abandoned()
            with pymongo.timeout(timeout):
                return write()

    def _end_abandoned(self) -> None:
        """End inactive transactions of ours: those of processes that died in the middle.

        The server would keep their locks for a minute. If such a process lives after all, as after a SIGSTOP,
        it runs its transaction again. Needs only the right to see and end the same user's sessions.
        """
        idle: list[Document] = [
            {"$currentOp": {"allUsers": False, "idleSessions": True}},
            {
                "$match": {
                    "type": "idleSession",
                    "appName": APP,
                    "transaction.timeInactiveMicros": {"$gt": int(ABANDONED * 1e6)},
                }
            },
            {"$project": {"lsid.id": 1}},
        ]
        with suppress(PyMongoError):
            if found := [{"id": each["lsid"]["id"]} for each in self.client.admin.aggregate(idle)]:
                self.client.admin.command("killSessions", found)

    @property
    def encrypted(self) -> bool:
        """Whether the connections are TLS."""
        return self.client.options.pool_options._ssl_context is not None

    def check(self, *, writing: bool = False) -> None:
        """Return when the server answers and can do transactions; with `writing` when it is the primary.

        Raises ConfigurationError for a direct connection to a secondary: it would return stale data.
        """
        with self.translated():
            hello = self.database.command("hello")
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise no_replica_set(f"MongoDB at {self.address}")
        if hello.get("isWritablePrimary"):
            return
        if self.client.options.direct_connection:
            raise Unusable(f"MongoDB at {self.address} is a secondary", fix=_NAME_THE_SET, dependency="mongo")
        if writing:
            raise TemporaryError(f"MongoDB at {self.address} is not the primary", dependency="mongo")

    def keep(self, name: str, value: str) -> str:
        """Store a fact about this database unless `name` exists; return the stored value."""
        with self.translated():
            fact = self["custsvc_meta"].find_one_and_update(
                {"_id": name},
                {"$setOnInsert": {"value": value}},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        return str(fact["value"]) if fact else value

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the driver's errors into ours; fail soon if no server is known.

        With an overall timeout the driver searches for a server until that has passed. So a call without a
        known server searches here first, for a shorter time.
        """
        where = f"MongoDB at {self.address}"
        with translated(where):
            known = self.client.topology_description
            if not (known.has_readable_server(self._reads) if self._reads else known.has_writable_server()):
                self._look_for_server(where)
            yield

    def _look_for_server(self, where: str) -> None:
        try:
            with pymongo.timeout(CONNECT_TIMEOUT):
                self.client.admin.command("ping", read_preference=self._reads)
        except ServerSelectionTimeoutError as exc:
            found = mismatch(self._url) if _HUNG_UP.search(str(exc)) else None
            if found is None:
                raise
            said = f"cannot connect to {where}: {found.reason}"
            if found.is_sure:
                raise Unusable(said, fix=_FIX_TLS, dependency="mongo") from exc
            raise TemporaryError(said, dependency="mongo", fix=_FIX_TLS) from exc

    def close(self) -> None:
        self.client.close()


def _client(url: str, options: Document) -> MongoClient[Document]:
    """A client, not connected yet. An option that the driver would only warn of is an error: tls=ture."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            return MongoClient(url, connect=False, **options)
        except ssl.SSLError as exc:
            reason = f"a file of tlsCAFile= or tlsCertificateKeyFile= holds no certificate, or no key ({exc})"
            raise errors.InvalidURI(reason) from exc
        except (ValueError, UserWarning, OSError) as exc:  # also for a file that cannot be read
            raise errors.InvalidURI(str(exc)) from exc


@contextmanager
def translated(where: str = "MongoDB") -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except PyMongoError as exc:
        raise translate(exc, where) from exc
    except (BSONError, OverflowError, UnicodeError) as exc:
        # The driver refuses these values before it sends them.
        reason = "half a character, too big a number, or more than 16 MB"
        raise DataRefused(f"MongoDB cannot hold this data: {reason}") from exc


def translate(exc: PyMongoError, where: str) -> CustsvcError:
    """Our error for one of the driver's: what failed, and the fix if waiting does not help."""
    reason = _one_line(exc)
    if isinstance(exc, errors.InvalidURI | errors.ConfigurationError):
        return Unusable(
            f"the address of MongoDB is wrong: {reason}",
            fix="correct CUSTSVC_MONGO_URL (mongodb://host:port/database?replicaSet=name)",
            dependency="mongo",
        )
    if "replica set members available for" in reason:
        return Unusable(
            f"{where} is not a replica set, or not the one that its address names",
            fix="start mongod with --replSet rs0 and run rs.initiate(), or correct replicaSet= in its URL",
            dependency="mongo",
        )
    if _STANDALONE.search(reason):
        return no_replica_set(where)
    if (isinstance(exc, OperationFailure) and exc.code in _REFUSED) or _SIGN_IN in reason:
        return Unusable(
            f"{where} refuses: {reason}",
            fix="correct the user and password in CUSTSVC_MONGO_URL, or grant the user what its role needs: "
            "custsvc doctor names it",
            dependency="mongo",
        )
    if isinstance(exc, OperationFailure) and exc.code == _BAD_NAME:
        return Unusable(
            f"{where} has no such database: {reason}",
            fix="give the database in CUSTSVC_MONGO_URL a shorter name",
            dependency="mongo",
        )
    if "hint provided does not correspond" in reason:
        return no_schema()
    if _MISTAKEN.search(reason):
        return Unusable(f"cannot connect to {where} ({reason})", fix=_FIX_TLS, dependency="mongo")
    if "RSGhost" in str(exc):
        return TemporaryError(
            f"{where} waits to be made a replica set", dependency="mongo", fix="run rs.initiate() there"
        )
    if isinstance(exc, ServerSelectionTimeoutError):
        return TemporaryError(
            f"cannot connect to {where} ({reason})",
            dependency="mongo",
            fix="start MongoDB there, or correct CUSTSVC_MONGO_URL"
            + (" (does that port speak TLS?)" if "SSL handshake failed" in reason else ""),
        )
    if not _is_passing(exc):
        # It is logged, so it must not contain values: the message ends with those of the taken key.
        return DataRefused(f"{where} refuses this data: {reason.partition(' dup key')[0]}")
    return TemporaryError(f"{where} failed: {reason}", dependency="mongo")


def _is_passing(exc: PyMongoError) -> bool:
    """Whether the same call may work later, according to the server's error codes, if any."""
    if exc.timeout or not isinstance(exc, OperationFailure):
        return True
    if any(map(exc.has_error_label, ("TransientTransactionError", "RetryableWriteError"))):
        return True
    details = exc.details or {}
    causes = [each.get("code") for each in details.get("writeErrors") or ()]
    causes += [each.get("code") for each in details.get("writeConcernErrors") or ()]
    return _PASSING.issuperset(causes or [exc.code])


def no_replica_set(where: str) -> Unusable:
    """The error of a standalone mongod."""
    return Unusable(
        f"{where} is not a replica set, so it has no transactions",
        fix="start mongod with --replSet rs0 and run rs.initiate()",
        dependency="mongo",
    )


def no_schema() -> Unusable:
    """The error of a database that was never migrated, or that lacks the indexes for lists."""
    return Unusable(
        "the database has no custsvc schema, an older one, or not the indexes of lists",
        fix="custsvc migrate",
        dependency="mongo",
    )


def address(url: str) -> str:
    """`host:port[,host:port]/database` of a URL, without the password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the given URL"
    return f"{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}" or "the given URL"


@cache  # once in a process
def _tell_of_dot(where: str, database: str) -> None:
    """Warn of a name with a dot, which the driver cuts off. No error: installations have their data there."""
    named = where.partition("/")[2]
    if named.partition(".")[0] == database != named:
        logger.warning(
            "CUSTSVC_MONGO_URL names the database %s, but a dot ends such a name: %s is used; write that",
            named,
            database,
            extra={"action": "database_name"},
        )


def make_collection(database: Database[Document], name: str) -> None:
    """Make a collection, unless an interrupted migration has made it already."""
    with suppress(errors.CollectionInvalid):
        database.create_collection(name)


def is_duplicate(exc: PyMongoError) -> bool:
    """Whether a write was refused because its key is taken."""
    return getattr(exc, "code", None) == 11000 or (
        isinstance(exc, errors.BulkWriteError)
        and any(error["code"] == 11000 for error in exc.details.get("writeErrors", ()))
    )


def _one_line(exc: PyMongoError) -> str:
    text = str(exc)
    if isinstance(exc, OperationFailure) and exc.details:
        causes = exc.details.get("writeErrors") or [exc.details]
        text = causes[0].get("errmsg") or text
    text = " ".join(text.split())
    return re.split(r", full error| \(configured timeouts|, Timeout:|, Topology Description", text)[0]
