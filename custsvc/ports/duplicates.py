"""What finds customers that may be one: look-ups by what they share, and the pairs that were dismissed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

Kind = Literal["email", "mailbox", "number", "name", "word"]


class Key(NamedTuple):
    """What some customers have in common, to look them up by.

    email: the address's `email_key`. mailbox: what an address as written begins with. number: what a term of
    a number begins with (`phone.number_prefixes`). name: what a name key begins with. word: a whole term.
    """

    kind: Kind
    text: str


class Bearer(NamedTuple):
    """A live customer that has a key: what it is compared by."""

    id: int
    version: int
    name: str
    email: str | None
    phone: str | None


class Pair(NamedTuple):
    """Two customers' ids, the lower one first."""

    low: int
    high: int


class Versions(NamedTuple):
    """The versions of a pair's customers, in its order."""

    low: int
    high: int


class Duplicates(Protocol):
    """Customers that may be duplicates of each other. Uses the indexes of lists alone."""

    def bearers(self, keys: Collection[Key], limits: Mapping[Kind, int]) -> dict[Key, list[Bearer]]:
        """The live customers that have each key, at most as many as its kind's limit.

        Keys that nobody has are left out. So a key costs the same however many have it; which of them come is
        not said where there are more.
        """

    def dismiss(self, pairs: Mapping[Pair, Versions], by: str) -> None:
        """Note that these are no duplicates as long as they are at these versions. Replaces earlier notes."""

    def undismiss(self, pairs: Collection[Pair]) -> int:
        """Drop these notes; return how many there were."""

    def dismissed(self, pairs: Collection[Pair]) -> dict[Pair, Versions]:
        """Those of the pairs that were dismissed, and at which versions, whether these hold still or not."""

    def dismissals(self, limit: int, after: Pair | None = None) -> list[tuple[Pair, Versions]]:
        """The notes in the order of their pairs, from the one after `after` on."""

    def forget(self, customer_ids: Sequence[int]) -> None:
        """Drop all notes that name one of these customers."""
