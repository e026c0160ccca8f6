"""X1: everything at once. A whole custsvc under load, a schedule of accidents, and a judge at the end."""

from __future__ import annotations

import json
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from custsvc.config import Settings
from custsvc.kafka import groups, offsets
from custsvc.kafka.client import admin
from custsvc.local import LocalServers, ports
from custsvc.local.kafka import Kafka
from custsvc.local.process import Identity, send
from custsvc.notify.intake.consumer import GROUP
from tests.addresses import through
from tests.chaos import checker
from tests.chaos.clients import Clients
from tests.chaos.faultproxy import FaultProxy
from tests.chaos.nemesis import Fault, plan
from tests.chaos.roles import Role, request, serves
from tests.chaos.writers import Writers
from tests.notify.receiver import Receiver
from tests.waiting import until

CALLED = ("deleted", "restored", "merged", "merged_into", "unmerged")
PROCESSES = {"serve": 1, "relay": 2, "replicate": 4, "notify": 2}
# Of a supervisor that starts again what has died.
_RESTART = 0.3


@dataclass(frozen=True)
class Size:
    """How big a run is. The defaults are those of the release run."""

    events: int = 200_000
    customers: int = 10_000
    kills: int = 20
    restarts: int = 2
    cuts: int = 10
    stops: int = 10


@dataclass
class Report:
    """The work that was done, and its result."""

    direction: str
    seed: int
    size: Size
    machine: str = ""
    started: str = ""
    faults: list[str] = field(default_factory=list)
    write_seconds: float = 0.0
    drain_seconds: float = 0.0
    acknowledged: int = 0
    unknown: int = 0
    requests: int = 0
    customers: int = 0
    records: int = 0
    repeats: int = 0
    mails: int = 0
    calls: int = 0
    mail_states: dict[str, int] = field(default_factory=dict)
    rss_mb: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def data(self) -> dict[str, Any]:
        return asdict(self)


class Run:
    """One run, from empty servers to the verdict."""

    def __init__(self, folder: Path, backend: str, seed: int, size: Size, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._backend = backend
        self._copy = "mongo" if backend == "postgres" else "postgres"
        self._seed = seed
        self._size = size
        self._say = say
        self._roles: list[Role] = []
        self._stopping = threading.Event()
        self.report = Report(f"{backend} → {self._copy}", seed, size)

    def go(self) -> Report:
        self.report.machine = _machine()
        self.report.started = time.strftime("%Y-%m-%d %H:%M %Z")
        with ExitStack() as stack:
            self._servers = LocalServers(self._folder / "data")
            stack.callback(self._servers.stop)
            self._links = {name: stack.enter_context(FaultProxy()) for name in ("kafka", "source", "copy")}
            kafka = self._servers.server("kafka")
            assert isinstance(kafka, Kafka)
            kafka.advertised_port = self._links["kafka"].port
            self._direct = self._servers.start()
            self._aim(kafka.proxied_port)
            stack.callback(self._stop_roles)
            self._start_roles()
            self._receiver = stack.enter_context(closing(Receiver()))
            self._make_endpoint()
            self._watch_falls()
            self._run_load()
            self._drain()
            self._stop_roles()
            self._judge()
        return self.report

    # -- servers and roles

    def _aim(self, kafka_port: int) -> None:
        self._links["kafka"].target = ("127.0.0.1", kafka_port)
        for link, backend in (("source", self._backend), ("copy", self._copy)):
            parts = urlsplit(self._direct[f"CUSTSVC_{backend.upper()}_URL"])
            self._links[link].target = ("127.0.0.1", parts.port or 0)

    def _through(self, link: str, backend: str) -> str:
        """The address of a database through its proxy."""
        return through(self._direct[f"CUSTSVC_{backend.upper()}_URL"], self._links[link].port)

    def _env(self) -> dict[str, str]:
        return {
            "CUSTSVC_LOCAL": "never",
            "CUSTSVC_BACKEND": self._backend,
            f"CUSTSVC_{self._backend.upper()}_URL": self._through("source", self._backend),
            f"CUSTSVC_{self._copy.upper()}_URL": self._through("copy", self._copy),
            "CUSTSVC_KAFKA": through(self._direct["CUSTSVC_KAFKA"], self._links["kafka"].port),
            "CUSTSVC_SMTP_URL": self._direct["CUSTSVC_SMTP_URL"],
            "CUSTSVC_PARTITIONS": "24",
            "CUSTSVC_NOTIFY_RETRY_CAP": "5",
            "CUSTSVC_WEBHOOK_ALLOW": "127.0.0.1",
            "CUSTSVC_LOG_FORMAT": "json",
        }

    def _start_roles(self) -> None:
        self._port = ports.choose()
        arguments = {"serve": ["--auth", "off", "--port", str(self._port)]}
        for name, count in PROCESSES.items():
            for number in range(count):
                log = self._folder / f"{name}-{number}.log"
                self._roles.append(Role([name, *arguments.get(name, [])], self._env(), log))
        for role in self._roles:
            role.start()
        until("the API answers", lambda: serves(self._port), 120)
        for work in (self._supervise, self._measure):
            threading.Thread(target=work, daemon=True).start()

    def _supervise(self) -> None:
        while not self._stopping.wait(_RESTART):
            for role in self._roles:
                if not role.is_running() and not self._stopping.is_set():
                    role.start()

    def _measure(self) -> None:
        while not self._stopping.wait(1.0):
            for role in self._roles:
                name = role.arguments[0]
                rss = _rss(role.pid) // 2**20
                self.report.rss_mb[name] = max(rss, self.report.rss_mb.get(name, 0))

    def _stop_roles(self) -> None:
        self._stopping.set()
        time.sleep(2 * _RESTART)
        for role in self._roles:
            role.signal(signal.SIGCONT)
            role.kill()

    def _make_endpoint(self) -> None:
        """A webhook endpoint that gets the rarer changes: a call costs more than a change."""
        body = {"url": f"http://127.0.0.1:{self._receiver.port}/", "ops": list(CALLED)}
        status, answer, _ = request(self._port, "POST", "/api/webhooks", body)
        assert status == 201, answer

    def _watch_falls(self) -> None:
        """Have the copy itself remember whether a version ever fell."""
        url = self._direct[f"CUSTSVC_{self._copy.upper()}_URL"]
        self._falls = until("the copy is there", lambda: checker.watch_falls(self._copy, url), 60)

    # -- load and accidents

    def _run_load(self) -> None:
        direct = Settings(backend=self._backend, **self._urls(self._direct))  # type: ignore[arg-type]
        proxied = Settings(backend=self._backend, **self._urls(self._env()))  # type: ignore[arg-type]
        size = self._size
        faults = plan(self._seed, kills=size.kills, restarts=size.restarts, cuts=size.cuts, stops=size.stops)
        writers = Writers([direct, proxied], size.customers, size.events, self._seed, self._folder)
        with Clients(lambda *call: request(self._port, *call), pause=0.2) as clients:
            started = time.monotonic()
            writers.start()
            step = (size.events - size.customers) / (len(faults) + 1)
            for number, fault in enumerate(faults, start=1):
                goal = size.customers + int(step * number)
                writers.allow(goal + int(step / 2))
                until(f"{goal:,} events are written", lambda g=goal: writers.written >= g, 600)
                at = time.monotonic() - started
                self._strike(fault)
                self.report.faults.append(f"{at:6.1f} s  {writers.written:>8,} events  {fault}")
                self._say(self.report.faults[-1])
            self._last_fault = time.monotonic()
            writers.allow(size.events)
            journal = writers.finish()
            self.report.write_seconds = round(time.monotonic() - started, 1)
        self._told: dict[int, list[int]] = journal["told"]
        self._seen: list[tuple[int, int]] = journal["seen"]
        self.report.unknown = journal["unknown"] + clients.refused
        self.report.requests = sum(clients.acknowledged.values())
        self.report.problems += [f"a writer met {each}" for each in journal["surprises"]]
        self.report.problems += [f"a client met {each}" for each in clients.surprises]
        self._clients = clients

    def _urls(self, env: dict[str, str]) -> dict[str, str]:
        return {"postgres_url": env["CUSTSVC_POSTGRES_URL"], "mongo_url": env["CUSTSVC_MONGO_URL"]}

    def _strike(self, fault: Fault) -> None:
        if fault.target in PROCESSES:
            self._strike_role(fault)
        elif fault.kind in ("kill -9 server", "immediate stop of server", "SIGSTOP"):
            self._strike_server(fault)
        else:
            with self._cut(fault):
                time.sleep(fault.seconds)

    def _strike_role(self, fault: Fault) -> None:
        running = [r for r in self._roles if r.arguments[0] == fault.target and r.is_running()]
        # Not always the same one, and the same one for the same seed.
        role = running[len(self.report.faults) % len(running)] if running else None
        if role is None:
            return
        if fault.kind == "kill -9":
            role.kill()
        elif fault.kind == "SIGTERM":
            role.signal(signal.SIGTERM)
        else:
            role.signal(signal.SIGSTOP)
            time.sleep(fault.seconds)
            role.signal(signal.SIGCONT)

    def _strike_server(self, fault: Fault) -> None:
        name = {"source": self._backend, "copy": self._copy}.get(fault.target, fault.target)
        server = self._servers.server(name)
        identity = server.identity
        assert identity is not None
        if fault.kind == "SIGSTOP":
            send(identity, signal.SIGSTOP)
            time.sleep(fault.seconds)
            send(identity, signal.SIGCONT)
            return
        if fault.kind == "kill -9 server" or name == "kafka":
            server.kill()
        else:
            _immediately(identity, name)
        time.sleep(0.5)
        self._servers.restart(name)
        if isinstance(server, Kafka):
            self._aim(server.proxied_port)

    @contextmanager
    def _cut(self, fault: Fault) -> Iterator[None]:
        link = self._links[fault.target]
        match fault.kind.split():
            case ["reset"]:
                link.reset()
            case ["blackhole", *ways]:
                link.blackhole(*ways)  # type: ignore[arg-type]
            case ["latency"]:
                link.latency(0.2, 0.1)
            case ["slow"]:
                link.slow(200_000)
        yield
        link.heal()

    # -- the end

    def _drain(self) -> None:
        name, url = self._backend, self._direct[f"CUSTSVC_{self._backend.upper()}_URL"]

        def drained() -> bool:
            source = checker.read_database(name, url)
            copy = checker.read_database(self._copy, self._direct[f"CUSTSVC_{self._copy.upper()}_URL"])
            return source == copy

        until("the copy is whole", drained, 300, every=0.5)
        self.report.drain_seconds = round(time.monotonic() - self._last_fault, 1)
        # The partitions of a notify that was killed at the end wait for its session to be over.
        until("notify has taken in all events", self._are_taken_in, 300, every=1.0)
        # Mails have leases and back-off: they take the time that those take.
        until("every mail is settled", lambda: not checker.open_mails(name, url), 300, every=1.0)

    def _are_taken_in(self) -> bool:
        settings = Settings(kafka=self._direct["CUSTSVC_KAFKA"])
        client, topic, servers = admin(settings), settings.topic_updates, settings.kafka_servers
        done = groups.committed(client, settings.group_prefix + GROUP, topic, servers)
        parts = client.list_topics(topic, timeout=10).topics[topic].partitions
        ends = offsets.ends(client, topic, list(parts), servers)
        return all(done.get(part, 0) >= end for part, end in ends.items())

    def _judge(self) -> None:
        source_url = self._direct[f"CUSTSVC_{self._backend.upper()}_URL"]
        copy_url = self._direct[f"CUSTSVC_{self._copy.upper()}_URL"]
        acknowledged = {each: max(versions) for each, versions in self._told.items()}
        for each, version in [*self._seen, *self._clients.acknowledged.items()]:
            acknowledged[each] = max(version, acknowledged.get(each, 0))
        kafka = self._direct["CUSTSVC_KAFKA"]
        source = checker.read_database(self._backend, source_url)
        found = checker.check(
            source,
            checker.read_database(self._copy, copy_url),
            checker.read_topic(kafka),
            acknowledged,
            checker.read_mails(self._servers.home / "mail"),
        )
        checker.check_told(self._told, source, found)
        checker.check_calls(
            _called(kafka), checker.calls_of(body for _, _, body in list(self._receiver.got)), found
        )
        checker.check_falls(self._copy, copy_url, self._falls, found)
        checker.check_dead(kafka, found)
        checker.check_logs([role.log for role in self._roles], found)
        self.report.acknowledged = sum(map(len, self._told.values()))
        self.report.mail_states = checker.mail_states(self._backend, source_url)
        self.report.customers, self.report.mails = found.customers, found.mails
        self.report.calls = found.calls
        self.report.records, self.report.repeats = found.records, found.repeats
        self.report.problems += found.problems


def _called(kafka: str) -> set[tuple[int, int]]:
    """The events of the topic that the endpoint asked for, as (customer, version)."""
    values = (value for _, _, value in checker.read_records(kafka, checker.UPDATES))
    events = [json.loads(value or b"") for value in values if checker.readable(value)]
    return {(event["customer_id"], event["version"]) for event in events if event["op"] in CALLED}


def _immediately(identity: Identity, name: str) -> None:
    """The server's own way to stop without care: no checkpoint, no goodbye."""
    send(identity, signal.SIGQUIT if name == "postgres" else signal.SIGTERM)
    until(f"{name} has stopped", lambda: not identity.is_running(), 60)


def _rss(pid: int) -> int:
    """Resident memory of the biggest of a role's processes."""
    try:
        process = psutil.Process(pid)
        return max(each.memory_info().rss for each in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0


def _machine() -> str:
    load = psutil.getloadavg()[0]
    memory = psutil.virtual_memory().total // 2**30
    return (
        f"{psutil.cpu_count()} cores, {memory} GB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}; load at the start {load:.1f}"
    )
