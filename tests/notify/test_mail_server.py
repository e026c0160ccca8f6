"""A mail server's address and connection: a wrong one is refused at start, no answer blocks a sender."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from custsvc.config import Settings
from custsvc.errors import ConfigurationError
from custsvc.notify.channels.server import Server, Timeouts
from custsvc.notify.channels.smtp import SmtpTransport
from custsvc.notify.run import run_notify
from custsvc.runtime.loop import Stop

from .conftest import PATIENT
from .scripted import DROP, Action, Asked, ScriptedSmtp, dripping, polite
from .test_smtp import new_mail, yes

SECRET = "pässwort"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"smtps://me:{SECRET}@mail.example.com", "password"),
        ("smtps://me:p%C3%A4ss@mail.example.com", "password"),
        ("smtps://me:p%00ss@mail.example.com", "password"),
        ("smtps://me:p%0Ass@mail.example.com", "password"),
        ("smtps://me:p%ff@mail.example.com", "password"),
        ("smtps://m%C3%A9:pass@mail.example.com", "user"),
        ("smtps://:pass@mail.example.com", "no user"),
        ("smtp://mail..example", "mail..example"),
        ("smtp://.mail.example", "host name"),
        ("smtp://mail.example..", "host name"),
        (f"smtp://{'a' * 64}.example", "host name"),
        (f"smtp://{'a.' * 130}example", "host name"),
        ("smtp://mail example", "host name"),
        ("smtp://mail_.example!", "host name"),
        ("smtp://-.example", "host name"),
        ("smtp://\udcff.example", ""),
        ("smtp://[::1", ""),
        ("smtp://[mail.example]", ""),
        ("smtp://mail.example:0", "more than"),
        ("smtp://mail.example:99999", "URL"),
        ("smtp://mail.example/path", "more than"),
        ("smtp://mail.example?tls=no", "more than"),
        ("smtps://me:pass#word@mail.example", ""),
        ("smtps://me:25/word@mail.example", ""),
    ],
)
def test_an_address_that_cannot_work_is_refused_at_start_with_the_fix(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        run_notify(Settings(smtp_url=url), Stop())

    assert told in str(refused.value)
    assert refused.value.fix
    assert "p%" not in str(refused.value)
    assert SECRET not in f"{refused.value} {refused.value.fix}"


@pytest.mark.parametrize(
    ("url", "host", "address"),
    [
        ("smtp://mail.example", "mail.example", "mail.example:587"),
        ("smtp://mail.example./", "mail.example.", "mail.example.:587"),
        ("smtp+plain://my_mail", "my_mail", "my_mail:25"),
        ("smtps://[::1]:1465", "::1", "[::1]:1465"),
        ("smtp://127.0.0.1", "127.0.0.1", "127.0.0.1:587"),
        ("smtp://BÜCHER.example", "xn--bcher-kva.example", "xn--bcher-kva.example:587"),
    ],
)
def test_names_as_people_write_them_are_understood(url: str, host: str, address: str) -> None:
    server = Server.parse(url)

    assert (server.host, server.address) == (host, address)


def test_each_step_waits_as_long_as_rfc_5321_says_and_as_it_is_set() -> None:
    assert Timeouts.of(Settings()) == Timeouts(
        connect=30, greeting=300, command=300, recipient=300, begin=120, block=180, data=600
    )
    names = ("connect", "greeting", "mail", "rcpt", "data", "block", "end")
    ours: dict[str, Any] = {f"smtp_{name}_timeout": 1.0 + at for at, name in enumerate(names)}

    assert Timeouts.of(Settings(**ours)) == Timeouts(
        connect=1, greeting=2, command=3, recipient=4, begin=5, block=6, data=7
    )


# -- the line ----------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[ScriptedSmtp]:
    with closing(ScriptedSmtp()) as server:
        yield server


DRIP: list[Action] = [b"2", *dripping(b"x", 100)]
ENDLESS: list[Action] = [b"250-and so on\r\n" * 50_000]
HASTY = Timeouts(connect=60, command=1.5, data=1.5, greeting=1.5, recipient=1.5, begin=1.5, block=60)


@pytest.mark.parametrize("word", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "TEXT"])
@pytest.mark.parametrize("actions", [DRIP, ENDLESS, [30.0]], ids=["drips", "endless", "silent"])
def test_no_answer_holds_a_sender_for_longer_than_its_step_may_take(
    word: str, actions: list[Action], server: ScriptedSmtp
) -> None:
    server.script = lambda asked: actions if asked.word == word else polite(asked)
    began = time.monotonic()

    with closing(SmtpTransport(Server.parse(server.url), HASTY)) as transport:
        outcome = transport.send(new_mail(), yes)

    assert outcome.result == ("unknown" if word == "TEXT" else "down")
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("word", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA"])
def test_an_unrequested_line_of_a_server_is_never_taken_for_the_answer_to_a_mail(
    word: str, server: ScriptedSmtp
) -> None:
    """A 250 too many would be taken for that to the text, which the server refuses."""

    def script(asked: Asked) -> list[Action]:
        if asked.word == "TEXT":
            return [0.2, b"554 5.7.1 never\r\n"]
        (said,) = polite(asked)
        assert isinstance(said, bytes)
        return [said + b"250 OK\r\n"] if asked.word == word else [said]

    server.script = script
    with closing(SmtpTransport(Server.parse(server.url), PATIENT)) as transport:
        outcome = transport.send(new_mail(), yes)

    assert outcome.result in ("down", "failed", "unknown")


@pytest.mark.parametrize(
    ("said", "result"),
    [
        (b"552 5.3.4 too large", "failed"),
        (b"452 full", "deferred"),
        (b"421 bye", "down"),
        (b"250 OK", "down"),
    ],
)
def test_an_answer_before_the_end_of_the_text_does_not_accept_the_mail(
    said: bytes, result: str, server: ScriptedSmtp
) -> None:
    """As one that finds it too large on the way; without its end, no server takes a mail."""
    early: list[Action] = [b"354 go on\r\n", 0.3, said + b"\r\n"]
    said_at: dict[str, list[Action]] = {"DATA": early, "EHLO": [b"250 scripted\r\n"]}
    server.script = lambda asked: said_at.get(asked.word) or polite(asked)

    # So large that it is not given before that is said.
    with closing(SmtpTransport(Server.parse(server.url), PATIENT)) as transport:
        outcome = transport.send(new_mail(("x" * 900 + "\n") * 20_000), yes)

    assert outcome.result == result
    assert not server.accepted


def test_a_server_that_leaves_in_between_is_met_again(server: ScriptedSmtp) -> None:
    """It says 421 and closes when nobody has asked anything, as idle servers do."""

    def script(asked: Asked) -> list[Action]:
        bye: list[Action] = [b"421 idle for too long\r\n", 0.1, DROP]
        return [b"250 taken\r\n", 0.1, *bye] if asked.word == "TEXT" else polite(asked)

    server.script = script
    with closing(SmtpTransport(Server.parse(server.url), PATIENT)) as transport:
        results = []
        for _ in range(3):
            results.append(transport.send(new_mail(), yes).result)
            time.sleep(0.3)

    assert results == ["sent"] * 3
    assert server.connections == 3


@pytest.mark.parametrize(
    ("features", "result"),
    [
        (b"250-SIZE 100", "failed"),
        (b"250-SIZE 0", "sent"),
        (b"250-SIZE", "sent"),
        (b"250-SIZE many", "sent"),
        (b"250-SIZE " + b"9" * 5000, "sent"),
        (b"250-size 10000000", "sent"),
        (b"250-\xff\xfe\x00", "sent"),
        (b"250-AUTH=LOGIN", "sent"),
    ],
)
def test_malformed_extensions_of_a_server_are_tolerated(
    features: bytes, result: str, server: ScriptedSmtp
) -> None:
    answer: list[Action] = [b"250-scripted\r\n" + features + b"\r\n250 8BITMIME\r\n"]
    server.script = lambda asked: answer if asked.word == "EHLO" else polite(asked)

    with closing(SmtpTransport(Server.parse(server.url), PATIENT)) as transport:
        outcome = transport.send(new_mail(), yes)

    assert outcome.result == result
    assert "SIZE" in outcome.text if result == "failed" else True


@pytest.mark.parametrize(
    "challenge", [b"334 !", b"334 \xff\xff", b"334 QUJD", b"334", b"235 welcome", b"535 no"]
)
def test_any_answer_to_a_login_ends_as_down_or_sent(challenge: bytes, server: ScriptedSmtp) -> None:
    def script(asked: Asked) -> list[Action]:
        if asked.word == "EHLO":
            return [b"250-scripted\r\n250 AUTH CRAM-MD5 PLAIN LOGIN\r\n"]
        return (
            [challenge + b"\r\n"]
            if asked.word not in ("GREETING", "MAIL", "RCPT", "DATA", "TEXT")
            else polite(asked)
        )

    server.script = script
    url = f"smtp+plain://me:secret@127.0.0.1:{server.port}"
    with closing(SmtpTransport(Server.parse(url), PATIENT)) as transport:
        outcome = transport.send(new_mail(), yes)

    assert outcome.result == ("sent" if challenge.startswith(b"235") else "down")


# -- headers -----------------------------------------------------------------------------------------------

LOOKS_ENCODED = [
    "=?utf-8?q?=41da?=",
    "=?utf-8?b?QWRh?= changed",
    "Hello =?iso-8859-1?Q?a=20b?=, you",
    "=?utf-8?q?x?==?utf-8?q?y?=",
    "=?",
    "a =?utf-8?q?" + "z" * 100 + "?=",
    "=?utf-8?q?é?= ü",
]


@pytest.mark.parametrize("subject", LOOKS_ENCODED)
def test_a_name_that_looks_like_an_encoded_word_is_shown_as_it_is(subject: str) -> None:
    import email
    import email.policy
    from email.header import decode_header, make_header

    from custsvc.domain.address import one_address
    from custsvc.notify.channels.message import compose

    from .conftest import mail

    data = compose(mail("m", subject=subject), one_address("me@example.com"), _now()).data

    assert email.message_from_bytes(data, policy=email.policy.default)["Subject"] == subject
    assert str(make_header(decode_header(email.message_from_bytes(data)["Subject"]))) == subject


def test_an_address_that_looks_like_an_encoded_word_is_no_other_one() -> None:
    import email

    from custsvc.domain.address import one_address
    from custsvc.notify.channels.message import compose

    from .conftest import mail

    made = compose(mail("m", to="=?utf-8?q?=61?=@example.com"), one_address("me@example.com"), _now())

    assert email.message_from_bytes(made.data)["To"] == '"=?utf-8?q?=61?="@example.com'
    assert made.recipient.spec == "=?utf-8?q?=61?=@example.com"


def _now() -> Any:
    import datetime as dt

    return dt.datetime.now(dt.UTC)
