"""A whole pipeline for one test: two new databases, new topics, and roles as processes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from custsvc.config import Settings
from custsvc.copies.replicate import Replicate, group
from custsvc.domain.customers import Fields
from custsvc.kafka import client as kafka
from custsvc.kafka.publisher import Publisher
from custsvc.kafka.reader import Reader
from custsvc.kafka.topics import ensure_topics
from custsvc.ports.replica import Replica
from custsvc.relay.relay import Relay
from custsvc.runtime.loop import Stop
from custsvc.service.customers import Caller, CustomerService
from custsvc.stores import open_store
from tests.background import in_background
from tests.chaos import checker
from tests.chaos.roles import Role
from tests.waiting import until

ME = Caller("chaos")
OPTIONS = {"session.timeout.ms": "1500", "heartbeat.interval.ms": "300"}


class Line:
    """Source → topic → copy, with nothing running on it yet. `backend` is the system of record."""

    def __init__(self, settings: Settings, folder: Path, stack: ExitStack) -> None:
        self.settings = settings
        self._folder = folder
        self._stack = stack
        self.roles: list[Role] = []
        self.source = stack.enter_context(open_store(settings))
        self.copy = stack.enter_context(open_store(settings, settings.other_backend))
        self.service = CustomerService(self.source.customers)
        self.acknowledged: dict[int, int] = {}

    # -- writes

    def create(self, name: str = "Ada", **fields: Any) -> int:
        """A new customer; its id."""
        stored = self.service.create(Fields(name, **fields), ME)
        self.acknowledged[stored.id] = stored.version
        return stored.id

    def change(self, customer_id: int, times: int = 1) -> int:
        """The next versions of a customer; the last one's number."""
        for _ in range(times):
            stored = self.service.replace(customer_id, Fields(uuid.uuid4().hex), ME)
            self.acknowledged[customer_id] = stored.version
        return self.acknowledged[customer_id]

    def set_email(self, customer_id: int, email: str) -> None:
        stored = self.service.replace(customer_id, Fields("Ada", email), ME)
        self.acknowledged[customer_id] = stored.version

    def crowd(self, customers: int, versions: int = 1) -> list[int]:
        """N customers, each with N versions."""
        ids = [self.create(f"customer {n}") for n in range(customers)]
        for _ in range(versions - 1):
            for each in ids:
                self.change(each)
        return ids

    # -- roles

    def env(self, **more: str) -> dict[str, str]:
        s = self.settings
        env = {
            "CUSTSVC_BACKEND": s.backend,
            "CUSTSVC_POSTGRES_URL": s.postgres_url,
            "CUSTSVC_MONGO_URL": s.mongo_url,
            "CUSTSVC_KAFKA": s.kafka,
            "CUSTSVC_TOPIC_UPDATES": s.topic_updates,
            "CUSTSVC_TOPIC_NOTIFY": s.topic_notify,
            "CUSTSVC_TOPIC_FAILED": s.topic_failed,
            "CUSTSVC_TOPIC_DEAD": s.topic_dead,
            "CUSTSVC_GROUP_PREFIX": s.group_prefix,
            "CUSTSVC_PARTITIONS": str(s.partitions),
            # A member that was killed holds the others up for the first of these.
            "CUSTSVC_KAFKA_OPTIONS__SESSION_TIMEOUT_MS": OPTIONS["session.timeout.ms"],
            "CUSTSVC_KAFKA_OPTIONS__HEARTBEAT_INTERVAL_MS": OPTIONS["heartbeat.interval.ms"],
            "CUSTSVC_LOCAL": "never",
            "CUSTSVC_LOG_LEVEL": "DEBUG",
        }
        return env | {f"CUSTSVC_{name}": value for name, value in more.items()}

    def role(self, *arguments: str, **env: str) -> Role:
        """A role on this line, not started; ended with the test."""
        role = Role(list(arguments), self.env(**env), self._folder / f"{arguments[0]}-{len(self.roles)}.log")
        self.roles.append(role)
        self._stack.callback(role.kill)
        return role

    def relay(self, publisher: Publisher | None = None) -> Stop:
        """A relay in this process, until the end of the test or until it is asked to stop."""
        stop = Stop()
        store = self._stack.enter_context(open_store(self.settings))
        publisher = self._stack.enter_context(publisher or Publisher(self.settings))
        relay = Relay(self.settings, store, publisher, stop)
        self._stack.enter_context(in_background(relay.run, stop))
        return stop

    def replicate(self, replica: Replica | None = None) -> Stop:
        """A copy's worker in this process; likewise. `replica` may stand in for the copy's own."""
        stop = Stop()
        store = self._stack.enter_context(open_store(self.settings, self.settings.other_backend))
        publisher = self._stack.enter_context(Publisher(self.settings))
        worker = Replicate(
            self.settings, replica or store.replica, publisher, self.settings.other_backend, stop
        )
        self._stack.enter_context(in_background(worker.run, stop))
        return stop

    def members(self) -> set[str]:
        """The members of the copy's group, as the broker sees it."""
        name = self.settings.group_prefix + group(self.settings.other_backend)
        client = kafka.admin(self.settings)  # kept: its answers come while it lives
        (described,) = client.describe_consumer_groups([name]).values()
        return {member.member_id for member in described.result(60).members}

    # -- what holds

    def published(self) -> bool:
        return self.source.outbox.depth().waiting == 0

    def copied(self) -> bool:
        """Whether the copy has read all that is on the topic, and everything is on the topic."""
        if not self.published():
            return False
        with Reader(self.settings) as topic:
            marks = topic.marks()
        positions = self.copy.replica.positions(self.settings.topic_updates)
        return all(positions.get(part, 0) >= high for part, (low, high) in marks.items() if high > low)

    def settle_topic(self, seconds: float = 120.0) -> None:
        """Wait until every event is on the topic."""
        until("the outbox is empty", self.published, seconds)

    def settle(self, seconds: float = 120.0) -> None:
        """Wait until everything has arrived."""
        until("everything is in the copy", self.copied, seconds)

    def judge(self, *, copied: bool = True, grew: Sequence[int] = ()) -> checker.Findings:
        """The invariants, over everything there is. Without `copied`, up to the topic only."""
        s = self.settings
        source = checker.read_database(s.backend, s.url(s.backend))
        copy = checker.read_database(s.other_backend, s.url(s.other_backend)) if copied else source
        topic = checker.read_topic(s.kafka, s.topic_updates)
        return checker.check(source, copy, topic, self.acknowledged, [], grew=grew)


@pytest.fixture
def line(backend: str, servers: Any, all_databases: Callable[[str], Any], tmp_path: Path) -> Iterator[Line]:
    """A line from this backend to the other one."""
    urls: dict[str, Any] = {f"{each}_url": all_databases(each).migrated() for each in ("postgres", "mongo")}
    urls["backend"] = backend
    settings = fresh_topics(Settings(**urls, kafka=servers.url("kafka"), kafka_options=OPTIONS, partitions=4))
    with ExitStack() as stack:
        for each in ("postgres", "mongo"):
            stack.callback(all_databases(each).drop, urls[f"{each}_url"])
        yield Line(settings, tmp_path, stack)


def fresh_topics(settings: Settings) -> Settings:
    """These settings with topics and groups that nobody else uses; the topics are made already."""
    mine = uuid.uuid4().hex[:12]
    names = ("updates", "notify", "failed", "dead")
    settings = settings.replace(
        **{f"topic_{name}": f"{name}-{mine}" for name in names}, group_prefix=f"custsvc-{mine}-"
    )
    ensure_topics(settings)
    return settings
