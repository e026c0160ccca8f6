"""Deletes data whose retention time is over, whether or not there are requests."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from typing import Final

from ..config import Settings
from ..domain.customers import utc_now
from ..errors import CustsvcError
from ..ports.facts import Fact
from ..ports.store import Store

logger = logging.getLogger(__name__)

_EVERY: Final = 600.0
_FIRST: Final = 5.0


def purge(store: Store, settings: Settings) -> None:
    """Delete files, reports, sessions, sign-in attempts and answers whose retention time is over."""
    now = utc_now()
    store.shelf.expire()
    store.facts.drop_all(Fact.OLD_PAGES)
    store.sessions.purge(now - dt.timedelta(seconds=max(settings.session_max, 86400)))
    while store.answers.prune(now):
        pass


def keep_purging(store: Store, settings: Settings) -> threading.Thread:
    """Run `purge` periodically, in another thread. Several processes may do so at once."""

    def run() -> None:
        time.sleep(_FIRST)
        while True:
            try:
                purge(store, settings)
            except CustsvcError as exc:
                logger.debug("Purging waits: %s", exc, extra={"action": "purge_waits"})
            except Exception:
                logger.exception("Purging failed; it is tried again", extra={"action": "purge_failed"})
            time.sleep(_EVERY)

    thread = threading.Thread(target=run, name="purge", daemon=True)
    thread.start()
    return thread
