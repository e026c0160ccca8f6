"""Customers as a database keeps them: how they are asked for, read, changed and listed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple, Protocol

from ..domain.customers import Stored
from ..domain.events import Change
from ..domain.replacing import Replacement
from ..domain.search import Asked, Words
from .answers import Answer

Deleted = Literal["exclude", "include", "only"]

SortField = Literal["id", "name", "email", "created_on", "updated_on", "version"]


class TimeSpan(NamedTuple):
    """From `since` on, and earlier than `before`; None leaves an end open."""

    since: dt.datetime | None = None
    before: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class CustomerFilter:
    """A selection of customers that meet all given conditions.

    `words` are folded (`search.words_of`); each must begin a word of name, email or phone, and so must all
    words of one of the ways in each of the `phrases`. While old terms are recomputed, customers that have all
    `earlier` words match too. `email` matches the address in any case (`customer.email_key`). The name must
    begin with `name_prefix`, ignoring case and accents (`name_key.name_prefix`); while keys are recomputed,
    with `written_prefix` exactly. `metadata` has keys with their values as a query spells them. `nobody`
    matches no customer.
    """

    deleted: Deleted = "exclude"
    words: Words = ()
    phrases: tuple[tuple[Words, ...], ...] = ()
    earlier: Words = ()
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
        """Whether `deleted` is the only condition."""
        return self == CustomerFilter(self.deleted)

    def asking(self, asked: Asked) -> CustomerFilter:
        """This filter and the conditions of a query; a query without a word matches no customer."""
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
    """A page of a sorted list: the rows after `after`, or with `backward` the rows before it.

    Every sort ends in the id, in the same direction. Names sort by `name_key`, but by code points in a list
    that begins while keys are recomputed; addresses by code points, no address first.
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


ANALYZE_FROM: Final = 10_000
"""So many new customers at once may make the statistics of the database wrong."""


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

    def replace(self, new: Callable[[], Replacement]) -> Stored | None:
        """`save` for new fields of a customer that was not read: the database composes the event.

        None, with nothing stored, where the caller must read the customer to know what to do: it is not
        there, is deleted, is at another version or has these fields already; the event would be too big; or
        this store has no such step for it (then it does not call `new`).
        """

    def save_many(self, changes: Sequence[Change], answer: Answer | None = None) -> None:
        """Store many changes with their events, in the order given; all or none of them, as `save`.

        A customer may be there more than once: each of its changes builds on the one before.
        """

    def analyze(self) -> None:
        """Update what the database knows of the values, after ANALYZE_FROM customers or more were written.

        Without it the planner would read all of them to find one, until the database looks by itself. Costs
        about a second. An account that may not do so does nothing.
        """

    def history(self, customer_id: int, *, limit: int, before_version: int | None = None) -> list[bytes]:
        """The customer's events, newest first: the exact bytes of each, below `before_version`."""

    def event_at(self, customer_id: int, time: dt.datetime) -> bytes | None:
        """The bytes of the newest event at or before `time`; None where the customer came later."""

    def erase(self, change: Change, scrub: Callable[[bytes], bytes], answer: Answer | None = None) -> Stored:
        """`save`, and in the same step put `scrub` of their bytes in the place of all earlier events."""
