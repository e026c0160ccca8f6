"""The same random requests to both backends: every answer is the same, to the byte.

Clock, ids of events and customers, and the secret of cursors are fixed, so nothing need be masked. A
difference is shown with the seed that leads to it.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import random
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from flask import Flask

from custsvc.accounts.keys import new_key
from custsvc.config import Settings
from custsvc.domain import events
from custsvc.notify.rules.forecast import Forecast
from custsvc.serve import create_app
from custsvc.service import duplicate_keys
from custsvc.transfer import load
from tests.sizes import sizes

from ..databases import Databases, open_database
from .requests import Asked, Requests

pytestmark = pytest.mark.slow

# Far ahead: MongoDB itself forgets answers to keys that are a day old by its own clock.
START = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
WALK = 2000
BACKENDS = ("postgres", "mongo")


class Answer:
    """The compared parts of an answer: status, headers and body."""

    def __init__(self, response: Any) -> None:
        self.status = response.status_code
        self.headers = sorted(response.headers)
        # The ids of imports are random.
        self.body = re.sub(rb'"import":"[0-9a-f]{16}"', b'"import":"ID"', response.data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Answer) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return f"{self.status} {self.headers}\n{self.body[:2000]!r}"


class Steps:
    """A clock and numbers that begin again with each request, the same on both sides."""

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, step: int) -> None:
        self._time = START + dt.timedelta(seconds=step)
        self._ticks = itertools.count()
        self._numbers = itertools.count(step * 10_000)

    def clock(self) -> dt.datetime:
        return self._time + dt.timedelta(milliseconds=next(self._ticks) % 1000)

    def event_id(self) -> str:
        return f"00000000-0000-7000-8000-{next(self._numbers):012d}"


class Side:
    """One backend with its app."""

    def __init__(self, app: Flask, key: str) -> None:
        self._client = app.test_client()
        self._key = key

    def ask(self, asked: Asked, step: int) -> Answer:
        headers = {"X-Request-Id": f"r{step}", "Authorization": f"Bearer {self._key}", **asked.headers}
        with self._client.open(asked.path, method=asked.method, data=asked.body, headers=headers) as response:
            return Answer(response)


@contextmanager
def side(backend: str, url: str, steps: Steps) -> Iterator[Side]:
    with open_database(backend, url) as store:
        ids = itertools.count(1)
        store.customers.new_id = lambda: next(ids)  # type: ignore[method-assign]
        store.customers.new_ids = lambda count: list(itertools.islice(ids, count))  # type: ignore[method-assign]
        store.secret = lambda: b"the same on both".ljust(32)  # type: ignore[method-assign]
        app = create_app(Settings(backend=backend), store)  # type: ignore[arg-type]
        app.extensions["custsvc"].customers._changes.clock = steps.clock
        key, stored = new_key("admin", "admin")
        store.keys.add(stored)
        yield Side(app, key)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    steps = Steps()
    # The first import of a process tries the rules on made-up events: before events are numbered.
    Forecast.of(Settings())
    monkeypatch.setattr(events, "new_event_id", steps.event_id)
    monkeypatch.setattr(load, "load", functools.partial(load.load, clock=steps.clock))
    # Of a number that more customers have than the limit, each database finds others of them.
    for kind in duplicate_keys.LIMITS:
        monkeypatch.setitem(duplicate_keys.LIMITS, kind, 10_000)
    return steps


@pytest.fixture
def both(all_databases: Callable[[str], Databases], steps: Steps) -> Callable[[], Any]:
    @contextmanager
    def both() -> Iterator[list[Side]]:
        urls = {backend: all_databases(backend).migrated() for backend in BACKENDS}
        try:
            with ExitStack() as stack:
                yield [stack.enter_context(side(*each, steps)) for each in urls.items()]
        finally:
            for backend, url in urls.items():
                all_databases(backend).drop(url)

    return both


def _parting(ours: Answer, theirs: Answer) -> str:
    """Where the two bodies begin to differ."""
    pairs = enumerate(zip(ours.body, theirs.body, strict=False))
    at = next((place for place, (one, other) in pairs if one != other), 0)
    around = slice(max(0, at - 80), at + 80)
    return f"the bodies part at {at}: {ours.body[around]!r}, {theirs.body[around]!r}"


def walk(sides: list[Side], steps: Steps, seed: int, count: int) -> set[int]:
    """Send N requests of a seed to both; returns the statuses of the answers."""
    requests, statuses = Requests(seed), set()
    for step in range(1, count + 1):
        asked = requests.next()
        answers = []
        for each in sides:
            steps.begin(step)
            answers.append(each.ask(asked, step))
        ours, theirs = answers
        where = f"seed {seed}, request {step}: {asked}"
        assert ours == theirs, f"{where}\npostgres: {ours!r}\nmongo: {theirs!r}\n{_parting(ours, theirs)}"
        assert ours.status < 500 or ours.status == 501, f"{where}\n{ours!r}"
        statuses.add(ours.status)
        requests.learn(asked, ours.status, dict(ours.headers), ours.body)
    return statuses


@sizes("requests", WALK, 50_000)
def test_both_backends_answer_the_same_requests_alike(
    requests: int, both: Callable[[], Any], steps: Steps
) -> None:
    seeds = [11] if requests == WALK else random.SystemRandom().sample(range(10**9), requests // WALK)
    for seed in seeds:
        with both() as sides:
            statuses = walk(sides, steps, seed, WALK)
        assert {200, 201, 204, 304, 400, 404, 409, 410, 412, 422} <= statuses, (seed, statuses)
