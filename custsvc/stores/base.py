"""The ports: what custsvc asks of a database. These docstrings are the contract of both backends.

Every method raises TemporaryError (with `dependency`) when the database cannot be reached or refuses for
now, and then the effect is either whole or absent. All of them may be called from several threads.
Whoever opens a store closes it (`with`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple, Protocol

from ..customer import Stored
from ..errors import ConfigurationError
from ..events import Change, CustomerEvent, ReceivedEvent
from ..search import Asked, Way
from .ledger import Ledger as Ledger
from .ledger import Notification as Notification
from .ledger import NotificationState as NotificationState
from .ledger import Recipients as Recipients
from .rights import RoleName
from .waiting import Waiting

Deleted = Literal["exclude", "include", "only"]

ANSWER_KEPT: Final = dt.timedelta(hours=24)
"""How long an idempotency key is remembered."""


SortField = Literal["id", "name", "email", "created_on", "updated_on", "version"]


class TimeSpan(NamedTuple):
    """From `since` on, and earlier than `before`; None leaves an end open."""

    since: dt.datetime | None = None
    before: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class CustomerFilter:
    """Which customers. All that is given must hold.

    `words` are folded (`search.words_of`); each must begin a word of name, email or phone, and so must all
    words of one of the ways in each of the `phrases`. While the terms of earlier versions are made anew those
    are found too that have all `earlier` words. `email` is met by the address in any case
    (`customer.email_key`). `name_prefix` begins the name, case and accents aside (`name_key.name_prefix`);
    while keys are made anew it is taken for `written_prefix`, which is compared as it is. `metadata` holds
    keys with their values as a query spells them. `nobody` is met by no customer.
    """

    deleted: Deleted = "exclude"
    words: Way = ()
    phrases: tuple[tuple[Way, ...], ...] = ()
    earlier: Way = ()
    email: str | None = None
    name_prefix: str | None = None
    # Not in its text: that is what cursors are bound to, of earlier releases too.
    written_prefix: str | None = field(default=None, repr=False)
    created: TimeSpan = TimeSpan()
    updated: TimeSpan = TimeSpan()
    metadata: tuple[tuple[str, str], ...] = ()
    nobody: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether nothing is asked but which of live and deleted."""
        return self == CustomerFilter(self.deleted)

    def asking(self, asked: Asked) -> CustomerFilter:
        """This filter, and what a query asks for; a query without a single word is met by nobody."""
        nobody = self.nobody or not (asked.words or asked.phrases)
        return replace(self, words=asked.words, phrases=asked.phrases, earlier=asked.earlier, nobody=nobody)


LIVE: Final = CustomerFilter()
"""The customers that are not deleted."""


class Position(NamedTuple):
    """A place in a sorted list: a customer's sort key and id.

    The key of a time is its text as in the document, that of an email which is null is "". That of a name is
    its `name_key`, or the name itself in a list that began before all customers had a key.
    """

    key: str | int
    id: int


@dataclass(frozen=True, slots=True)
class CustomerQuery:
    """A page of a sorted list: what follows `after`, or, `backward`, what stands before it.

    Every sort ends in the id, in the same direction. Names sort by `name_key`, and by code points as they are
    written in a list that begins while keys are made anew; addresses by code points, no address first.
    """

    limit: int = 50
    filter: CustomerFilter = LIVE
    sort: SortField = "id"
    descending: bool = False
    after: Position | None = None
    backward: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """`docs` is the JSON array's inside: canonical documents joined by commas, `count` of them.

    They stand in the order of the list, also when it was read backward. `has_more` says whether there are
    more in the direction that was read.
    """

    docs: bytes
    count: int
    first: Position | None
    last: Position | None
    has_more: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request with an Idempotency-Key came to: kept so that the same request, sent again, gets it.

    `principal` and `key` name it, `request` is the hash of what was asked, `body` JSON of the caller's own.
    """

    principal: str
    key: str
    request: bytes
    body: bytes
    created_on: dt.datetime


class Answers(Protocol):
    """Answers under idempotency keys, for a day; then it is as if they had never been."""

    def find(self, principal: str, key: str, now: dt.datetime) -> Answer | None:
        """The answer kept under this key, if it is not a day old."""

    def add(self, answer: Answer) -> None:
        """Keep the answer to a request that changed nothing. Raises KeyTaken where there is one."""

    def prune(self, now: dt.datetime) -> int:
        """Forget answers that are a day old, some thousands at a time; returns how many."""


class CustomerStore(Protocol):
    """Customers, each change stored with its event in one atomic step."""

    def new_id(self) -> int:
        """A customer id that was never given before and never will be again, on any process."""

    def new_ids(self, count: int) -> Sequence[int]:
        """As many such ids, ascending."""

    def ids_above(self, customer_id: int) -> None:
        """Give no id up to this one any more, as after a restore that forgot which were given."""

    def get(self, customer_id: int) -> Stored | None:
        """The customer as stored, deleted or not; None where there never was one."""

    def get_many(self, ids: Sequence[int]) -> dict[int, Stored]:
        """These customers, deleted or not, without those that never were."""

    def get_by_emails(self, emails: Sequence[str]) -> list[Stored]:
        """All customers that have one of these addresses in any case, deleted or not, in the order of id."""

    def find(self, query: CustomerQuery) -> Page:
        """One page, at the cost of one page however deep. Sees every write that returned before."""

    def count(self, where: CustomerFilter = LIVE, *, exact: bool = True) -> int:
        """How many customers there are; with `exact` False about how many, at little cost."""

    def count_if_cheap(self, where: CustomerFilter) -> tuple[int, bool]:
        """How many there are where that costs little, else about how many; and whether it is exact."""

    def save(self, change: Change, answer: Answer | None = None) -> Stored:
        """Store the customer and its event, both or neither, if the stored version is `before`'s.

        `answer` is stored with them. Raises KeyTaken where its key has an answer already, VersionConflict
        where the version is another (for a new customer: where the id is taken). A connection lost on the
        way is resolved here: the answer is what really happened, or TemporaryError where the database
        stays away and nobody can know. Durable when it returns.
        """

    def save_many(self, changes: Sequence[Change], answer: Answer | None = None) -> None:
        """Store many changes with their events, in the order given; all or none of them, as `save`.

        A customer may be there more than once: each of its changes builds on the one before.
        """

    def history(self, customer_id: int, *, limit: int, before_version: int | None = None) -> list[bytes]:
        """The customer's events, newest first: the exact bytes of each, below `before_version`."""

    def event_at(self, customer_id: int, time: dt.datetime) -> bytes | None:
        """The bytes of the newest event at or before `time`; None where the customer came later."""

    def erase(self, change: Change, scrub: Callable[[bytes], bytes], answer: Answer | None = None) -> Stored:
        """`save`, and in the same step put `scrub` of their bytes in the place of all earlier events."""


class Depth(NamedTuple):
    """What waits in an outbox: how many events, and the age in seconds of the oldest (0 when none)."""

    waiting: int
    oldest_age: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Events to publish, in an order that keeps each customer's versions; `token` is the reader's own."""

    events: list[CustomerEvent] = field(default_factory=list)
    token: Any = None


class Known(NamedTuple):
    """An event in the store: its id, and whether it is known to be on Kafka."""

    event_id: str
    sent: bool


class Sent(NamedTuple):
    """An event that is known to be on Kafka."""

    customer_id: int
    version: int
    event_id: str


class Outbox(Protocol):
    """The events that are not on Kafka yet, read gap-free and in order per customer."""

    def lead(self) -> AbstractContextManager[bool]:
        """Try to become the one reader. True within the block when we are; at once False when another is.

        Raises ConfigurationError where the database is a restored one, so that nobody can say what is sent.

        Lost leadership shows as TemporaryError from `read` or `done`. Two readers at once, as after a
        network cut, only repeat events: neither loses one.
        """

    def read(self, limit: int) -> Batch:
        """The next events, up to `limit`; empty when there are none. Without `done`, the same again."""

    def ahead(self, batch: Batch, limit: int) -> Batch:
        """The events after those of a `batch` that is not done yet; empty where that cannot be said yet.

        It is what `read` gives after `done(batch)`, or the beginning of it. May run beside the sending of
        `batch` and beside `done(batch)`, in another thread.
        """

    def done(self, batch: Batch) -> None:
        """All events of `batch` are safely on Kafka: never read them again."""

    def wait(self, seconds: float) -> None:
        """Return when there may be new events, at the latest soon after `seconds`."""

    def depth(self) -> Depth:
        """What waits. Works without leadership."""

    def events(self, keys: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Known]:
        """The events with these (customer id, version); those that do not exist are left out.

        An event that was sent a moment ago may still be shown as not sent.
        """

    def latest(self, limit: int) -> list[Sent]:
        """The events that went out last, up to `limit`, in about the order in which they were sent.

        The newest comes first. Where very many newer ones wait, some of these are left out.
        """

    def adopt(self) -> None:
        """This database was restored, and is the one to go on with: forget how far another one was sent.

        Everything whose sending is not known is read again.
        """

    def source(self) -> str:
        """A URI that tells this database from any other: `urn:custsvc:postgres:<system id>`."""


class Applied(NamedTuple):
    """What a batch did to the copy: customers written, and those it already had as new or newer."""

    written: int
    stale: int


Positions = Mapping[int, int]
"""Per partition, the offset of the next record to read."""


class Row(NamedTuple):
    """A customer as `verify` sees it."""

    id: int
    version: int
    deleted: bool
    doc: bytes


class Digest(NamedTuple):
    """What a range of customers holds: how many, the last id, and a hash of everything in them.

    Both backends hash the same bytes, those of the columns and of the document.
    """

    customers: int
    last_id: int | None
    hash: str


class Contents(Protocol):
    """All customers of a database, source or copy, as `verify` compares and mends them."""

    def scan(self, after_id: int, limit: int) -> list[Row]:
        """Customers in the order of id, deleted ones too, after `after_id`."""

    def rows(self, ids: Sequence[int]) -> list[Row]:
        """These customers, in the order of id; those that do not exist are left out."""

    def digest(self, after_id: int, *, limit: int | None = None, last_id: int | None = None) -> Digest:
        """The digest of the customers after `after_id`: so many, or those up to `last_id`."""

    def columns(self, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        """The versions, and what stands beside the documents to find by, in a form both backends share."""

    def overwrite(self, rows: Sequence[Row]) -> int:
        """Let the next event of these customers replace them, whatever version they claim to have.

        Only where a customer still is exactly as given; returns how many were.
        """

    def remove(self, rows: Sequence[Row]) -> int:
        """Take these customers away, where they still are exactly as given; returns how many were."""


class Replica(Contents, Protocol):
    """A copy of the customers, kept by events. It knows how far it is."""

    def positions(self, topic: str) -> dict[int, int]:
        """How far it is: the next offset to read, per partition that was ever read."""

    def begin(self, topic: str) -> dict[int, int]:
        """`positions`, for one who goes on from there: what it applies is for the copy as it is now.

        Raises TemporaryError while the copy is held.
        """

    def apply(self, events: Sequence[ReceivedEvent], topic: str, positions: Positions) -> Applied:
        """Bring the copy to these events' versions and positions.

        Idempotent by version: any order, any repetition, from several processes at once ends at the
        highest version of each customer. Positions never go back, and never stand before their events'
        effects are durable. Raises Superseded where the copy was swapped, or is held, since one began.
        """

    def applying(self, events: Sequence[ReceivedEvent]) -> Callable[[str, Positions], Applied]:
        """`apply` in two steps: what needs no database is done now, and the call does the rest.

        It holds no event any more, may be called in another thread, and again where it failed.
        """

    def rebuilding(self) -> AbstractContextManager[bool]:
        """Whether nobody else fills a shadow of this copy, and nobody else can within the block."""

    def shadow(self) -> Replica:
        """A second copy beside this one, with positions of its own; made if it is not there, else as left.

        It takes no part in reading, and is swapped in or dropped by this one.
        """

    def drop_shadow(self) -> None:
        """Throw the shadow away."""

    def hold(self, seconds: float) -> None:
        """Let nobody who began to follow this copy apply to it until it is swapped, at most for so long."""

    def swap(self, topic: str, *, anyway: bool = False) -> bool:
        """Put the shadow in the place of this copy, which is held, at once for every reader and writer.

        Its positions come with it. False where this copy is further than the shadow: to swap would take
        customers back. With `anyway` it does not matter where this copy is. A swap that is cut off by a
        crash is either not done, or finished by whoever begins next.
        """


class Facts(Protocol):
    """Short texts about this database as a whole, by name."""

    def get(self, name: str) -> str | None:
        """The fact, or None."""

    def keep(self, name: str, value: str) -> str:
        """The fact, made `value` where there was none: whoever comes first decides."""

    def put(self, name: str, value: str) -> None:
        """Set the fact. Durable when it returns."""

    def drop(self, name: str) -> None:
        """Forget the fact."""

    def drop_all(self, prefix: str) -> int:
        """Forget the facts whose name begins so; returns how many."""

    def all(self, prefix: str) -> dict[str, str]:
        """The facts whose name begins so."""


Role = Literal["read", "write", "admin"]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as stored: its public prefix and the SHA-256 of the whole, never the key itself."""

    prefix: str
    sha256: bytes
    name: str
    role: Role
    created_on: dt.datetime
    expires_on: dt.datetime | None = None
    revoked_on: dt.datetime | None = None


class Keys(Protocol):
    """The API keys of a system of record."""

    def add(self, key: ApiKey) -> None:
        """Store a key. Raises Conflict where the prefix is taken."""

    def find(self, prefix: str) -> ApiKey | None:
        """The key with this prefix, revoked and expired ones too."""

    def all(self) -> list[ApiKey]:
        """Every key, the oldest first."""

    def revoke(self, prefix: str, now: dt.datetime) -> bool:
        """Revoke a key for good; False where there is none that is live."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who signs in to the pages. `password` is its hash with all that is needed to check one."""

    name: str
    password: str = field(repr=False)
    role: Role
    created_on: dt.datetime
    disabled_on: dt.datetime | None = None


class Users(Protocol):
    """The people who may sign in to the pages of a system of record."""

    def add(self, user: User) -> None:
        """Store a user. Raises Conflict where the name is taken."""

    def find(self, name: str) -> User | None:
        """The user of this name, disabled ones too."""

    def all(self) -> list[User]:
        """Every user, in the order of their names."""

    def replace(self, user: User) -> bool:
        """Give the user of this name these values; False where there is none."""

    def remove(self, name: str) -> bool:
        """Forget a user; False where there is none. Their sessions are the caller's to end."""


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is signed in. `id` is a hash of the token that the browser holds, never the token.

    `subject` says by what it signed in: `user:NAME`, `key:PREFIX` or `oidc:SUBJECT`.
    """

    id: str
    subject: str
    actor: str
    role: Role
    created_on: dt.datetime
    seen_on: dt.datetime


class Sessions(Protocol):
    """Who is signed in where, and who tried to: shared by all processes of `serve`."""

    def add(self, session: Session) -> None:
        """Store a session. Durable when it returns."""

    def find(self, session_id: str) -> Session | None:
        """The session as stored, expired or not."""

    def all(self) -> list[Session]:
        """Every session, expired ones too, the one that was used last first."""

    def seen(self, session_id: str, now: dt.datetime) -> None:
        """Note that it was used. `seen_on` never goes back."""

    def remove(self, session_id: str) -> None:
        """End a session; none there is fine."""

    def remove_of(self, subject: str) -> int:
        """End all sessions of a subject; returns how many."""

    def purge(self, created_before: dt.datetime) -> None:
        """Forget sessions, and tries to sign in, that began before this."""

    def count_try(self, key: str, now: dt.datetime, window: float) -> int:
        """Count one try under `key`; returns how many there were in a window of so many seconds.

        Atomic: of many tries at once, each gets a number of its own.
        """

    def forget_tries(self, key: str) -> None:
        """Begin to count anew."""


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


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """`items` in slices of `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def wrong_role(name: str, is_role: str) -> ConfigurationError:
    """The error of using a copy as source, or a source as copy."""
    if is_role == "copy":
        return ConfigurationError(
            f"the {name} database is a copy: what is written to it would be lost",
            fix="use the database it is a copy of, or one that is empty",
        )
    return ConfigurationError(
        f"the {name} database is a system of record: a copy would overwrite it",
        fix="point the copy at a database that is empty",
    )


def restored(what: str) -> ConfigurationError:
    """The error of a database that is not the one that events were sent from."""
    return ConfigurationError(
        what,
        fix="if it is the one to go on with, bring the topic and the copies to its state: "
        "custsvc relay --resync",
    )
