"""The refusals that suppress an address: only those that begin with the code of a missing address."""

from __future__ import annotations

from contextlib import closing

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from custsvc.notify.channels import bounce
from custsvc.notify.channels.refusal import GONE, is_gone
from custsvc.notify.channels.smtp import Server, SmtpTransport

from .conftest import PATIENT, Sink
from .test_smtp import A, new_mail, yes

# Replies as servers give them; `\n` stands between the lines of one reply.
GONE_REPLIES = [
    # Gmail, Google Workspace
    (550, "5.1.1 The email account that you tried to reach does not exist. Please try\n"
          "5.1.1 double-checking the recipient's email address for typos or\n"
          "5.1.1 unnecessary spaces. For more information, go to\n"
          "5.1.1  https://support.google.com/mail/?p=NoSuchUser a1-2002si3f.115 - gsmtp"),
    (550, "5.2.1 The email account that you tried to reach is disabled. For more information, go to\n"
          "5.2.1  https://support.google.com/mail/?p=DisabledUser x5-2si1 - gsmtp"),
    # Exchange
    (550, "5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient gone@example.com not found by SMTP lookup"),
    (550, "5.1.1 RESOLVER.ADR.RecipNotFound; not found"),
    (550, "5.1.1 User unknown"),
    # Postfix
    (550, "5.1.1 <gone@example.com>: Recipient address rejected: User unknown in local recipient table"),
    (550, "5.1.2 <gone@nowhere.example>: Recipient address rejected: Domain not found"),
    (501, "5.1.3 Bad recipient address syntax"),
    (551, "5.1.6 <gone@example.com>: Recipient address rejected: User has moved to new@example.com"),
    # RFC 7505
    (556, "5.1.10 Recipient address has null MX"),
    # Yahoo, iCloud, Amazon WorkMail
    (554, "5.1.1 <gone@icloud.com>: user does not exist"),
    (550, "5.1.1: mailbox unavailable"),
    (553, "5.1.3."),
]  # fmt: skip

OTHER_REPLIES = [
    # Gmail
    (550, "5.7.26 This mail has been blocked because the sender is unauthenticated.\n"
          "5.7.26 Gmail requires all senders to authenticate with either SPF or DKIM."),
    (550, "5.7.1 [203.0.113.9] Our system has detected that this message is likely unsolicited mail."),
    (552, "5.2.2 The email account that you tried to reach is over quota and inactive."),
    (452, "4.2.2 The email account that you tried to reach is over quota."),
    (421, "4.7.28 Our system has detected an unusual rate of unsolicited mail from your IP address."),
    # Outlook, Exchange Online
    (550, "5.5.0 Requested action not taken: mailbox unavailable (S2017062302)."),
    (550, "5.7.1 Service unavailable, Client host [5.1.1.20] blocked using Spamhaus."),
    (550, "5.7.606 Access denied, banned sending IP [5.1.66.20]. For more information see 5.1.1"),
    (550, "5.4.1 Recipient address rejected: Access denied. AS(201806281) [DB5.1.1.eur.example]"),
    (550, "5.7.64 TenantAttribution; Relay Access Denied"),
    (550, "5.7.708 Service unavailable. Access denied, traffic not accepted from this IP."),
    (451, "4.7.500 Server busy. Please try again later from [203.0.113.9]. (S77719) AS(1450)"),
    (550, "5.1.90 Your message can't be sent because you've reached your daily limit for message recipients"),
    # Postfix
    (550, "5.1.8 <me@nowhere.example>: Sender address rejected: Domain not found"),
    (553, "5.1.7 <me@>: Sender address rejected"),
    (550, "5.1.0 <me@example.com>: Sender address rejected: User unknown"),
    (554, "5.7.1 <gone@example.com>: Relay access denied"),
    (454, "4.7.1 <gone@example.com>: Relay access denied"),
    (450, "4.1.1 <gone@example.com>: Recipient address rejected: unverified address"),
    (450, "4.2.0 <a@example.com>: Recipient address rejected: Greylisted, see http://postgrey.example/5.1.1"),
    (552, "5.3.4 Message size exceeds fixed limit"),
    # Exim
    (550, "Unrouteable address"),
    (550, "relay not permitted"),
    (550, "Administrative prohibition"),
    (550, "Sender verify failed"),
    (550, "No such user here"),
    # Yahoo
    (554, "delivery error: dd This user doesn't have a yahoo.com account (x@yahoo.com) [-5] - mta1"),
    (553, "5.7.1 [BL21] Connections will not be accepted from 203.0.113.9, in Spamhaus's list"),
    (554, "5.7.9 Message not accepted for policy reasons. See https://senders.yahooinc.com/"),
    # Amazon SES
    (554, "Message rejected: Email address is not verified. The following identities failed the check: a@x"),
    (454, "Throttling failure: Daily message quota exceeded."),
    (550, "5.7.1 Error: 5.1.1 was said by the next server"),
    # No code at the beginning, or another class of it
    (550, ""),
    (550, "550 5.1.1 said twice"),
    (550, "#5.1.1 Bad destination"),
    (550, "5.1.1.7 is no status"),
    (550, "5.1.66.20 blocked"),
    (550, "5.1.11"),
    (550, "5.1.1x"),
    (450, "5.1.1 for now"),
    (550, "4.1.1 cannot say"),
    (250, "5.1.1 fine"),
    # A reply of lines that say different things
    (550, "5.1.1 User unknown\n5.7.1 or you are blocked"),
    (550, "Some words\n5.1.1 User unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "text"), GONE_REPLIES)
def test_a_reply_that_says_the_recipient_does_not_exist_is_known(code: int, text: str) -> None:
    assert is_gone(code, text)


@pytest.mark.parametrize(("code", "text"), OTHER_REPLIES)
def test_a_reply_about_anything_else_silences_nobody(code: int, text: str) -> None:
    assert not is_gone(code, text)


@given(
    st.integers(200, 599),
    st.text(max_size=60),
    st.tuples(st.sampled_from("245"), st.integers(0, 999), st.integers(0, 999)),
)
def test_a_code_anywhere_but_at_the_beginning_counts_for_nothing(
    code: int, before: str, status: tuple[str, int, int]
) -> None:
    told = ".".join(map(str, status))
    assume(before.strip() and not any(before.strip().startswith(each) for each in GONE))

    assert not is_gone(code, f"{before} {told} rest")
    assert is_gone(code, f"{told} {before}".replace("\n", " ")) in (False, code >= 500 and told in GONE)


@pytest.mark.parametrize("phase", ["rcpt", "data"])
@pytest.mark.parametrize(("code", "text", "gone"), [
    *((*reply, True) for reply in GONE_REPLIES[:4]), *((*reply, False) for reply in OTHER_REPLIES[:8]),
])  # fmt: skip
def test_the_answer_of_a_real_server_is_weighed_by_its_beginning(
    sink: Sink, phase: str, code: int, text: str, gone: bool
) -> None:
    lines = text.split("\n")
    said = "\r\n".join([*(f"{code}-{line}" for line in lines[:-1]), f"{code} {lines[-1]}"])
    getattr(sink, phase)[A] = [said]

    with closing(SmtpTransport(Server.parse(sink.url), PATIENT)) as transport:
        outcome = transport.send(new_mail(), yes)

    assert outcome.bad_address is gone


@pytest.mark.parametrize(
    "answer", ["550 5.1.1 sender unknown", "550 5.1.8 no such domain", "553 5.1.3 syntax"]
)
def test_a_refusal_of_the_sender_silences_no_recipient(sink: Sink, answer: str) -> None:
    sink.mail = [answer]

    with closing(SmtpTransport(Server.parse(sink.url), PATIENT)) as transport:
        outcome = transport.send(new_mail(), yes)

    assert (outcome.result, outcome.bad_address) == ("down", False)


@pytest.mark.parametrize(
    "answer",
    [
        "552 too large",
        "552 5.3.4 too large",
        "554 5.3.4 too large",
        "550 5.2.3 too long",
        "553 5.6.7 no UTF8",
    ],
)
def test_a_refusal_of_one_mail_fails_that_mail_and_is_no_outage(sink: Sink, answer: str) -> None:
    sink.mail = [answer]

    with closing(SmtpTransport(Server.parse(sink.url), PATIENT)) as transport:
        assert transport.send(new_mail(), yes).result == "failed"


# -- delivery reports --------------------------------------------------------------------------------------


def report(*parts: str, sent_back: str = "Subject: Hello\r\n\r\nHello\r\n") -> bytes:
    about = "\r\n\r\n".join(["Reporting-MTA: dns; mx.example.com", *parts])
    return (
        "From: MAILER-DAEMON@mx.example.com\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\n550 5.1.1 nobody@example.com is gone\r\n"
        f"--b\r\nContent-Type: message/delivery-status\r\n\r\n{about}\r\n"
        f"--b\r\nContent-Type: message/rfc822\r\n\r\n{sent_back}\r\n--b--\r\n"
    ).encode()


def part(to: str, status: str, diagnostic: str = "", action: str = "failed") -> str:
    quoted = f"\r\nDiagnostic-Code: {diagnostic}" if diagnostic else ""
    return f"Final-Recipient: rfc822; {to}\r\nAction: {action}\r\nStatus: {status}{quoted}"


@pytest.mark.parametrize(
    ("status", "diagnostic", "gone"),
    [
        *((each, "", True) for each in sorted(GONE)),
        ("5.1.1 (bad destination mailbox address)", "", True),
        ("5.1.1", "smtp; 550 5.7.1 what the next server said", True),
        # Exim names no status of its own.
        ("5.0.0", "smtp; 550 5.1.1 <a@example.com>: Recipient address rejected: User unknown", True),
        ("5.0.0", "smtp; 550-5.1.1 The email account that you tried\r\n 550-5.1.1 to reach", True),
        ("5.0.0", "smtp; 550 No such user here", False),
        ("5.0.0", "smtp; 550 blocked, see 5.1.1", False),
        ("5.0.0", "x-unix; 550 5.1.1 said a program", False),
        ("5.1.8", "smtp; 550 5.1.8 sender", False),
        ("5.1.0", "smtp; 550 5.1.1 unknown", False),
        ("5.1.7", "", False),
        ("5.2.2", "smtp; 552 5.2.2 full", False),
        ("5.7.1", "smtp; 550 5.7.1 [5.1.1.20] blocked", False),
        ("5.4.4", "", False),
        ("4.1.1", "", False),
        ("", "", False),
    ],
)  # fmt: skip
def test_a_report_silences_by_the_status_of_that_recipient(status: str, diagnostic: str, gone: bool) -> None:
    other = part("other@example.com", "5.7.1")

    found = {
        each.address: each.is_final
        for each in bounce.read(report(other, part("a@example.com", status, diagnostic)))
    }

    assert found == {"other@example.com": False, "a@example.com": gone}


@pytest.mark.parametrize("action", ["delayed", "delivered", "relayed", "expanded", ""])
def test_a_report_without_a_failure_suppresses_nobody(action: str) -> None:
    assert bounce.read(report(part("a@example.com", "5.1.1", action=action))) == []


def test_a_report_inside_of_the_mail_that_is_sent_back_is_another_story() -> None:
    inner = report(part("victim@example.com", "5.1.1")).decode().replace('"b"', '"c"').replace("--b", "--c")

    found = bounce.read(report(part("<a@example.com>", "5.7.1"), sent_back=inner))

    assert [(each.address, each.is_final) for each in found] == [("a@example.com", False)]


@given(st.binary(max_size=400), st.binary(max_size=40))
def test_any_bytes_in_a_report_are_read_without_an_error(rest: bytes, status: bytes) -> None:
    bounce.read(rest)
    for each in bounce.read(
        report(part("a@example.com", "5.1.1", "smtp; STATUS")).replace(b"STATUS", status) + rest
    ):
        each.reason.encode()
