"""Personal data outside of customers: uploaded files, reports, suppressed addresses, dismissed pairs.

An erase deletes it just before it blanks the customer, so that a completed erase has covered all of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import orjson

from ..ports.customers import CustomerStore
from ..ports.duplicates import Duplicates
from ..ports.facts import Fact, Facts
from ..ports.recipients import Recipients
from ..ports.shelf import Shelf, Shelved

# On the shelf: uploaded files, and reports about them.
UPLOADS: Final = (Shelved.UPLOAD, Shelved.UPLOAD_PART, Shelved.JOB, Shelved.JOB_ONCE)
_PAGE: Final = 100


class Leftovers:
    """Personal data in a database outside its customers and their events."""

    def __init__(
        self,
        customers: CustomerStore,
        facts: Facts,
        shelf: Shelf,
        recipients: Recipients,
        duplicates: Duplicates,
    ) -> None:
        self._customers = customers
        self._facts = facts
        self._shelf = shelf
        self._recipients = recipients
        self._duplicates = duplicates

    def forget(self, customer_id: int) -> None:
        """Delete data that may name a customer who is about to be erased.

        It is impossible to know whom a file names: it may have any format and be half read. So all files and
        reports are deleted: they are kept only for a day, for import, and can be uploaded again.
        """
        self._facts.put(Fact.ERASED_AT, repr(time.time()))
        self._facts.drop_all(Fact.OLD_PAGES)
        for prefix in UPLOADS:
            self._shelf.drop_all(prefix)
        self._duplicates.forget([customer_id])
        forget_addresses(self._recipients, self._addresses_of_nobody_else(customer_id))

    def _addresses_of_nobody_else(self, customer_id: int) -> set[str]:
        """The addresses that this customer has ever had and no other customer has."""
        mine = self._addresses(customer_id)
        others = self._customers.get_by_emails(sorted(mine)) if mine else []
        taken = {(other.customer().fields.email or "").lower() for other in others if other.id != customer_id}
        return {address for address in mine if address.lower() not in taken}

    def _addresses(self, customer_id: int) -> set[str]:
        found: set[str] = set()
        before: int | None = None
        while events := self._customers.history(customer_id, limit=_PAGE, before_version=before):
            for payload in events:
                event = orjson.loads(payload)
                sides = (event["before_change"], event["after_change"])
                found |= {side["email"] for side in sides if side and side["email"]}
            before = orjson.loads(events[-1])["version"]
        return found


def forget_addresses(recipients: Recipients, addresses: Iterable[str]) -> None:
    """Remove these from the suppressed addresses, in each form in which they may be stored."""
    for address in addresses:
        for form in spellings(address):
            recipients.allow(form)


def spellings(address: str) -> set[str]:
    """The forms in which an address may be on the list of suppressed ones."""
    from ..domain.address import BadAddress, one_address

    forms = {address, address.lower()}
    with suppress(BadAddress):
        forms.add(one_address(address).spec)
    return forms


def erased_since(facts: Facts, moment: float) -> bool:
    """Whether a customer was erased after `moment` (Unix time): earlier reports are then withheld."""
    return float(facts.get(Fact.ERASED_AT) or 0) >= moment
