"""The lag in `custsvc status` and the metrics, even while a server is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from custsvc.config import Settings
from custsvc.copies.pipeline import known_steps
from custsvc.copies.replicate import Replicate
from custsvc.domain.customers import Fields
from custsvc.errors import CustsvcError
from custsvc.kafka.publisher import Publisher
from custsvc.kafka.topics import ensure_topics
from custsvc.local import LocalServers
from custsvc.relay.gauges import OutboxGauges
from custsvc.relay.relay import Relay
from custsvc.runtime.loop import Stop
from custsvc.runtime.metrics_server import exposition
from custsvc.service.customers import Caller, CustomerService
from custsvc.stores import open_store
from tests.background import in_background
from tests.waiting import until as until_often

COPY = "custsvc-copy-mongo"

# Each look asks three servers, and costs a tenth of a second.
until = partial(until_often, every=0.25, despite=CustsvcError)


class Pipeline:
    """PostgreSQL → Kafka → MongoDB with servers of its own, and what is said of it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.servers = LocalServers(folder, names=("postgres", "mongo", "kafka"))
        stack.callback(self.servers.stop)
        urls = self.servers.start()
        self.settings = Settings(
            kafka=urls["CUSTSVC_KAFKA"],
            postgres_url=urls["CUSTSVC_POSTGRES_URL"],
            mongo_url=urls["CUSTSVC_MONGO_URL"],
            partitions=2,
        )
        ensure_topics(self.settings)
        self.source = stack.enter_context(open_store(self.settings))
        self.copy = stack.enter_context(open_store(self.settings, "mongo"))
        for store in (self.source, self.copy):
            store.migrate()
        self._outbox = OutboxGauges(self.source)
        relay, replicate = Stop(), Stop()
        ours, theirs = (stack.enter_context(Publisher(self.settings)) for _ in range(2))
        running = Relay(self.settings, self.source, ours, relay).run
        stack.enter_context(in_background(running, relay))
        following = Replicate(self.settings, self.copy.replica, theirs, "mongo", replicate).run
        stack.enter_context(in_background(following, replicate))

    def write(self, customers: int) -> None:
        service = CustomerService(self.source.customers)
        for _ in range(customers):
            service.create(Fields("Ada"), Caller("test"))

    def metrics(self) -> dict[str, float]:
        """The lag in the metrics, summed over the partitions."""
        text = exposition("test", self._outbox).decode()
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = "".join(
                    (sample.name, *(f" {sample.labels[k]}" for k in ("loop",) if k in sample.labels))
                )
                found[name] = found.get(name, 0) + sample.value
        return found

    def status(self) -> dict[str, Any]:
        """The backlog of each step in `custsvc status`; None if it is unknown."""
        found, _ = known_steps(self.settings, self.source)
        return {step["step"]: step["waiting"] for step in found}


@pytest.fixture
def pipeline(folder: Path) -> Iterator[Pipeline]:
    with ExitStack() as stack:
        yield Pipeline(folder, stack)


@pytest.mark.timeout(900)
def test_lag_equals_the_counted_records_and_grows_while_a_server_is_away(pipeline: Pipeline) -> None:
    metrics, status = pipeline.metrics, pipeline.status

    def says(outbox: int | None, copy: int | None) -> bool:
        told, shown = status(), metrics()
        same = told.get("outbox") == outbox and told.get(COPY) == copy
        behind = shown.get("custsvc_lag_events the copy") == (copy or 0)
        return same and behind and shown.get("custsvc_outbox_waiting") == (outbox or 0)

    def lags(name: str) -> float:
        return metrics()[name]

    def grows(name: str) -> None:
        before = lags(name)
        until(f"{name} grows", lambda: lags(name) > before + 0.5)

    pipeline.write(5)
    until("all is copied", lambda: says(0, 0))

    pipeline.servers.server("mongo").stop()
    pipeline.write(7)
    until("the copy is seven behind", lambda: says(0, 7))
    grows("custsvc_lag_seconds the copy")
    pipeline.write(2)
    until("the copy is nine behind", lambda: says(0, 9))
    pipeline.servers.restart("mongo")
    until("it has caught up", lambda: says(0, 0))
    assert lags("custsvc_lag_seconds the copy") == 0

    pipeline.servers.server("kafka").stop()
    pipeline.write(3)
    until("three wait in the outbox", lambda: says(3, None))
    grows("custsvc_outbox_oldest_age_seconds")
    grows("custsvc_lag_seconds relay")
    grows("custsvc_lag_known_seconds the copy")
    pipeline.servers.restart("kafka")
    until("it has caught up", lambda: says(0, 0))

    pipeline.servers.server("postgres").stop()
    until("the outbox is not known", lambda: says(None, 0))
    grows("custsvc_outbox_known_seconds")
    pipeline.servers.restart("postgres")
    pipeline.write(1)
    until("it has caught up", lambda: says(0, 0))
