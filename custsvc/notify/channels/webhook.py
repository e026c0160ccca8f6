"""Webhooks as a channel, signed according to Standard Webhooks (standardwebhooks.com).

A receiver drops repeats by `webhook-id`, so a call whose answer is lost is simply made again: there is no
hand-over to record, and no `unknown`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ... import __version__
from ...domain.requests import TRACEPARENT
from ...ports.ledger import Notification
from ...runtime.extras import needs
from .channel import BadMail, Outcome, Result
from .post import Answer, NoAnswer, Receiver
from .reachable import Reachable

_TIMEOUT: Final = 15.0
# Statuses after which the same call may succeed later.
_LATER: Final = (408, 409, 421, 425, 429)
# Statuses by which a gateway, or the receiver itself, says that the receiver is unavailable.
_DOWN: Final = (502, 503, 504)


@dataclass(frozen=True, slots=True)
class Call:
    """One signed request."""

    body: bytes
    headers: dict[str, str]


class WebhookChannel:
    """The port `Channel` on one receiver. Its notifications' texts are the bodies, as JSON."""

    def __init__(
        self, url: str, *secrets: str, timeout: float = _TIMEOUT, reachable: Reachable | None = None
    ) -> None:
        """`timeout`: seconds for a whole call. Each of the secrets signs: a receiver needs to know one."""
        with needs("channels"):
            from standardwebhooks import Webhook

        self._receiver = Receiver(url, timeout, reachable)
        self._signers = [Webhook(secret) for secret in secrets]

    def prepare(self, notification: Notification, now: dt.datetime) -> Call:
        if not notification.text:
            raise BadMail("its content was blanked when the customer was erased")
        try:
            body = notification.text.encode()
        except UnicodeError as exc:
            raise BadMail(f"the body cannot be written: {exc}") from exc
        trace = {} if notification.traceparent is None else {TRACEPARENT: notification.traceparent}
        return Call(
            body,
            {
                **trace,
                "content-type": "application/json",
                "user-agent": f"custsvc/{__version__}",
                "webhook-id": notification.id,
                "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": " ".join(
                    signer.sign(notification.id, now, notification.text) for signer in self._signers
                ),
            },
        )

    def send(self, prepared: Call, hand_over: Callable[[], bool]) -> Outcome:
        del hand_over  # Call again instead of holding it as unknown: see above.
        try:
            answer = self._receiver.post(prepared.body, prepared.headers)
        except NoAnswer as exc:
            return Outcome("down", None, str(exc))
        return Outcome(_meaning(answer), answer.status, answer.text, retry_after=answer.retry_after)

    def close(self) -> None:
        self._receiver.close()

    def quit(self) -> None:
        self.close()


def _meaning(answer: Answer) -> Result:
    if 200 <= answer.status < 300:
        return "sent"
    if answer.status in _DOWN:
        return "down"
    # Follow no redirect: it would send the customer's data to an address that nobody configured.
    is_final = 300 <= answer.status < 500 and answer.status not in _LATER
    return "failed" if is_final else "deferred"
