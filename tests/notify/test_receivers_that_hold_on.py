"""Receivers that hold a call: it ends soon after the status, and in any case at its deadline."""

from __future__ import annotations

import datetime as dt
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import urllib3.util.connection

from custsvc.notify.channels.channel import Outcome
from custsvc.notify.channels.reachable import Reachable
from custsvc.notify.channels.webhook import WebhookChannel
from custsvc.ports.ledger import Notification

from .scripted import Action, ScriptedHttp, Tls, chunked, dripping, http

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PATIENT = 60.0
# A call that ends by its own deadline takes longer than this.
BEFORE_THE_DEADLINE = PATIENT / 2

Call = Callable[..., Outcome]


@pytest.fixture
def receiver() -> Iterator[ScriptedHttp]:
    with closing(ScriptedHttp()) as receiver:
        yield receiver


@pytest.fixture
def call() -> Iterator[Call]:
    """Calls a URL, over one channel for each."""
    made: dict[str, WebhookChannel] = {}

    def call(url: str, name: str = "m", *, timeout: float = PATIENT, allow: str | None = None) -> Outcome:
        if url not in made:
            reachable = None if allow is None else Reachable.parse(allow)
            made[url] = WebhookChannel(url, SECRET, timeout=timeout, reachable=reachable)
        row = Notification(name, "event", 7, 1, "hook", "crm", "created", "{}", None, channel="crm")
        return made[url].send(made[url].prepare(row, dt.datetime.now(dt.UTC)), lambda: True)

    yield call
    for channel in made.values():
        channel.quit()


STATUS = b"HTTP/1.1 %d said\r\n"
HOLDS: dict[str, list[Action]] = {
    "nothing after the headers": [b"content-length: 9\r\n\r\nsorry", 3600.0],
    "nothing after the status": [3600.0],
    "headers byte by byte": dripping(b"x", 10_000, 0.01),
    "headers line by line": dripping(b"a: b\r\n", 99, 1.0),
    "a body byte by byte": [b"content-length: 99999\r\n\r\n", *dripping(b"x", 10_000, 0.01)],
    "a body until it closes": [b"connection: close\r\n\r\nsorry", 3600.0],
    "a chunk that does not end": [b"transfer-encoding: chunked\r\n\r\nffff\r\nsorry", 3600.0],
    "no last chunk": [b"transfer-encoding: chunked\r\n\r\n5\r\nsorry\r\n", 3600.0],
    "no end of the trailer": [b"transfer-encoding: chunked\r\n\r\n0\r\n", *dripping(b"a: b\r\n", 9000, 0.01)],
}


def bytes_of(actions: list[Action]) -> bytes:
    return b"".join(action for action in actions if isinstance(action, bytes))


@pytest.mark.parametrize("kind", HOLDS)
def test_a_call_ends_soon_after_the_status_whatever_is_held_back_then(
    kind: str, receiver: ScriptedHttp, call: Call
) -> None:
    receiver.script = lambda name: [STATUS % int(name), *HOLDS[kind]] if name.isdigit() else http()
    began = time.monotonic()

    outcomes = [call(receiver.url, name) for name in ("200", "next", "500")]

    assert time.monotonic() - began < BEFORE_THE_DEADLINE
    assert [outcome.result for outcome in outcomes] == ["sent", "sent", "deferred"]
    assert receiver.calls == ["200", "next", "500"]
    assert ("sorry" in outcomes[2].text) == (b"sorry" in bytes_of(HOLDS[kind]))


def test_informational_answers_are_passed_over_and_each_call_gets_its_own_answer(
    receiver: ScriptedHttp, call: Call
) -> None:
    rng = random.Random(3)
    scripts: dict[str, list[Action]] = {}
    for number in range(30):
        ahead: list[Action] = []
        for _ in range(rng.randrange(4)):
            said = rng.choice([b"", b"link: </x>\r\n", b"content-length: 5\r\n"])
            ahead += [STATUS % rng.choice([100, 102, 103, 199]) + said + b"\r\n", rng.choice([0.0, 0.02])]
        scripts[str(number)] = [*ahead, *http(rng.choice([200, 204, 500, 409]), b"")]
    receiver.script = scripts.__getitem__

    codes = {name: call(receiver.url, name).code for name in scripts}

    assert codes == {name: int(bytes(script[-1])[9:12]) for name, script in scripts.items()}  # type: ignore[arg-type]
    assert receiver.connections == 1


def test_a_receiver_that_switches_protocols_has_not_taken_the_call(
    receiver: ScriptedHttp, call: Call
) -> None:
    receiver.script = lambda name: [STATUS % 101 + b"upgrade: x\r\n\r\n"] if name == "odd" else http()

    assert call(receiver.url, "odd").result == "deferred"
    assert call(receiver.url, "next").result == "sent"
    assert receiver.connections == 2


@pytest.mark.parametrize("body", [b"x" * 65_537, b"x" * 5_000_000, bytes(64) * 100_000])
def test_of_an_answer_that_does_not_end_only_the_beginning_is_read(
    body: bytes, receiver: ScriptedHttp, call: Call
) -> None:
    receiver.script = lambda name: chunked(500, body) if name == "chunked" else http(500, body)

    for name in ("chunked", "plain"):
        assert len(call(receiver.url, name).text) <= 300
    assert receiver.connections == 2


# -- before the answer -------------------------------------------------------------------------------------


def test_a_name_that_is_not_resolved_in_time_ends_the_call(
    receiver: ScriptedHttp, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait() and [])

    for allow in (None, ""):
        outcome = call(f"http://crm{allow}.example.com:{receiver.port}/", timeout=0.5, allow=allow)
        assert (outcome.result, outcome.text) == ("down", "no answer: not within 0.5 s")
    answered.set()


def test_an_address_that_is_silent_leaves_time_for_the_next_one(
    receiver: ScriptedHttp, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a name with an address of IPv6 that no packet reaches."""
    real, connect = socket.getaddrinfo, urllib3.util.connection.create_connection
    silent, waits = ["192.0.2.1", "192.0.2.2"], []

    def resolve(host: str, port: int, *args: Any, **how: Any) -> Any:
        names = [*silent, "127.0.0.1"] if host == "crm.example.com" else [host]
        return [each for name in names for each in real(name, port, *args, **how)]

    def reach(address: tuple[str, int], timeout: float, **how: Any) -> Any:
        if address[0] in silent:
            waits.append(timeout)
            raise TimeoutError("timed out")
        return connect(address, timeout, **how)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(urllib3.util.connection, "create_connection", reach)

    assert call(f"http://crm.example.com:{receiver.port}/").result == "sent"
    assert len(waits) == 2
    assert sum(waits) < PATIENT


@pytest.mark.parametrize("kind", ["accepts and is silent", "accepts nothing"])
def test_a_receiver_that_never_answers_ends_the_call(kind: str, call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1 if kind == "accepts nothing" else 99) as listening:
        port = listening.getsockname()[1]
        for scheme in ("http", "https"):
            outcome = call(f"{scheme}://127.0.0.1:{port}/", timeout=0.5)
            assert (outcome.result, outcome.text) == ("down", "no answer: not within 0.5 s")


# -- hosts and certificates --------------------------------------------------------------------------------


def test_a_host_may_be_an_address_of_ipv6_or_end_in_a_dot(call: Call) -> None:
    for bind, host, header in (("::1", "[::1]", "[::1]"), ("127.0.0.1", "localhost.", "localhost")):
        with closing(ScriptedHttp(bind=bind)) as receiver:
            for allow in (None, "::1, localhost"):
                url = f"http://{host}:{receiver.port}/{allow}"
                assert call(url.replace(" ", ""), allow=allow).result == "sent"
            assert set(receiver.hosts) == {f"{header}:{receiver.port}"}


@pytest.mark.parametrize("kind", ["trusted", "expired", "of another name", "of its own"])
def test_only_a_valid_certificate_of_this_host_is_accepted(
    kind: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trustme = pytest.importorskip("trustme")
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = {
        "trusted": lambda: authority.issue_cert("localhost", "127.0.0.1"),
        "expired": lambda: authority.issue_cert("localhost", "127.0.0.1", not_after=past),
        "of another name": lambda: authority.issue_cert("crm.example.com"),
        "of its own": lambda: other.issue_cert("localhost", "127.0.0.1"),
    }[kind]()
    certificate.configure_cert(context)

    with closing(Tls(context)) as receiver:
        for host in ("localhost", "127.0.0.1", "localhost."):
            for allow in (None, "localhost, 127.0.0.1"):
                url = f"https://{host}:{receiver.port}/{len(allow or '')}"
                outcome = call(url, allow=allow)
                assert outcome.result == ("sent" if kind == "trusted" else "down"), (host, outcome)
                assert kind == "trusted" or "certificate" in outcome.text
        assert bool(receiver.calls) == (kind == "trusted")
