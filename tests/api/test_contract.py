"""The contract of the API as one long story, told to both backends, whose answers are compared byte by byte.

Clock and event ids are fixed, and topics, databases and the copy are each one's own. What has to differ all
the same is in `MASKED`.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import orjson
import pytest
from flask import Flask

from custsvc.accounts.keys import new_key
from custsvc.config import Settings
from custsvc.copies.dead_letters import DeadLetterBox
from custsvc.copies.replicate import Replicate
from custsvc.domain import events
from custsvc.http.codes import CODES
from custsvc.kafka.publisher import Publisher, Record
from custsvc.kafka.topics import ensure_topics
from custsvc.ports.ledger import Notification
from custsvc.ports.store import Store
from custsvc.relay.relay import Relay
from custsvc.runtime.loop import Stop
from custsvc.serve import create_app
from custsvc.service.customers import CustomerService
from custsvc.stores.mongo import MongoStore
from custsvc.transfer import load, undo
from tests.background import in_background
from tests.steps import settle
from tests.waiting import until

from ..databases import Databases, open_database
from . import story
from .conftest import Client
from .story import TRACE
from .teller import Line, Teller
from .test_auth import NEEDED

pytestmark = pytest.mark.slow

# Values that cannot be the same, and their substitutes: in which answers, which, and why.
MASKED: Final = [
    # Cursors are signed with each installation's own secret. What they lead to is compared.
    ("", r'cursor=[^&>"]+', "cursor=C"),
    # The ids of dead letters are made of the topic's name, which is the test's.
    ("/api/failed", "dead-[0-9a-f]{12}", "dead-ID"),
    # The ids of imports are random.
    ("/import", '(?<=[/"])[0-9a-f]{16}(?=[/"])', "IMPORT"),
    # So are those of webhook endpoints, and their secrets; the ids of deliveries are made of both.
    ("/api/webhooks", '(?<=[/": ])[0-9a-f]{16}(?=[/" ?]|$)', "ENDPOINT"),
    ("/api/webhooks", '(?<=[/"])([0-9a-f]{32}|test/[^"]*)(?=[/"])', "DELIVERY"),
    ("/api/webhooks", 'whsec_[^"]*', "SECRET"),
    # These are by the clocks of the database and of Kafka.
    ("/api/status", r'"oldest_age_s":[\d.]+', '"oldest_age_s":S'),
    ("/api/status", r'"oldest_seconds":[\d.]+', '"oldest_seconds":S'),
    ("/api/failed|notifications|/imports|/api/webhooks", r'"\d{4}-\d\d-\d\dT[\d:.]+Z"', '"TIME"'),
    # An estimate is the planner's.
    ("count=estimated", r'"count":\d+', '"count":N'),
    # Which database it is, is said where somebody looks after it.
    ("/api/status|/metrics", r"\b(postgres|mongo)\b", "DATABASE"),
    # Kafka belongs to all tests, so there are copies of others.
    ("/api/status", r'\{"step":"custsvc-copy-(?!MINE")[^}]*\},', ""),
    # The process's own use and counts depend on other requests. The lines with # show that they exist.
    ("/metrics", r"(?m)^(python_|process_|custsvc_http_).*\n", ""),
]

# Problems that the story cannot bring about with one caller at a time, and who does on both backends.
ELSEWHERE: Final = {
    "bad-request": "test_server, broken HTTP",
    "batch-undone": "the story, as the status of an operation",
    "body-timeout": "test_overload",
    "head-too-large": "test_heads",
    "history-trimmed": "test_past",
    "idempotency-in-flight": "test_idempotency",
    "internal": "test_problems",
    "misconfigured": "test_problems",
    "overloaded": "test_overload",
    "rate-limited": "test_protection",
    "too-many-streams": "test_bulk",
}


EVENT_ID: Final = "00000000-0000-7000-8000-"


def masked(line: Line, name: str) -> Line:
    """The same with what cannot be the same masked; `name` is that of the topics and of the copy."""

    def clean(text: str) -> str:
        text = text.replace(name, "MINE")
        for where, what, mask in MASKED:
            if re.search(where, line.asked):
                text = re.sub(what, mask, text)
        return text

    body = clean(line.body.decode())
    headers = [(name, clean(value)) for name, value in line.headers]
    if body.encode() != line.body:
        headers = [each for each in headers if each[0] != "Content-Length"]
    return Line(clean(line.asked), line.status, headers, body.encode())


def renumbered(lines: Iterable[Line]) -> list[Line]:
    """The lines with the ids of events in the order in which they are told.

    An id is also drawn for a replacement that finds nothing to replace; the contract says nothing of gaps.
    """
    numbers: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        return numbers.setdefault(found[0], f"{EVENT_ID}{len(numbers) + 1:012d}")

    def told(line: Line) -> Line:
        return line._replace(body=re.sub(EVENT_ID + r"\d{12}", number, line.body.decode()).encode())

    return [told(line) for line in lines]


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Callable[[], dt.datetime]]:
    """Begins time and ids from the start; returns the clock: a second passes at each look."""
    load_by_any_clock, undo_by_any_clock = load.load, undo.undo

    def begin() -> Callable[[], dt.datetime]:
        numbers, seconds = itertools.count(1), itertools.count()
        monkeypatch.setattr(events, "new_event_id", lambda: f"{EVENT_ID}{next(numbers):012d}")
        start = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)

        def clock() -> dt.datetime:
            return start + dt.timedelta(seconds=next(seconds))

        monkeypatch.setattr(load, "load", functools.partial(load_by_any_clock, clock=clock))
        monkeypatch.setattr(undo, "undo", functools.partial(undo_by_any_clock, clock=clock))
        return clock

    return begin


class Installation:
    """One backend with topics of its own, and a copy on the other one."""

    def __init__(self, settings: Settings, store: Store, copy: Store) -> None:
        self.settings = settings
        self.store = store
        self.name = settings.topic_updates
        self._copy = copy
        # Ids are leased in blocks of each backend's own size; the contract says nothing of gaps.
        self.ids = itertools.count(1)
        store.customers.new_id = lambda: next(self.ids)  # type: ignore[method-assign]
        store.customers.new_ids = lambda count: [next(self.ids) for _ in range(count)]  # type: ignore[method-assign]

    def publish(self) -> None:
        """Every event goes to Kafka."""
        stop = Stop()
        with Publisher(self.settings) as publisher:
            relay = Relay(self.settings, self.store, publisher, stop)
            with in_background(relay.run, stop):
                until("all is published", lambda: self.store.outbox.depth().waiting == 0)

    def spoil(self) -> None:
        """Two records come that no copy can read, and the copy dead-letters them."""
        bad = [Record(b"7", b"{not json", [("h", b"\x00\xff")]), Record(b"8", b'{"customer_id": "8"}', [])]
        stop = Stop()
        with Publisher(self.settings) as publisher, DeadLetterBox(self.settings) as box:
            publisher.send(self.settings.topic_updates, bad)
            copy = Replicate(self.settings, self._copy.replica, publisher, self.name, stop)
            with in_background(copy.run, stop):
                until("they are dead letters", lambda: len(box.all()) == 2)

    def refuse_mails(self) -> None:
        """Two mails to one customer fail for good; another one waits."""
        for number in range(3):
            mail = Notification(
                f"n{number}", f"e{number}", 2, number, "welcome", f"{number}@example.org", "Hi", "text", None
            )
            self.store.ledger.add([mail])
            time.sleep(0.01)  # the newest first, by milliseconds
        for mail in self.store.ledger.claim(10, 600):
            if mail.id != "n2":
                settle(self.store.ledger, mail, "failed", reason="550 nobody here", code=550, duration=0.2)

    def deliver(self, endpoint: str) -> None:
        """Three deliveries for a webhook endpoint: one arrived, one was refused, one waits."""
        channel = f"webhook:{endpoint}"
        for number in range(3):
            name, id_ = f"d{number}", f"{number}" * 32
            new = Notification(
                id_, name, number, 1, "webhook", channel, "created", "{}", None, channel=channel
            )
            self.store.ledger.add([new])
            time.sleep(0.01)  # the newest first, by milliseconds
        for row in self.store.ledger.claim(2, 600, channel):
            state: Any = "sent" if row.customer_id == 0 else "failed"
            code = 200 if state == "sent" else 500
            settle(self.store.ledger, row, state, reason=f"{code} said", code=code, duration=0.2)

    def history(self) -> list[tuple[int, bytes]]:
        """The events of all customers, those of each the oldest first."""
        customers = self.store.customers
        last = next(self.ids)
        return [(n, e) for n in range(1, last) for e in reversed(customers.history(n, limit=100))]


def keep_what_is_old(store: MongoStore) -> None:
    """MongoDB drops old answers and plans by its own clock, for which those of this story are days old."""
    for name, field in (("answer", "created_on"), ("shelf", "until")):
        index = {"keyPattern": {field: 1}, "expireAfterSeconds": 2_000_000_000}
        store._connection.database.command({"collMod": name, "index": index})


@pytest.fixture
def install(servers: Any, all_databases: Callable[[str], Databases]) -> Callable[[str], Any]:
    """Sets a backend up for the block."""

    @contextmanager
    def install(backend: str) -> Iterator[Installation]:
        name = f"contract-{uuid.uuid4().hex}"
        other = "mongo" if backend == "postgres" else "postgres"
        urls = {each: all_databases(each).migrated() for each in (backend, other)}
        settings = Settings(
            backend=backend,  # type: ignore[arg-type]
            kafka=servers.url("kafka"),
            topic_updates=name,
            topic_notify=f"{name}-notify",
            topic_failed=f"{name}-failed",
            topic_dead=f"{name}-dead",
            partitions=1,
        )
        ensure_topics(settings)
        try:
            with open_database(backend, urls[backend]) as store, open_database(other, urls[other]) as copy:
                for opened in (store, copy):
                    if isinstance(opened, MongoStore):
                        keep_what_is_old(opened)
                yield Installation(settings, store, copy)
        finally:
            for each, url in urls.items():
                all_databases(each).drop(url)

    return install


Make = Callable[..., Flask]


def by_flask(settings: Settings, store: Store) -> Flask:
    """An app without its direct door: Flask-RESTful answers everything."""
    app = create_app(settings, store)
    app.wsgi_app = app.wsgi_app.flask  # type: ignore[method-assign, attr-defined]
    return app


def callers(installed: Installation, app: Flask, make: Make) -> dict[str, Any]:
    """The callers: one per role, and the same person at installations with other settings."""
    keys = {}
    for role in ("read", "write", "admin"):
        keys[role], key = new_key(role, role)
        installed.store.keys.add(key)
    stranger = Client(app)

    def by_other_header(method: str, path: str, headers: dict[str, str], **kwargs: Any) -> Any:
        return stranger(method, path, headers=headers | {"X-Api-Key": keys["read"]}, **kwargs)

    def where(**changed: Any) -> Client:
        return Client(make(installed.settings.replace(**changed), installed.store), keys["write"])

    return {
        "reader": Client(app, keys["read"]),
        "writer": Client(app, keys["write"]),
        "admin": Client(app, keys["admin"]),
        "stranger": stranger,
        "other header": by_other_header,
        "careful": where(require_if_match=True),
        "copy": where(read_only=True),
        "choosy": where(trusted_hosts="api.example.org"),
        "without Kafka": where(kafka=""),
    }


def told_by(installed: Installation, clock: Callable[[], dt.datetime], make: Make) -> Teller:
    store = installed.store
    app = make(installed.settings, store)
    service: CustomerService = app.extensions["custsvc"].customers
    service._changes.clock = clock
    tell = Teller(app, callers(installed, app, make))
    story.story(tell)
    with store.outbox.lead():
        traced = [event for event in store.outbox.read(1000).events if event.traceparent]
    assert [(event.customer_id, event.version, event.traceparent) for event in traced] == [(1, 1, TRACE)]
    written = installed.history()
    tell.told += [Line(f"event of {customer_id}", 0, [], event) for customer_id, event in written]
    installed.publish()
    installed.spoil()
    installed.refuse_mails()
    story.pipeline(tell)
    story.webhooks(tell, installed.deliver)
    story.events(tell, len(written))
    app.extensions["custsvc"].feed.close()
    return tell


# Each backend by the direct door, as it is served; and one of them by Flask-RESTful.
TELLERS: Final = {
    "postgres": ("postgres", create_app),
    "mongo": ("mongo", create_app),
    "by Flask": ("postgres", by_flask),
}


def test_both_backends_and_both_doors_tell_the_same_story_byte_for_byte(
    install: Callable[[str], Any], fixed: Callable[[], Callable[[], dt.datetime]]
) -> None:
    told = {}
    for name, (backend, make) in TELLERS.items():
        with install(backend) as installed:
            tell = told_by(installed, fixed(), make)
        told[name] = renumbered(masked(line, installed.name) for line in tell.told)
        # Every row of the contract was told; the page behind the link in mails has a test of its own.
        assert {each for each in tell.routes if each[1] != "HEAD"} == {
            each for each in NEEDED if not each[0].startswith("/unsubscribe")
        }

    for other in ("mongo", "by Flask"):
        for ours, theirs in zip(told["postgres"], told[other], strict=True):
            assert ours == theirs, (other, ours.asked)
    codes = set()
    for asked, status, headers, body in told["postgres"]:
        if status >= 400 and body:
            problem = orjson.loads(body)
            codes.add(problem["code"])
            assert dict(headers)["Content-Type"] == "application/problem+json", asked
            assert problem["type"] == f"/problems/{problem['code']}", asked
            assert problem["status"] == status, asked
        elif 0 < status < 400 and re.search("/customers|/api/failed|/api/status", asked):
            assert dict(headers)["Cache-Control"] in ("private, no-cache", "private, no-store"), asked
    assert set(CODES) - codes == set(ELSEWHERE)
