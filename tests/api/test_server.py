"""`custsvc serve` as a process: how it starts, refuses, crashes, recovers and stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from custsvc.accounts.keys import new_key
from custsvc.domain.customers import Customer, Fields, utc_now
from custsvc.domain.events import new_change
from custsvc.domain.received import decode
from custsvc.errors import ExitCode
from custsvc.local import LocalServers
from custsvc.serve import create_app
from custsvc.serve.server import check_port
from custsvc.stores import open_store
from tests.databases import open_database, settings_of

from ..sizes import on_one
from .conftest import ANN, Client
from .serving import DEADLINE, Serve, eventually, slow_post

pytestmark = pytest.mark.slow


HEADERS = (
    *("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range", "Prefer"),
    *(
        "Idempotency-Key",
        "Accept",
        "Accept-Encoding",
        "Transfer-Encoding",
        "Content-Encoding",
        "Expect",
        "TE",
    ),
    *("Origin", "Sec-Fetch-Site", "Cookie", "X-Request-Id", "X-Forwarded-For", "Forwarded", "Via", "Proxy"),
    *("X-Custsvc-Min-Position", "X-CSRF-Token", "Traceparent"),
)

NEW = Customer(7, Fields("Ada"), False, 1, utc_now(), "me", utc_now(), "me")


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


def test_environment_variables_are_not_headers_of_requests(serve: Serve, key: str) -> None:
    """WSGI servers may put the process's environment into each request, where HTTP_PROXY is a header."""
    headers = [name.upper().replace("-", "_") for name in HEADERS]
    serve.environ |= {f"HTTP_{name}": "1.2.3.4" for name in headers}
    serve.environ |= {"CONTENT_LENGTH": "7", "CONTENT_TYPE": "text/plain", "HTTP_LONG": "x" * 40_000}
    serve.environ |= {"HTTP_AUTHORIZATION": f"Bearer {key}", "HTTP_X_API_KEY": key}
    serve.start()

    made = serve.request("POST", "/api/customers/", key, ANN)
    read = serve.request("GET", made[1]["location"], key)
    nobody = serve.request("GET", made[1]["location"], None)

    assert (made[0], read[0], nobody[0]) == (201, 200, 401)
    assert read[2] == made[2]
    assert read[1]["x-request-id"] != "1.2.3.4"


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
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_or_the_end_of_a_terminal_that_reaches_all_processes_is_an_ordinary_stop(
    serve: Serve, key: str, signum: signal.Signals
) -> None:
    serve.start()
    assert serve.process is not None

    os.killpg(serve.process.pid, signum)

    assert serve.process.wait(DEADLINE) == ExitCode.OK
    assert serve.said() == ["serving", "stopped"]


@on_one("postgres")
def test_under_nohup_it_goes_on_with_the_same_workers(serve: Serve, key: str) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        serve.start()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert serve.process is not None
    workers = serve.workers()

    os.killpg(serve.process.pid, signal.SIGHUP)
    time.sleep(0.5)

    assert all(worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
    assert serve.request("GET", "/api/customers/", key)[0] == 200


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
    # So far one of them may have answered, while the new process was still on its way.
    serve.answers("GET", "/livez")
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
