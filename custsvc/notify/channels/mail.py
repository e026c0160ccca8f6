"""Mail as a channel: composes a notification and sends it to one server."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from ...domain.address import MailAddress
from ...ports.ledger import Notification
from .channel import Outcome
from .message import Mail, compose
from .smtp import SmtpTransport


class MailChannel:
    """The port `Channel` on an SMTP server."""

    def __init__(
        self,
        transport: SmtpTransport,
        sender: MailAddress,
        unsubscribe: Callable[[Notification], str | None] = lambda _: None,
    ) -> None:
        """`unsubscribe` returns the unsubscribe link of a mail, for mails that can be unsubscribed from."""
        self._transport = transport
        self._sender = sender
        self._unsubscribe = unsubscribe

    def prepare(self, notification: Notification, now: dt.datetime) -> Mail:
        return compose(notification, self._sender, now, self._unsubscribe(notification))

    def send(self, prepared: Mail, hand_over: Callable[[], bool]) -> Outcome:
        return self._transport.send(prepared, hand_over)

    def close(self) -> None:
        self._transport.close()

    def quit(self) -> None:
        self._transport.quit()
