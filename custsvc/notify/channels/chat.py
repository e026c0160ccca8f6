"""Any URL of Apprise as a channel: Slack, Teams, Matrix, Telegram and some hundred more."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...errors import ConfigurationError
from ...ports.ledger import Notification
from ...runtime.extras import needs
from .channel import Outcome

if TYPE_CHECKING:
    from apprise import Apprise


class AppriseChannel:
    """The port `Channel` on an Apprise URL. Apprise reports whether sending succeeded, not why it failed.

    Of several targets in one URL it does not report which one failed, so all of them are sent to again.
    """

    def __init__(self, name: str, url: str) -> None:
        self._apprise = _apprise(name, url)
        targets = sum(len(service) for service in self._apprise)
        self._failure = "Apprise could not deliver it" + (
            f" to all {targets} targets; those that have it get it again" if targets > 1 else ""
        )

    def prepare(self, notification: Notification, now: dt.datetime) -> Notification:
        del now
        return notification

    def send(self, prepared: Notification, hand_over: Callable[[], bool]) -> Outcome:
        if not hand_over():
            return Outcome("not-ours")
        if self._apprise.notify(body=prepared.text, title=prepared.subject):
            return Outcome("sent")
        return Outcome("deferred", None, self._failure)

    def close(self) -> None:
        """Do nothing: Apprise keeps no connection open."""

    def quit(self) -> None:
        self.close()


def _apprise(name: str, url: str) -> Apprise:
    with needs("channels"):
        from apprise import Apprise

    # Apprise logs the URL with its secrets, so report its errors in our words.
    found = Apprise()
    if not found.add(url):
        raise ConfigurationError(
            f"the address of channel {name} is no Apprise URL",
            fix="see https://github.com/caronc/apprise/wiki",
        )
    return found
