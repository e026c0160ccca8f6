"""The API when callers crowd, its process dies, its database dies or hangs, and its clocks disagree."""

from __future__ import annotations

import datetime as dt
import json
import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from custsvc.domain.customers import Fields
from custsvc.errors import VersionConflict
from custsvc.local import LocalServers, ports
from custsvc.local.process import send
from custsvc.ports.store import Store
from custsvc.service.customers import CustomerService
from tests.addresses import through
from tests.chaos import checker
from tests.chaos.clients import Clients
from tests.chaos.conftest import ME
from tests.chaos.faultproxy import FaultProxy
from tests.chaos.roles import NO_ANSWER, Role, request, serves
from tests.chaos.slow_clients import SlowClients
from tests.sizes import on_one, sizes
from tests.waiting import until


class Api:
    """`custsvc serve` over a database, as a process."""

    def __init__(self, backend: str, url: str, folder: Path, stack: ExitStack, more: dict[str, str]) -> None:
        self.port = ports.choose()
        env = {f"CUSTSVC_{backend.upper()}_URL": url, "CUSTSVC_BACKEND": backend, "CUSTSVC_LOCAL": "never"}
        env |= {f"CUSTSVC_{name}": value for name, value in more.items()}
        self.role = Role(["serve", "--auth", "off", "--port", str(self.port)], env, folder / "serve.log")
        stack.callback(self.role.kill)

    def start(self) -> None:
        """Start it, again and again while the port is still held by workers of one that was killed."""

        def up() -> bool:
            if not self.role.is_running():
                self.role.start()
            return serves(self.port)

        until("the API answers", up, 120)

    def __call__(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        return request(self.port, method, path, body, **options)


@pytest.fixture
def make_api(backend: str, tmp_path: Path) -> Iterator[Callable[..., Api]]:
    with ExitStack() as stack:

        def make(url: str, **env: str) -> Api:
            api = Api(backend, url, tmp_path, stack, env)
            api.start()
            return api

        yield make


def grows(what: str, size: Callable[[], int], by: int, seconds: float = 60) -> None:
    """Wait until `size` is more than `by` bigger than now."""
    now = size()
    until(what, lambda: size() > now + by, seconds)


def together(count: int, work: Callable[[int], None]) -> list[BaseException]:
    """Run `work` in so many threads; what they raised."""
    raised: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as exc:  # noqa: BLE001 - handed to the test
            raised.append(exc)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@sizes("callers, customers, tries", (16, 4, 25), (32, 20, 2000))
def test_of_guarded_updates_in_a_crowd_none_is_lost(
    store: Store, callers: int, customers: int, tries: int
) -> None:
    """A1: many callers, few customers; each update names the version it was made from."""
    service = CustomerService(store.customers)
    hot = [service.create(Fields("0"), ME).id for _ in range(customers)]
    done: Counter[int] = Counter()

    def add_one(number: int) -> None:
        rng = random.Random(number)
        for _ in range(tries):
            each = rng.choice(hot)
            before = service.get(each)
            count = int(before.customer().fields.name)
            try:
                service.replace(each, Fields(str(count + 1)), ME, expected=before.version)
                done[each] += 1
            except VersionConflict:
                pass

    assert together(callers, add_one) == []

    for each in hot:
        stored = service.get(each)
        assert int(stored.customer().fields.name) == done[each] == stored.version - 1
    assert sum(done.values()) > customers
    print(f"{store.name}: {callers * tries} tries, {sum(done.values())} updates")


@sizes("turns", 20, 16_700)
def test_clocks_an_hour_apart_change_neither_order_nor_versions(
    store: Store, drain_all: Any, turns: int
) -> None:
    """A9: processes of which one is an hour behind and one an hour ahead write the same customers."""
    now = dt.datetime.now(dt.UTC)
    skews = [dt.timedelta(hours=hours) for hours in (-1, 0, 1)]
    services = [
        CustomerService(store.customers, clock=lambda skew=skew: _millis(now + skew)) for skew in skews
    ]
    ids = [services[0].create(Fields("x"), ME).id for _ in range(3)]

    def write(number: int) -> None:
        for turn in range(turns):
            services[number % 3].replace(ids[turn % 3], Fields(f"{number} {turn}"), ME)

    assert together(6, write) == []

    seen: dict[int, list[int]] = {each: [] for each in ids}
    for event in drain_all(store.outbox):
        seen[event.customer_id].append(event.version)
    assert seen == {each: list(range(1, service_version(store, each) + 1)) for each in ids}
    assert sum(len(versions) for versions in seen.values()) == 3 + 6 * turns


def service_version(store: Store, customer_id: int) -> int:
    stored = store.customers.get(customer_id)
    assert stored is not None
    return stored.version


def _millis(time_: dt.datetime) -> dt.datetime:
    return time_.replace(microsecond=time_.microsecond // 1000 * 1000)


@pytest.fixture
def drain_all() -> Callable[[Any], list[Any]]:
    def drain(outbox: Any) -> list[Any]:
        events: list[Any] = []
        with outbox.lead():
            while (batch := outbox.read(500)).events:
                events += batch.events
                outbox.done(batch)
        return events

    return drain


@sizes("kills, between", (3, 10), (50, 1000))
@on_one("mongo")
def test_a_server_that_is_killed_creates_no_customer_twice_under_an_idempotency_key(
    database_url: str, backend: str, make_api: Callable[[str], Api], kills: int, between: int
) -> None:
    """A2: kill -9 in the middle of writes; every client repeats until it is answered, under the same key."""
    api = make_api(database_url)
    answered: dict[str, tuple[int, int]] = {}
    stop = threading.Event()

    def client(number: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            key, name = str(uuid.uuid4()), f"{number} {turn}"
            status, body, _ = _insist(api, {"name": name}, key)
            assert status == 201, body
            answered[name] = (body["id"], body["version"])

    def kill_and_start() -> None:
        try:
            for _ in range(kills):
                grows("work is done", lambda: len(answered), between, 600)
                api.role.kill()
                api.start()
        finally:
            stop.set()

    raised = together(5, lambda number: client(number) if number else kill_and_start())

    assert raised == []
    source = checker.read_database(backend, database_url)
    names = Counter(json.loads(doc)["name"] for _, doc in source.values())
    assert {name for name, count in names.items() if count != 1} == set()
    assert set(names) == set(answered)
    assert all(source[customer][0] == version for customer, version in answered.values())
    print(f"{backend}: {len(answered)} requests, {kills} kills, each done once")


def _insist(api: Api, body: dict[str, Any], key: str) -> Any:
    """The answer to a request that is sent until there is one that tells how it ended."""

    def answered() -> Any:
        answer = api("POST", "/api/customers/", body, headers={"idempotency-key": key}, seconds=10)
        # 409: the one before is still in progress, or died in it.
        return None if answer[0] in (409, 503) else answer

    # More than a start may take.
    return until(f"an answer to {body}", answered, 240, every=0.1, despite=NO_ANSWER)


class OwnDatabase:
    """A server of the test's own, which may be killed."""

    def __init__(self, backend: str, folder: Path) -> None:
        self._servers = LocalServers(folder, names=[backend], ephemeral=True)
        self._backend = backend
        (self.url,) = self._servers.start().values()

    def kill(self, signum: signal.Signals) -> None:
        server = self._servers.server(self._backend)
        identity = server.identity
        assert identity is not None
        send(identity, signum)
        until("it is gone", lambda: not identity.is_running())

    def start(self) -> None:
        self._servers.restart(self._backend)

    def close(self) -> None:
        self._servers.stop()


@pytest.fixture
def own_database(backend: str, tmp_path: Path) -> Iterator[OwnDatabase]:
    database = OwnDatabase(backend, tmp_path / "database")
    yield database
    database.close()


@sizes("rounds, between", (2, 10), (20, 5000))
def test_a_database_that_is_killed_under_load_is_503_and_the_api_heals_by_itself(
    own_database: OwnDatabase, backend: str, make_api: Callable[[str], Api], rounds: int, between: int
) -> None:
    """A4: kill -9, then (PostgreSQL) an immediate stop. No 500, no acknowledged write is lost."""
    api = make_api(own_database.url)
    refusals: list[dict[str, str]] = []
    writes, took = 0, []

    def call(method: str, path: str, body: Any) -> Any:
        answer = api(method, path, body)
        nonlocal writes
        if answer[0] == 503:
            refusals.append(answer[2])
        writes += answer[0] < 300
        return answer

    with Clients(call, pause=0.05 if rounds == 2 else 0.0) as clients:
        for turn in range(rounds):
            grows("writes are done", lambda: writes, between, 600)
            # Killed, and on PostgreSQL by turns stopped at once.
            own_database.kill(signal.SIGQUIT if backend == "postgres" and turn % 2 else signal.SIGKILL)
            known = len(refusals)
            until("it is refused", lambda known=known: len(refusals) > known)
            own_database.start()
            done, up = writes, time.monotonic()
            until("writes go on", lambda done=done: writes > done)
            took.append(time.monotonic() - up)

    assert clients.surprises == []
    assert all(float(headers["retry-after"]) > 0 for headers in refusals)
    source = checker.read_database(backend, own_database.url)
    assert {i: v for i, v in clients.acknowledged.items() if source.get(i, (0, ""))[0] < v} == {}
    assert api.role.is_running()
    print(f"{backend}: {writes} writes, {rounds} restarts, the first write at most {max(took):.1f} s after")


@pytest.fixture
def slow_way(database_url: str) -> Iterator[tuple[FaultProxy, str]]:
    parts = urlsplit(database_url)
    with FaultProxy((parts.hostname or "127.0.0.1", parts.port or 0)) as proxy:
        yield proxy, through(database_url, proxy.port)


@sizes("callers", 50, 200)
def test_a_slow_database_costs_neither_threads_nor_memory_and_leaves_no_trace(
    slow_way: tuple[FaultProxy, str], make_api: Callable[..., Api], callers: int
) -> None:
    """A7: two seconds each way: every caller is answered, and those who would wait for long are told so.

    To open a connection takes more round trips than there is time for: `dependency-down`, after 5 s.
    """
    proxy, url = slow_way
    api = make_api(url, QUEUE_TIMEOUT="2", SLOW_BODIES="8")
    assert api("POST", "/api/customers/", {"name": "Ada"})[0] == 201
    assert together(32, lambda _: api("GET", "/api/customers/1", seconds=120)) == []
    before = _size(api.role.pid)
    proxy.latency(2.0)
    refused: list[float] = []
    codes: Counter[str] = Counter()

    def call(_number: int) -> None:
        began = time.monotonic()
        status, body, headers = api("GET", "/api/customers/1", seconds=120)
        assert status == 200 or body["code"] in ("overloaded", "dependency-down")
        assert status == 200 or int(headers["retry-after"]) > 0
        codes[body.get("code", "fine")] += 1
        if body.get("code") == "overloaded":
            refused.append(time.monotonic() - began)

    assert together(callers, call) == []
    during = _size(api.role.pid)
    proxy.heal()

    until("it is quick again", lambda: _quick(api))
    grown = (during.threads - before.threads, (during.rss - before.rss) / 2**20)
    assert refused
    late = sorted(refused)[int(len(refused) * 0.99)]
    print(f"{codes}: refused p99 {late:.2f} s; +{grown[0]} threads, +{grown[1]:.0f} MB")
    assert codes["fine"] > 0
    # The threads that work, and a fixed number that accept requests: not one for each caller.
    assert grown[0] <= 2 * (8 + 12)
    assert grown[1] < 50
    if callers == 200:
        assert late <= 3


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_slow_clients_cost_the_others_nothing(database_url: str, make_api: Callable[..., Api]) -> None:
    """S9: half of them slow with their heads, half with their bodies."""
    sockets, seconds = 500, 60
    api = make_api(database_url)
    took: list[float] = []
    with SlowClients(api.port, sockets):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.monotonic()
            made = api("POST", "/api/customers/", {"name": "Ada"}, seconds=30)
            read = api("GET", f"/api/customers/{made[1]['id']}", seconds=30)
            took.append((time.monotonic() - began) / 2)
            assert (made[0], read[0]) == (201, 200)

    took.sort()
    late = took[int(len(took) * 0.99)]
    median = took[len(took) // 2]
    print(f"{2 * len(took)} requests beside {sockets} slow clients: median {median:.3f} s, p99 {late:.3f} s")
    assert late < 1


class _Size:
    def __init__(self, threads: int, rss: int) -> None:
        self.threads, self.rss = threads, rss


def _size(pid: int) -> _Size:
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return _Size(sum(p.num_threads() for p in processes), sum(p.memory_info().rss for p in processes))


def _quick(api: Api) -> bool:
    started = time.monotonic()
    try:
        return bool(api("GET", "/api/customers/1", seconds=5)[0] == 200) and time.monotonic() - started < 1
    except NO_ANSWER:
        return False
