"""What every way to reach a recipient offers to the senders."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ...domain.text import words
from ...ports.ledger import Notification

Result = Literal["sent", "deferred", "failed", "unknown", "down", "not-ours"]


class BadMail(ValueError):
    """The notification can never be sent as it is."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: the result, the server's code where it gave one, its words or ours."""

    result: Result
    code: int | None = None
    text: str = ""
    # The server says that there is no such recipient, so that no other mail would reach them either.
    bad_address: bool = False
    # Seconds that the other side asks to be left alone.
    retry_after: float = 0.0

    def __post_init__(self) -> None:
        # The one door by which the words of servers, receivers and libraries come in.
        object.__setattr__(self, "text", words(self.text))


class Channel(Protocol):
    """One connection to a mail server, a webhook's receiver, a chat … Not for several threads at once."""

    def prepare(self, notification: Notification, now: dt.datetime) -> Any:
        """What `send` takes. Raises BadMail for what can never be sent."""

    def send(self, prepared: Any, hand_over: Callable[[], bool]) -> Outcome:
        """Try to send. `hand_over` is called when nothing but the text is left to give; False ends the try.

        `down` means that the other side cannot be used now, whatever is sent; nothing was sent then. What
        `hand_over` raises goes through, and nothing was sent either.
        """

    def close(self) -> None:
        """Leave without a word."""

    def quit(self) -> None:
        """Take leave of the other side, if it answers at once."""
