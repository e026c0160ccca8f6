"""Any bytes as answers of a webhook: each call is made once, none hangs, the next one works."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from email.utils import format_datetime

import pytest

from custsvc.notify.channels.channel import Outcome
from custsvc.notify.channels.webhook import WebhookChannel
from custsvc.ports.ledger import Notification

from .scripted import DROP, Action, ScriptedHttp, chunked, dripping, http

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PATIENT = 60.0


@pytest.fixture
def receiver() -> Iterator[ScriptedHttp]:
    with closing(ScriptedHttp()) as receiver:
        yield receiver


@pytest.fixture
def call(receiver: ScriptedHttp) -> Iterator[Callable[..., Outcome]]:
    """Calls the receiver, over one channel."""
    made: list[WebhookChannel] = []

    def call(name: str, *, timeout: float = PATIENT) -> Outcome:
        if not made:
            made.append(WebhookChannel(receiver.url, SECRET, timeout=timeout))
        row = Notification(name, "event", 7, 1, "hook", "crm", "created", "{}", None, channel="crm")
        return made[0].send(made[0].prepare(row, dt.datetime.now(dt.UTC)), lambda: True)

    yield call
    for channel in made:
        channel.quit()


def bare(head: str, body: bytes = b"") -> list[Action]:
    return [head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body]


NO_BODY = "HTTP/1.1 204 No Content"
# How a receiver may say yes, well or badly: the call was taken, and is made once.
YES: dict[str, list[Action]] = {
    "plain": http(),
    "empty": http(body=b""),
    "chunked": chunked(200, b"ok"),
    "chunked, long": chunked(200, *[b"x" * 1000] * 5),
    "chunked, longer than is read": chunked(200, *[b"x" * 60_000] * 5),
    "long": http(body=b"y" * 5000),
    "longer than is read": http(body=b"y" * 300_000),
    "201": http(201),
    "204": bare(NO_BODY),
    "204 with a length of 0": bare(NO_BODY + "\ncontent-length: 0"),
    "204 that says chunked": bare(NO_BODY + "\ntransfer-encoding: chunked"),
    "204 with chunks": bare(NO_BODY + "\ntransfer-encoding: chunked", b"0\r\n\r\n"),
    "204 with a body": bare(NO_BODY + "\ncontent-length: 5", b"hello"),
    "204 that promises a body": bare(NO_BODY + "\ncontent-length: 5"),
    "205": bare("HTTP/1.1 205 Reset\ncontent-length: 0"),
    "closes after it": [*bare("HTTP/1.1 200 OK\nconnection: close", b"bye"), DROP],
    "HTTP/1.0": [*bare("HTTP/1.0 200 OK", b"old"), DROP],
    "goes on before": [b"HTTP/1.1 100 Continue\r\n\r\n", *http()],
    "two at once": [b"".join(part for part in (*http(), *http(500)) if isinstance(part, bytes))],
    "in pieces": [b"HTT", 0.05, b"P/1.1 200 O", 0.05, b"K\r\ncontent-length: 2\r\n\r\no", 0.05, b"k"],
    "breaks off in the body": [*bare("HTTP/1.1 200 OK\ncontent-length: 50", b"half"), DROP],
    "breaks off in a chunk": [*bare("HTTP/1.1 200 OK\ntransfer-encoding: chunked", b"ff\r\nhalf"), DROP],
    "a chunk of no size": bare("HTTP/1.1 200 OK\ntransfer-encoding: chunked", b"what\r\n\r\n"),
    "compressed, it says": http(200, b"\x1f\x8bno gzip", content_encoding="gzip"),
    "NUL and other bytes": http(200, bytes(range(256))),
    "a trailer": chunked(200, b"ok", end=b"0\r\nx-sum: 1\r\n\r\n"),
}


@pytest.mark.parametrize("kind", YES)
def test_every_success_status_is_a_success_and_each_call_is_made_once(
    kind: str, receiver: ScriptedHttp, call: Callable[..., Outcome]
) -> None:
    receiver.script = lambda name: YES[kind] if name.startswith("odd") else http()
    names = ["before", "odd1", "odd2", "after", "odd3", "end"]

    outcomes = [call(name) for name in names]

    assert {outcome.result for outcome in outcomes} == {"sent"}
    assert receiver.calls == names


@pytest.mark.parametrize(
    ("answer", "result", "code"),
    [
        (http(400), "failed", 400),
        (http(404, b"no \x00 such hook"), "failed", 404),
        (http(410), "failed", 410),
        (http(301, location="https://example.org/"), "failed", 301),
        (http(302, location="/again"), "failed", 302),
        (bare("HTTP/1.1 304 Not Modified\ncontent-length: 9"), "failed", 304),
        (http(407), "failed", 407),
        *((http(code), "deferred", code) for code in (408, 409, 421, 425, 429, 500, 501, 505, 599, 999)),
        *((http(code), "down", code) for code in (502, 503, 504)),
        (chunked(503, b"x" * 2000), "down", 503),
        ([DROP], "down", None),
        ([b"HTTP/1.1 20", DROP], "down", None),
        ([b"\x00\xff\xfe garbage\r\n\r\n", DROP], "down", None),
        ([b"220 mail ESMTP\r\n", DROP], "down", None),
        ([b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 500 + b"\r\n"], "sent", 200),
        ([b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n", DROP], "sent", 200),
        ([b"HTTP/1.1 500 No\r\nx: ", DROP], "deferred", 500),
        ([b"HTTP/2 200\r\n\r\n", DROP], "sent", 200),
        ([b"HTTP/1.1 abc OK\r\n\r\n", DROP], "down", None),
    ],
)
def test_each_answer_means_one_outcome(
    answer: list[Action], result: str, code: int | None, receiver: ScriptedHttp, call: Callable[..., Outcome]
) -> None:
    receiver.script = lambda name: answer if name == "odd" else http()

    outcome = call("odd")

    assert (outcome.result, outcome.code) == (result, code)
    assert receiver.calls == ["odd"]
    assert call("next").result == "sent"


# Answers that take longer than a call may, in each of their parts.
DRIP = dripping(b"x", 100)
SLOW: dict[str, list[Action]] = {
    "silence": [30.0],
    "drips the status": [b"HTTP/1.1 200 OK"[:1], *DRIP],
    "goes on for ever": [b"HTTP/1.1 100 Continue\r\n\r\n", 0.2] * 100,
}


@pytest.mark.parametrize("kind", SLOW)
def test_a_call_has_one_deadline_whatever_comes_meanwhile(
    kind: str, receiver: ScriptedHttp, call: Callable[..., Outcome]
) -> None:
    receiver.script = lambda name: SLOW[kind] if name == "odd" else http()
    began = time.monotonic()

    outcome = call("odd", timeout=1.5)

    assert outcome.result == "down"
    assert receiver.calls == ["odd"], "a receiver that is slow is not called twice"
    # All of what drips lasts for 20 s.
    assert time.monotonic() - began < 15
    assert call("next").result in ("sent", "down")


ENDLESS: dict[str, list[Action]] = {
    "headers": [b"HTTP/1.1 200 OK\r\n", *dripping(b"a: b\r\n", 90)],
    "body": [*bare("HTTP/1.1 200 OK\ncontent-length: 100"), *DRIP],
    "chunks": [*bare("HTTP/1.1 200 OK\ntransfer-encoding: chunked"), *dripping(b"1\r\nx\r\n", 100)],
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_late_bytes_after_the_status_close_the_connection_and_keep_the_success(
    kind: str, receiver: ScriptedHttp, call: Callable[..., Outcome]
) -> None:
    receiver.script = lambda name: ENDLESS[kind] if name == "odd" else http()

    assert call("odd", timeout=1.5).result == "sent"
    assert receiver.calls == ["odd"]


def test_a_connection_that_the_receiver_closed_is_opened_again(
    receiver: ScriptedHttp, call: Callable[..., Outcome]
) -> None:
    receiver.script = lambda name: [*http(), DROP] if name == "last" else http()

    assert [call(name).result for name in ("first", "last", "next")] == ["sent"] * 3
    assert receiver.connections == 2
    assert receiver.calls == ["first", "last", "next"]


@pytest.mark.parametrize("leave", ["close", "quit"])
def test_a_channel_that_was_closed_calls_again(leave: str, receiver: ScriptedHttp) -> None:
    """As after an error in one call: the sender closes its channel and goes on."""
    row = Notification("m", "event", 7, 1, "hook", "crm", "created", "{}", None, channel="crm")
    channel = WebhookChannel(receiver.url, SECRET, timeout=PATIENT)
    for _ in range(3):
        assert channel.send(channel.prepare(row, dt.datetime.now(dt.UTC)), lambda: True).result == "sent"
        getattr(channel, leave)()

    assert (receiver.connections, receiver.calls) == (3, ["m"] * 3)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("-5", 0.0),
        ("1e9", 0.0),
        ("9" * 5000, 0.0),
        ("soon", 0.0),
        ("", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Thu, 99 Jan 99999 00:00:00 GMT", 0.0),
        (dt.timedelta(hours=10), 36_000.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date(
    said: str | dt.timedelta, seconds: float, receiver: ScriptedHttp, call: Callable[..., Outcome]
) -> None:
    if isinstance(said, dt.timedelta):
        said = format_datetime(dt.datetime.now(dt.UTC) + said, usegmt=True)
    receiver.script = lambda _: http(503, retry_after=said)

    assert call("m").retry_after == pytest.approx(seconds, abs=300)


def test_no_proxy_of_the_environment_gets_the_calls(
    receiver: ScriptedHttp, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")

    assert call("m").result == "sent"
