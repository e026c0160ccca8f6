"""`custsvc serve` as a process: how it starts, refuses, crashes, recovers and stops."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from custsvc.accounts.keys import new_key
from custsvc.config import Settings
from custsvc.domain.customers import Customer, Fields, utc_now
from custsvc.domain.events import new_change
from custsvc.domain.received import decode
from custsvc.errors import ExitCode
from custsvc.kafka.publisher import Publisher, Record
from custsvc.kafka.topics import ensure_topics
from custsvc.local import LocalServers, ports
from custsvc.ports.accounts import Role
from custsvc.ports.store import Store
from custsvc.serve import create_app
from custsvc.serve.server import check_port
from custsvc.stores import open_store
from tests.databases import open_database, settings_of
from tests.processes import run_custsvc
from tests.waiting import until

from ..addresses import through
from ..chaos.faultproxy import FaultProxy
from ..sizes import on_one
from .conftest import ANN, Client

pytestmark = pytest.mark.slow

JSON = {"Content-Type": "application/json"}
NEW = Customer(7, Fields("Ada"), False, 1, utc_now(), "me", utc_now(), "me")


# Every wait ends with this, and none is expected to come near it: the machine may have much else to do.
DEADLINE = 90.0
# While a process starts or ends.
AWAY = (OSError, http.client.HTTPException, psutil.Error)


eventually = partial(until, seconds=DEADLINE, despite=AWAY)


class Serve:
    """A `custsvc serve` on a port of its own."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.port = ports.choose()
        self.log = folder / "serve.log"
        self._folder = folder
        self.environ = environ
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "custsvc", *arguments]

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """A command that ends by itself."""
        return run_custsvc(*arguments, env={**self.environ, **environ}, cwd=self._folder)

    def start(self, *arguments: str) -> Serve:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("serve", "--port", str(self.port), *arguments),
                env=self.environ,
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.answers("GET", "/livez")
        return self

    def answers(self, method: str, path: str, key: str | None = None, body: Any = None) -> None:
        """Ask until the answer is 200 or 201."""
        eventually(f"{path} is answered", lambda: self.request(method, path, key, body)[0] in (200, 201))

    def workers(self) -> list[psutil.Process]:
        assert self.process is not None
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]

    def two_workers(self) -> list[psutil.Process]:
        return eventually("two workers run", lambda: len(found := self.workers()) == 2 and found)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)

    def request(
        self, method: str, path: str, key: str | None = None, body: Any = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = self.connect()
        headers = dict(JSON) if body is not None else {}
        if key:
            headers["X-Api-Key"] = key
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, content

    def raw(self, text: bytes) -> bytes:
        """The answer to exactly these bytes, until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE) as connection:
            connection.sendall(text)
            received = b""
            while piece := connection.recv(65536):
                received += piece
            return received

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(DEADLINE)

    def said(self) -> list[str]:
        """What its log tells, as words of actions; of a worker that was lost it tells more."""
        return [json.loads(line)["action"] for line in self.log.read_text().splitlines()]

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def serve(tmp_path: Path, backend: str, store: Store, database_url: str) -> Iterator[Serve]:
    """Serve on the test's database, not started yet."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CUSTSVC_")}
    environ |= {
        "CUSTSVC_BACKEND": backend,
        f"CUSTSVC_{backend.upper()}_URL": database_url,
        "CUSTSVC_LOCAL": "never",
        "CUSTSVC_LOG_FORMAT": "json",
        # A test that is about several says so.
        "CUSTSVC_WORKERS": "1",
    }
    serve = Serve(tmp_path, environ)
    yield serve
    serve.end()


@pytest.fixture
def key(make_key: Callable[[Role], str]) -> str:
    return make_key("write")


def test_it_serves_in_several_small_processes_and_stops(serve: Serve, key: str) -> None:
    serve.start("--workers", "2")

    made = serve.request("POST", "/api/customers/", key, ANN)
    read = serve.request("GET", made[1]["location"], key)
    workers = serve.two_workers()
    memory = [worker.memory_info().rss / 2**20 for worker in workers]
    code = serve.stop()

    assert (made[0], read[0]) == (201, 200)
    assert read[2] == made[2]
    assert max(memory) < 100
    assert code == ExitCode.OK
    assert not any(worker.is_running() for worker in workers)
    assert serve.said() == ["serving", "stopped"]


def test_the_server_makes_the_indexes_for_lists_of_a_copy(
    serve: Serve, backend: str, empty_database: str
) -> None:
    serve.environ[f"CUSTSVC_{backend.upper()}_URL"] = empty_database
    change = new_change("created", None, NEW, actor="me")
    with open_database(backend, empty_database) as copy:
        copy.migrate(lists=False)
        copy.claim_role("copy")
        copy.replica.apply([decode(change.event.payload, b"7")], "t", {0: 1})

    serve.start("--read-only", "--auth", "off")

    status, _, body = serve.request("GET", "/api/customers/?q=ada&sort=-name")
    assert (status, [each["id"] for each in json.loads(body)["results"]]) == (200, [7])
    assert serve.stop() == ExitCode.OK
    assert serve.said() == ["index", "serving", "stopped"]


@on_one("postgres")
def test_a_stop_lets_the_current_requests_finish(serve: Serve, key: str) -> None:
    serve.start()
    body = json.dumps(ANN).encode()
    with slow_post(serve, key, len(body), expect="100-continue") as connection:
        # Said when somebody begins to read the body.
        assert connection.recv(65536).startswith(b"HTTP/1.1 100")

        assert serve.process is not None
        serve.process.terminate()
        time.sleep(0.5)
        connection.sendall(body[1:])

        assert connection.recv(65536).startswith(b"HTTP/1.1 201")
    assert serve.process.wait(DEADLINE) == ExitCode.OK


@on_one("postgres")
def test_ctrl_c_that_reaches_all_processes_is_an_ordinary_stop(serve: Serve, key: str) -> None:
    serve.start()
    assert serve.process is not None

    os.killpg(serve.process.pid, signal.SIGINT)

    assert serve.process.wait(DEADLINE) == ExitCode.OK
    assert serve.said() == ["serving", "stopped"]


@on_one("postgres")
def test_a_service_manager_may_stop_all_processes_at_once(serve: Serve) -> None:
    serve.start("--workers", "2")
    assert serve.process is not None

    processes: list[Any] = [*serve.two_workers(), serve.process]
    for process in processes:
        process.send_signal(signal.SIGTERM)

    assert serve.process.wait(DEADLINE) == ExitCode.OK


@on_one("postgres")
def test_a_server_whose_main_process_was_killed_starts_again_at_once(serve: Serve) -> None:
    serve.start()
    workers = serve.workers()
    assert serve.process is not None
    serve.process.kill()
    serve.process.wait()

    serve.start()
    eventually("the workers end", lambda: not any(worker.is_running() for worker in workers))
    assert serve.stop() == ExitCode.OK


@on_one("postgres")
def test_a_worker_that_crashed_is_replaced(serve: Serve, key: str) -> None:
    serve.start("--workers", "2")
    victim, other = serve.two_workers()

    victim.kill()

    eventually(
        "another worker comes",
        lambda: {w.pid for w in serve.workers()} - {victim.pid, other.pid},
    )
    serve.answers("GET", "/api/customers/", key)
    assert serve.stop() == ExitCode.OK
    assert "Unexpected exit from worker" in serve.log.read_text()


def test_a_port_that_old_workers_hold_for_a_moment_is_waited_for() -> None:
    held = socket.create_server(("127.0.0.1", 0))
    port = held.getsockname()[1]
    release = threading.Timer(1.0, held.close)
    release.start()
    try:
        check_port("127.0.0.1", port)
    finally:
        release.join()


@on_one("postgres")
def test_a_taken_port_is_one_line_and_its_fix_before_anything_starts(serve: Serve, key: str) -> None:
    serve.start()

    second = serve.run("serve", "--port", str(serve.port))

    assert second.returncode == ExitCode.CONFIGURATION
    assert second.stderr.splitlines() == [
        f"error: port {serve.port} on 127.0.0.1 is in use",
        f"fix: stop what listens there, or choose another port: custsvc serve --port {serve.port + 1}",
    ]
    assert serve.request("GET", "/api/customers/", key)[0] == 200


@on_one("postgres")
def test_without_keys_it_does_not_listen_where_others_could_reach_it(serve: Serve) -> None:
    refused = serve.run("serve", "--host", "0.0.0.0", "--port", str(serve.port), CUSTSVC_AUTH="off")

    assert refused.returncode == ExitCode.CONFIGURATION
    assert refused.stderr.startswith("error: the API must not listen on 0.0.0.0 without API keys")
    assert "\nfix: set CUSTSVC_AUTH=on" in refused.stderr


@on_one("postgres")
def test_it_says_once_how_to_make_the_first_key(serve: Serve) -> None:
    serve.start("--workers", "2")
    serve.stop()

    assert serve.log.read_text().count("custsvc keys create NAME --role write") == 1


def test_keys_are_made_listed_and_revoked_on_the_command_line(serve: Serve) -> None:
    created = serve.run("keys", "create", "billing", "--role", "write", "--expires", "90d")
    key = created.stdout.strip()
    listed = serve.run("keys", "list", "-o", "json")
    serve.start()
    before = serve.request("GET", "/api/customers/", key)[0]

    revoked = serve.run("keys", "revoke", "billing")
    eventually("the key is refused", lambda: serve.request("GET", "/api/customers/", key)[0] == 401)

    assert (created.returncode, listed.returncode, revoked.returncode, before) == (0, 0, 0, 200)
    (row,) = json.loads(listed.stdout)
    assert (row["name"], row["role"], row["state"]) == ("billing", "write", "live")
    assert key.split("_", 2)[2] not in listed.stdout
    assert serve.run("keys", "revoke", "billing").returncode == ExitCode.NOT_FOUND
    assert serve.run("keys", "create", "x", "--role", "god").returncode == ExitCode.USAGE
    assert json.loads(serve.run("keys", "list", "-o", "ndjson").stdout)["state"] == "revoked"


@on_one("postgres")
def test_the_wire_cannot_be_used_to_get_around_a_guard_or_a_limit(serve: Serve, key: str) -> None:
    serve.start("--workers", "1")
    path = serve.request("POST", "/api/customers/", key, ANN)[1]["location"]
    head = f"Host: x\r\nX-Api-Key: {key}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    body = b'{"phone": "9"}'

    twice = serve.raw(
        f'PATCH {path} HTTP/1.1\r\n{head}If-Match: "v7"\r\nIf-Match: "v8"\r\n'
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    endless = serve.raw(
        f"POST /api/customers/ HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n".encode()
        + chunk * 3
        + b"0\r\n\r\n"
    )
    chunked = serve.raw(
        f"PATCH {path} HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n".encode()
        + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    )
    only_head = serve.raw(f"HEAD {path} HTTP/1.1\r\n{head}\r\n".encode())
    long, longer = (
        serve.raw(f"GET {path} HTTP/1.1\r\n{head}{'X-Long: ' + 'a' * size}\r\n\r\n".encode())
        for size in (20_000, 100_000)
    )

    assert twice.startswith(b"HTTP/1.1 412")
    assert endless.startswith(b"HTTP/1.1 413")
    assert chunked.startswith(b"HTTP/1.1 200")
    assert only_head.startswith(b"HTTP/1.1 200")
    assert b'etag: "v2"' in only_head
    assert only_head.endswith(b"\r\n\r\n")
    assert long.startswith(b"HTTP/1.1 431") and b"head-too-large" in long
    assert longer.startswith(b"HTTP/1.1 431")


def test_a_database_that_goes_away_is_503_and_the_next_request_after_it_is_back_works(
    tmp_path: Path, backend: str
) -> None:
    """A4."""
    servers = LocalServers(tmp_path / "away", names=[backend], ephemeral=True)
    (url,) = servers.start().values()
    settings = settings_of(backend, url)
    try:
        with open_store(settings) as store:
            store.migrate()
            text, stored = new_key("n", "write")
            store.keys.add(stored)
            client = Client(create_app(settings, store), text)
            customer = client.create()

            servers.server(backend).stop()
            away = [
                client.get(f"/api/customers/{customer['id']}"),
                client.post("/api/customers/", json=ANN),
                client.get("/readyz"),
            ]
            alive = client.get("/livez")
            servers.server(backend).start()
            servers.server(backend).wait_ready()
            eventually(
                "it is there", lambda: client.get(f"/api/customers/{customer['id']}").status_code == 200
            )

            assert [a.status_code for a in away] == [503] * 3
            assert {a.json["dependency"] for a in away} == {backend}
            assert all(a.headers["Retry-After"] for a in away)
            assert alive.status_code == 200
            assert client.create()["version"] == 1
    finally:
        servers.stop()


@on_one("postgres")
def test_open_streams_take_no_thread_from_the_api(
    serve: Serve, key: str, servers: Any, tmp_path: Path
) -> None:
    topic = f"updates-{tmp_path.name[-40:]}"
    settings = Settings(kafka=servers.url("kafka"), topic_updates=topic, partitions=2)
    for name in ("topic_notify", "topic_failed", "topic_dead"):
        settings = settings.replace(**{name: f"{topic}-{name}"})
    ensure_topics(settings)
    serve.environ |= {"CUSTSVC_KAFKA": settings.kafka, "CUSTSVC_TOPIC_UPDATES": topic}
    serve.start("--workers", "1", "--threads", "2")
    streams, connections = [], [serve.connect() for _ in range(12)]
    for connection in connections:
        connection.request("GET", "/api/events/stream", headers={"X-Api-Key": key})
        streams.append(connection.getresponse())

    # No stream ends, so what waited for one would wait for ever.
    assert [serve.request("GET", "/api/customers/", key)[0] for _ in range(20)] == [200] * 20

    event = new_change("created", None, NEW, actor="me").event
    with Publisher(settings) as publisher:
        publisher.send(topic, [Record(b"%d" % NEW.id, event.payload, [])])
    for stream in streams:
        assert stream.status == 200
        assert stream.getheader("Content-Type") == "text/event-stream"
        eventually("the event comes", lambda s=stream: event.payload in s.readline())

    assert serve.process is not None
    serve.process.terminate()
    for stream, connection in zip(streams, connections, strict=True):
        stream.read()  # raises where the stream did not end but was cut off, by the end of its worker
        connection.close()
    assert serve.process.wait(DEADLINE) == ExitCode.OK


@on_one("postgres")
def test_any_process_answers_for_the_metrics_of_all(serve: Serve, key: str) -> None:
    serve.start("--workers", "2")
    for _ in range(20):
        assert serve.request("GET", "/api/customers/", key)[0] == 200

    def counted() -> float:
        text = serve.request("GET", "/metrics")[2].decode()
        return sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if "duration_seconds_count" in line and 'route="/api/customers"' in line
        )

    eventually("all are counted", lambda: counted() == 20.0)
    assert [counted() for _ in range(6)] == [20.0] * 6
    serve.stop()


# -- S9: slow clients (those that are slow with their head are cut off by granian after 15 s)


def slow_post(serve: Serve, key: str, length: int, expect: str = "nothing") -> socket.socket:
    """A connection that has sent the head of a write and the first byte of its body."""
    connection = socket.create_connection(("127.0.0.1", serve.port), timeout=DEADLINE)
    head = (
        f"POST /api/customers/ HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {key}\r\nExpect: {expect}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    connection.sendall(head.encode() + b"{")
    return connection


@on_one("postgres")
def test_a_body_that_does_not_come_in_time_is_answered_408(serve: Serve, key: str) -> None:
    """S9."""
    serve.environ["CUSTSVC_BODY_TIMEOUT"] = "1"
    serve.start("--workers", "1", "--threads", "2")

    body = json.dumps(ANN).encode()
    for _ in range(2):
        late = [slow_post(serve, key, len(body)) for _ in range(2)]
        for connection in late:
            with connection:
                answer = connection.recv(65536)
                assert answer.startswith(b"HTTP/1.1 408")
                assert b'"code":"body-timeout"' in answer
                connection.sendall(body[1:])  # too late: it must not be done any more
    assert b'"count":0' in serve.request("GET", "/api/customers/", key)[2]
    assert serve.request("POST", "/api/customers/", key, ANN)[0] == 201


@on_one("postgres")
def test_a_body_that_comes_in_pieces_is_waited_for(serve: Serve, key: str) -> None:
    serve.start("--workers", "1", "--threads", "2")
    body = json.dumps(ANN).encode()

    with slow_post(serve, key, len(body)) as connection:
        for each in body[1:]:
            time.sleep(0.005)
            connection.sendall(bytes([each]))
        assert connection.recv(65536).startswith(b"HTTP/1.1 201")


@on_one("postgres")
def test_slow_clients_hold_up_nobody_else_however_many_they_are(serve: Serve, key: str) -> None:
    """S9: bodies that do not come, few and then more than are waited for."""
    serve.environ |= {"CUSTSVC_BODY_TIMEOUT": "600", "CUSTSVC_SLOW_BODIES": "30"}
    serve.start("--workers", "1", "--threads", "2")
    body = json.dumps(ANN).encode()
    with ExitStack() as stack:
        slow = [stack.enter_context(slow_post(serve, key, len(body))) for _ in range(20)]
        assert serve.request("GET", "/api/customers/", key)[0] == 200
        assert serve.request("POST", "/api/customers/", key, ANN)[0] == 201
        slow[0].sendall(body[1:])
        assert slow[0].recv(65536).startswith(b"HTTP/1.1 201")

        # More than are waited for. It is told to one who comes with a body, and to nobody else.
        slow += [stack.enter_context(slow_post(serve, key, len(body))) for _ in range(30)]
        post = partial(serve.request, "POST", "/api/customers/", key, ANN)
        refused = eventually("serve is full", lambda: (answer := post())[0] == 503 and answer)
        assert json.loads(refused[2])["code"] == "overloaded"
        assert serve.request("GET", "/api/customers/", key)[0] == 200
    eventually("there is room", lambda: post()[0] == 201)


@on_one("postgres")
def test_a_body_in_chunks_has_its_time_too(serve: Serve, key: str) -> None:
    """S9."""
    serve.environ["CUSTSVC_BODY_TIMEOUT"] = "1"
    serve.start("--workers", "1", "--threads", "1")
    head = f"Host: x\r\nX-Api-Key: {key}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    with socket.create_connection(("127.0.0.1", serve.port), timeout=DEADLINE) as connection:
        connection.sendall(f"POST /api/customers/ HTTP/1.1\r\n{head}\r\n1\r\n{{\r\n".encode())

        assert connection.recv(65536).startswith(b"HTTP/1.1 408")


# -- S8: bodies that are too much


CUSTOMER = ("/api/customers/", "application/json")
FORM = ("/ui/sign-in", "application/x-www-form-urlencoded")
MULTIPART = ("/ui/sign-in", "multipart/form-data; boundary=x")
PART = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
MANY = b",".join(b'"%d":1' % n for n in range(90_000))
# (path, type, how long it is said to be, piece, how many of them, what may be answered)
TOO_MUCH: dict[str, tuple[str, str, int | None, bytes, int, set[bytes]]] = {
    "11 MB": (*CUSTOMER, 11534336, b"x" * 0x10000, 176, {b"413", b""}),
    "chunks without end": (
        *CUSTOMER,
        None,
        b"10000\r\n" + b"x" * 0x10000 + b"\r\n",
        2000,
        {b"413", b""},
    ),
    "10,000 deep": (*CUSTOMER, 20000, b"[" * 10_000 + b"]" * 10_000, 1, {b"400"}),
    "a million digits": (*CUSTOMER, 1_000_000, b"9" * 1_000_000, 1, {b"400"}),
    "90,000 fields": (*CUSTOMER, len(MANY) + 2, b"{" + MANY + b"}", 1, {b"400"}),
    "100,000 parts": (*MULTIPART, len(PART) * 100_000, PART * 1000, 100, {b"413", b""}),
    "parts to the limit": (*MULTIPART, len(PART) * 18_000, PART * 18_000, 1, {b"413"}),
    "a form to the limit": (*FORM, 1_048_576, b"a=1&" * 262_144, 1, {b"413"}),
}


@on_one("postgres")
def test_no_body_however_big_or_endless_makes_a_process_grow(serve: Serve, key: str) -> None:
    """S8."""
    serve.start("--workers", "1", "--threads", "2")
    serve.request("POST", "/api/customers/", key, ANN)
    serve.request("GET", "/ui/sign-in")
    [worker] = serve.workers()
    grown = {"start": worker.memory_info().rss}

    for what, (path, media, length, piece, count, statuses) in TOO_MUCH.items():
        size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {key}\r\nContent-Type: {media}\r\n{size}"
        )
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", serve.port), timeout=DEADLINE) as connection:
                connection.sendall(f"{head}\r\n\r\n".encode())
                answer = b""
                with suppress(
                    ConnectionError
                ):  # who sends on after the answer may be cut off before it is read
                    for _ in range(count):
                        connection.sendall(piece)
                        if select.select([connection], [], [], 0)[0]:
                            break
                    answer = connection.recv(65536)
                assert answer[9:12] in statuses, what
        grown[what] = worker.memory_info().rss
    each = [(after - before) / 2**20 for before, after in pairwise(grown.values())]
    print(dict(zip(TOO_MUCH, each, strict=True)))
    assert max(each) < 20
    assert sum(each) < 40
    assert serve.request("POST", "/api/customers/", key, ANN)[0] == 201


# -- A7: more requests than can be worked on


def test_a_request_that_gets_no_thread_in_time_is_refused_and_livez_still_answers(
    serve: Serve, key: str, backend: str, database_url: str
) -> None:
    """A7: the database answers nobody any more, and later it does again."""
    parts = urllib.parse.urlsplit(database_url)
    with FaultProxy((parts.hostname or "127.0.0.1", parts.port or 0)) as proxy:
        patient = {"timeoutMS": "600000"} if backend == "mongo" else {}
        serve.environ |= {
            f"CUSTSVC_{backend.upper()}_URL": through(database_url, proxy.port, **patient),
            "CUSTSVC_QUEUE_TIMEOUT": "1",
        }
        serve.start("--workers", "1", "--threads", "2")
        assert [serve.request("GET", "/api/customers/", key)[0] for _ in range(4)] == [200] * 4
        proxy.blackhole()
        with ThreadPoolExecutor(12) as callers:
            asked = [callers.submit(serve.request, "GET", "/api/customers/", key) for _ in range(12)]
            eventually("ten are answered", lambda: sum(each.done() for each in asked) >= 10)
            refused = [each.result() for each in asked if each.done()]
            alive = serve.request("GET", "/livez")[0]
            proxy.heal()
            assert {each.result()[0] for each in asked} <= {200, 503}
        serve.answers("GET", "/api/customers/", key)

    assert {each[0] for each in refused} == {503}
    # A thread that had to connect again may have had the error that the database does not answer.
    codes = [json.loads(each[2])["code"] for each in refused]
    assert codes.count("overloaded") > 0
    assert set(codes) <= {"overloaded", "dependency-down"}
    assert all(int(each[1]["retry-after"]) > 0 for each in refused)
    assert alive == 200


# -- S18: logs


@on_one("postgres")
def test_logs_are_one_json_object_a_line_whatever_is_sent_and_hold_nothing_personal_and_no_key(
    serve: Serve, key: str
) -> None:
    """S18."""
    serve.start("--workers", "1", "--log-level", "DEBUG")
    evil = 'canary-7f3a\r\n{"level":"INFO"}\x1b[31m\u2028'
    quoted = urllib.parse.quote(evil)
    auth = f"X-Api-Key: {key}\r\n"
    serve.request("POST", "/api/customers/", key, {**ANN, "name": "canary-name", "phone": "555-canary"})
    serve.request("POST", "/api/customers/", key, {**ANN, "name": evil, "email": evil})
    serve.request("GET", f"/api/customers/?q={quoted}&email=canary@example.org", key)
    serve.request("GET", f"/api/{quoted}", key)
    serve.request("GET", "/api/customers/", "csk_canary_wrong")
    for header in ("X-Request-Id", "Idempotency-Key", "traceparent", "If-Match", "User-Agent", "Prefer"):
        line = f"{header}: canary\x1b[31m {evil[:11]}\r\n"
        serve.raw(
            f"GET /api/customers/1 HTTP/1.1\r\nHost: x\r\n{auth}{line}Connection: close\r\n\r\n".encode()
        )
    serve.stop()

    text = serve.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert sum(line.get("action") == "request" for line in lines) >= 5
    assert key not in text and key.split("_")[2] not in text
    personal = [line for line in text.splitlines() if "canary" in line]
    assert [line for line in personal if f"/api/{evil[:11]}" not in json.loads(line)["message"]] == []
    assert not any(char in text for char in "\x1b\r\u2028")


# -- tracing


@on_one("postgres")
def test_spans_of_requests_are_sent_to_the_receiver_that_opentelemetrys_variables_name(
    serve: Serve, key: str
) -> None:
    received: list[bytes] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        serve.environ |= {
            "CUSTSVC_TRACING": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.server_port}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        serve.start("--workers", "1")
        assert serve.request("POST", "/api/customers/", key, ANN)[0] == 201
        sent = eventually("the span is there", lambda: b"".join(received) if received else None)
        serve.stop()
        receiver.shutdown()

    assert b"POST /api/customers" in sent and b"custsvc-serve" in sent
    assert b"/livez" not in sent and ANN["name"].encode() not in sent
