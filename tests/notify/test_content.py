"""Content and recipients of mails: rules, templates, mail requests; no value escapes from its place."""

from __future__ import annotations

import datetime as dt
import email
import email.policy
import itertools
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from custsvc.config import Settings
from custsvc.domain.address import BadAddress, one_address
from custsvc.domain.customers import Customer, Fields, Stored
from custsvc.domain.events import new_change
from custsvc.domain.received import ReceivedEvent, decode
from custsvc.errors import ConfigurationError
from custsvc.notify.channels.channel import BadMail
from custsvc.notify.channels.message import compose
from custsvc.notify.channels.smtp import _end_of_data
from custsvc.notify.intake import request
from custsvc.notify.rules import rules, templates
from custsvc.notify.rules.file import load
from custsvc.notify.sending.sender import Sender
from custsvc.ports.ledger import Ledger, storable

from .conftest import Sink, mail, turns_until

NOW = dt.datetime(2026, 11, 23, 20, 40, tzinfo=dt.UTC)
ME = one_address("custsvc@example.com")


def event(op: str, before: Fields | None, after: Fields) -> ReceivedEvent:
    """An event as it comes from the topic."""
    version = 1 if before is None else 2
    old = before and Customer(7, before, op == "restored", 1, NOW, "t", NOW, "t")
    new = Customer(7, after, op == "deleted", version, NOW, "t", NOW, "t")
    stored = Stored(7, 1, False, old.encode()) if old else None
    return decode(new_change(op, stored, new, actor="t").event.payload, b"7")


RULES = load(Settings())


def mails(found: ReceivedEvent) -> dict[str, tuple[str, templates.Content]]:
    shown = rules.values(found)
    return {
        rule.name: (to, RULES.templates.render(rule.template, shown)) for rule, to in RULES.matches(found)
    }


ADA = Fields("Ada", "ada@example.com", "1", {"tier": "silver"})


@pytest.mark.parametrize(
    ("op", "before", "after", "expected"),
    [
        ("created", None, ADA, {"welcome": "ada@example.com"}),
        ("created", None, Fields("Ada"), {}),
        ("updated", ADA, Fields("Ada L", "ada@example.com"), {"changed": "ada@example.com"}),
        (
            "updated",
            ADA,
            Fields("Ada", "new@example.com"),
            {"changed": "new@example.com", "address-changed": "ada@example.com"},
        ),
        ("updated", ADA, Fields("Ada"), {"address-changed": "ada@example.com"}),
        ("updated", Fields("Ada"), ADA, {"changed": "ada@example.com"}),
        ("deleted", ADA, ADA, {"goodbye": "ada@example.com"}),
        ("restored", ADA, ADA, {"welcome-back": "ada@example.com"}),
        ("erased", ADA, Fields("erased"), {}),
        ("snapshot", None, ADA, {}),
    ],
)
def test_each_change_calls_for_its_mails(
    op: str, before: Fields | None, after: Fields, expected: dict[str, str]
) -> None:
    assert {rule: to for rule, (to, _) in mails(event(op, before, after)).items()} == expected


def test_the_mail_about_a_change_lists_old_and_new() -> None:
    after = Fields("Ada L", "ada@example.com", None, {"tier": "gold", "vip": True})

    ((_, content),) = mails(event("updated", ADA, after)).values()

    lines = content.text.splitlines()
    assert [line for line in lines if " → " in line] == [
        "Name: Ada → Ada L",
        "Phone: 1 → –",
        "tier: silver → gold",
        "vip: – → true",
    ]


def test_a_mail_to_the_old_address_lacks_the_new_values() -> None:
    after = Fields("Secret Name", "new@example.com", "555-secret", {"tier": "secret"})

    _, content = mails(event("updated", ADA, after))["address-changed"]

    for text in (content.subject, content.text, content.html or ""):
        assert "ecret" not in text
        assert "new@example.com" not in text
    assert "- Phone" in content.text


def test_html_is_escaped_and_text_is_not() -> None:
    _, content = mails(event("created", None, Fields("<b>&'\"", "ada@example.com")))["welcome"]

    assert "<b>&'\"" in content.text
    assert "<b>" not in (content.html or "")
    assert "&lt;b&gt;" in (content.html or "")


def test_a_name_that_a_template_lacks_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="'name' is undefined"):
        RULES.templates.render("welcome", {"customer_id": 1})


@pytest.mark.parametrize("rule", RULES.rules, ids=lambda rule: rule.name)
def test_every_default_template_has_a_subject_a_text_and_html(rule: rules.Rule) -> None:
    content = RULES.templates.render(
        rule.template, rules.values(event("updated", ADA, Fields("Ada L", "x@y.de")))
    )

    assert content.subject
    assert content.text.startswith("Hello")
    assert content.html is not None
    assert content.html.rstrip().endswith("</html>")


# -- mail requests -----------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {"id": "1", "notifyTo": "a@example.com", "subject": "Hi", "textMsg": "Hello"}


def test_a_request_is_read_with_all_its_recipients_once_each() -> None:
    found = request.read(
        orjson.dumps(GOOD | {"notifyCC": ["b@example.com", "a@example.com"], "notifyBCC": "c@example.com"})
    )

    assert found.recipients == ("a@example.com", "b@example.com", "c@example.com")
    assert (found.id, found.subject, found.text, found.html) == ("1", "Hi", "Hello", None)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>a<br/>b</p><script>x()</script >c", "a\nb\n c"),
        ("a<!-- <b>not said</b> -->b", "a b"),
        ("<script>it has no end <b>and</b> is said", "it has no end  and  is said"),
        ("1 < 2 & 3", "1 < 2 & 3"),
        ("&#65;&#x41;&#0000000065;", "AAA"),
        (f"&#{'9' * 5000};&#x{'f' * 5000};&#{'0' * 5000}65;", "\ufffd\ufffdA"),
    ],
)
def test_the_plain_text_of_html_has_its_words(html: str, text: str) -> None:
    assert (
        request.read(orjson.dumps({"notifyTo": "a@b.c", "subject": "s", "htmlMsg": html})).text == text + "\n"
    )


def test_a_request_with_html_alone_gets_a_text() -> None:
    html = "<style>p {}</style><p>Hello &amp; <b>welcome</b></p><p>Bye</p>"

    found = request.read(orjson.dumps(GOOD | {"textMsg": None, "htmlMsg": html}))

    assert found.text.split() == ["Hello", "&", "welcome", "Bye"]
    assert found.html == html


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "not a JSON object"),
        (orjson.dumps(GOOD | {"notifyTo": None}), "no recipient"),
        (orjson.dumps(GOOD | {"notifyTo": 5}), "notifyTo"),
        (orjson.dumps(GOOD | {"notifyCC": [{}]}), "notifyCC"),
        (orjson.dumps(GOOD | {"notifyTo": [f"{n}@x.de" for n in range(1001)]}), "1000 recipients"),
        (orjson.dumps(GOOD | {"subject": None}), "subject"),
        (orjson.dumps(GOOD | {"subject": "a\r\nBcc: x@x.de"}), "subject"),
        (orjson.dumps(GOOD | {"subject": "x" * 251}), "subject"),
        (orjson.dumps(GOOD | {"textMsg": None}), "neither"),
        (orjson.dumps(GOOD | {"textMsg": 5}), "textMsg"),
        (orjson.dumps(GOOD | {"id": {}}), "id"),
        (orjson.dumps(GOOD | {"id": True}), "id"),
    ],
)
def test_a_request_that_cannot_be_used_is_refused_with_the_reason(value: bytes | None, reason: str) -> None:
    with pytest.raises(request.BadRequest, match=reason):
        request.read(value)


# -- injection ---------------------------------------------------------------------------------------------

BREAKS = ["\r\n", "\n", "\r", "\r\n\r\n", "\n.\n", "\r\n.\r\n", "\0", "\v", "\f", "\x85", "\u2028", "\u2029"]
HEADERS = [
    "Bcc: evil@example.net",
    "To: evil@example.net",
    "RCPT TO:<evil@example.net>",
    "Cc: evil@example.net",
    "Reply-To: evil@example.net",
    "Subject: other",
    "Content-Type: text/html",
    "Content-Transfer-Encoding: base64",
    "--=_boundary",
    "=?utf-8?q?=0D=0ABcc:_evil=40example.net?=",
    "MAIL FROM:<evil@example.net>",
    "DATA",
    "\tfolded",
]
PAYLOADS = [f"x{a}{h}{b}y" for a, h, b in itertools.product(BREAKS, HEADERS, ["", *BREAKS])]
WRONG_ADDRESSES = [
    "a@example.com, evil@example.net",
    "a@example.com,evil@example.net",
    "a@example.com;evil@example.net",
    "friends: a@example.com, evil@example.net;",
    "Ada <a@example.com>",
    "<a@example.com>",
    "a@example.com evil@example.net",
    "a@example.com>",
    "a@example.com> SIZE=1",
    '"evil@example.net,"@example.com',
    "a@example.com(evil@example.net)",
    "a@@example.com",
    "@example.net:a@example.com",
    "a%evil@",
    "a@[127.0.0.1]",
    "=?utf-8?q?a=40example.com=2C?= <a@example.com>",
    "a\u200b@example.com",
    "",
    "a" * 300 + "@example.com",
]


def headers_of(data: bytes) -> list[str]:
    message = email.message_from_bytes(data, policy=email.policy.SMTP)
    assert not message.defects
    return [name.lower() for name in message]


EXPECTED = ["from", "to", "subject", "date", "message-id", "auto-submitted"]


def test_no_payload_in_a_customer_becomes_a_header_or_ends_the_mail() -> None:
    """S20, N9."""
    assert len(set(PAYLOADS)) > 2000
    for payload, op in zip(PAYLOADS, itertools.cycle(("created", "updated", "deleted"))):
        before = Fields(payload, "a@example.com", payload, {"k": payload})
        found = ReceivedEvent(
            "e", op, 7, 2, [], "", None, None, _raw(ADA), _raw(before) | {"name": payload}, b""
        )
        for to, content in mails(found).values():
            row = mail("m", to=to, subject=content.subject, text=content.text, html=content.html)
            data = compose(row, ME, NOW).data
            assert set(headers_of(data)) - {"mime-version", "content-type"} == set(EXPECTED)
            assert b"\r\n.\r\n" not in _end_of_data(data)[0]


def _raw(fields: Fields) -> dict[str, Any]:
    now = "2026-11-23T20:40:00.000Z"
    return {
        "id": 7,
        "name": fields.name,
        "email": fields.email,
        "phone": fields.phone,
        "metadata": fields.metadata,
        "deleted": False,
        "version": 2,
        "updated_on": now,
    }


def stays(payload: str) -> bool:
    """Whether the ledger takes it as it is; what no database can hold it replaces before a mail is made."""
    return storable(payload) == payload


@pytest.mark.parametrize("address", [*WRONG_ADDRESSES, *(f"a@example.com{p}" for p in PAYLOADS[::53])])
def test_text_that_is_not_exactly_one_address_is_refused_before_sending(address: str) -> None:
    with pytest.raises(BadAddress):
        one_address(address)
    with pytest.raises(BadMail):
        compose(mail("m", to=address), ME, NOW)


@pytest.mark.parametrize("subject", [*filter(stays, PAYLOADS[::53]), "", "   ", "x" * 251])
def test_a_subject_that_is_not_one_line_is_refused_before_sending(subject: str) -> None:
    with pytest.raises(BadMail):
        compose(mail("m", subject=subject), ME, NOW)


def arrives_alone(payloads: list[str], ledger: Ledger, sink: Sink, new_sender: Callable[..., Sender]) -> None:
    """Each payload as a customer's name, through the ledger and a real server."""
    rows = []
    for number, payload in enumerate(payloads):
        after = _raw(Fields(payload, "a@example.com", payload, {"k": payload})) | {"id": number}
        found = ReceivedEvent("e", "updated", number, 2, [], "", None, None, _raw(ADA), after, b"")
        (_, content) = mails(found)["changed"]
        to = f"c{number}@example.com"
        rows.append(
            mail(f"m{number}", number, to=to, subject=content.subject, text=content.text, html=content.html)
        )
    ledger.add(rows)
    sender = new_sender()

    turns_until(sender, lambda: ledger.counts() == {"sent": len(payloads)}, 600)

    assert len(sink.accepted) == len(payloads)
    for accepted in sink.accepted:
        assert accepted.recipients == [accepted.message["To"]]
        assert set(headers_of(accepted.content)) - {"mime-version", "content-type"} == set(EXPECTED)


@pytest.mark.parametrize("backend", ["postgres"])
def test_no_payload_adds_a_recipient_or_a_header_at_the_server(
    ledger: Ledger, sink: Sink, new_sender: Callable[..., Sender]
) -> None:
    """S20, N9: each twentieth; all of them are made into mails above."""
    arrives_alone(PAYLOADS[::20], ledger, sink, new_sender)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_none_of_two_thousand_payloads_adds_a_recipient_or_a_header_at_the_server(
    ledger: Ledger, sink: Sink, new_sender: Callable[..., Sender]
) -> None:
    """S20, N9, full size."""
    arrives_alone(PAYLOADS, ledger, sink, new_sender)
