"""A MongoDB of three nodes whose primary steps down or is killed, under load."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from custsvc.config import Settings
from custsvc.domain.customers import Fields
from custsvc.errors import ConfigurationError, TemporaryError
from custsvc.local import mongod as embedded
from custsvc.local import ports
from custsvc.serve import create_app
from custsvc.service.customers import Caller, CustomerService
from custsvc.stores.mongo import MongoStore
from tests.chaos.clients import Clients
from tests.chaos.conftest import OPTIONS, Line, fresh_topics
from tests.chaos.roles import request, serves
from tests.sizes import sizes
from tests.waiting import until

# Longer than the service looks for a server before it says 503.
ELECTION_MS = 5000


class ReplicaSet:
    """Three mongods of the test's own, which elect a primary among themselves."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._ports = [ports.choose() for _ in range(3)]
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self.url = f"mongodb://{','.join(map(self._host, self._ports))}/custsvc?replicaSet=rs0"
        stack.callback(self._end)
        for port in self._ports:
            self.start(port)
        members = [{"_id": number, "host": self._host(port)} for number, port in enumerate(self._ports)]
        settings = {"electionTimeoutMillis": ELECTION_MS}
        until("all nodes answer", lambda: all(map(self._hello, self._ports)))
        with self._client(self._ports[0]) as client:
            config = {"_id": "rs0", "members": members, "settings": settings}
            client.admin.command("replSetInitiate", config)
        self.primary()

    def start(self, port: int) -> None:
        data = self._folder / str(port)
        data.mkdir(exist_ok=True)
        small = ["--oplogSize", "128", "--wiredTigerCacheSizeGB", "0.25"]
        alone = ["--bind_ip", ports.HOST, "--nounixsocket"]
        command: list[str | Path] = [
            embedded._binary(),
            "--dbpath",
            data,
            "--port",
            str(port),
            "--replSet",
            "rs0",
        ]
        with (self._folder / f"{port}.log").open("ab") as log:
            self._running[port] = subprocess.Popen([*command, *small, *alone], stdout=log, stderr=log)

    def primary(self) -> int:
        """The port of the node that leads, once there is one that all others know."""
        found: list[int] = []

        def leads() -> bool:
            found[:] = [port for port in self._running if self._hello(port).get("isWritablePrimary")]
            return len(found) == 1

        until("there is a primary", leads, 120)
        return found[0]

    def step_down(self) -> None:
        port = self.primary()
        self._admin(port, "replSetStepDown", 10, force=True)
        until("another leads", lambda: self.primary() != port)

    @contextmanager
    def without_primary(self) -> Iterator[None]:
        """There is no primary within the block."""
        primary = self.primary()
        for port in self._ports:
            if port != primary:
                self._admin(port, "replSetFreeze", 120)
        self._admin(primary, "replSetStepDown", 120, force=True)
        try:
            yield
        finally:
            for port in self._ports:
                self._admin(port, "replSetFreeze", 0)

    def secondary(self) -> int:
        """The port of a node that follows."""
        primary = self.primary()
        return next(port for port in self._ports if port != primary)

    def _admin(self, port: int, command: str, value: int, **options: Any) -> None:
        with self._client(port) as client:
            client.admin.command(command, value, **options)

    def kill(self) -> int:
        """kill -9 of the primary; its port."""
        port = self.primary()
        self._kill(port)
        return port

    def all_there(self) -> bool:
        """Whether every node leads or follows."""
        states = [self._hello(port) for port in self._ports]
        return all(each.get("isWritablePrimary") or each.get("secondary") for each in states)

    def _kill(self, port: int) -> None:
        process = self._running.pop(port)
        process.kill()
        process.wait()

    def _end(self) -> None:
        for port in list(self._running):
            self._kill(port)

    def _hello(self, port: int) -> dict[str, Any]:
        try:
            with self._client(port) as client:
                return dict(client.admin.command("hello"))
        except PyMongoError:
            return {}

    @staticmethod
    def _host(port: int) -> str:
        return f"{ports.HOST}:{port}"

    def _client(self, port: int) -> MongoClient[dict[str, Any]]:
        return MongoClient(ports.HOST, port, directConnection=True, serverSelectionTimeoutMS=1000)


@pytest.fixture(scope="module")
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    with ExitStack() as stack:
        yield ReplicaSet(tmp_path_factory.mktemp("nodes"), stack)


@pytest.fixture
def line(
    three_nodes: ReplicaSet, servers: Any, all_databases: Callable[[str], Any], tmp_path: Path
) -> Iterator[Line]:
    """From the three nodes to a copy in PostgreSQL."""
    databases = all_databases("postgres")
    urls = {"mongo_url": three_nodes.url, "postgres_url": databases.migrated()}
    with MongoStore(three_nodes.url) as store:
        store.migrate()
    settings = fresh_topics(
        Settings(backend="mongo", kafka=servers.url("kafka"), kafka_options=OPTIONS, partitions=4, **urls)
    )
    with ExitStack() as stack:
        stack.callback(databases.drop, urls["postgres_url"])
        yield Line(settings, tmp_path, stack)


@sizes("elections, between", (2, 20), (20, 500))
def test_elections_lose_nothing_and_are_waited_for(
    line: Line, three_nodes: ReplicaSet, elections: int, between: int
) -> None:
    """A6: the API says 503 meanwhile, never 500; the relay waits, and the topic has no gap."""
    port = ports.choose()
    api = line.role("serve", "--auth", "off", "--port", str(port)).start()
    relay = line.role("relay").start()
    until("the API answers", lambda: serves(port))
    writes = 0

    def call(method: str, path: str, body: Any) -> Any:
        nonlocal writes
        answer = request(port, method, path, body)
        writes += answer[0] < 300
        return answer

    with Clients(call) as clients:
        for turn in range(elections):
            goal = writes + between
            until("writes go on", lambda goal=goal: writes >= goal, 600)
            if turn % 2:
                three_nodes.step_down()
            else:
                dead = three_nodes.kill()
                until("another leads", lambda dead=dead: three_nodes.primary() != dead)
                three_nodes.start(dead)
                until("all three are there", three_nodes.all_there)
        goal = writes + between
        until("writes go on", lambda: writes >= goal, 600)
    line.acknowledged |= clients.acknowledged
    line.settle_topic()

    assert clients.surprises == []
    assert line.judge(copied=False).problems == []
    assert api.is_running()
    assert relay.is_running()
    print(f"{elections} elections, {writes} writes, {clients.refused} refused")


def test_a_source_is_not_ready_without_a_primary_and_goes_on_with_one(
    three_nodes: ReplicaSet,
) -> None:
    """Whatever its address prefers: what is written is read, from the primary."""
    url = three_nodes.url.replace("/custsvc?", "/preferring?")
    with MongoStore(f"{url}&readPreference=secondary&w=1&readConcernLevel=local") as store:
        store.migrate()
        store.claim_role("source")
        api = create_app(Settings(backend="mongo", auth="off"), store).test_client()
        service, me = CustomerService(store.customers), Caller("test")
        one = service.create(Fields("Ada"), me)
        assert api.get("/readyz").status_code == 200

        with three_nodes.without_primary():
            until("it is not ready", lambda: api.get("/readyz").status_code == 503)
            with pytest.raises(TemporaryError):
                service.replace(one.id, Fields("Grace"), me)
        until("it is ready again", lambda: api.get("/readyz").status_code == 200)
        service.replace(one.id, Fields("Grace"), me)
        service.erase(one.id, me)

        found = store.customers.get(one.id)
        assert found is not None
        assert found.version == 3
        with store.outbox.lead():
            assert [event.version for event in store.outbox.read(10).events] == [1, 2, 3]


def test_a_secondary_that_is_named_by_itself_is_refused(three_nodes: ReplicaSet) -> None:
    url = f"mongodb://127.0.0.1:{three_nodes.secondary()}/custsvc?directConnection=true"
    with MongoStore(url) as store:
        for step in (store.migrate, store.ping, lambda: store.claim_role("copy")):
            with pytest.raises(ConfigurationError, match="is a secondary") as refused:
                step()
            assert refused.value.exit_code == 3
            assert "replicaSet" in (refused.value.fix or "")
