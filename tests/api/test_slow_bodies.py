"""Bodies that drip, at every route there is: they hold no lane, and of strangers they are not read."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import select
import socket
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest

from custsvc.accounts.passwords import hash_password
from custsvc.config import Settings
from custsvc.domain.customers import utc_now
from custsvc.notify.channels.unsubscribe import UnsubscribeLinks
from custsvc.ports.accounts import Role, User
from custsvc.ports.store import Store
from custsvc.serve import create_app

from ..sizes import sizes
from .conftest import ANN
from .serving import DEADLINE, Serve, eventually

pytestmark = pytest.mark.slow

PASSWORD = "correct horse battery"
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
TYPES = {
    "JSON": "application/json",
    "a form": "application/x-www-form-urlencoded",
    "multipart": "multipart/form-data; boundary=x",
    "CSV": "text/csv",
}
# Routes whose small forms are for strangers.
OPEN = ("/ui/sign-in", "/ui/sign-out", "/ui/reset", "/unsubscribe/")


@pytest.fixture
def backend() -> str:
    """Either: bodies are read before a database is asked for anything but who sends them."""
    return "postgres"


def routes(store: Store) -> list[tuple[str, str]]:
    """Each method and path that may come with a body, one path for each route."""
    app = create_app(Settings(backend=store.name), store)  # type: ignore[arg-type]
    adapter = app.url_map.bind("localhost")
    token = UnsubscribeLinks(store.secret(), "").url(1).rpartition("/")[2]
    found = {
        (
            method,
            adapter.build(rule.endpoint, {n: token if n == "token" else "1" for n in rule.arguments}, method),
        )
        for rule in app.url_map.iter_rules()
        for method in UNSAFE
        if method in (rule.methods or ())
    }
    return sorted(found, key=lambda each: each[1])


def signed_in(serve: Serve, store: Store) -> str:
    """The cookie of somebody who may do anything."""
    store.users.add(User("root", hash_password(PASSWORD), "admin", utc_now()))
    page = serve.request("GET", "/ui/sign-in")
    csrf = re.search(r'name="csrf" value="(\w+)"', page[2].decode())
    assert csrf is not None
    cookie = page[1]["set-cookie"].partition(";")[0]
    form = urllib.parse.urlencode({"csrf": csrf[1], "name": "root", "password": PASSWORD})
    connection = http.client.HTTPConnection("127.0.0.1", serve.port, timeout=DEADLINE)
    connection.request("POST", "/ui/sign-in", form, {"Cookie": cookie, "Content-Type": TYPES["a form"]})
    answer = connection.getresponse()
    assert answer.status == 303
    connection.close()
    return str(answer.getheader("Set-Cookie")).partition(";")[0]


@contextmanager
def dripping(
    serve: Serve,
    method: str,
    path: str,
    kind: str,
    headers: str,
    count: int,
) -> Iterator[list[socket.socket]]:
    """N connections that have sent the head of this request and the first byte of its body."""
    size = "Transfer-Encoding: chunked" if kind == "chunks" else "Content-Length: 2000"
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{size}\r\n{headers}\r\n"
    head += f"Content-Type: {TYPES.get(kind, TYPES['a form'])}\r\n\r\n"
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", serve.port), timeout=DEADLINE)
            found.append(stack.enter_context(connection))
            connection.sendall(head.encode() + (b"1\r\nx\r\n" if kind == "chunks" else b"x"))
        yield found


def answered(connections: list[socket.socket], within: float = 0.0) -> list[bytes]:
    """The statuses of those that were answered."""
    ready = select.select(connections, [], [], within)[0]
    return [each.recv(65536)[9:12] for each in ready]


@sizes("count", 4, 16)
@pytest.mark.parametrize("who", ["a key", "a session", "nobody"])
def test_dripping_bodies_hold_no_lane_at_any_route(
    serve: Serve,
    store: Store,
    key: str,
    make_key: Callable[[Role], str],
    who: str,
    count: int,
) -> None:
    """There is one lane: had one of them taken it, nothing else would be answered."""
    serve.environ |= {"CUSTSVC_BODY_TIMEOUT": "600", "CUSTSVC_QUEUE_TIMEOUT": "30"}
    serve.start("--workers", "1", "--threads", "1")
    headers = {
        "a key": f"X-Api-Key: {make_key('admin')}",
        "a session": f"Cookie: {signed_in(serve, store)}",
        "nobody": "X-Nobody: 1",
    }[who]

    for method, path in routes(store):
        for kind in (*TYPES, "chunks") if path == "/api/customers/import" else ("a form",):
            with dripping(serve, method, path, kind, headers, count) as slow:
                assert serve.request("GET", "/api/customers/", key)[0] == 200, (method, path, kind)
                assert serve.request("POST", "/api/customers/", key, ANN)[0] == 201, (method, path, kind)
                if who == "nobody" and not path.startswith(OPEN):
                    # Answered before the body is there.
                    statuses = answered(slow, DEADLINE)
                    assert set(statuses) <= {b"401", b"303", b"403", b"404", b"405"}, (path, statuses)
                    assert statuses
    assert serve.request("GET", "/livez")[0] == 200


def test_the_upload_of_a_stranger_is_answered_and_not_waited_for(serve: Serve) -> None:
    serve.environ |= {"CUSTSVC_BODY_TIMEOUT": "600"}
    serve.start("--workers", "1", "--threads", "2")
    head = (
        "POST /ui/import HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        "Content-Length: 2000000\r\n\r\n"
    )
    with ExitStack() as stack:
        slow = []
        for _ in range(100):
            slow.append(stack.enter_context(socket.create_connection(("127.0.0.1", serve.port), DEADLINE)))
            slow[-1].sendall(head.encode() + b"-")

        for each in slow:
            assert each.recv(65536)[9:12] in (b"303", b"503")
        assert serve.request("GET", "/ui/sign-in")[0] == 200


def test_one_key_cannot_take_the_room_of_another(
    serve: Serve,
    key: str,
    make_key: Callable[[Role], str],
) -> None:
    serve.environ |= {"CUSTSVC_BODY_TIMEOUT": "600", "CUSTSVC_SLOW_BODIES": "16"}
    serve.start("--workers", "1", "--threads", "2")
    greedy = f"X-Api-Key: {make_key('write')}"

    with dripping(serve, "POST", "/api/customers/", "JSON", greedy, 40) as slow:
        eventually("serve is full", lambda: b"503" in answered(slow, 1))
        serve.answers("POST", "/api/customers/", key, ANN)
        assert serve.request("POST", "/api/customers/", key, ANN)[0] == 201


def test_a_body_that_timed_out_counts_until_its_connection_is_closed(
    serve: Serve,
    key: str,
) -> None:
    """Else those who keep their connections open would have all threads after a while."""
    serve.environ |= {"CUSTSVC_BODY_TIMEOUT": "0.5", "CUSTSVC_SLOW_BODIES": "8"}
    serve.start("--workers", "1", "--threads", "2")
    mine = f"X-Api-Key: {key}"
    with ExitStack() as stack:
        told = []
        for _ in range(5):
            slow = stack.enter_context(dripping(serve, "POST", "/api/customers/", "JSON", mine, 8))
            told += [each.recv(65536)[9:12] for each in slow]
            assert serve.request("GET", "/api/customers/", key)[0] == 200
            assert serve.request("GET", "/livez")[0] == 200
        assert set(told) == {b"408", b"503"}
        assert told.count(b"408") <= 8
    serve.answers("POST", "/api/customers/", key, ANN)


# -- B10: one limit per route, however the body is sent


def sent(
    serve: Serve,
    path: str,
    key: str,
    media: str,
    body: bytes,
    *,
    chunked: bool,
    zipped: bool,
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", serve.port, timeout=DEADLINE)
    headers = {"X-Api-Key": key, "Content-Type": media}
    if zipped:
        headers["Content-Encoding"], body = "gzip", gzip.compress(body)
    data: Any = (body[n : n + 50_000] for n in range(0, len(body), 50_000)) if chunked else body
    try:
        connection.request("POST", path, data, headers, encode_chunked=chunked)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except ConnectionError:
        return 0, {}  # answered while it still sent
    finally:
        connection.close()


LIMITS = {
    "/api/customers/": 1024**2,
    "/api/customers/batch": 8 * 1024**2,
    "/api/customers/import": 2 * 1024**2,
}


@pytest.mark.parametrize("path", list(LIMITS))
def test_a_body_keeps_the_limit_of_its_route_in_chunks_and_compressed_as_it_does_plain(
    serve: Serve,
    key: str,
    path: str,
) -> None:
    serve.environ["CUSTSVC_IMPORT_MAX_MB"] = "2"
    serve.start("--workers", "1", "--threads", "2")
    bodies = {
        "/api/customers/": json.dumps(ANN),
        "/api/customers/batch": json.dumps({"operations": [{"op": "create", "fields": ANN}]}),
        "/api/customers/import": json.dumps(ANN) + "\n",
    }
    media = "application/x-ndjson" if path.endswith("import") else "application/json"
    fits = bodies[path].encode().ljust(LIMITS[path], b"\n")
    ways = [(chunked, zipped) for chunked in (False, True) for zipped in (False, True)]

    told = [sent(serve, path, key, media, fits, chunked=c, zipped=z) for c, z in ways]
    refused = [sent(serve, path, key, media, fits + b"\n", chunked=c, zipped=z) for c, z in ways]

    assert len({status for status, _ in told}) == 1
    assert told[0][0] in (200, 201), told
    assert {status for status, _ in refused} <= {413, 0}
    assert 413 in {status for status, _ in refused}


def test_a_body_that_was_cut_off_is_not_taken_for_all_of_it(
    serve: Serve,
    key: str,
) -> None:
    serve.start("--workers", "1", "--threads", "1")
    for size in (len(b"name\nAda\n") + 10, 200_000):
        with socket.create_connection(("127.0.0.1", serve.port), timeout=DEADLINE) as connection:
            connection.sendall(
                f"POST /api/customers/import HTTP/1.1\r\nHost: x\r\nX-Api-Key: {key}\r\n"
                f"Content-Type: text/csv\r\nContent-Length: {size}\r\n\r\nname\nAda\n".encode()
            )
    assert serve.request("POST", "/api/customers/", key, ANN)[0] == 201
    eventually("it is stored", lambda: b'"count":1' in serve.request("GET", "/api/customers/", key)[2])
    assert b'"count":1' in serve.request("GET", "/api/customers/", key)[2]


# -- D11: who reads slowly, or tries what is wrong


def test_readers_that_take_nothing_of_a_big_file_hold_little_and_are_cut_off(serve: Serve, key: str) -> None:
    serve.environ["CUSTSVC_BODY_TIMEOUT"] = "0.5"
    serve.start("--workers", "1", "--threads", "1")
    path = "/api/docs/swagger-ui-bundle.js"
    size = len(serve.request("GET", path)[2])
    [worker] = serve.workers()
    before = worker.memory_info().rss
    with ExitStack() as stack:
        readers = []
        for _ in range(60):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", serve.port))
            reader.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            readers.append(reader)
        assert serve.request("POST", "/api/customers/", key, ANN)[0] == 201
        assert worker.memory_info().rss - before < 60 * size / 2

        serve.answers("GET", path)
    assert len(serve.request("GET", path)[2]) == size


def test_wrong_keys_are_limited_and_right_keys_are_not(serve: Serve, key: str, store: Store) -> None:
    serve.start("--workers", "2")

    def tried(headers: dict[str, str], path: str = "/api/customers/") -> int:
        with closing(serve.connect()) as connection:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status

    wrong = [tried({"X-Api-Key": f"csk_{n:012x}_{'x' * 43}"}) for n in range(300)]
    assert wrong[0] == 401
    assert 429 in wrong
    assert tried({"X-Api-Key": key}) == 200
    assert tried({}) == 401
    assert 429 in [tried({}, f"/unsubscribe/{n}") for n in range(300)]
    assert tried({}, f"/unsubscribe/{UnsubscribeLinks(store.secret(), '').url(1).rpartition('/')[2]}") == 200
