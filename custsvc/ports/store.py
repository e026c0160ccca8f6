"""The ports: what custsvc asks of a database. These docstrings are the contract of both backends.

Every method raises TemporaryError (with `dependency`) when the database cannot be reached or refuses for
now, and then the effect is either whole or absent. All of them may be called from several threads.
Whoever opens a store closes it (`with`).
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from .accounts import Keys, Sessions, Users
from .answers import Answers
from .contents import Contents
from .customers import CustomerStore
from .facts import Facts
from .ledger import Ledger
from .outbox import Outbox
from .recipients import Recipients
from .replica import Replica
from .rights import RoleName
from .waiting import Waiting


class Link(NamedTuple):
    """How a database is spoken to: its hosts as they are named, and whether nobody can listen."""

    hosts: tuple[str, ...]
    encrypted: bool


class Growth(NamedTuple):
    """What the history takes: bytes with its indexes, changes in it, and how many came in a day of late.

    `per_day` is None where too few came to tell; `free` are the bytes left on the server's disk, None where
    that cannot be known from here.
    """

    bytes: int
    changes: int
    per_day: float | None
    free: int | None


class Store(Protocol):
    """One database, opened: the ports it offers."""

    @property
    def name(self) -> str: ...
    @property
    def customers(self) -> CustomerStore: ...
    @property
    def outbox(self) -> Outbox: ...
    @property
    def contents(self) -> Contents: ...
    @property
    def replica(self) -> Replica: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def recipients(self) -> Recipients: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def facts(self) -> Facts: ...
    @property
    def users(self) -> Users: ...
    @property
    def sessions(self) -> Sessions: ...
    @property
    def answers(self) -> Answers: ...

    def migrate(self, *, lists: bool = True, waiting: Waiting | None = None) -> list[str]:
        """Bring the schema up to date beside live traffic, one process at a time; returns what was applied.

        Nobody else waits for it for more than a moment. Killed at any point and run again, it ends as if it
        had not been. Without `lists` it leaves out the indexes that lists and searches go by: see
        `index_lists`. Where nothing is missing it only reads.

        Raises ConfigurationError when the schema is newer than this custsvc and not compatible with it,
        TemporaryError where `waiting` has no patience any more, Stopped when it is asked to stop.
        """

    def index_lists(self, waiting: Waiting | None = None) -> bool:
        """Make the indexes that lists and searches go by; returns whether any was missing.

        They are most of what a copy's writes cost, so it has none until somebody lists it. A user who may
        not make any needs none where all are there.
        """

    def refill(self, waiting: Waiting | None = None) -> int:
        """Make the terms and name keys of customers anew that an earlier version made; returns of how many.

        It runs beside live traffic, a thousand customers at a time; killed and run again it goes on. Once
        there are none, searches by `earlier` words end, and lists sort by name keys.
        """

    def pending_migrations(self) -> list[str]:
        """What `migrate` would apply. Changes nothing. Raises ConfigurationError as `migrate` does."""

    def clock(self) -> float:
        """The database's time, in seconds since 1970."""

    def claim_role(self, role: Literal["source", "copy"]) -> None:
        """Mark this database as system of record or as copy, for good.

        Raises ConfigurationError when it is the other already: writes to a copy would be lost.
        """

    def secret(self) -> bytes:
        """32 random bytes, made at the first call and kept: the same for every process on this database."""

    def ping(self, *, writing: bool = False) -> None:
        """Return when the database answers; with `writing` only when it takes writes."""

    def link(self) -> Link:
        """How this database is spoken to."""

    def growth(self) -> Growth:
        """How much the history takes, and how fast it grows; at little cost."""

    def lacking(self, role: RoleName) -> list[str]:
        """What this account may not do of what a role does, in the database's words: `INSERT on customer`."""

    def may_migrate(self) -> bool:
        """Whether this account may change the schema."""

    def close(self) -> None: ...

    def __enter__(self) -> Store: ...

    def __exit__(self, *exc: object) -> None: ...
