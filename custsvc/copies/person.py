"""All data of a person: what each place of an erasure holds of a customer and those merged into it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import IO, Any, Final, NamedTuple

import orjson

from ..config import Settings
from ..domain.customers import format_time, utc_now
from ..domain.erasure import PLACES, is_blank
from ..ports.ledger import ERASED, Notification
from ..ports.recipients import Suppression
from ..ports.store import Store
from ..service.leftovers import UPLOADS, spellings
from .dead_letters import DeadLetterBox, as_row, customers_of

_PAGE: Final = 500
# Mails of one customer, or to one address, that are given at most; the newest come first.
MAILS_MAX: Final = 100_000
# A summary counts up to this.
COUNTED: Final = 2000

Row = dict[str, Any]


class Held(NamedTuple):
    """How many rows a place holds of a person, and how many of them have personal data, up to COUNTED."""

    rows: int
    personal: int


class Person:
    """The customers who are one person: one, and those merged into it."""

    def __init__(self, settings: Settings, store: Store, ids: Sequence[int]) -> None:
        self.ids = list(ids)
        self._settings = settings
        self._store = store
        self._known: set[str] | None = None

    def rows(self, place: str) -> Iterator[Row]:
        """What a place holds, as JSON can take it. Raises TemporaryError if it cannot be read."""
        return iter(_READERS[place](self))

    def held(self, place: str) -> Held:
        found = list(islice(self.rows(place), COUNTED))
        return Held(len(found), sum(_is_personal(place, row) for row in found))

    def write(self, file: IO[bytes], by: str) -> None:
        """Write the bundle: a ZIP with an NDJSON file for each place, and `contents.json` about them."""
        about: list[Row] = []
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
            for place in PLACES:
                if place.given:
                    count = self._write(bundle, place.name)
                    about.append({"file": f"{place.name}.ndjson", "holds": place.what, "rows": count})
                else:
                    about.append({"file": None, "holds": place.what, "erased": place.reach})
            head = {"customers": self.ids, "made_on": format_time(utc_now()), "made_by": by}
            bundle.writestr("contents.json", orjson.dumps({**head, "places": about}, option=_PRETTY))

    def _write(self, bundle: zipfile.ZipFile, place: str) -> int:
        count = 0
        with bundle.open(f"{place}.ndjson", "w") as part:
            for row in self.rows(place):
                part.write(orjson.dumps(row, default=str) + b"\n")
                count += 1
        return count

    # -- the places ----------------------------------------------------------------------------------------

    def customer(self) -> Iterator[Row]:
        for stored in self._store.customers.get_many(self.ids).values():
            yield orjson.loads(stored.doc)

    def history(self) -> Iterator[Row]:
        for customer_id in self.ids:
            before: int | None = None
            while events := self._store.customers.history(customer_id, limit=_PAGE, before_version=before):
                read = [orjson.loads(event) for event in events]
                yield from read
                before = read[-1]["version"]

    def mails(self) -> Iterator[Row]:
        for customer_id in self.ids:
            yield from self._mails(self._store.ledger.recent(customer_id=customer_id, limit=MAILS_MAX))

    def requested_mails(self) -> Iterator[Row]:
        for address in sorted(self._addresses()):
            found = self._store.ledger.recent(recipient=address, limit=MAILS_MAX)
            yield from self._mails([mail for mail in found if mail.customer_id is None])

    def suppressions(self) -> Iterator[Row]:
        forms = sorted({form for address in self._addresses() for form in spellings(address)})
        found: Mapping[str, Suppression] = self._store.recipients.suppressed(forms) if forms else {}
        for each in found.values():
            yield asdict(each)

    def unsubscribed(self) -> Iterator[Row]:
        for customer_id, rules in self._store.recipients.unwanted(self.ids).items():
            yield {"customer_id": customer_id, "rules": sorted(rules)}

    def dismissed(self) -> Iterator[Row]:
        mine, after = set(self.ids), None
        while page := self._store.duplicates.dismissals(_PAGE, after):
            for pair, versions in page:
                if mine & set(pair):
                    yield {**pair._asdict(), "versions": list(versions)}
            after = page[-1][0]

    def uploads(self) -> Iterator[Row]:
        """Only their names: a file may name anybody, and this person's bundle must not show the others."""
        for prefix in UPLOADS:
            for name in self._store.shelf.names(prefix):
                yield {"name": name}

    def dead_letters(self) -> Iterator[Row]:
        if not self._settings.kafka:
            return
        with DeadLetterBox(self._settings) as box:
            for letter in box.all():
                keys = {str(each).encode() for each in self.ids}
                if letter.key in keys or set(customers_of([letter])) & set(self.ids):
                    yield {**as_row(letter), "value": (letter.value or b"").decode("utf-8", "replace")}

    def _mails(self, mails: Sequence[Notification]) -> Iterator[Row]:
        for start in range(0, len(mails), _PAGE):
            some = mails[start : start + _PAGE]
            attempts = self._store.ledger.attempts([mail.id for mail in some])
            for mail in some:
                row = {name: value for name, value in asdict(mail).items() if name not in _OURS}
                yield {**row, "tries": [asdict(each) for each in attempts.get(mail.id, [])]}

    def _addresses(self) -> set[str]:
        """All addresses that this person has or had, as the history still knows them."""
        if self._known is None:
            sides = (
                side for event in self.history() for side in (event["before_change"], event["after_change"])
            )
            self._known = {side["email"] for side in sides if side and side["email"]}
        return self._known


_PRETTY: Final = orjson.OPT_INDENT_2
# Of a mail, what is only about the queue.
_OURS: Final = ("token", "spared")

_READERS: Final[Mapping[str, Callable[[Person], Iterable[Row]]]] = {
    "customer": Person.customer,
    "history": Person.history,
    "mails": Person.mails,
    "requested_mails": Person.requested_mails,
    "suppressions": Person.suppressions,
    "unsubscribed": Person.unsubscribed,
    "dismissed": Person.dismissed,
    "uploads": Person.uploads,
    "dead_letters": Person.dead_letters,
}


def _is_personal(place: str, row: Row) -> bool:
    """Whether a row holds more than numbers."""
    if place == "customer":
        return not is_blank(row)
    if place == "history":
        return not (is_blank(row["before_change"]) and is_blank(row["after_change"]))
    if place in ("mails", "requested_mails"):
        return bool(row["recipient"] != ERASED)
    return place != "unsubscribed"
