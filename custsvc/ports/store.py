"""The ports: the interface of a database. These docstrings are the contract of both backends.

Every method raises TemporaryError (with `dependency`) when the database is unreachable or refuses
temporarily, and then the effect is either complete or absent. All of them are thread-safe. The caller that
opens a store closes it (`with`).
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from .accounts import Factors, Keys, Resets, Sessions, Users
from .answers import Answers
from .contents import Contents
from .customers import CustomerStore
from .duplicates import Duplicates
from .endpoints import Endpoints
from .facts import Facts
from .history import History
from .ledger import Ledger
from .outbox import Outbox
from .reads import ReadServer
from .recipients import Recipients
from .replica import Replica
from .rights import RoleName
from .shares import Shares
from .shelf import Shelf
from .views import Views
from .waiting import Waiting


class Link(NamedTuple):
    """The connection to a database: its hosts as named in the settings, and whether it is encrypted."""

    hosts: tuple[str, ...]
    encrypted: bool


class Growth(NamedTuple):
    """The size of the history: bytes with its indexes, its changes, and recent changes per day.

    `per_day` is None if there were too few changes; `free` are the free bytes on the server's disk, None if
    unknown; `age` are the seconds since the oldest of the changes, None if there are none.
    """

    bytes: int
    changes: int
    per_day: float | None
    free: int | None
    age: float | None = None


class Store(Protocol):
    """An opened database, with its ports."""

    @property
    def name(self) -> str: ...
    @property
    def customers(self) -> CustomerStore: ...
    @property
    def duplicates(self) -> Duplicates: ...
    @property
    def outbox(self) -> Outbox: ...
    @property
    def shares(self) -> Shares: ...
    @property
    def history(self) -> History: ...
    @property
    def contents(self) -> Contents: ...
    @property
    def replica(self) -> Replica: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def recipients(self) -> Recipients: ...
    @property
    def endpoints(self) -> Endpoints: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def facts(self) -> Facts: ...
    @property
    def users(self) -> Users: ...
    @property
    def factors(self) -> Factors: ...
    @property
    def resets(self) -> Resets: ...
    @property
    def sessions(self) -> Sessions: ...
    @property
    def views(self) -> Views: ...
    @property
    def shelf(self) -> Shelf: ...
    @property
    def answers(self) -> Answers: ...

    def migrate(self, *, lists: bool = True, waiting: Waiting | None = None) -> list[str]:
        """Migrate the schema beside live traffic, one process at a time; return the migrations applied.

        No other statement waits for it for more than a moment. It may be killed at any point and run again.
        Without `lists` it leaves out the indexes for lists and searches: see `index_lists`. If nothing is
        missing, it only reads.

        Raises ConfigurationError when the schema is newer than this custsvc and not compatible with it,
        TemporaryError when the patience of `waiting` ends, Stopped when stop is asked.
        """

    def index_lists(self, waiting: Waiting | None = None) -> bool:
        """Make the indexes for lists and searches; return whether any was missing.

        They cause most of the cost of a copy's writes, so a copy has none until a role with lists uses it. If
        all exist, the account needs no right to make them.
        """

    def has_lists(self) -> bool:
        """Whether the indexes for lists and searches exist. Changes nothing."""

    def refill(self, waiting: Waiting | None = None) -> int:
        """Make again the terms and name keys that an earlier version made; return for how many.

        It runs beside live traffic, a thousand customers at a time; killed and run again it resumes. Once
        none are left, searches by `earlier` words end, and lists sort by name keys.
        """

    def pending_migrations(self) -> list[str]:
        """What `migrate` would apply. Changes nothing. Raises ConfigurationError like `migrate`."""

    def clock(self) -> float:
        """The database's time, in seconds since 1970."""

    def claim_role(self, role: Literal["source", "copy"]) -> None:
        """Mark this database as system of record or as copy, permanently.

        Raises ConfigurationError if it is already the other: writes to a copy would be lost.
        """

    def secret(self) -> bytes:
        """32 random bytes, made at the first call and stored: the same for every process on this database."""

    def ping(self, *, writing: bool = False) -> None:
        """Return when the database answers; with `writing` only when it accepts writes."""

    def link(self) -> Link:
        """How we are connected to this database."""

    def growth(self) -> Growth:
        """The size of the history, and how fast it grows; a cheap query."""

    def lacking(self, role: RoleName) -> list[str]:
        """The permissions that a role needs and this account lacks, as the database names them."""

    def may_migrate(self) -> bool:
        """Whether this account may change the schema."""

    def read_server(self, named: str) -> ReadServer:
        """A server that follows this one and answers reads, not connected yet.

        `named`: in PostgreSQL the address of a stand-by, in MongoDB the preference for members.
        """

    def close(self) -> None: ...

    def __enter__(self) -> Store: ...

    def __exit__(self, *exc: object) -> None: ...
