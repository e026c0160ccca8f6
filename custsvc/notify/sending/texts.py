"""Drops the texts of mails that were sent long ago: they are most of the ledger's size.

Everything else of a mail stays: to whom, when, by which rule, because of which event, and each attempt.
"""

from __future__ import annotations

import datetime as dt

from ...ports.facts import Fact, Facts
from ...ports.ledger import MailRecords
from ...runtime.loop import Stop


class Texts:
    """Remembers how far it came, so that no row is read twice. Several processes do no harm."""

    def __init__(self, ledger: MailRecords, facts: Facts, seconds: float) -> None:
        """`seconds`: how long ago a mail was created, which by then is sent if it ever will be."""
        self._ledger = ledger
        self._facts = facts
        self._seconds = seconds

    def drop(self, stop: Stop) -> int:
        """Drop the texts that are old enough now; return how many."""
        dropped = 0
        known = self._facts.get(Fact.MAIL_TEXTS)
        since = dt.datetime.fromisoformat(known) if known else None
        while not stop.asked():
            count, till = self._ledger.drop_texts(since, self._seconds)
            dropped += count
            if till is None:
                break
            since = till
            self._facts.put(Fact.MAIL_TEXTS, till.isoformat())
        return dropped
