"""Webhooks and Apprise, between a real ledger and a real receiver; and bounces that mail servers write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from custsvc.config import Settings
from custsvc.kafka.publisher import Publisher
from custsvc.notify.channels import bounce
from custsvc.notify.channels.channel import Channel
from custsvc.notify.channels.chat import AppriseChannel
from custsvc.notify.channels.webhook import WebhookChannel
from custsvc.notify.sending.breaker import Breaker
from custsvc.notify.sending.gate import Gate, Limits
from custsvc.notify.sending.journal import Journal
from custsvc.notify.sending.sender import Policy, Sender
from custsvc.ports.ledger import Ledger, Notification
from custsvc.ports.store import Store
from custsvc.runtime.loop import Stop
from tests.waiting import until

from .conftest import Sink
from .receiver import Receiver
from .role import created, notify, running

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def turn(ledger: Ledger, store: Store) -> Callable[..., Any]:
    """One round of a sender of this channel."""

    def turn(channel: Channel, **policy: Any) -> Any:
        how = Policy(**{"tries": 3, "retry_base": 0.0, "retry_cap": 0.01, "idle": 0.01, **policy})
        journal, gate = Journal(ledger, how.lease), Gate(ledger, store.recipients, Limits())
        Sender("crm", channel, journal, gate, Breaker(), how, Stop()).turn()
        channel.quit()

    return turn


def hook(name: str = "h", text: str = '{"op":"created","näme":"Ada"}', version: int = 1) -> Notification:
    return Notification(
        name, f"event-{name}", 7, version, "hook", "crm", "created", text, None, channel="crm"
    )


@pytest.fixture
def webhook(receiver: Receiver) -> WebhookChannel:
    return WebhookChannel(f"http://127.0.0.1:{receiver.port}/hooks?tenant=1", SECRET, timeout=60)


def test_a_webhook_is_signed_and_has_the_queued_body(
    ledger: Ledger, receiver: Receiver, webhook: WebhookChannel, turn: Callable[..., Any]
) -> None:
    ledger.add([hook()])

    turn(webhook)

    (path, headers, body) = receiver.got[0]
    assert (path, body.decode()) == ("/hooks?tenant=1", hook().text)
    assert Webhook(SECRET).verify(body, headers) == json.loads(hook().text)
    assert headers["webhook-id"] == "h"
    assert ledger.counts() == {"sent": 1}
    assert [(a.code, a.text) for a in ledger.attempts(["h"])["h"]] == [(200, "200 ok")]


def test_a_webhook_that_fails_is_called_again_and_each_answer_is_kept(
    ledger: Ledger, receiver: Receiver, webhook: WebhookChannel, turn: Callable[..., Any]
) -> None:
    receiver.answers = [(500, "broken"), (429, "slow down"), (200, "ok")]
    ledger.add([hook()])

    until("it is delivered", lambda: turn(webhook) or ledger.counts() == {"sent": 1})

    assert [a.code for a in ledger.attempts(["h"])["h"]] == [500, 429, 200]
    assert {headers["webhook-id"] for _, headers, _ in receiver.got} == {"h"}


@pytest.mark.parametrize("code", [400, 302, 410])
def test_a_webhook_that_is_refused_has_failed(
    code: int, ledger: Ledger, receiver: Receiver, webhook: WebhookChannel, turn: Callable[..., Any]
) -> None:
    receiver.answers = [(code, "no")]
    ledger.add([hook()])

    turn(webhook)

    assert ledger.counts() == {"failed": 1}
    assert len(receiver.got) == 1


def test_a_webhook_may_be_delivered_again_by_hand(
    ledger: Ledger, receiver: Receiver, webhook: WebhookChannel, turn: Callable[..., Any]
) -> None:
    ledger.add([hook()])
    turn(webhook)

    assert ledger.retry(["h"], redeliver=True) == ["h"]
    turn(webhook)

    assert [headers["webhook-id"] for _, headers, _ in receiver.got] == ["h", "h"]


def test_a_receiver_that_is_down_costs_no_attempt(ledger: Ledger, turn: Callable[..., Any]) -> None:
    ledger.add([hook()])

    turn(WebhookChannel("http://127.0.0.1:9/", SECRET, timeout=2))

    assert ledger.counts() == {"queued": 1}
    assert ledger.recent()[0].attempts == 0


def test_apprise_delivers_the_text_to_the_target_of_its_url(
    ledger: Ledger, receiver: Receiver, turn: Callable[..., Any]
) -> None:
    receiver.answers = [(500, "no"), (200, "ok")]
    channel = AppriseChannel("crm", f"json://127.0.0.1:{receiver.port}/")
    ledger.add([hook(text="Ada was created")])

    turn(channel)
    assert ledger.counts() == {"deferred": 1}
    until("it is delivered", lambda: turn(channel) or ledger.counts() == {"sent": 1})

    assert json.loads(receiver.got[-1][2])["message"] == "Ada was created"


def test_the_log_says_that_several_targets_of_one_apprise_url_get_a_text_again(
    ledger: Ledger, receiver: Receiver, turn: Callable[..., Any]
) -> None:
    receiver.answers = [(200, "ok"), (500, "no"), (200, "ok")]
    ends = [f"json://127.0.0.1:{receiver.port}/{name}" for name in "ab"]
    channel = AppriseChannel("crm", " ".join(ends))
    ledger.add([hook(text="Ada was created")])

    turn(channel)

    assert "to all 2 targets; those that have it get it again" in (ledger.recent()[0].reason or "")
    until("it is delivered", lambda: turn(channel) or ledger.counts() == {"sent": 1})
    assert len(receiver.got) == 4


@pytest.mark.parametrize("backend", ["postgres"])
def test_a_rule_brings_events_to_a_webhook_while_the_mail_server_is_down(
    settings: Settings,
    publisher: Publisher,
    sink: Sink,
    ledger: Ledger,
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    rules = tmp_path / "notify.toml"
    rules.write_text(
        f'[channel.crm]\nkind = "webhook"\nurl = "http://127.0.0.1:{receiver.port}/"\nsecret = "{SECRET}"\n'
        '[[rule]]\nname = "hook"\nops = ["created"]\nchannel = "crm"\n'
        '[[rule]]\nname = "welcome"\nops = ["created"]\ntemplate = "welcome"\n'
    )
    sink.stop()

    with running(notify(settings.replace(notify_rules=str(rules)))):
        publisher.send(settings.topic_updates, [created(n) for n in range(1, 11)])
        until("all are delivered", lambda: len(receiver.got) == 10)
        until("that is kept", lambda: ledger.counts().get("sent") == 10)

    assert sorted(json.loads(body)["customer_id"] for _, _, body in receiver.got) == list(range(1, 11))
    assert {row.rule for row in ledger.recent(state="sent")} == {"hook"}


@pytest.mark.parametrize("backend", ["postgres"])
def test_notify_names_once_a_channel_that_is_gone_while_something_waits_for_it(
    settings: Settings, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    ledger.add([hook("a"), hook("b", version=2)])

    with running(notify(settings)):
        until("it has started", lambda: "Sending mails by" in caplog.text, seconds=20)

    (warning,) = [each for each in caplog.records if getattr(each, "action", "") == "no_such_channel"]
    assert "2 wait for channel crm" in warning.getMessage()
    assert "[channel.crm]" in warning.getMessage()
    assert ledger.counts() == {"queued": 2}


# -- bounces -----------------------------------------------------------------------------------------------

REPORT = b"""From: MAILER-DAEMON@mx.example.com
To: custsvc@example.com
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

I am sorry.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.com

Final-Recipient: rfc822; gone@example.com
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 <gone@example.com>:
 no such user

Final-Recipient: rfc822; full@example.com
Action: failed
Status: 5.2.2

Final-Recipient: rfc822; slow@example.com
Action: delayed
Status: 4.4.1
--b--
"""


def test_a_delivery_report_is_read_recipient_by_recipient() -> None:
    found = bounce.read(REPORT)

    assert [(b.address, b.is_final) for b in found] == [
        ("gone@example.com", True),
        ("full@example.com", False),
    ]
    assert found[0].reason == "550 5.1.1 <gone@example.com>: no such user"


def test_a_mail_that_is_no_delivery_report_suppresses_nobody() -> None:
    assert bounce.read(b"Subject: Hello\n\nFinal-Recipient: rfc822; a@example.com\nAction: failed\n") == []
    assert bounce.read(b"\xff\x00") == []
