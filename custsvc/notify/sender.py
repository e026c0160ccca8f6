"""The sender: claims mails from the ledger, gives each to the mail server, writes down how it ended.

The order of the steps is the promise. `handing_over` is committed before the text is given, so that a crash
in between shows as `unknown` and not as a second mail; without the ledger no mail leaves. While the mail
server is down nothing counts as an attempt, and only now and then one connection is tried.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import TemporaryError
from ..stores.base import Notification, NotificationState
from ..stores.ledger import Ledger
from ..workers.loop import Stop, backoff
from .address import MailAddress
from .breaker import Breaker
from .message import BadMail, Mail, compose
from .smtp import Outcome, SmtpTransport

logger = logging.getLogger(__name__)

_STATE: dict[str, NotificationState] = {
    "sent": "sent",
    "deferred": "deferred",
    "failed": "failed",
    "unknown": "unknown",
}
_LOG = {
    "sent": logging.INFO,
    "deferred": logging.WARNING,
    "failed": logging.ERROR,
    "unknown": logging.ERROR,
    "queued": logging.DEBUG,
}


@dataclass(frozen=True, slots=True)
class Policy:
    """How senders go about it. Times in seconds.

    `lease` must be longer than a mail may take: one that is overtaken becomes unknown.
    """

    tries: int
    retry_base: float
    retry_cap: float
    batch: int = 20
    lease: float = 90.0
    idle: float = 1.0
    expire_every: float = 5.0


class Sender:
    """One thread's loop. Several of them, in as many processes as you like, share a ledger."""

    def __init__(
        self,
        ledger: Ledger,
        transport: SmtpTransport,
        breaker: Breaker,
        sender: MailAddress,
        policy: Policy,
        stop: Stop,
        *,
        bell: threading.Event | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._ledger = ledger
        self._transport = transport
        self._breaker = breaker
        self._sender = sender
        self._policy = policy
        self._stop = stop
        self._bell = bell or threading.Event()
        self._rng = rng
        self._expire_at = 0.0
        self._outages = 0
        self.settled: Counter[str] = Counter()

    def run(self) -> None:
        """Send what is due until stop is asked; then finish the mail in hand and give back the rest."""
        try:
            while not self._stop.asked():
                self.turn()
        finally:
            self._transport.quit()

    def turn(self) -> None:
        """One round: send a batch, or wait for mails, for the mail server or for the ledger."""
        try:
            self._expire()
            wait = self._breaker.wait()
            if wait:
                self._stop.wait(min(wait, self._policy.idle))
                return
            claimed = self._ledger.claim(
                1 if self._breaker.is_open else self._policy.batch, self._policy.lease
            )
            self._send_all(claimed)
            self._outages = 0
        except TemporaryError as exc:
            self._wait_out(exc)
            return
        if not claimed:
            self._bell.wait(self._policy.idle)
            self._bell.clear()

    def _expire(self) -> None:
        if time.monotonic() < self._expire_at:
            return
        again, unknown = self._ledger.expire()
        self._expire_at = time.monotonic() + self._policy.expire_every
        if again:
            logger.warning("%d mails of a lost sender are queued again", again, extra={"action": "requeued"})
        if unknown:
            logger.error(
                "%d mails may or may not have arrived: their sender was lost in the hand-over",
                unknown,
                extra={"action": "unknown", "count": unknown},
            )

    def _wait_out(self, exc: TemporaryError) -> None:
        self._outages += 1
        delay = max(0.1, backoff(self._outages, 0.5, 10.0, rng=self._rng))
        logger.warning(
            "Sending waits %.1f s: %s", delay, exc, extra={"action": "wait", "dependency": exc.dependency}
        )
        self._stop.wait(delay)

    def _send_all(self, claimed: list[Notification]) -> None:
        since = time.monotonic()
        for at, notification in enumerate(claimed):
            overdue = time.monotonic() - since > self._policy.lease / 2
            if self._stop.asked() or overdue or not self._send(notification, since):
                for rest in claimed[at if self._stop.asked() or overdue else at + 1 :]:
                    self._settle(rest, "queued", count_attempt=False)
                return

    def _send(self, notification: Notification, since: float) -> bool:
        """Send one; False where the server is down, so that the others need not be tried."""
        began = time.monotonic()
        try:
            mail = compose(notification, self._sender, dt.datetime.now(dt.UTC))
        except BadMail as exc:
            self._settle(notification, "failed", reason=str(exc))
            return True
        outcome = self._try(notification, mail)
        if outcome.result == "not-ours":
            logger.warning("A mail's lease ran out before it was sent", extra=_about(notification))
            return True
        # By the ledger's clock: the time of the claim, and what has passed since.
        claimed_on = notification.updated_on or dt.datetime.now(dt.UTC)
        now = claimed_on + dt.timedelta(seconds=time.monotonic() - since)
        if outcome.result == "down":
            self._down(notification, outcome, now)
            return False
        if self._breaker.answered():
            logger.info("The mail server is back", extra={"action": "circuit_closed"})
        self._finish(notification, outcome, now, time.monotonic() - began)
        return True

    def _try(self, notification: Notification, mail: Mail) -> Outcome:
        handed_over = False

        def hand_over() -> bool:
            nonlocal handed_over
            handed_over = self._ledger.handing_over(notification)
            return handed_over

        try:
            return self._transport.send(mail, hand_over)
        except TemporaryError:
            # The hand-over may be noted although the answer was lost; nothing was sent, so take it back.
            self._settle(notification, "queued", count_attempt=False)
            raise
        except Exception as exc:  # one mail that breaks the code must not stop the others
            logger.exception("A mail could not be sent", extra=_about(notification))
            self._transport.close()
            return Outcome("unknown" if handed_over else "deferred", None, f"{type(exc).__name__}: {exc}")

    def _down(self, notification: Notification, outcome: Outcome, now: dt.datetime) -> None:
        if self._breaker.failed():
            logger.error(
                "The mail server is down, mails wait: %s", outcome.text, extra={"action": "circuit_open"}
            )
        # Another mail is tried next: should this one be what breaks the connection, it holds up nobody.
        wait = backoff(1, self._policy.retry_base, self._policy.retry_cap, rng=self._rng)
        self._settle(
            notification,
            "queued",
            reason=outcome.text,
            next_at=now + dt.timedelta(seconds=wait),
            count_attempt=False,
        )

    def _finish(self, notification: Notification, outcome: Outcome, now: dt.datetime, took: float) -> None:
        tried, policy = notification.attempts, self._policy
        state: NotificationState = _STATE[outcome.result]
        reason = outcome.text if outcome.code is None else f"{outcome.code} {outcome.text}"
        next_at = None
        if state == "deferred" and tried >= policy.tries:
            state, reason = "failed", f"given up after {tried} attempts: {reason}"
        elif state == "deferred":
            wait = backoff(tried, policy.retry_base, policy.retry_cap, rng=self._rng)
            next_at = now + dt.timedelta(seconds=wait)
        self._settle(notification, state, reason=reason, next_at=next_at, code=outcome.code, duration=took)

    def _settle(
        self,
        notification: Notification,
        state: NotificationState,
        *,
        reason: str | None = None,
        next_at: dt.datetime | None = None,
        count_attempt: bool = True,
        code: int | None = None,
        duration: float = 0.0,
    ) -> None:
        """Write down how it ended, however often the ledger must be asked; after the lease it is too late."""
        deadline = time.monotonic() + self._policy.lease
        attempt = 0
        while True:
            try:
                ours = self._ledger.settle(
                    notification,
                    state,
                    reason=reason or notification.reason,
                    next_at=next_at,
                    count_attempt=count_attempt,
                    code=code,
                    duration=duration,
                )
                break
            except TemporaryError:
                attempt += 1
                if time.monotonic() > deadline or (self._stop.asked() and attempt > 5):
                    raise
                time.sleep(max(0.05, backoff(attempt, 0.1, 2.0, rng=self._rng)))
        # After a lost answer the first try may have counted; then the second finds nothing to do.
        if not ours and not attempt:
            logger.warning("A mail was %s after its lease had run out", state, extra=_about(notification))
        self.settled[state] += 1
        logger.log(
            _LOG[state],
            "Mail %s: %s",
            state,
            reason or "",
            extra={**_about(notification), "attempt": notification.attempts, "code": code},
        )


def _about(notification: Notification) -> dict[str, object]:
    return {
        "action": "mail",
        "notification_id": notification.id,
        "event_id": notification.event_id,
        "customer_id": notification.customer_id,
        "version": notification.version,
        "rule": notification.rule,
    }
