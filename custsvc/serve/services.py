"""The services that the handlers use, made from settings and a store."""

from __future__ import annotations

from ..accounts.keys import KeyRing
from ..config import Settings
from ..http.copy import Copy
from ..http.cursors import Cursors
from ..http.few import Few
from ..http.limit import TRIES, RateLimit
from ..http.reads import Reads
from ..http.resource import Services
from ..http.streams import BigAnswers, LazyFeed, Streams
from ..ports.store import Store
from ..service.customers import CustomerService
from ..service.duplicates import DuplicateFinder
from ..service.event_limit import EventLimit
from ..service.leftovers import Leftovers
from ..stores import open_read_server
from .measure import count_read, note_lag


def services_of(
    settings: Settings, store: Store, limit: RateLimit | None = None, limit_table: str | None = None
) -> Services:
    """The services of an app. `limit`: of requests; `limit_table`: where a server's processes count them."""
    return Services(
        settings=settings,
        store=store,
        customers=CustomerService(
            store.customers,
            store.answers,
            event_limit=EventLimit(store.facts),
            leftovers=Leftovers(
                store.customers, store.facts, store.shelf, store.recipients, store.duplicates
            ),
        ),
        duplicates=DuplicateFinder(store.duplicates, store.customers),
        cursors=Cursors(store.secret),
        keys=KeyRing(store.keys),
        streams=Streams(settings.streams),
        big=BigAnswers(),
        limit=limit,
        tries=RateLimit(TRIES, limit_table),
        feed=LazyFeed(settings),
        few_at_kafka=Few(settings.threads // 2, "kafka"),
        reads=Reads(
            store.customers,
            open_read_server(settings, store),
            settings.read_lag,
            count=count_read,
            note_lag=note_lag,
        ),
        copy=Copy(store.customers, settings.threads) if settings.read_only else None,
    )
