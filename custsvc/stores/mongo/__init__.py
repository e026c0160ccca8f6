"""The store in MongoDB: one connection, and every port on it."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Literal

from ...ports.facts import Fact
from ...ports.rights import RoleName
from ...ports.store import Growth, Link
from ...ports.waiting import Waiting
from ..common.errors import wrong_role
from . import growth, rights
from .accounts import MongoSessions, MongoUsers
from .answers import MongoAnswers
from .connection import Connection
from .contents import MongoContents
from .customers import MongoCustomers
from .duplicates import MongoDuplicates
from .endpoints import MongoEndpoints
from .factors import MongoFactors
from .facts import MongoFacts
from .history import MongoHistory
from .keys import MongoKeys
from .ledger import MongoLedger
from .list_indexes import index_lists, missing_indexes
from .outbox import MongoOutbox
from .reads import MongoReadServer
from .recipients import MongoRecipients
from .replica import MongoReplica
from .resets import MongoResets
from .schema import migrate, pending, require_schema
from .shares import MongoShares
from .shelf import MongoShelf
from .views import MongoViews


class MongoStore:
    """The port `Store` on MongoDB."""

    name = "mongo"

    def __init__(self, url: str, *, suffix: str = "") -> None:
        self._url = url
        self._connection = Connection(url, suffix)
        self.answers = MongoAnswers(self._connection)
        self.customers = MongoCustomers(self._connection, self.answers)
        self.duplicates = MongoDuplicates(self._connection, self.customers)
        self.outbox = MongoOutbox(self._connection)
        self.shares = MongoShares(self._connection)
        self.history = MongoHistory(self._connection)
        self.contents = MongoContents(self._connection)
        self.replica = MongoReplica(self._connection)
        self.ledger = MongoLedger(self._connection)
        self.recipients = MongoRecipients(self._connection)
        self.endpoints = MongoEndpoints(self._connection)
        self.keys = MongoKeys(self._connection)
        self.facts = MongoFacts(self._connection)
        self.factors = MongoFactors(self._connection)
        self.resets = MongoResets(self._connection)
        self.users = MongoUsers(self._connection)
        self.sessions = MongoSessions(self._connection)
        self.shelf = MongoShelf(self._connection)
        self.views = MongoViews(self._connection)

    def migrate(self, *, lists: bool = True, waiting: Waiting | None = None) -> list[str]:
        done = migrate(self._connection, lists=lists, waiting=waiting or Waiting())
        if done:
            self.customers.refilling.note_if_over()
        return done

    def index_lists(self, waiting: Waiting | None = None) -> bool:
        return index_lists(self._connection, waiting or Waiting())

    def has_lists(self) -> bool:
        return not missing_indexes(self._connection)

    def refill(self, waiting: Waiting | None = None) -> int:
        return self.customers.refilling.run(waiting or Waiting())

    def pending_migrations(self) -> list[str]:
        return pending(self._connection)

    def clock(self) -> float:
        with self._connection.translated():
            now: dt.datetime = self._connection.database.command("hello")["localTime"]
        return now.replace(tzinfo=dt.UTC).timestamp()

    def claim_role(self, role: Literal["source", "copy"]) -> None:
        self._connection.check()
        # MongoDB makes a collection on the first write to it, but not its indexes.
        require_schema(self._connection)
        is_role = self._connection.keep(Fact.ROLE, role)
        if is_role != role:
            raise wrong_role(self.name, is_role)

    def secret(self) -> bytes:
        return bytes.fromhex(self._connection.keep(Fact.SECRET, secrets.token_hex(32)))

    def ping(self, *, writing: bool = False) -> None:
        self._connection.check(writing=writing)

    def link(self) -> Link:
        return growth.link(self._connection)

    def growth(self) -> Growth:
        return growth.growth(self._connection)

    def lacking(self, role: RoleName) -> list[str]:
        return rights.lacking(self._connection, role)

    def may_migrate(self) -> bool:
        return rights.may_migrate(self._connection)

    def read_server(self, named: str) -> MongoReadServer:
        return MongoReadServer(self._url, named)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> MongoStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
