"""Sends the mails with links to reset a password, in a thread of `serve`.

What was asked for is in the database, so no crash loses it. The token is in the mail alone, and its hash in
the database. It is made just before the mail: a process that dies in between leaves the name unsettled, and
the next one mails a new token. The mail does not go through the ledger, which every reader may look into.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import secrets
import threading
from typing import Final

from ..config import Settings
from ..domain.address import BadAddress, one_address
from ..domain.customers import utc_now
from ..domain.email_key import email_key
from ..errors import CustsvcError
from ..notify.channels.channel import BadMail, Outcome
from ..notify.channels.message import compose, sender_address
from ..notify.channels.server import Server, Timeouts
from ..notify.channels.smtp import SmtpTransport
from ..ports.accounts import Asked, User
from ..ports.ledger import Notification
from ..ports.store import Store

logger = logging.getLogger(__name__)

PATH: Final = "/ui/reset"
# How long a link is good, and how long a mail is tried for.
VALID: Final = dt.timedelta(hours=1)
# Seconds: longer than a mail server may take in all.
_LEASE: Final = 120.0
_EVERY: Final = 30.0
# Users of one address who get a mail when somebody asks by the address.
_SHARED: Final = 5
# The results after which a mail is not tried again.
_FINAL: Final = ("sent", "unknown", "failed", "not-ours")

_SUBJECT: Final = "Reset your password"
_TEXT: Final = """Somebody asked to reset the password of {name} at {site}.

If that was you, open this address within an hour and choose a new password:

{link}

If it was not you, ignore this mail; nothing has changed.
"""


def is_set_up(settings: Settings) -> bool:
    """Whether passwords can be reset by mail: a mail server, and the address that links begin with."""
    ready = bool(settings.smtp_url and settings.public_url)
    return ready and settings.auth == "on" and not settings.read_only


def hashed(token: str) -> str:
    """The stored form of a token. It has 256 random bits, so a fast hash will do."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def keep_mailing(store: Store, settings: Settings, bell: threading.Event) -> threading.Thread:
    """Mail what was asked for, at the bell and from time to time, in another thread.

    Several processes may do so at once.
    """

    def run() -> None:
        while True:
            bell.wait(_EVERY)
            bell.clear()
            try:
                while mail_next(store, settings):
                    pass
                store.resets.purge(utc_now())
            except CustsvcError as exc:
                logger.debug("Mails to reset passwords wait: %s", exc, extra={"action": "reset_waits"})
            except Exception:
                logger.exception("Mailing a password reset failed", extra={"action": "reset_failed"})

    thread = threading.Thread(target=run, name="resets", daemon=True)
    thread.start()
    return thread


def mail_next(store: Store, settings: Settings) -> bool:
    """Mail the next reset that was asked for; False if none is left."""
    now = utc_now()
    asked = store.resets.claim(now, _LEASE)
    if asked is None:
        return False
    user = store.users.find(asked.name)
    if user is None:
        # Before it is settled: a process that dies in between asks again.
        for each in _of_address(store, asked.name):
            store.resets.ask(each.name, asked.asked_on)
    if user is None or user.disabled_on or not user.address or asked.asked_on < now - VALID:
        store.resets.settle(asked)
    else:
        _mail(store, settings, asked, user, now)
    return True


def _of_address(store: Store, text: str) -> list[User]:
    """The users who have this address as their own, at most a few."""
    if "@" not in text:
        return []
    wanted = email_key(text)
    found = [each for each in store.users.all() if each.email and email_key(each.email) == wanted]
    return found[:_SHARED]


def _mail(store: Store, settings: Settings, asked: Asked, user: User, now: dt.datetime) -> None:
    token = secrets.token_urlsafe(32)
    store.resets.issue(user.name, hashed(token), now + VALID)
    outcome = _sent(settings, user, f"{settings.public_url.rstrip('/')}{PATH}/{token}")
    about = {"action": "reset_mailed", "user": user.name, "result": outcome.result}
    if outcome.result in _FINAL:
        store.resets.settle(asked)
    if outcome.result == "sent":
        logger.info("Mailed a link to reset the password of %s", user.name, extra=about)
    else:
        logger.warning("A mail to reset a password: %s %s", outcome.result, outcome.text, extra=about)


def _sent(settings: Settings, user: User, link: str) -> Outcome:
    text = _TEXT.format(name=user.name, site=settings.public_url, link=link)
    transport = SmtpTransport(Server.parse(settings.smtp_url), Timeouts.of(settings))
    try:
        recipient = one_address(user.address).spec
        mail = Notification(
            f"reset-{secrets.token_hex(8)}", "", None, 0, "password-reset", recipient, _SUBJECT, text, None
        )
        return transport.send(compose(mail, sender_address(settings.mail_from), utc_now()), lambda: True)
    except (BadMail, BadAddress) as exc:
        return Outcome("failed", None, str(exc))
    finally:
        transport.quit()
