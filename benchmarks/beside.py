"""custsvc's pipeline beside Kafka Connect's connectors, by turns, on the same rows and topic in the same run.

`drain`: how fast events that wait in the outbox reach a topic. `latency`: from commit to topic at a steady
rate. `apply`: how fast a topic of events reaches the other database. docs/performance.md says what each one
does less than custsvc.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import connect
import connectors
import outboxes
import targets
from meter import Contender, Result, Turn, rows

from custsvc.bench import latency, pipeline, scratch
from custsvc.bench.report import percentile
from custsvc.bench.roles import Role
from custsvc.config import BACKENDS, Backend, Settings
from custsvc.local import LocalServers

OURS = "custsvc"
# As many as the tasks of a sink's best settings.
_TWO = f"{OURS}, two processes"
_WARM_UP = 10_000
STEPS = ("drain", "latency", "apply")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured, and how often."""

    events: int = 200_000
    seconds: float = 20.0
    rate: int = 500
    rounds: int = 3


class Run:
    """One run, on servers that `prepare` has made ready for change data capture."""

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        backends: Sequence[Backend],
        only: str,
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._backends = backends
        self._only = only
        self._say = say
        self._jars = connect.fetch(say)
        self.database_pids: dict[Backend, int] = {}

    def prepare(self, servers: LocalServers) -> None:
        """A write-ahead log for logical decoding, and an oplog that holds a backlog."""
        outboxes.prepare_postgres(self._settings.url("postgres"))
        servers.restart("postgres")
        outboxes.prepare_mongo(self._settings.url("mongo"))
        for backend in BACKENDS:
            self.database_pids[backend] = servers.server(backend).pid or 0

    def measure(self) -> Iterator[dict[str, Any]]:
        """One row for each measure and system."""
        for backend in self._backends:
            if self._only in "drain":
                yield from self._drain(backend)
            if self._only in "latency":
                yield from self._latency(backend)
        for backend in self._backends:
            for kind in ("distinct", "hot"):
                if self._only in "apply":
                    yield from self._apply(backend, kind)

    def _turns(
        self, measure: str, contenders: list[Contender], one: Callable[[Contender], Result]
    ) -> list[dict[str, Any]]:
        """Let the contenders take turns; returns a row for each."""
        found: dict[str, list[Result]] = {each.name: [] for each in contenders}
        for number in range(1, self._plan.rounds + 1):
            for each in contenders:
                self._say(f"{measure}, round {number} of {self._plan.rounds}: {each.name}")
                result = one(each)
                found[each.name].append(result)
                self._say(f"  {result.value:,.1f}; started in {result.start_s:.1f} s")
        return rows(measure, found)

    def _drain(self, backend: Backend) -> Iterator[dict[str, Any]]:
        outbox = outboxes.OF[backend]
        with scratch.databases(self._settings.replace(backend=backend), backend) as s, outbox(s) as waiting:
            self._say(f"seeding {self._plan.events:,} customers into {backend}")
            waiting.seed(self._plan.events)

            def one(contender: Contender) -> Result:
                with scratch.topics(s) as t:
                    place = waiting.rewind()
                    with contender.start(t, place) as turn:
                        return targets.drained(t, turn, self._plan.events, self.database_pids[backend])

            yield from self._turns(f"drain {backend}, events/s", self._sources(backend), one)

    def _latency(self, backend: Backend) -> Iterator[dict[str, Any]]:
        found: dict[str, dict[str, list[Result]]] = {"p50": {}, "p99": {}}
        for number in range(1, self._plan.rounds + 1):
            for contender in self._sources(backend):
                self._say(f"latency from {backend}, round {number} of {self._plan.rounds}: {contender.name}")
                for share, result in self._latencies(backend, contender).items():
                    found[share].setdefault(contender.name, []).append(result)
                    self._say(f"  {share} {result.value:,.1f} ms")
        for share, results in found.items():
            yield from rows(f"latency from {backend}, {share}, ms", results)

    def _latencies(self, backend: Backend, contender: Contender) -> dict[str, Result]:
        outbox = outboxes.OF[backend]
        with (
            scratch.databases(self._settings.replace(backend=backend), backend) as s,
            scratch.topics(s) as t,
            outbox(t) as waiting,
            contender.start(t, waiting.rewind()) as turn,
        ):
            turn.wait_running()
            # A connector says that it runs before it reads, and a JVM is slow at first.
            waiting.seed(_WARM_UP)
            start_s = targets.warmed_up(t, turn, _WARM_UP) - turn.started
            events = int(self._plan.seconds * self._plan.rate)
            before = turn.processor_s()
            with waiting.writes(plain=contender.name != OURS) as writes:
                took = latency.to_topic(t, self._plan.seconds, self._plan.rate, writes)
            cpu_ms = (turn.processor_s() - before) / events * 1e6
            about = partial(Result, start_s=start_s, rss_mb=turn.peak_mb(), cpu_ms=cpu_ms)
            return {"p50": about(percentile(took, 0.5)), "p99": about(percentile(took, 0.99))}

    def _apply(self, backend: Backend, kind: str) -> Iterator[dict[str, Any]]:
        source: Backend = "mongo" if backend == "postgres" else "postgres"
        with scratch.topics(self._settings.replace(backend=source)) as t:
            self._say(f"filling a topic with {self._plan.events:,} events of {kind} customers")
            pipeline.fill(t, kind, self._plan.events)
            last = targets.last_of_each_partition(t)

            def one(contender: Contender) -> Result:
                with (
                    scratch.databases(t, backend) as s,
                    targets.OF[backend](s, contender.name) as target,
                    contender.start(s, "") as turn,
                ):
                    database = self.database_pids[backend]
                    return targets.applied(target, turn, last, self._plan.events, database)

            yield from self._turns(f"apply into {backend}, {kind}, events/s", self._sinks(backend), one)

    def _sources(self, backend: Backend) -> list[Contender]:
        title = "Debezium" if backend == "postgres" else "MongoDB connector"
        return [
            Contender(OURS, lambda s, _place: self._role(s, "leading", "relay")),
            *(Contender(f"{title}, {kind}", partial(self._source, kind)) for kind in connectors.KINDS),
        ]

    def _sinks(self, backend: Backend) -> list[Contender]:
        title = "Debezium JDBC sink" if backend == "postgres" else "MongoDB connector"
        return [
            *(
                Contender(name, lambda s, _place, n=count: self._replicates(s, backend, n))
                for name, count in ((OURS, 1), (_TWO, 2))
            ),
            *(Contender(f"{title}, {kind}", partial(self._sink, backend, kind)) for kind in connectors.KINDS),
        ]

    @contextmanager
    def _role(self, settings: Settings, begins: str, *command: str) -> Iterator[Turn]:
        with Role(settings, *command) as role:
            yield Turn([role.pid], role.started, lambda: role.began(begins), role.check)

    @contextmanager
    def _replicates(self, settings: Settings, backend: Backend, count: int) -> Iterator[Turn]:
        """So many processes that share the partitions of one copy."""
        with ExitStack() as stack:
            roles = [
                stack.enter_context(Role(settings, "replicate", "--backend", backend)) for _ in range(count)
            ]

            def check() -> None:
                for each in roles:
                    each.check()

            pids = [each.pid for each in roles]
            yield Turn(pids, roles[0].started, lambda: max(each.began("assigned") for each in roles), check)

    def _source(self, kind: str, settings: Settings, place: str) -> AbstractContextManager[Turn]:
        if settings.backend == "postgres":
            made = connectors.debezium_postgres(settings, kind, place, outboxes.PUBLICATION)
            return self._connect(settings, "debezium-postgres", made)
        return self._connect(settings, "mongodb", connectors.mongodb_source(settings, kind, place))

    def _sink(
        self, backend: Backend, kind: str, settings: Settings, _place: str
    ) -> AbstractContextManager[Turn]:
        if backend == "postgres":
            return self._connect(settings, "debezium-jdbc", connectors.debezium_jdbc(settings, kind))
        return self._connect(settings, "mongodb", connectors.mongodb_sink(settings, kind))

    @contextmanager
    def _connect(self, settings: Settings, plugin: str, connector: Mapping[str, str]) -> Iterator[Turn]:
        folder = Path(tempfile.mkdtemp(prefix="connect-", dir=settings.data_dir))
        try:
            with connect.Connect(folder, settings, self._jars, plugin, connector) as worker:
                yield Turn([worker.pid], worker.started, worker.wait_running, worker.check)
        finally:
            shutil.rmtree(folder)
