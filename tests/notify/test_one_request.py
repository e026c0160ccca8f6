"""One request is found in the lines of every role and in the headers of its mail."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import orjson
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from custsvc.config import Settings
from custsvc.copies.replicate import Replicate
from custsvc.kafka.publisher import Publisher, Record
from custsvc.ports.store import Store
from custsvc.relay.relay import Relay
from custsvc.runtime import tracing
from custsvc.runtime.logs import JsonFormatter
from custsvc.serve import create_app
from tests.waiting import until

from .conftest import Sink
from .role import created, notify, running

REQUEST = "order-4711"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HEADERS = {"X-Request-Id": REQUEST, "traceparent": TRACE}

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """The logs of the roles so far, at the level DEBUG."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter("test"))
    logger = logging.getLogger("custsvc")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def roles(
    settings: Settings, store: Store, opened: Callable[[str], Store], new_database: Callable[[], str]
) -> Iterator[None]:
    """`relay`, `replicate` and `notify`, each in a thread."""
    copy = opened(new_database())
    with Publisher(settings) as for_relay, Publisher(settings) as for_copy, ExitStack() as stack:
        stack.enter_context(running(lambda stop: Relay(settings, store, for_relay, stop).run()))
        stack.enter_context(
            running(lambda stop: Replicate(settings, copy.replica, for_copy, copy.name, stop).run())
        )
        stack.enter_context(running(notify(settings)))
        yield


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """The spans of all roles, in the order in which they ended; tracing is on until the end of the test."""
    exporter = InMemorySpanExporter()
    tracing.use("test", SimpleSpanProcessor(exporter))
    yield exporter
    tracing.stop()


def roles_with(lines: list[dict[str, Any]], name: str, value: str) -> dict[str, str]:
    """The roles that have a line in which `name` is `value`, each with the first one's action."""
    found: dict[str, str] = {}
    for line in lines:
        if line.get(name) == value:
            found.setdefault(line["logger"].split(".")[1], line["action"])
    return found


def test_one_requests_id_is_in_the_lines_of_all_roles_and_in_its_mail(
    settings: Settings, store: Store, sink: Sink, roles: None, lines: Lines
) -> None:
    client = create_app(settings.replace(auth="off", access_log=True), store).test_client()
    fields = {"name": "Ada Canary", "email": "ada@example.com"}

    assert client.post("/api/customers/?duplicates=warn", json=fields, headers=HEADERS).status_code == 201

    (mail,) = until("the mail is there", lambda: sink.to("ada@example.com"))
    everyone = {
        "serve": "request",
        "relay": "event_published",
        "copies": "event_applied",
        "notify": "event_queued",
    }
    until("all roles have said so", lambda: roles_with(lines(), "request_id", REQUEST) == everyone)
    until("with the trace", lambda: roles_with(lines(), "traceparent", TRACE) == everyone)
    assert (mail.message["X-Request-Id"], mail.message["traceparent"]) == (REQUEST, TRACE)
    (access,) = [line for line in lines() if line.get("action") == "request"]
    assert (access["method"], access["route"], access["status"]) == ("POST", "/api/customers", 201)
    assert access["bytes"] > 100 and access["ms"] > 0
    assert "Canary" not in json.dumps(access) and "warn" not in json.dumps(access)


def test_a_request_and_all_steps_of_its_event_are_one_trace(
    settings: Settings, store: Store, sink: Sink, roles: None, spans: InMemorySpanExporter
) -> None:
    client = create_app(settings.replace(auth="off"), store).test_client()
    fields = {"name": "Ada", "email": "ada@example.com"}

    assert client.get("/livez").status_code == 200
    assert client.post("/api/customers/", json=fields, headers=HEADERS).status_code == 201
    assert client.post("/api/customers/", json=fields).status_code == 201

    def traces() -> list[list[str]]:
        found: dict[int, list[str]] = {}
        for span in spans.get_finished_spans():
            found.setdefault(span.context.trace_id, []).append(span.name)
        return [sorted(names) for names in found.values()]

    one = ["POST /api/customers", "mail", "notify", "outbox", "relay", "replicate"]
    until("both traces are whole", lambda: traces() == [one, one])
    caller, *mine = [s for s in spans.get_finished_spans() if s.context.trace_id == int(TRACE[3:35], 16)]
    assert caller.parent is not None and caller.parent.span_id == int(TRACE[36:52], 16)
    assert caller.attributes is not None and caller.attributes["custsvc.request_id"] == REQUEST
    for span in mine:
        assert span.parent is not None and span.parent.span_id == caller.context.span_id
        assert span.start_time is not None and span.end_time is not None and span.start_time <= span.end_time
    assert not any("Ada" in str(span.to_json()) for span in spans.get_finished_spans())


def test_an_id_that_could_add_a_header_to_a_mail_is_left_out(
    settings: Settings, sink: Sink, publisher: Publisher
) -> None:
    """Any producer may write to the topic."""
    evil = {**orjson.loads(created(1).value or b""), "request_id": "a\r\nBcc: eve@example.com"}
    headers: list[tuple[str, str | bytes | None]] = [("traceparent", b"\xff\r\nBcc: eve@example.com")]

    with running(notify(settings)):
        publisher.send(settings.topic_updates, [Record(b"1", orjson.dumps(evil), headers)])
        (mail,) = until("the mail is there", lambda: sink.to("c1@example.com"))

    assert [mail.message[name] for name in ("X-Request-Id", "traceparent", "Bcc")] == [None] * 3
