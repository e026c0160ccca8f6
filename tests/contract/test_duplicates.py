"""The port Duplicates: customers by what they share, and the pairs that were dismissed."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from custsvc.domain.customers import Fields
from custsvc.domain.likeness import traits
from custsvc.ports.duplicates import Bearer, Key, Kind, Pair, Versions
from custsvc.ports.store import Store
from custsvc.service.changes import Caller
from custsvc.service.customers import CustomerService
from custsvc.service.duplicate_keys import LIMITS, keys_of
from custsvc.service.duplicates import DuplicateFinder, FoundPair, Place

ME = Caller("test", "r1")


@pytest.fixture
def customers(store: Store) -> CustomerService:
    return CustomerService(store.customers)


@pytest.fixture
def finder(store: Store) -> DuplicateFinder:
    return DuplicateFinder(store.duplicates, store.customers)


def walked(finder: DuplicateFinder, *, limit: int = 50) -> Iterator[FoundPair]:
    place: Place | None = Place(0, 0)
    while place is not None:
        page = finder.pairs(limit=limit, after=place)
        yield from page.pairs
        place = page.place


def by_kind(store: Store, fields: Fields) -> dict[Kind, set[int]]:
    """The ids that each kind of key of a customer with these fields leads to."""
    bearer = Bearer(0, 0, fields.name, fields.email, fields.phone)
    found: dict[Kind, set[int]] = {}
    for key, bearers in store.duplicates.bearers(keys_of(bearer, traits(*bearer)), LIMITS).items():
        found.setdefault(key.kind, set()).update(each.id for each in bearers)
    return found


def test_each_kind_of_key_finds_the_customers_that_share_it(store: Store, customers: CustomerService) -> None:
    ada = customers.create(Fields("Ada Lovelace", "Ada.L@Example.org", "+49 170 1234567"), ME).id

    assert by_kind(store, Fields("X Y", "ADA.L@EXAMPLE.ORG")) == {"email": {ada}}
    assert by_kind(store, Fields("X Y", "ada.l+shop@example.org")) == {"email": {ada}}
    for phone in ("0170/1234567", "0049 170 123 45 67", "+49 (0) 170 1234567", "170 1234567 ext. 12"):
        assert by_kind(store, Fields("X Y", None, phone)) == {"number": {ada}}, phone
    for name in ("LOVELACE, Ada", "Lovelace Ada", "Adá Lovelace", "ada lovelace"):
        assert by_kind(store, Fields(name))["name"] == {ada}, name
    assert by_kind(store, Fields("Augusta Lovelace")) == {"word": {ada}}
    assert by_kind(store, Fields("Babbage")) == {}


def test_a_key_has_no_more_bearers_than_its_limit(store: Store, customers: CustomerService) -> None:
    ids = {customers.create(Fields("John Smith", f"j{n}@example.org"), ME).id for n in range(5)}
    other = customers.create(Fields("Xaver Rare", None, "+49 30 5556677"), ME).id
    keys = {Key("name", "john smith\x01"), Key("word", "smith"), Key("word", "rare"), Key("mailbox", "j")}

    found = store.duplicates.bearers(keys, dict.fromkeys(LIMITS, 3))

    assert {key: len(bearers) for key, bearers in found.items()} == {
        Key("name", "john smith\x01"): 3,
        Key("word", "smith"): 3,
        Key("word", "rare"): 1,
        Key("mailbox", "j"): 3,
    }
    assert found[Key("word", "rare")] == [Bearer(other, 1, "Xaver Rare", None, "+49 30 5556677")]
    assert {each.id for bearers in found.values() for each in bearers} <= ids | {other}


NAMES = [
    "Ann",
    "Ann Lee",
    "ann lee",
    "Ann-Marie Lee",
    "Lee, Ann",
    "Ann Lee-Long",
    "A. Lee",
    "李 小龍",
    "%",
    "Emil",
    "Émile Zola",
    "Emilee",
]
EMAILS = (
    None,
    "ann@example.org",
    "ann@example.orga",
    "Ann+shop@example.org",
    "ann.lee@example.org",
    "info@example.org",
)
PHONES = (None, "0301234", "+49 30 1234", "+49 30 12345", "+1 (555) 0100", "112")


def test_keys_that_are_asked_together_find_whom_each_finds_alone(
    store: Store, customers: CustomerService
) -> None:
    """Also keys that begin with each other; and nobody twice, as the number of bearers counts too."""
    rng, keys = random.Random(7), set()
    for _ in range(40):
        fields = Fields(rng.choice(NAMES), rng.choice(EMAILS), rng.choice(PHONES))
        made = customers.create(fields, ME)
        bearer = Bearer(made.id, 1, fields.name, fields.email, fields.phone)
        keys |= keys_of(bearer, traits(*bearer))
    unlimited = dict.fromkeys(LIMITS, 1000)
    alone: dict[Key, list[Bearer]] = {}
    for key in keys:
        alone |= store.duplicates.bearers([key], unlimited)

    for _ in range(60):
        some = rng.sample(sorted(keys), rng.randint(2, len(keys)))
        found = store.duplicates.bearers(some, unlimited)
        assert {key: sorted(found[key]) for key in found} == {
            key: sorted(alone[key]) for key in some if key in alone
        }, some


def test_signs_of_names_and_addresses_are_taken_as_they_are(store: Store, customers: CustomerService) -> None:
    odd = customers.create(Fields(r"A.*\b|(c) O'Neil", "a.*c@example.org"), ME).id
    customers.create(Fields("Abxxb c O'Neil", "abbc@example.org"), ME)

    found = store.duplicates.bearers({Key("mailbox", "a.*c@"), Key("mailbox", "a%")}, LIMITS)

    assert {key: [each.id for each in bearers] for key, bearers in found.items()} == {
        Key("mailbox", "a.*c@"): [odd]
    }
    assert by_kind(store, Fields(r"A.*\b|(c) O'Neil"))["name"] == {odd}


def test_the_deleted_are_nobodys_duplicates(
    store: Store, customers: CustomerService, finder: DuplicateFinder
) -> None:
    ada = customers.create(Fields("Ada Lovelace", "ada@example.org"), ME).id
    gone = customers.create(Fields("Ada Lovelace", "ada@example.org"), ME).id
    customers.delete(gone, ME)

    assert finder.of(ada) == []
    assert list(walked(finder)) == []


@pytest.mark.parametrize("limit", [1, 2, 50])
def test_a_walk_shows_each_pair_once(customers: CustomerService, finder: DuplicateFinder, limit: int) -> None:
    ids = [customers.create(Fields("Ada Lovelace", "ada@example.org"), ME).id for _ in range(3)]
    # The initial leads to the whole name, by the number alone.
    customers.create(Fields("B. Babbage", None, "+44 20 79460000"), ME)
    other = customers.create(Fields("Bob Babbage", None, "020 79460000"), ME).id
    customers.create(Fields("Somebody Else", "else@example.org"), ME)

    found = [each.pair for each in walked(finder, limit=limit)]

    assert found == [
        Pair(ids[0], ids[1]),
        Pair(ids[0], ids[2]),
        Pair(ids[1], ids[2]),
        Pair(other - 1, other),
    ]


def test_a_dismissed_pair_comes_back_when_one_of_them_changes(
    store: Store, customers: CustomerService, finder: DuplicateFinder
) -> None:
    a, b, c = (customers.create(Fields("Ada Lovelace", "ada@example.org"), ME).id for _ in range(3))

    finder.dismiss([b, a], "ann")

    assert [each.pair for each in walked(finder)] == [Pair(a, c), Pair(b, c)]
    assert [each.id for each in finder.of(a)] == [c]
    assert [each.pair for each in finder.pairs(limit=5, dismissed="only").pairs] == [Pair(a, b)]
    assert len(finder.pairs(limit=5, dismissed="include").pairs) == 3
    customers.update(a, lambda fields: Fields(fields.name, fields.email, "+49 30 1234567"), ME)
    assert len(list(walked(finder))) == 3
    assert finder.pairs(limit=5, dismissed="only").pairs == []


def test_notes_of_pairs_are_replaced_dropped_and_forgotten(store: Store) -> None:
    notes = store.duplicates
    notes.dismiss({Pair(1, 2): Versions(1, 1), Pair(1, 3): Versions(1, 4), Pair(2, 3): Versions(1, 4)}, "ann")
    notes.dismiss({Pair(1, 2): Versions(2, 1)}, "bob")

    assert notes.dismissed([Pair(1, 2), Pair(5, 6)]) == {Pair(1, 2): Versions(2, 1)}
    assert notes.dismissed([]) == {}
    assert [pair for pair, _ in notes.dismissals(2)] == [Pair(1, 2), Pair(1, 3)]
    assert [pair for pair, _ in notes.dismissals(2, Pair(1, 3))] == [Pair(2, 3)]
    assert notes.undismiss([Pair(1, 3), Pair(5, 6)]) == 1
    notes.forget([1])
    assert [pair for pair, _ in notes.dismissals(9)] == [Pair(2, 3)]
