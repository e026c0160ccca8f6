"""The page of one mail: what was sent, or will be, and each attempt."""

from __future__ import annotations

import datetime as dt
from email import message_from_bytes
from typing import Any

from flask import Blueprint, Response, render_template

from ..config import Settings
from ..errors import ConfigurationError, NotFound
from ..notify.channels.channel import BadMail
from ..notify.channels.message import compose, sender_address
from ..ports.ledger import ERASED, Notification
from .access import route, services
from .security import isolated


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, "/ui/mails/one/<mail_id>", show)
    route(blueprint, "/ui/mails/one/<mail_id>/html", html)


def show(mail_id: str) -> Any:
    mail = _found(mail_id)
    headers, problem = _headers(mail, services().settings)
    return render_template(
        "mails/sent.html",
        mail=mail,
        erased=mail.recipient == ERASED,
        headers=headers,
        problem=problem,
        attempts=services().store.ledger.attempts([mail.id]).get(mail.id, []),
    )


def html(mail_id: str) -> Response:
    """The HTML of a mail, isolated."""
    return isolated(_found(mail_id).html or "")


def _found(mail_id: str) -> Notification:
    found = services().store.ledger.find([mail_id[:200]])
    if not found:
        raise NotFound("there is no such mail; old ones are deleted after a while")
    return found[0]


def _headers(mail: Notification, settings: Settings) -> tuple[list[tuple[str, str]], str | None]:
    """The headers, made as `notify` makes them, without the link to unsubscribe; and why there are none.

    `serve` may have another sender address than `notify`: then its own is shown.
    """
    if mail.channel != "mail" or mail.recipient == ERASED:
        return [], None
    at = mail.updated_on or mail.created_on or dt.datetime.now(dt.UTC)
    try:
        data = compose(mail, sender_address(settings.mail_from), at).data
    except (BadMail, ConfigurationError) as exc:
        return [], str(exc)
    names = ("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted")
    message = message_from_bytes(data)
    shown = [(name, str(message[name])) for name in names if name in message]
    return [(name, mail.subject if name == "Subject" else value) for name, value in shown], None
