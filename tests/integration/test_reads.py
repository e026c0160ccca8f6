"""Reads of the API that a stand-by or a secondary answers: never older than the client asks for."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client import REGISTRY
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from custsvc.config import Settings
from custsvc.doctor.access import read_server
from custsvc.errors import ConfigurationError
from custsvc.local import mongod as embedded
from custsvc.local import ports
from custsvc.ports.customers import CustomerQuery
from custsvc.serve import create_app
from custsvc.stores import open_store
from tests.pgbouncer import pgbouncer
from tests.standby import Pair
from tests.waiting import until

PERMISSIONS = (Path(__file__).parents[2] / "docs" / "permissions.md").read_text(encoding="utf-8")


class Api:
    """The API of this process; its reads may be answered by a server that is behind."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        store = stack.enter_context(open_store(settings))
        store.migrate()
        store.claim_role("source")
        self._client = create_app(settings, store).test_client()

    def write(self, method: str, path: str = "", **fields: Any) -> tuple[int, str]:
        """The customer's id, and the position of the write."""
        done = getattr(self._client, method)(f"/api/customers/{path}", json=fields)
        assert done.status_code in (200, 201), done.text
        return done.json["id"], done.headers["X-Custsvc-Position"]

    def read(self, path: Any = "", position: str = "") -> Any:
        headers = {"X-Custsvc-Min-Position": position} if position else {}
        done = self._client.get(f"/api/customers/{path}", headers=headers)
        assert done.status_code == 200, done.text
        return done.json

    def name(self, customer_id: int, position: str = "") -> str:
        return str(self.read(f"{customer_id}/", position)["name"])


def counted(server: str) -> float:
    """How many reads this server has answered in this process."""
    return REGISTRY.get_sample_value("custsvc_reads_total", {"server": server}) or 0.0


def answers(api: Api, customer_id: int, position: str = "") -> Callable[[], bool]:
    """Whether the read server answers now, and has this position."""
    before = counted("read server")

    def does() -> bool:
        api.read(f"{customer_id}/", position)
        return counted("read server") > before

    return does


def reader(settings: Settings, pair: Pair) -> str:
    """The address of the stand-by for an account with the rights that docs/permissions.md lists."""
    with open_store(settings) as store:
        store.migrate()
    pair.sql(pair.port, "CREATE ROLE custsvc_reads LOGIN PASSWORD 'reads'")
    (grants,) = re.findall(r"### A stand-by that.*?```sql\n(.*?)```", PERMISSIONS, re.DOTALL)
    for grant in grants.splitlines():
        pair.sql(pair.port, grant)
    return (
        urlsplit(pair.standby_url)
        ._replace(netloc=f"custsvc_reads:reads@{ports.HOST}:{pair.standby_port}")
        .geturl()
    )


def test_a_stand_by_answers_reads_and_no_client_misses_its_own_write(tmp_path: Path) -> None:
    with ExitStack() as stack:
        pair = Pair(tmp_path, stack, synchronous=False)
        settings = Settings(auth="off", postgres_url=pair.primary_url, read_lag=3600.0)
        settings = settings.replace(postgres_read_url=reader(settings, pair))
        api = Api(settings, stack)
        ada, first = api.write("post", name="Ada")
        until("the stand-by answers", answers(api, ada))
        assert api.name(ada, first) == "Ada"

        pair.sql(pair.standby_port, "SELECT pg_wal_replay_pause()")
        _, second = api.write("patch", f"{ada}/", name="Grace")
        bob, third = api.write("post", name="Bob")

        until("the stand-by answers", lambda: api.name(ada) == "Ada")
        assert api.name(ada, second) == "Grace"
        assert [each["name"] for each in api.read("", f"{second},{third}")["results"]] == ["Grace", "Bob"]
        assert [each["version"] for each in api.read(f"{ada}/history", second)["results"]] == [2, 1]
        # Unknown there: the source knows better.
        assert api.name(bob) == "Bob"

        strict = Api(settings.replace(read_lag=0.5), stack)
        until("it is too far behind", lambda: strict.name(ada) == "Grace" and counted("source: lag"))
        assert strict.name(ada) == "Grace"

        pair.sql(pair.standby_port, "SELECT pg_wal_replay_resume()")
        until("the stand-by has it", lambda: api.name(ada) == "Grace")
        until("the stand-by answers", answers(strict, ada))
        pair.stop_standby()
        assert api.name(ada) == "Grace"
        until("it is noticed", lambda: api.name(ada) == "Grace" and counted("source: down"))
        pair.start_standby()
        until("the stand-by answers again", answers(api, ada))


def test_a_stand_by_of_another_server_is_never_read(tmp_path: Path, servers: Any) -> None:
    with ExitStack() as stack:
        pair = Pair(tmp_path, stack, synchronous=False)
        Api(Settings(auth="off", postgres_url=pair.primary_url), stack)
        store = stack.enter_context(open_store(Settings(postgres_url=servers.url("postgres"))))
        server = store.read_server(pair.standby_url)
        stack.callback(server.close)

        with pytest.raises(ConfigurationError, match="is no stand-by of"):
            server.lag()
        settings = Settings(postgres_url=servers.url("postgres"), postgres_read_url=pair.standby_url)
        (found,) = read_server(settings)
        assert (found.level, found.check) == ("failed", "read server")
        settings = settings.replace(postgres_url=pair.primary_url)
        until("the stand-by has the schema", lambda: next(read_server(settings)).level == "ok")


def test_a_stand_by_is_read_through_a_pooler(tmp_path: Path) -> None:
    with ExitStack() as stack:
        pair = Pair(tmp_path, stack, synchronous=False)
        api = Api(Settings(auth="off", postgres_url=pair.primary_url), stack)
        ada, _ = api.write("post", name="Ada")
        store = stack.enter_context(open_store(Settings(postgres_url=pair.primary_url)))
        pooler = stack.enter_context(pgbouncer(pair.standby_url, "transaction"))
        server = store.read_server(pooler.url(pair.standby_url))
        stack.callback(server.close)

        assert server.lag() < 60
        with server.reading({ada: 1}, 10.0) as customers:
            assert customers is not None
            assert customers.get_many([ada])[ada].version == 1
            assert customers.find(CustomerQuery()).count == 1
        with server.reading({ada: 2}, 0.0) as customers:
            assert customers is None


class TwoMembers:
    """A primary, and a secondary that can be told to apply nothing for a while."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._ports = [ports.choose() for _ in range(2)]
        self._running: list[subprocess.Popen[bytes]] = []
        hosts = [f"{ports.HOST}:{port}" for port in self._ports]
        self.url = f"mongodb://{','.join(hosts)}/custsvc?replicaSet=rs0"
        for port in self._ports:
            self._start(folder / str(port), port, stack)
        # The secondary has no vote, so writes do not wait for it.
        members = [{"_id": 0, "host": hosts[0]}, {"_id": 1, "host": hosts[1], "priority": 0, "votes": 0}]
        for port in self._ports:
            with self._client(port) as client:
                until("it answers", partial(client.admin.command, "ping"), despite=PyMongoError)
        with self._client(self._ports[0]) as client:
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
        until("both are there", lambda: self._is(0, "isWritablePrimary") and self._is(1, "secondary"))

    def apply(self, mode: str) -> None:
        """Have the secondary apply nothing (`off`), or all again (`on`)."""
        with self._client(self._ports[1]) as client:
            stop = "alwaysOn" if mode == "off" else "off"
            client.admin.command("configureFailPoint", "rsSyncApplyStop", mode=stop)

    def kill_secondary(self) -> None:
        self._running[1].kill()
        self._running[1].wait()

    def _start(self, data: Path, port: int, stack: ExitStack) -> None:
        data.mkdir()
        own = ["--dbpath", str(data), "--port", str(port), "--replSet", "rs0"]
        small = ["--oplogSize", "64", "--wiredTigerCacheSizeGB", "0.25", "--nounixsocket"]
        alone = ["--bind_ip", ports.HOST, "--setParameter", "enableTestCommands=1"]
        with (data / "log").open("ab") as log:
            command = [str(embedded._binary()), *own, *small, *alone]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.kill)
        self._running.append(process)

    def _is(self, member: int, state: str) -> bool:
        with self._client(self._ports[member]) as client:
            return bool(client.admin.command("hello").get(state))

    def _client(self, port: int) -> MongoClient[dict[str, Any]]:
        return MongoClient(ports.HOST, port, directConnection=True, serverSelectionTimeoutMS=5000)


@pytest.fixture
def members(tmp_path: Path) -> Iterator[TwoMembers]:
    with ExitStack() as stack:
        yield TwoMembers(tmp_path, stack)


def test_a_secondary_answers_reads_and_no_client_misses_its_own_write(members: TwoMembers) -> None:
    with ExitStack() as stack:
        settings = Settings(backend="mongo", mongo_url=members.url, mongo_read_preference="secondary")
        api = Api(settings.replace(auth="off"), stack)
        ada, first = api.write("post", name="Ada")
        until("the secondary answers", answers(api, ada, first))

        members.apply("off")
        _, second = api.write("patch", f"{ada}/", name="Grace")
        bob, third = api.write("post", name="Bob")

        until("the secondary answers", lambda: api.name(ada) == "Ada")
        assert api.name(ada, second) == "Grace"
        assert [each["name"] for each in api.read("", f"{second},{third}")["results"]] == ["Grace", "Bob"]
        assert api.name(bob) == "Bob"

        members.apply("on")
        until("the secondary has it", answers(api, ada, second))
        members.kill_secondary()
        assert api.name(ada) == "Grace"
