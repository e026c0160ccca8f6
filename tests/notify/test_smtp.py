"""One SMTP transaction against a real server: every answer and every lost answer has its outcome."""

from __future__ import annotations

import datetime as dt
import socket
from collections.abc import Iterator

import pytest

from custsvc.domain.address import one_address
from custsvc.errors import ConfigurationError, TemporaryError
from custsvc.notify.channels.message import Mail, compose
from custsvc.notify.channels.smtp import Server, SmtpTransport

from .conftest import IMPATIENT, PATIENT, Answer, Sink, drop, never
from .conftest import mail as row

A = "a@example.com"


@pytest.fixture
def transport(sink: Sink) -> Iterator[SmtpTransport]:
    transport = SmtpTransport(Server.parse(sink.url), PATIENT)
    yield transport
    transport.close()


def new_mail(text: str = "Hello\n", to: str = A) -> Mail:
    return compose(row("m", to=to, text=text), one_address("me@example.com"), dt.datetime.now(dt.UTC))


def yes() -> bool:
    return True


def test_a_mail_arrives_as_it_was_written(sink: Sink, transport: SmtpTransport) -> None:
    outcome = transport.send(new_mail("Grüße\n.\n..dots\n. \n"), yes)

    assert (outcome.result, outcome.code) == ("sent", 250)
    message = sink.to(A)[0].message
    assert message.get_content().splitlines() == ["Grüße", ".", "..dots", ". "]
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"] == "<m@example.com>"


@pytest.mark.parametrize(
    ("where", "answer", "result", "code"),
    [
        ("rcpt", "450 busy", "deferred", 450),
        ("rcpt", "421 closing", "down", 421),
        ("rcpt", "550 no such user", "failed", 550),
        ("rcpt", drop, "down", None),
        ("data", "451 later", "deferred", 451),
        ("data", "554 spam", "failed", 554),
        ("data", "421 closing", "down", 421),
        ("data", "354 go on", "unknown", None),
        ("data", "399 what", "unknown", None),
        ("rcpt", "354 go on", "down", None),
        ("mail", "354 go on", "down", None),
        ("data", drop, "unknown", None),
        ("data", never, "unknown", None),
        ("mail", "451 later", "deferred", 451),
        ("mail", "552 too large", "failed", 552),
        ("mail", "550 go away", "down", 550),
        ("mail", "421 closing", "down", 421),
    ],
)
def test_each_answer_means_one_outcome(
    where: str, answer: Answer, result: str, code: int | None, sink: Sink
) -> None:
    transport = SmtpTransport(Server.parse(sink.url), IMPATIENT if answer is never else PATIENT)
    if where == "mail":
        sink.mail = [answer]
    else:
        getattr(sink, where)[A] = [answer]

    outcome = transport.send(new_mail(), yes)
    transport.close()

    assert (outcome.result, outcome.code) == (result, code)


def test_one_connection_serves_many_mails_after_refusals_too(sink: Sink, transport: SmtpTransport) -> None:
    sink.rcpt[A] = ["550 no", "250 OK"]
    sink.data[A] = ["451 later", "250 OK"]

    results = [transport.send(new_mail(), yes).result for _ in range(5)]

    assert results == ["failed", "deferred", "sent", "sent", "sent"]
    assert sink.connections == 1


def test_a_connection_that_the_server_closed_is_opened_again(sink: Sink, transport: SmtpTransport) -> None:
    assert transport.send(new_mail(), yes).result == "sent"
    sink.stop()
    sink.start()

    assert transport.send(new_mail(), yes).result == "sent"
    assert len(sink.accepted) == 2


def test_nothing_is_sent_where_the_hand_over_is_refused(sink: Sink, transport: SmtpTransport) -> None:
    assert transport.send(new_mail(), lambda: False).result == "not-ours"
    assert transport.send(new_mail(to="b@example.com"), yes).result == "sent"

    assert sink.commands["DATA"] == 1
    assert sink.accepted[0].recipients == ["b@example.com"]


def test_nothing_is_sent_where_the_hand_over_cannot_be_noted(sink: Sink, transport: SmtpTransport) -> None:
    def no_ledger() -> bool:
        raise TemporaryError("away", dependency="postgres")

    with pytest.raises(TemporaryError):
        transport.send(new_mail(), no_ledger)

    assert sink.commands["DATA"] == 0


def test_a_server_that_is_not_there_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]

    outcome = SmtpTransport(Server.parse(f"smtp+plain://127.0.0.1:{port}"), PATIENT).send(new_mail(), yes)

    assert outcome.result == "down"
    assert str(port) in outcome.text


def test_a_server_without_starttls_gets_no_mail(sink: Sink) -> None:
    transport = SmtpTransport(Server.parse(f"smtp://127.0.0.1:{sink.port}"), PATIENT)

    outcome = transport.send(new_mail(), yes)

    assert outcome.result == "down"
    assert "STARTTLS" in outcome.text
    assert sink.commands["MAIL"] == 0


def test_an_address_beyond_ascii_is_sent_as_utf8(sink: Sink, transport: SmtpTransport) -> None:
    outcome = transport.send(new_mail(to="zoë@bücher.example"), yes)

    assert outcome.result == "sent"
    assert sink.accepted[0].recipients == ["zoë@xn--bcher-kva.example"]


@pytest.mark.parametrize(
    "url", ["", "http://x", "smtp://", "smtp://host:port", "smtp+plain://u:p@mail.example.com"]
)
def test_an_address_that_cannot_be_used_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Server.parse(url)

    assert refused.value.fix
    assert "u:p" not in str(refused.value)


def test_the_parts_of_the_address_are_read_and_the_password_is_never_shown() -> None:
    server = Server.parse("smtps://me%40x:p%2Fw@mail.example.com")

    assert (server.host, server.port, server.user, server.password) == (
        "mail.example.com",
        465,
        "me@x",
        "p/w",
    )
    assert "p/w" not in repr(server)
