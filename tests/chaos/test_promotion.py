"""A PostgreSQL whose primary dies and whose standby is promoted, under load."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from custsvc.config import Settings
from custsvc.local import ports
from custsvc.stores.postgres import PostgresStore
from tests.chaos.clients import Clients
from tests.chaos.conftest import OPTIONS, Line, fresh_topics
from tests.chaos.roles import request, serves
from tests.standby import Pair
from tests.waiting import until


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(tmp_path, stack)


@pytest.fixture
def line(pair: Pair, servers: Any, all_databases: Callable[[str], Any], tmp_path: Path) -> Iterator[Line]:
    databases = all_databases("mongo")
    urls = {"postgres_url": pair.url, "mongo_url": databases.migrated()}
    with PostgresStore(pair.url) as store:
        store.migrate()
    settings = fresh_topics(
        Settings(backend="postgres", kafka=servers.url("kafka"), kafka_options=OPTIONS, partitions=4, **urls)
    )
    with ExitStack() as stack:
        stack.callback(databases.drop, urls["mongo_url"])
        yield Line(settings, tmp_path, stack)


def test_a_promotion_loses_nothing_and_no_role_has_to_be_restarted(line: Line, pair: Pair) -> None:
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
        until("writes go on", lambda: writes >= 50, 600)
        pair.kill_primary()
        pair.promote()
        promoted, before = time.monotonic(), writes
        until("writes go on", lambda: writes > before, 600)
        waited = time.monotonic() - promoted
        goal = writes + 50
        until("writes go on", lambda: writes >= goal, 600)
    line.acknowledged |= clients.acknowledged
    line.source.close()
    line.settle_topic()

    assert clients.surprises == []
    assert line.judge(copied=False).problems == []
    assert api.is_running()
    assert relay.is_running()
    assert waited < 60
    print(f"writes went on {waited:.1f} s after the promotion, {writes} writes, {clients.refused} refused")


def test_a_database_that_turns_read_only_is_not_ready_and_takes_writes_when_it_is_back(
    line: Line, pair: Pair
) -> None:
    """As a managed one does whose disk is full: it goes on to answer."""
    port = ports.choose()
    line.role("serve", "--auth", "off", "--port", str(port)).start()
    until("the API answers", lambda: serves(port))

    def status(method: str, path: str, body: Any = None) -> int:
        return int(request(port, method, path, body)[0])

    def turn(setting: str) -> None:
        """For connections that are made from now on."""
        pair.sql(pair.port, f"ALTER DATABASE custsvc {setting}")

    assert status("POST", "/api/customers/", {"name": "Ada"}) == 201
    turn("SET default_transaction_read_only = on")
    ours = "pg_stat_activity WHERE application_name LIKE 'custsvc%'"
    pair.sql(pair.port, f"SELECT count(pg_terminate_backend(pid)) FROM {ours}")
    until("it is not ready", lambda: status("GET", "/readyz") == 503)
    assert status("POST", "/api/customers/", {"name": "Grace"}) == 503

    turn("RESET default_transaction_read_only")

    until("it is ready", lambda: status("GET", "/readyz") == 200)
    until("writes go on", lambda: status("POST", "/api/customers/", {"name": "Grace"}) == 201)
    # Each lane has a connection of its own, and none is left that is read-only.
    assert {status("POST", "/api/customers/", {"name": f"n{n}"}) for n in range(40)} <= {201, 503}
    assert {status("POST", "/api/customers/", {"name": f"n{n}"}) for n in range(40)} == {201}
