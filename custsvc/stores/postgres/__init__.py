"""The store in PostgreSQL: its connections, and every port on them."""

from __future__ import annotations

import secrets
from typing import Literal

from ...errors import TemporaryError
from ...ports.facts import Fact
from ...ports.rights import RoleName
from ...ports.store import Growth, Link
from ...ports.waiting import Waiting
from ..common.errors import wrong_role
from . import growth, rights
from .accounts import PostgresSessions, PostgresUsers
from .answers import PostgresAnswers
from .connection import Connections
from .contents import PostgresContents
from .customers import PostgresCustomers
from .doorbell import Doorbell
from .duplicates import PostgresDuplicates
from .endpoints import PostgresEndpoints
from .factors import PostgresFactors
from .facts import PostgresFacts
from .history import PostgresHistory
from .keys import PostgresKeys
from .ledger import PostgresLedger
from .outbox import PostgresOutbox
from .reads import PostgresReadServer
from .recipients import PostgresRecipients
from .replica import PostgresReplica
from .resets import PostgresResets
from .schema import has_lists, index_lists, migrate, pending
from .shares import PostgresShares
from .shelf import PostgresShelf
from .views import PostgresViews


class PostgresStore:
    """The port `Store` on PostgreSQL."""

    name = "postgres"

    def __init__(self, url: str, *, schema: str | None = None) -> None:
        self._connections = Connections(url, schema)
        self._doorbell = Doorbell(self._connections)
        self.customers = PostgresCustomers(self._connections, self._doorbell)
        self.duplicates = PostgresDuplicates(self._connections)
        self.outbox = PostgresOutbox(self._connections)
        self.shares = PostgresShares(self._connections)
        self.history = PostgresHistory(self._connections)
        self.contents = PostgresContents(self._connections)
        self.replica = PostgresReplica(self._connections)
        self.ledger = PostgresLedger(self._connections)
        self.recipients = PostgresRecipients(self._connections)
        self.endpoints = PostgresEndpoints(self._connections)
        self.keys = PostgresKeys(self._connections)
        self.facts = PostgresFacts(self._connections)
        self.factors = PostgresFactors(self._connections)
        self.resets = PostgresResets(self._connections)
        self.users = PostgresUsers(self._connections)
        self.sessions = PostgresSessions(self._connections)
        self.shelf = PostgresShelf(self._connections)
        self.views = PostgresViews(self._connections)
        self.answers = PostgresAnswers(self._connections)

    def migrate(self, *, lists: bool = True, waiting: Waiting | None = None) -> list[str]:
        done = migrate(self._connections, lists=lists, waiting=waiting or Waiting())
        if done:
            self.customers.refilling.note_if_over()
        return done

    def index_lists(self, waiting: Waiting | None = None) -> bool:
        return index_lists(self._connections, waiting or Waiting())

    def has_lists(self) -> bool:
        return has_lists(self._connections)

    def refill(self, waiting: Waiting | None = None) -> int:
        return self.customers.refilling.run(waiting or Waiting())

    def pending_migrations(self) -> list[str]:
        return pending(self._connections)

    def clock(self) -> float:
        with self._connections.cursor() as cursor:
            cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
            (now,) = cursor.fetchone() or (0.0,)
        return float(now)

    def claim_role(self, role: Literal["source", "copy"]) -> None:
        is_role = self.facts.keep(Fact.ROLE, role)
        if is_role != role:
            raise wrong_role(self.name, is_role)

    def secret(self) -> bytes:
        return bytes.fromhex(self.facts.keep(Fact.SECRET, secrets.token_hex(32)))

    def ping(self, *, writing: bool = False) -> None:
        with self._connections.cursor() as cursor:
            cursor.execute("SELECT current_setting('transaction_read_only') = 'on'")
            (is_read_only,) = cursor.fetchone() or (False,)
        if writing and is_read_only:
            # The next connection may be to the server that took over.
            self._connections.get().close()
            raise TemporaryError("PostgreSQL is read-only", dependency="postgres")

    def link(self) -> Link:
        return growth.link(self._connections)

    def growth(self) -> Growth:
        return growth.growth(self._connections)

    def lacking(self, role: RoleName) -> list[str]:
        return rights.lacking(self._connections, role)

    def may_migrate(self) -> bool:
        return rights.may_migrate(self._connections)

    def read_server(self, named: str) -> PostgresReadServer:
        return PostgresReadServer(named, self._connections)

    def close(self) -> None:
        self._doorbell.close()
        self._connections.close()

    def __enter__(self) -> PostgresStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
