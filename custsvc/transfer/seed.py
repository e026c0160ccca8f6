"""Made-up customers, equal for equal seeds on every machine, written in bulk with their events."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Iterator

from ..domain.customers import Customer, Fields, utc_now
from ..domain.events import new_change
from ..ports.customers import ANALYZE_FROM, CustomerStore

# Customers per transaction: more are a little faster, until MongoDB's cache cannot hold them.
_BATCH = 1000
_ACTOR = "seed"

FIRST = (
    "Ada Alan Amina Anders Anna Antonio Ayşe Barbara Björn Chloé Claude Dalia Daniel Edsger Elif Emeka Eva "
    "Fatima Félix Grace Hana Hiroshi Ines Ivan Jana João José Karen Katherine Kenji Lars Leïla Linus Li Maja "
    "Margaret Maria Mei Mohammed Nadia Niklaus Noor Olga Omar Paulo Priya Radia Ravi Rosa Søren Sofia Tim "
    "Tomasz Ulla Vera Wei Yuki Zoë"
).split()
LAST = (
    "Ågren Allen Bachman Berg Brown Chen Cruz Díaz Dubois Eriksson Fischer Fernández García Goldberg Haddad "
    "Hamilton Hansen Hopper Ito Ivanova Jansen Johnson Kaya Khan Kim Kowalski Kumar Lamport Larsen Liskov "
    "Lovelace Martin Meyer Mori Müller Nakamura Novák Okafor Öztürk Papadopoulos Patel Perlman Popov Ritchie "
    "Rossi Santos Sato Schmidt Silva Singh Smith Sørensen Tanaka Torvalds Wang Weber Wirth Yılmaz Zhang"
).split()
_CITIES = ("Aarhus", "Bogotá", "Cairo", "Dakar", "Genève", "Jakarta", "Kraków", "Lima", "Osaka", "Toronto")
_TIERS = ("bronze", "silver", "gold")

# Letters that NFKD does not reduce to ASCII, for mail addresses.
_ASCII = str.maketrans({"ø": "o", "ı": "i", "ł": "l", "Ø": "O", "ß": "ss"})


def made_up(count: int, seed: int) -> Iterator[Fields]:
    """`count` customers in canonical form. A larger `count` only appends customers."""
    rng = random.Random(seed)  # noqa: S311 - made-up data
    plain = {name: _plain(name) for name in (*FIRST, *LAST)}
    for number in range(1, count + 1):
        first, last = FIRST[int(rng.random() * len(FIRST))], LAST[int(rng.random() * len(LAST))]
        draw = int(rng.random() * 10**9)
        yield Fields(
            name=f"{first} {last}",
            email=f"{plain[first]}.{plain[last]}.{seed}.{number}@example.com",
            phone=f"+1 555 {draw % 1000:03d} {draw // 1000 % 10000:04d}",
            metadata={"city": _CITIES[draw % len(_CITIES)], "tier": _TIERS[draw % len(_TIERS)]},
        )


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name.translate(_ASCII))
    return "".join(letter for letter in letters if letter.isascii()).lower()


def seed_customers(
    store: CustomerStore,
    count: int,
    seed: int,
    *,
    mails: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write `count` new customers with their events; returns `count`. After an error earlier batches stay.

    Without `mails` the events are marked as made in bulk.
    """
    fields = made_up(count, seed)
    written = 0
    while written < count:
        ids = store.new_ids(min(_BATCH, count - written))
        now = utc_now()
        store.save_many(
            [
                new_change(
                    "created",
                    None,
                    Customer(customer_id, next(fields), False, 1, now, _ACTOR, now, _ACTOR),
                    actor=_ACTOR,
                    bulk=not mails,
                )
                for customer_id in ids
            ]
        )
        written += len(ids)
        progress(len(ids))
    if count >= ANALYZE_FROM:
        store.analyze()
    return written
