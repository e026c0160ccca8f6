"""Webhooks as a channel, signed as of Standard Webhooks (standardwebhooks.com).

A receiver drops what it had by `webhook-id`, so a call whose answer is lost is simply made again: there is no
hand-over to record, and no `unknown`.
"""

from __future__ import annotations

import datetime as dt
import http.client
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from .. import __version__
from ..extras import needs
from ..stores.base import Notification
from .channel import BadMail, Outcome

_TIMEOUT: Final = 15.0
_ANSWER_MAX: Final = 300
# What a receiver may say when the same call may go well later.
_LATER: Final = (408, 409, 425, 429)


@dataclass(frozen=True, slots=True)
class Call:
    """One signed request."""

    body: bytes
    headers: dict[str, str]


class WebhookChannel:
    """The port `Channel` on one receiver. Its notifications' texts are the bodies, as JSON."""

    def __init__(self, url: str, secret: str, *, timeout: float = _TIMEOUT) -> None:
        with needs("channels"):
            from standardwebhooks import Webhook

        self._url = urlsplit(url)
        self._signer = Webhook(secret)
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None

    def prepare(self, notification: Notification, now: dt.datetime) -> Call:
        try:
            body = notification.text.encode()
        except UnicodeError as exc:
            raise BadMail(f"the body cannot be written: {exc}") from exc
        return Call(
            body,
            {
                "content-type": "application/json",
                "user-agent": f"custsvc/{__version__}",
                "webhook-id": notification.id,
                "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": self._signer.sign(notification.id, now, notification.text),
            },
        )

    def send(self, prepared: Call, hand_over: Callable[[], bool]) -> Outcome:
        del hand_over  # Made again rather than held: see above.
        kept = self._connection is not None
        try:
            return self._post(prepared)
        except (OSError, http.client.HTTPException) as exc:
            self.close()
            if not kept:
                return Outcome("down", None, f"no answer: {exc or type(exc).__name__}")
        # Receivers close idle connections as they like; that says nothing about a new one.
        try:
            return self._post(prepared)
        except (OSError, http.client.HTTPException) as exc:
            self.close()
            return Outcome("down", None, f"no answer: {exc or type(exc).__name__}")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def quit(self) -> None:
        self.close()

    def _post(self, call: Call) -> Outcome:
        if self._connection is None:
            self._connection = self._connect()
        path = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        self._connection.request("POST", path, call.body, call.headers)
        response = self._connection.getresponse()
        text = " ".join(response.read(_ANSWER_MAX * 4).decode("utf-8", "replace").split())[:_ANSWER_MAX]
        if response.length:  # more than is of use: the rest would be taken for the next answer
            self.close()
        if 200 <= response.status < 300:
            return Outcome("sent", response.status, text)
        # A redirect is not followed: it would take the customer's data to where nobody said.
        is_final = response.status < 500 and response.status not in _LATER
        return Outcome("failed" if is_final else "deferred", response.status, text)

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=context)
        return http.client.HTTPConnection(host, port, timeout=self._timeout)
