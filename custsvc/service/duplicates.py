"""Finds customers that are likely one: those like a customer, like one not stored yet, and all pairs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Final, Literal, NamedTuple

import orjson

from ..domain.customers import INT64_MAX, Fields, Stored
from ..domain.likeness import DEFAULT_SCORE, Company, Likeness, Traits, compare, traits
from ..errors import CustomerDeleted, NotFound
from ..ports.customers import CustomerQuery, CustomerStore, Position
from ..ports.duplicates import Bearer, Duplicates, Key, Kind, Pair, Versions
from .duplicate_keys import LIMITS, keys_of

Dismissed = Literal["exclude", "include", "only"]

# Customers looked up at once, and at most for one page of pairs.
_AT_ONCE: Final = 100
SCANNED_MAX: Final = 1000
# An address or a number with more bearers is nobody's own; a word with at most this many names a person.
_SHARED_FROM: Final = 7
_RARE_UP_TO: Final = 5
# A name with more bearers counts for less.
_COMMON_FROM: Final = 10
# A word that many have is not looked up again for a while.
_REMEMBERED_S: Final = 300.0
_REMEMBERED_MAX: Final = 20_000
CONTACT: Final[tuple[Kind, ...]] = ("email", "number")


class Duplicate(NamedTuple):
    """A customer that is likely the same as the one asked for."""

    id: int
    version: int
    score: float
    reasons: tuple[str, ...]
    is_dismissed: bool = False


class FoundPair(NamedTuple):
    """Two customers that are likely one."""

    pair: Pair
    versions: Versions
    score: float
    reasons: tuple[str, ...]
    is_dismissed: bool = False


class Place(NamedTuple):
    """How far a walk over all pairs is: at this customer, past this partner of it."""

    id: int
    partner: int


@dataclass(frozen=True, slots=True)
class PairPage:
    """Some pairs, how many customers were looked at for them, and where to go on; None at the end."""

    pairs: list[FoundPair]
    scanned: int
    place: Place | None


@dataclass(slots=True)
class _Block:
    """What was found for the keys of some customers."""

    bearers: dict[Key, list[Bearer]]
    known: dict[int, Traits] = field(default_factory=dict)

    def traits_of(self, bearer: Bearer) -> Traits:
        found = self.known.get(bearer.id)
        if found is None:
            found = self.known[bearer.id] = _traits(bearer)
        return found


class DuplicateFinder:
    """Finds duplicates by look-ups alone: a customer costs the same however many there are.

    Pairs are searched for each time; only dismissed ones are stored.
    """

    def __init__(
        self, duplicates: Duplicates, customers: CustomerStore, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._duplicates = duplicates
        self._customers = customers
        self._clock = clock
        self._common: dict[Key, float] = {}

    # -- one customer

    def of(
        self, customer_id: int, *, min_score: float = DEFAULT_SCORE, dismissed: Dismissed = "exclude"
    ) -> list[Duplicate]:
        """The duplicates of a live customer, the likeliest first. Raises NotFound or CustomerDeleted."""
        stored = self._customers.get(customer_id)
        if stored is None:
            raise NotFound(f"there is no customer {customer_id}")
        if stored.deleted:
            raise CustomerDeleted(f"customer {customer_id} is deleted")
        bearer = _bearer(stored)
        found = self._search([bearer], min_score)[customer_id]
        pairs = {_pair(bearer, other): _versions(bearer, other) for other, _ in found}
        held = self._held(pairs)
        duplicates = [
            Duplicate(other.id, other.version, *likeness, _pair(bearer, other) in held)
            for other, likeness in found
        ]
        return sorted(
            (each for each in duplicates if _wanted(dismissed, each.is_dismissed)),
            key=lambda each: (-each.score, each.id),
        )

    def like(
        self, fields: Fields, *, min_score: float = DEFAULT_SCORE, kinds: Sequence[Kind] = tuple(LIMITS)
    ) -> list[Duplicate]:
        """The customers that one with these fields, who is not stored, would be a duplicate of.

        With `CONTACT` for `kinds` only those that have its address or number, at a fifth of the cost.
        """
        return self.like_each([fields], min_score=min_score, kinds=kinds)[0]

    def like_each(
        self,
        some: Sequence[Fields],
        *,
        min_score: float = DEFAULT_SCORE,
        kinds: Sequence[Kind] = tuple(LIMITS),
    ) -> list[list[Duplicate]]:
        """`like` for each of these, by look-ups for all at once. They are not compared with each other."""
        # No stored customer has such an id.
        new = [Bearer(-place, 0, each.name, each.email, each.phone) for place, each in enumerate(some, 1)]
        found = self._search(new, min_score, kinds)
        return [
            sorted(
                (Duplicate(other.id, other.version, *likeness) for other, likeness in found[each.id]),
                key=lambda each: (-each.score, each.id),
            )
            for each in new
        ]

    # -- all of them

    def pairs(
        self,
        *,
        limit: int,
        after: Place | None = None,
        min_score: float = DEFAULT_SCORE,
        dismissed: Dismissed = "exclude",
    ) -> PairPage:
        """Pairs in the order of the customer that leads to them, from `after` on.

        At most `limit`, and fewer, even none, where there are few: it looks at up to `SCANNED_MAX` customers.
        A pair comes once in a walk.
        """
        if dismissed == "only":
            return self._dismissed_pairs(limit, after)
        found: list[tuple[Place, FoundPair]] = []
        scanned, place = 0, after or Place(0, 0)
        while scanned < SCANNED_MAX:
            some, has_more = self._some(place)
            scanned += len(some)
            found += [
                each
                for each in self._of_some(some, min_score)
                if each[0] > place and _wanted(dismissed, each[1].is_dismissed)
            ]
            if len(found) > limit:
                return PairPage([pair for _, pair in found[:limit]], scanned, found[limit - 1][0])
            if not has_more:
                return PairPage([pair for _, pair in found], scanned, None)
            place = Place(some[-1].id, INT64_MAX)
        return PairPage([pair for _, pair in found], scanned, place)

    def _some(self, place: Place) -> tuple[list[Bearer], bool]:
        """The next live customers from a place on, and whether there are more behind them."""
        before = place.id if place.partner == INT64_MAX else place.id - 1
        after = Position(before, before) if before > 0 else None
        page = self._customers.find(CustomerQuery(limit=_AT_ONCE, after=after))
        return [_of_doc(doc) for doc in orjson.loads(b"[" + page.docs + b"]")], page.has_more

    def _of_some(self, some: Sequence[Bearer], min_score: float) -> list[tuple[Place, FoundPair]]:
        """The pairs that these customers lead to, each with its place in the walk.

        A pair belongs to its lower customer, where that leads to the other, else to the higher one.
        """
        found = self._search(some, min_score)
        lower = {
            other.id: other
            for bearer in some
            for other, _ in found[bearer.id]
            if other.id < bearer.id and other.id not in found
        }
        back = found | self._search(list(lower.values()), min_score)
        led_to = {id_: {other.id for other, _ in others} for id_, others in back.items()}
        mine = [
            (bearer, other, likeness)
            for bearer in some
            for other, likeness in sorted(found[bearer.id], key=lambda each: each[0].id)
            if bearer.id < other.id or bearer.id not in led_to[other.id]
        ]
        held = self._held({_pair(bearer, other): _versions(bearer, other) for bearer, other, _ in mine})
        return [
            (Place(bearer.id, other.id), _found(bearer, other, likeness, held))
            for bearer, other, likeness in mine
        ]

    def _dismissed_pairs(self, limit: int, after: Place | None) -> PairPage:
        """The dismissed pairs that still are as they were."""
        notes = self._duplicates.dismissals(limit, Pair(*after) if after else None)
        ids = sorted({id_ for pair, _ in notes for id_ in pair})
        bearers = {
            id_: _bearer(stored)
            for id_, stored in self._customers.get_many(ids).items()
            if not stored.deleted
        }
        found = []
        for pair, versions in notes:
            if pair.low in bearers and pair.high in bearers:
                low, high = bearers[pair.low], bearers[pair.high]
                likeness = compare(_traits(low), _traits(high), at_least=0.0)
                if likeness and _versions(low, high) == versions:
                    found.append(FoundPair(pair, versions, *likeness, True))
        place = Place(*notes[-1][0]) if len(notes) == limit else None
        return PairPage(found, len(ids), place)

    # -- dismissed pairs

    def dismiss(self, ids: Sequence[int], by: str) -> None:
        """Note that no two of these customers are the same, as they are now. Raises NotFound."""
        there = self._customers.get_many(ids)
        if missing := sorted(set(ids) - set(there)):
            raise NotFound(f"there is no customer {missing[0]}")
        self._duplicates.dismiss(
            {pair: Versions(there[pair.low].version, there[pair.high].version) for pair in pairs_of(ids)}, by
        )

    def undismiss(self, ids: Sequence[int]) -> int:
        """Undo the dismissal of these customers' pairs; return how many there were."""
        return self._duplicates.undismiss(pairs_of(ids))

    def _held(self, pairs: dict[Pair, Versions]) -> set[Pair]:
        """The dismissed ones of these pairs that have not changed since."""
        notes = self._duplicates.dismissed(pairs)
        return {pair for pair, versions in notes.items() if pairs[pair] == versions}

    # -- the search

    def _search(
        self, some: Sequence[Bearer], min_score: float, kinds: Sequence[Kind] = tuple(LIMITS)
    ) -> dict[int, list[tuple[Bearer, Likeness]]]:
        """For each of these customers those that are like it, by look-ups for all of them at once."""
        known = {each.id: _traits(each) for each in some}
        keys = {each.id: {key for key in keys_of(each, known[each.id]) if key.kind in kinds} for each in some}
        block = _Block(self._bearers(set().union(*keys.values())), dict(known))
        return {each.id: list(_likes(each, keys[each.id], block, min_score)) for each in some}

    def _bearers(self, keys: set[Key]) -> dict[Key, list[Bearer]]:
        """The customers with these keys; none for words that many have."""
        now = self._clock()
        asked = {key for key in keys if self._common.get(key, now) <= now}
        found = self._duplicates.bearers(asked, LIMITS) if asked else {}
        for key in [key for key in found if key.kind == "word" and len(found[key]) >= LIMITS["word"]]:
            del found[key]
            if len(self._common) >= _REMEMBERED_MAX:
                self._common.clear()
            self._common[key] = now + _REMEMBERED_S
        return found


def pairs_of(ids: Iterable[int]) -> list[Pair]:
    """All pairs of these customers."""
    return [Pair(low, high) for low, high in combinations(sorted(set(ids)), 2)]


def _likes(
    bearer: Bearer, keys: set[Key], block: _Block, min_score: float
) -> Iterator[tuple[Bearer, Likeness]]:
    """Those of a block that are like a customer who has these keys."""
    found = {each.id: each for key in keys for each in block.bearers.get(key, ()) if each.id != bearer.id}
    if not found:
        return
    its, company = block.traits_of(bearer), _company(keys, block)
    rare = {
        key.text for key in keys if key.kind == "word" and 0 < len(block.bearers.get(key, ())) <= _RARE_UP_TO
    }
    for other in found.values():
        others = block.traits_of(other)
        here = replace(company, name="rare") if not rare.isdisjoint(others.words) else company
        likeness = compare(its, others, here, at_least=min_score)
        if likeness is not None:
            yield other, likeness


def _company(keys: set[Key], block: _Block) -> Company:
    """How common a customer's name, address and number are."""
    most = dict.fromkeys(LIMITS, 0)
    for key in keys:
        most[key.kind] = max(most[key.kind], len(block.bearers.get(key, ())))
    return Company(
        "common" if most["name"] >= _COMMON_FROM else "unknown",
        is_email_shared=most["email"] >= _SHARED_FROM,
        is_phone_shared=most["number"] >= _SHARED_FROM,
    )


def _found(bearer: Bearer, other: Bearer, likeness: Likeness, held: set[Pair]) -> FoundPair:
    pair = _pair(bearer, other)
    return FoundPair(pair, _versions(bearer, other), *likeness, pair in held)


def _wanted(dismissed: Dismissed, is_dismissed: bool) -> bool:
    return dismissed == "include" or is_dismissed == (dismissed == "only")


def _pair(one: Bearer, other: Bearer) -> Pair:
    return Pair(min(one.id, other.id), max(one.id, other.id))


def _versions(one: Bearer, other: Bearer) -> Versions:
    low, high = sorted((one, other))
    return Versions(low.version, high.version)


def _traits(bearer: Bearer) -> Traits:
    return traits(*bearer)


def _bearer(stored: Stored) -> Bearer:
    return _of_doc(orjson.loads(stored.doc))


def _of_doc(doc: dict[str, Any]) -> Bearer:
    return Bearer(doc["id"], doc["version"], doc["name"], doc["email"], doc["phone"])
