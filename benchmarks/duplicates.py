"""How many duplicates are found among many customers, how many of those are wrong, and what it costs.

Usage: python benchmarks/duplicates.py postgres|mongo ADDRESS [CUSTOMERS [PLANTED]]
With 0 PLANTED it measures the search for one customer only, as among a million.
It makes a database of its own on that server, with made-up customers of whom some share a name, an address or
a number and still are others, and plants duplicates that differ in one of the ways below; then it is dropped.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from custsvc.bench.scratch import databases
from custsvc.config import Settings
from custsvc.domain.customers import Customer, Fields, utc_now
from custsvc.domain.events import new_change
from custsvc.domain.fold import folded
from custsvc.domain.likeness import DEFAULT_SCORE
from custsvc.domain.nicknames import nicknames_of
from custsvc.ports.duplicates import Pair
from custsvc.ports.store import Store
from custsvc.service.duplicates import DuplicateFinder
from custsvc.stores import open_store
from custsvc.transfer.seed import FIRST, LAST

_AT_ONCE = 1000
_PROBED = 300
_SYLLABLES = "ba be bo da de do fa ga ha he ka ke ko la le lo ma me mo na ne no pa ra re ro".split()
_DOMAINS = "example.com example.org mail.example example.net firma.example gmail.com".split()
_COMPANIES = ("Bau", "Digital", "Foods", "Logistics", "Media", "Optik", "Systems", "Trading")
_LEGAL = ("GmbH", "Inc.", "Ltd", "AG", "S.A.", "LLC")

Way = Callable[[random.Random, Fields], Fields | None]


# -- made-up customers -------------------------------------------------------------------------------------


def strangers(count: int, rng: random.Random) -> Iterator[Fields]:
    """Customers of whom no two are one. Some share a name, families a number or an address, offices info@."""
    surnames = [*LAST, *{"".join(rng.choices(_SYLLABLES, k=3)).capitalize() for _ in range(3000)}]
    weights = [1 / (rank + 5) for rank in range(len(surnames))]
    for number in range(40):
        yield Fields("John Smith", f"john.smith{number * 7}@example.com", _number(rng))
    made, last = 40, Fields("Nobody", None, None)
    while made < count:
        first, family = rng.choice(FIRST), rng.choices(surnames, weights)[0]
        kind = rng.random()
        if kind < 0.04:
            name = f"{family} {rng.choice(_COMPANIES)} {rng.choice(_LEGAL)}"
            fields = Fields(name, f"info@{_plain(family)}{made}.example", _number(rng))
        elif kind < 0.06 and " " in last.name and last.phone:  # the family's number, its address now and then
            shared = last.email if rng.random() < 0.3 else _address(rng, first, last.name.split()[-1], made)
            fields = Fields(f"{first} {last.name.split()[-1]}", shared, last.phone)
            if first == last.name.split()[0]:
                continue
        else:
            email = _address(rng, first, family, made) if rng.random() < 0.85 else None
            phone = _number(rng) if rng.random() < 0.8 or email is None else None
            fields = Fields(f"{first} {family}", email, phone)
        yield fields
        made, last = made + 1, fields


def _address(rng: random.Random, first: str, family: str, number: int) -> str:
    a, b, domain = _plain(first), _plain(family), rng.choice(_DOMAINS)
    return (
        rng.choice((f"{a}.{b}{number}", f"{a[0]}{b}.{number}", f"{b}{number}", f"{a}_{b}_{number}"))
        + f"@{domain}"
    )


def _number(rng: random.Random) -> str:
    code, area = rng.choice((("+1", "555"), ("+49", "30"), ("+49", "170"), ("+44", "20"), ("+33", "6")))
    return f"{code} {area} {rng.randrange(10**7, 10**8)}"


def _plain(text: str) -> str:
    return "".join(char for char in folded(text) if char.isascii() and char.isalnum())


# -- the ways in which duplicates differ -------------------------------------------------------------------


def _typo(rng: random.Random, text: str) -> str:
    places = [at for at in range(1, len(text) - 1) if text[at].isalpha() and text[at + 1].isalpha()]
    if not places:
        return text + "h"
    at = rng.choice(places)
    slips = (text[:at] + text[at + 1 :], text[:at] + text[at] + text[at:])
    return rng.choice((*slips, text[:at] + text[at + 1] + text[at] + text[at + 2 :]))


def _other_notation(rng: random.Random, phone: str) -> str:
    code, area, rest = phone.split()
    ways = (
        f"{code}{area}{rest}",
        f"00{code[1:]} {area}/{rest[:4]} {rest[4:]}",
        f"({area}) {rest[:3]}-{rest[3:]}",
    )
    trunk = area if code == "+1" else f"0{area}"
    return rng.choice((*ways, f"{code} ({area}) {rest[:2]} {rest[2:4]} {rest[4:]}", f"{trunk} {rest}"))


def _other_address(rng: random.Random, fields: Fields) -> str | None:
    return rng.choice((None, f"{_plain(fields.name)[:6]}{rng.randrange(10**5)}@other.example"))


def _people(way: Way) -> Way:
    return lambda rng, one: way(rng, one) if len(one.name.split()) == 2 else None


def _by_email(change: Callable[[random.Random, str], str]) -> Way:
    """The same address in another case, and another name."""
    return _people(
        lambda rng, one: (
            (
                one.email
                and replace(
                    one,
                    name=change(rng, one.name),
                    email=one.email.upper(),
                    phone=rng.choice((None, one.phone)),
                )
            )
            or None
        )
    )


def _by_phone(change: Callable[[random.Random, str], str]) -> Way:
    """The same number written otherwise, another name, another address or none."""
    return _people(
        lambda rng, one: (
            (
                one.phone
                and Fields(change(rng, one.name), _other_address(rng, one), _other_notation(rng, one.phone))
            )
            or None
        )
    )


def _swapped(rng: random.Random, name: str) -> str:
    return rng.choice(("{1} {0}", "{1}, {0}")).format(*name.split())


def _initial(rng: random.Random, name: str) -> str:
    first, last = name.split()
    return rng.choice((f"{first[0]}. {last}", f"{first[0]} {last}", f"{first} X. {last}"))


def _nickname(rng: random.Random, name: str) -> str:
    first, last = name.split()
    known = sorted(nicknames_of(folded(first)))
    return f"{rng.choice(known).capitalize()} {last}" if known else name.upper()


def _misspelt_address(rng: random.Random, one: Fields) -> Fields | None:
    if not one.email:
        return None
    local, _, domain = one.email.partition("@")
    email = f"{_typo(rng, local)}@{domain}" if rng.random() < 0.5 else f"{local}@{_typo(rng, domain)}"
    return replace(one, email=email, phone=rng.choice((None, one.phone)))


def _misspelt_both(rng: random.Random, one: Fields) -> Fields | None:
    if not one.phone:
        return None
    phone = one.phone[:-3] + one.phone[-2] + one.phone[-3] + one.phone[-1]
    return replace(one, name=_typo(rng, one.name), phone=phone) if one.email else None


WAYS: dict[str, Way] = {
    "same address, other case": _by_email(lambda _, name: name),
    "same address, name misspelt": _by_email(_typo),
    "same address, names swapped": _by_email(_swapped),
    "same address, initial": _by_email(_initial),
    "same address, no accents": _by_email(lambda _, name: folded(name)),
    "same address, nickname": _by_email(_nickname),
    "same address, title": _by_email(lambda _, name: f"Dr. {name}"),
    "same number": _by_phone(lambda _, name: name),
    "same number, name misspelt": _by_phone(_typo),
    "same number, names swapped": _by_phone(_swapped),
    "same number, initial": _by_phone(_initial),
    "same number, nickname": _by_phone(_nickname),
    "address misspelt": _people(_misspelt_address),
    "name and number misspelt": _people(_misspelt_both),
    "company without its form": lambda _, one: (
        replace(one, name=" ".join(one.name.split()[:2]), phone=None) if len(one.name.split()) == 3 else None
    ),
}


# -- measuring ---------------------------------------------------------------------------------------------


def main(backend: str, address: str, customers: str = "100000", planted: str = "5000") -> None:
    """Write recall by way, precision, and times."""
    settings = Settings(backend=backend, **{f"{backend}_url": address})
    with databases(settings, settings.backend) as scratch, open_store(scratch) as store:
        pairs = _fill(store, int(customers), int(planted))
        finder = DuplicateFinder(store.duplicates, store.customers)
        if pairs:
            started = time.perf_counter()
            found = dict(_walked(finder))
            seconds = time.perf_counter() - started
            _tell_found(pairs, found)
            _tell(
                f"walk over all: {seconds:.0f} s, {seconds / int(customers) * 1e6:.0f} µs for each customer"
            )
        ids = random.Random(3).sample(range(1, int(customers)), _PROBED)  # noqa: S311 - a sample
        times = sorted(_milliseconds(partial(finder.of, id_)) for id_ in ids)
        new = [stored.customer().fields for stored in store.customers.get_many(ids).values()]
        dry_run = _milliseconds(partial(_compared, finder, new)) / len(new)
        _tell(f"dry run of an import: {dry_run:.2f} ms for each row that would add a customer")
        at99 = times[len(times) * 99 // 100]
        _tell(
            f"one customer: median {statistics.median(times):.1f} ms, 99 of 100 within {at99:.1f} ms, "
            f"slowest {times[-1]:.1f} ms"
        )


def _fill(store: Store, customers: int, planted: int) -> dict[Pair, str]:
    """Store them; return the planted pairs, each with its way."""
    rng = random.Random(1)  # noqa: S311 - made-up data
    fields = list(strangers(customers - planted, rng))
    pairs: dict[tuple[int, int], str] = {}
    ways = list(WAYS.items())
    for at in rng.sample(range(40, len(fields)), len(fields) - 40):
        if len(pairs) == planted:
            break
        what, way = ways[len(pairs) % len(ways)]
        if (copy := way(rng, fields[at])) is not None:
            pairs[at, len(fields)] = what
            fields.append(copy)
    order = rng.sample(range(len(fields)), len(fields))
    ids = {at: place + 1 for place, at in enumerate(order)}
    _store(store, [fields[at] for at in order])
    return {Pair(*sorted((ids[a], ids[b]))): what for (a, b), what in pairs.items()}


def _store(store: Store, fields: Sequence[Fields]) -> None:
    now = utc_now()
    for start in range(0, len(fields), _AT_ONCE):
        some = fields[start : start + _AT_ONCE]
        new = [
            Customer(id_, each, False, 1, now, "bench", now, "bench")
            for id_, each in zip(store.customers.new_ids(len(some)), some, strict=True)
        ]
        store.customers.save_many([new_change("created", None, each, actor="bench") for each in new])


def _walked(finder: DuplicateFinder) -> Iterator[tuple[Pair, tuple[float, tuple[str, ...]]]]:
    place = None
    while True:
        page = finder.pairs(limit=200, after=place, min_score=0.5)
        yield from ((each.pair, (each.score, each.reasons)) for each in page.pairs)
        if (place := page.place) is None:
            return


def _tell_found(pairs: dict[Pair, str], found: dict[Pair, tuple[float, tuple[str, ...]]]) -> None:
    right = {pair for pair, (score, _) in found.items() if score >= DEFAULT_SCORE}
    by_way, all_ways = Counter(pairs[pair] for pair in right & pairs.keys()), Counter(pairs.values())
    for what, count in all_ways.items():
        _tell(f"{what:32} {by_way[what]:5} of {count:5}  {by_way[what] / count:7.1%}")
    wrong = right - pairs.keys()
    _tell(f"found {len(right & pairs.keys()) / len(pairs):.2%} of {len(pairs)} planted pairs")
    _tell(f"wrong {len(wrong) / max(len(right), 1):.2%} of {len(right)} pairs from {DEFAULT_SCORE} on")
    for reasons, count in Counter(" + ".join(found[pair][1]) for pair in wrong).most_common(8):
        _tell(f"  {count:5} wrong by {reasons}")
    for score in (0.5, 0.6, 0.7, 0.8, 0.9):
        above = {pair for pair, (given, _) in found.items() if given >= score}
        hit = len(above & pairs.keys())
        _tell(f"  from {score}: found {hit / len(pairs):.1%}, wrong {1 - hit / max(len(above), 1):.1%}")


def _compared(finder: DuplicateFinder, new: Sequence[Fields]) -> None:
    """Compare these as a dry run does."""
    for start in range(0, len(new), 100):
        finder.like_each(new[start : start + 100])


def _milliseconds(read: Callable[[], object]) -> float:
    started = time.perf_counter()
    read()
    return (time.perf_counter() - started) * 1000


def _tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
