"""Forgets an erased customer: the content of their mails, and their suppressed addresses."""

from __future__ import annotations

from ...ports.ledger import MailRecords
from ...ports.recipients import Recipients
from ...service.leftovers import forget_addresses

# How many of the newest rows show which addresses a customer had, and whether others have them.
_LOOKED_AT = 1000


def forget_customer(mails: MailRecords, recipients: Recipients | None, customer_id: int, version: int) -> int:
    """Blank the customer's rows below this version; return how many. It may be repeated.

    Those rows hold the customer's addresses, so first remove these from the list of suppressed addresses.
    """
    if recipients is not None:
        mine = {row.recipient for row in mails.recent(customer_id=customer_id, limit=_LOOKED_AT)}
        forget_addresses(recipients, {each for each in mine if _is_of(mails, each, customer_id)})
    return mails.forget(customer_id, version)


def _is_of(mails: MailRecords, address: str, customer_id: int) -> bool:
    """Whether all mails to this address were about this customer."""
    rows = mails.recent(recipient=address, limit=_LOOKED_AT)
    return all(row.customer_id == customer_id for row in rows)
