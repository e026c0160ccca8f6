"""Turns an event or a request into rows of the ledger, with ids that are the same on every read."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from ...domain.address import BadAddress, one_address
from ...domain.received import ReceivedEvent
from ...domain.requests import valid_request_id
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


class _Cause(NamedTuple):
    """What a notification is about: the event, or another service's request, and whose request caused it."""

    event_id: str
    customer_id: int | None = None
    version: int = 0
    request_id: str | None = None
    traceparent: str | None = None


def notifications_of(
    event: ReceivedEvent, rules: Rules, links: UnsubscribeLinks | None, traceparent: str | None = None
) -> list[Notification]:
    """The notifications that an event requires: one for each matching rule and each recipient.

    `traceparent` is that of its record.
    """
    event_id = one_line(event.id, _ID_MAX) or f"{event.customer_id}.{event.version}"
    request_id = valid_request_id(event.request_id)
    cause = _Cause(event_id, event.customer_id, event.version, request_id, traceparent)
    return [_of_event(event, cause, rule, to, rules, links) for rule, to in rules.matches(event)]


def of_request(asked: MailRequest, event_id: str, traceparent: str | None = None) -> list[Notification]:
    """The notifications of another service's request: one per recipient, so that none sees the others.

    `traceparent` is that of its record.
    """
    content = Content(asked.subject, asked.text, asked.html)
    key = one_line(event_id, _ID_MAX)
    if key != event_id:
        # Ids that differ only in unprintable characters must stay different.
        key = f"{one_line(event_id, _ID_MAX // 2)}#{notification_id(event_id, '', '')}"
    cause = _Cause(key, traceparent=traceparent)
    return [_mail(cause, REQUEST_RULE, recipient, content) for recipient in asked.recipients]


def too_old(row: Notification, max_age: float) -> Notification:
    """The row as suppressed, with the reason: its record came too late to be mailed.

    A digest's row keeps its id: one that was sent before offsets were reset is not sent a second time.
    """
    if row.state != "queued":
        return row
    reason = f"it was older than {max_age:g} s when it came in (CUSTSVC_NOTIFY_MAX_AGE)"
    return dataclasses.replace(row, state="suppressed", reason=reason, entries=None, next_at=None)


def _of_event(
    event: ReceivedEvent,
    cause: _Cause,
    rule: Rule,
    recipient: str,
    rules: Rules,
    links: UnsubscribeLinks | None,
) -> Notification:
    """The row of one event, rule and recipient."""
    shown = values(event, "" if links is None or rule.always else links.url(event.customer_id))
    problem = None
    try:
        content = rules.templates.render(rule.template, shown)
    except BrokenTemplate as exc:
        # Templates are checked at the start, but not against each customer's metadata. A template that fails
        # here makes this notification fail visibly, and does not delay others.
        content, problem = Content("", "", None), str(exc)
    if rule.channel != MAIL:
        return _to_channel(event, cause, rule, rules, recipient, content, problem)
    made = _mail(cause, rule.name, recipient, content, problem)
    # An erasure blanks earlier rows, so its own notification must not join a digest.
    if not rule.digest or made.state != "queued" or event.op == "erased":
        return made
    name, end = window(event, rule)
    id_ = notification_id(name, rule.name, made.recipient)
    return dataclasses.replace(made, id=id_, next_at=end, entries=packed(shown))


def _to_channel(
    event: ReceivedEvent,
    cause: _Cause,
    rule: Rule,
    rules: Rules,
    recipient: str,
    content: Content,
    problem: str | None,
) -> Notification:
    """A row for another channel: a webhook gets the event itself, byte for byte; a chat gets the text."""
    is_webhook = rules.channels[rule.channel].kind == "webhook"
    return Notification(
        id=notification_id(cause.event_id, rule.name, recipient),
        event_id=cause.event_id,
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
        request_id=cause.request_id,
        traceparent=cause.traceparent,
    )


def _mail(
    cause: _Cause,
    rule: str,
    recipient: str,
    content: Content,
    problem: str | None = None,
) -> Notification:
    """A mail. If its recipient is not an address, its state is `failed` from the start."""
    try:
        recipient = one_address(recipient).spec
    except BadAddress as exc:
        problem = str(exc)
    return Notification(
        id=notification_id(cause.event_id, rule, recipient),
        event_id=cause.event_id,
        customer_id=cause.customer_id,
        version=cause.version,
        rule=rule,
        recipient=one_line(recipient, _RECIPIENT_MAX),
        subject=content.subject,
        text=content.text,
        html=content.html,
        state="failed" if problem else "queued",
        reason=problem,
        request_id=cause.request_id,
        traceparent=cause.traceparent,
    )
