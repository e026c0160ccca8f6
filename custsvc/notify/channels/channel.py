"""The interface of every channel to the senders."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ...domain.text import words
from ...ports.ledger import Notification

Result = Literal["sent", "deferred", "failed", "unknown", "down", "not-ours"]


class BadMail(ValueError):
    """The notification, as it is, can never be sent."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an attempt, with the server's code if it gave one, and a text from the server or us."""

    result: Result
    code: int | None = None
    text: str = ""
    # The server says that the recipient does not exist, so no other mail would reach them either.
    bad_address: bool = False
    # The server asks for this many seconds without further tries.
    retry_after: float = 0.0

    def __post_init__(self) -> None:
        # All texts of servers, receivers and libraries enter the ledger and the log here, so clean them here.
        object.__setattr__(self, "text", words(self.text))


class Channel(Protocol):
    """One connection to a mail server, a webhook's receiver, a chat … Not for several threads at once."""

    def prepare(self, notification: Notification, now: dt.datetime) -> Any:
        """Make the argument of `send`. Raises BadMail for a notification that can never be sent."""

    def send(self, prepared: Any, hand_over: Callable[[], bool]) -> Outcome:
        """Try to send. Calls `hand_over` just before it gives the text to the server; False ends the try.

        `down` means that the server cannot be used now, for any mail; nothing was sent then. An exception
        from `hand_over` propagates; nothing was sent then either.
        """

    def close(self) -> None:
        """Drop the connection without a protocol goodbye."""

    def quit(self) -> None:
        """Close the connection politely, if the server answers at once."""
