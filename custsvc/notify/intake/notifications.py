"""From an event or a request to the rows of the ledger: who gets what, under an id that repeats with it."""

from __future__ import annotations

import dataclasses
from typing import Any

from ...domain.address import BadAddress, one_address
from ...domain.events import ReceivedEvent
from ...domain.text import one_line
from ...ports.ledger import Notification
from ..channels.unsubscribe import UnsubscribeLinks
from ..rules.rules import MAIL, Rule, Rules, values
from ..rules.templates import BrokenTemplate, Content
from .digest import packed, window
from .ids import notification_id
from .request import MailRequest

_ID_MAX = 200
_RECIPIENT_MAX = 320
REQUEST_RULE = "mail-request"


def notifications_of(
    event: ReceivedEvent, rules: Rules, links: UnsubscribeLinks | None
) -> list[Notification]:
    """The notifications that an event calls for."""
    return [_of_event(event, rule, to, rules, links) for rule, to in rules.matches(event)]


def of_request(asked: MailRequest, event_id: str) -> list[Notification]:
    """The notifications of another service's request: one per recipient, so that none sees the others."""
    content = Content(asked.subject, asked.text, asked.html)
    key = one_line(event_id, _ID_MAX)
    if key != event_id:
        # Two ids that differ only in what no line shows are two all the same.
        key = f"{one_line(event_id, _ID_MAX // 2)}#{notification_id(event_id, '', '')}"
    return [_mail(key, None, 0, REQUEST_RULE, recipient, content) for recipient in asked.recipients]


def _of_event(
    event: ReceivedEvent, rule: Rule, recipient: str, rules: Rules, links: UnsubscribeLinks | None
) -> Notification:
    event_id = one_line(event.id, _ID_MAX) or f"{event.customer_id}.{event.version}"
    unsubscribe = "" if links is None or rule.always else links.url(event.customer_id)
    shown = values(event, unsubscribe)
    content, problem = _content(rule, rules, shown)
    if rule.channel == MAIL:
        made = _mail(event_id, event.customer_id, event.version, rule.name, recipient, content, problem)
        # An erasure blanks what was queued before it, so it is no part of that.
        in_digest = rule.digest and made.state == "queued" and event.op != "erased"
        return _in_digest(made, event, rule, shown) if in_digest else made
    # A webhook carries the event itself, byte for byte; a chat gets the text.
    is_webhook = rules.channels[rule.channel].kind == "webhook"
    return Notification(
        id=notification_id(event_id, rule.name, recipient),
        event_id=event_id,
        customer_id=event.customer_id,
        version=event.version,
        rule=rule.name,
        recipient=recipient,
        subject=content.subject,
        text=event.value.decode() if is_webhook else content.text,
        html=None,
        channel=rule.channel,
        state="failed" if problem else "queued",
        reason=problem,
    )


def _content(rule: Rule, rules: Rules, shown: dict[str, Any]) -> tuple[Content, str | None]:
    """What the template makes of an event, or nothing and why.

    Templates are checked at the start, but not against each customer's metadata. One that fails all the same
    fails this notification, where all can see it, and holds up no other.
    """
    try:
        return rules.templates.render(rule.template, shown), None
    except BrokenTemplate as exc:
        return Content("", "", None), str(exc)


def _in_digest(made: Notification, event: ReceivedEvent, rule: Rule, shown: dict[str, Any]) -> Notification:
    name, end = window(event, rule)
    id_ = notification_id(name, rule.name, made.recipient)
    return dataclasses.replace(made, id=id_, next_at=end, entries=packed(shown))


def _mail(
    event_id: str,
    customer_id: int | None,
    version: int,
    rule: str,
    recipient: str,
    content: Content,
    refused: str | None = None,
) -> Notification:
    """A mail; one whose recipient is no address has failed already, where all can see it."""
    try:
        recipient = one_address(recipient).spec
    except BadAddress as exc:
        refused = str(exc)
    return Notification(
        id=notification_id(event_id, rule, recipient),
        event_id=event_id,
        customer_id=customer_id,
        version=version,
        rule=rule,
        recipient=one_line(recipient, _RECIPIENT_MAX),
        subject=content.subject,
        text=content.text,
        html=content.html,
        state="failed" if refused else "queued",
        reason=refused,
    )
