"""`custsvc serve` with clients that are slow, many, or send much: nobody else waits, and it does not grow."""

from __future__ import annotations

import json
import select
import socket
import time
import urllib.parse
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from custsvc.config import Settings
from custsvc.domain.customers import Customer, Fields, utc_now
from custsvc.domain.events import new_change
from custsvc.errors import ExitCode
from custsvc.kafka.publisher import Publisher, Record
from custsvc.kafka.topics import ensure_topics

from ..addresses import through
from ..chaos.faultproxy import FaultProxy
from ..sizes import on_one
from .conftest import ANN
from .serving import DEADLINE, Serve, eventually, slow_post

pytestmark = pytest.mark.slow


NEW = Customer(7, Fields("Ada"), False, 1, utc_now(), "me", utc_now(), "me")


# -- S9: slow clients (those that are slow with their head are cut off by granian after 15 s)


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
def test_a_connection_whose_request_does_not_begin_is_closed(serve: Serve, key: str) -> None:
    """S9: the connections of a process are limited, so one that says nothing must not be kept."""
    serve.start("--workers", "1", "--threads", "1")
    http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    begins = {"nothing": b"", "a method": b"P", "a line": b"GET /livez HTTP/1.1\r\n"}
    begins |= {
        "half of HTTP/2": http2[:9],
        "HTTP/2": http2,
        "HTTP/2 settings": http2 + bytes(3) + b"\4" + bytes(5),
    }
    with ExitStack() as stack:
        silent = {}
        for name, begin in begins.items():
            address = ("127.0.0.1", serve.port)
            silent[name] = stack.enter_context(socket.create_connection(address, timeout=DEADLINE))
            silent[name].sendall(begin)

        for connection in silent.values():
            with suppress(ConnectionError):
                while connection.recv(65536):  # an answer to what is no request
                    pass
        assert serve.request("GET", "/api/customers/", key)[0] == 200


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
        for each in slow[:2]:
            each.sendall(body[1:])
            assert each.recv(65536).startswith(b"HTTP/1.1 201")

        # More than are waited for. It is told to one who comes with a body, and to nobody else.
        slow += [stack.enter_context(slow_post(serve, key, len(body))) for _ in range(30)]
        post = partial(serve.request, "POST", "/api/customers/", key, ANN)
        refused = eventually("serve is full", lambda: (answer := post())[0] == 503 and answer)
        assert json.loads(refused[2])["code"] == "overloaded"
        assert serve.request("GET", "/api/customers/", key)[0] == 200
    eventually("there is room", lambda: post()[0] == 201)


@on_one("postgres")
@pytest.mark.parametrize("path", ["/api/customers/", "/api/customers/batch"])
@pytest.mark.parametrize("sent_at_once", [True, False])
@pytest.mark.parametrize("count", [20, 150])
def test_a_burst_of_writes_right_after_the_start_is_served(
    serve: Serve, key: str, path: str, sent_at_once: bool, count: int
) -> None:
    """The worker knows no sender yet, and fewer of them are checked at a time than come."""
    serve.start("--workers", "1")
    body = json.dumps(
        ANN if path.endswith("s/") else {"operations": [{"op": "create", "customer": ANN}]}
    ).encode()
    head = f"Host: x\r\nX-Api-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    request = f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body
    first = len(request) if sent_at_once else len(request) - len(body) + 1

    with ExitStack() as stack:
        burst = [
            stack.enter_context(socket.create_connection(("127.0.0.1", serve.port), timeout=DEADLINE))
            for _ in range(count)
        ]
        for part in (request[:first], request[first:]):
            for each in burst:
                each.sendall(part)
        answers = Counter(each.recv(65536).split(b" ", 2)[1] for each in burst)

    assert answers.keys() <= {b"200", b"201"}, answers
    assert serve.request("GET", "/api/customers/", key)[0] == 200


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
@pytest.mark.parametrize("path", ["/api/events/stream", "/api/status", "/api/failed/"])
def test_those_who_wait_for_kafka_leave_a_thread_to_all_others(serve: Serve, key: str, path: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(6) as callers:
        serve.environ |= {
            "CUSTSVC_KAFKA": f"127.0.0.1:{silent.getsockname()[1]}",
            "CUSTSVC_QUEUE_TIMEOUT": "120",
        }
        serve.start("--workers", "1", "--threads", "2")
        asked = [callers.submit(serve.request, "GET", path, key) for _ in range(6)]
        eventually("some are told that Kafka does not answer", lambda: any(each.done() for each in asked))

        assert serve.request("GET", "/api/customers/", key)[0] == 200
        assert not all(each.done() for each in asked)
        serve.end()
