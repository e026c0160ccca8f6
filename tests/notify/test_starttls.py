"""An attacker between us and the mail server learns nothing, whatever it answers (S23, S24)."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from custsvc.notify.channels.smtp import Server, SmtpTransport, Timeouts

from .conftest import PATIENT, Sink
from .test_smtp import new_mail, yes

if TYPE_CHECKING:
    import trustme

EHLO = b"250-mitm\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS\r\n"
SECRET = "s3cret"
TOLD = (b"MAIL", b"RCPT", b"DATA", b"AUTH", SECRET.encode(), b"a@example.com", b"Hello")


class Attacker:
    """Answers each line of a client as told, by how it begins, and keeps what he was given."""

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.given = b""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                with client:
                    self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        with suppress(OSError):
            client.settimeout(60)
            client.sendall(b"220 mitm ESMTP\r\n")
            while data := client.recv(65536):
                self.given += data
                word = data[:4].upper()
                client.sendall(self._answers.get(word, b"250 OK\r\n"))

    def close(self) -> None:
        # Wakes the thread that waits for a client, on every system.
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(60)


@pytest.mark.parametrize(
    "answers",
    [
        {b"EHLO": b"250-mitm\r\n250 AUTH PLAIN LOGIN\r\n"},
        {b"EHLO": b"250-mitm\r\n250-XXXXXXXX\r\n250 AUTH PLAIN LOGIN\r\n"},
        {b"EHLO": b"502 what?\r\n", b"HELO": b"250 mitm\r\n"},
        {b"EHLO": EHLO, b"STAR": b"454 TLS not available\r\n"},
        {b"EHLO": EHLO, b"STAR": b"502 unknown\r\n"},
        {b"EHLO": EHLO, b"STAR": b"250 OK\r\n"},
        {b"EHLO": EHLO, b"STAR": b"\x00\xff\xfe garbage\r\n"},
        {b"EHLO": EHLO, b"STAR": b"220"},
        {b"EHLO": EHLO, b"STAR": b"220 go on\r\n"},
        {b"EHLO": EHLO, b"STAR": b"220 go on\r\n250-mitm\r\n250 AUTH PLAIN LOGIN\r\n235 welcome\r\n"},
    ],
    ids=[
        "not offered",
        "word overwritten",
        "old protocol",
        "refused for now",
        "unknown",
        "taken, but not begun",
        "garbage",
        "half an answer",
        "goes on in clear text",
        "answers sent ahead",
    ],
)
def test_a_server_that_strips_or_fakes_starttls_gets_no_mail_and_no_password(
    answers: dict[bytes, bytes],
) -> None:
    with closing(Attacker(answers)) as attacker:
        server = Server.parse(f"smtp://me:{SECRET}@127.0.0.1:{attacker.port}")
        patience = Timeouts(1.0, 1.0, 1.0) if answers.get(b"STAR") == b"220" else PATIENT
        with closing(SmtpTransport(server, patience)) as transport:
            outcome = transport.send(new_mail(), lambda: pytest.fail("handed over"))

    assert outcome.result == "down"
    assert not [word for word in TOLD if word in attacker.given]


# -- servers that do speak TLS -----------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """The only one that this machine trusts for now."""
    authority: trustme.CA = pytest.importorskip("trustme").CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    return authority


@pytest.fixture
def sink_with(sink: Sink) -> Callable[[trustme.CA, str], Sink]:
    """The mail server with a certificate of this authority for this name."""

    def make(authority: trustme.CA, name: str) -> Sink:
        sink.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(sink.tls)
        return sink

    return make


@pytest.fixture
def transport(sink: Sink) -> Iterator[SmtpTransport]:
    with closing(SmtpTransport(Server.parse(f"smtp://127.0.0.1:{sink.port}"), PATIENT)) as transport:
        yield transport


def test_a_server_with_a_valid_certificate_gets_the_mail_over_tls(
    authority: trustme.CA, sink_with: Callable[..., Sink], transport: SmtpTransport
) -> None:
    sink = sink_with(authority, "127.0.0.1")

    assert transport.send(new_mail(), yes).result == "sent"

    assert len(sink.accepted) == 1


def test_a_certificate_for_another_name_gets_no_mail(
    authority: trustme.CA, sink_with: Callable[..., Sink], transport: SmtpTransport
) -> None:
    sink = sink_with(authority, "mail.example.com")

    outcome = transport.send(new_mail(), yes)

    assert (outcome.result, sink.commands["MAIL"]) == ("down", 0)
    assert "certificate" in outcome.text


def test_a_certificate_of_an_unknown_authority_gets_no_mail(
    authority: trustme.CA, sink_with: Callable[..., Sink], transport: SmtpTransport
) -> None:
    sink = sink_with(type(authority)(), "127.0.0.1")

    outcome = transport.send(new_mail(), yes)

    assert (outcome.result, sink.commands["MAIL"]) == ("down", 0)
    assert "certificate" in outcome.text
