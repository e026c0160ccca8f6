"""The sender: claims notifications from the ledger, sends each by its channel, records the result.

The order of the steps is the guarantee. `handing_over` is committed before the text is sent, so that a crash
in between leaves an `unknown` mail and not a second one; during an outage of the ledger no mail leaves. While
the server is down no try counts as an attempt, and only one connection is tried periodically (`breaker`). The
package docstring shows the states.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...domain.text import words
from ...errors import CustsvcError, TemporaryError
from ...ports.ledger import Notification, NotificationState, Settlement
from ...runtime import crash, followed
from ...runtime.followed import Followed
from ...runtime.loop import Outage, Stop, insist
from ..channels.channel import BadMail, Channel, Outcome
from .breaker import Breaker
from .gate import Gate
from .journal import Journal
from .retry import ASKED_MAX, Retries

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
    "suppressed": logging.INFO,
    "queued": logging.DEBUG,
}


@dataclass(frozen=True, slots=True)
class Policy:
    """The senders' policy. Times in seconds.

    `give_up`: how long after its first try a mail is tried again. `lease`: how long a dead process keeps the
    mails that it claimed; a live one renews its leases. `patience`: how long a sender keeps a batch before it
    gives the rest back for other senders.
    """

    tries: int
    retry_base: float
    retry_cap: float
    resend_unknown: bool = False
    batch: int = 50
    lease: float = 30.0
    patience: float = 15.0
    idle: float = 1.0
    expire_every: float = 5.0
    give_up: float = 5 * 86400.0

    @property
    def retries(self) -> Retries:
        return Retries(self.tries, self.retry_base, self.retry_cap, self.give_up)


class Sender:
    """The loop of one sender thread. Any number of senders and processes share a ledger."""

    def __init__(
        self,
        name: str,
        channel: Channel,
        journal: Journal,
        gate: Gate,
        breaker: Breaker,
        policy: Policy,
        stop: Stop,
        *,
        bell: threading.Event | None = None,
        on_bad_address: Callable[[str, str], None] = lambda _address, _reason: None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        """`name` is the channel's; `on_bad_address` is called with recipients that do not exist."""
        self._name = name
        self._channel = channel
        self._journal = journal
        self._gate = gate
        self._breaker = breaker
        self._policy = policy
        self._stop = stop
        self._bell = bell or threading.Event()
        self._on_bad_address = on_bad_address
        self._rng = rng
        self._outage = Outage("Sending", rng=rng)
        self.settled: Counter[str] = Counter()

    def run(self) -> None:
        """Send due mails until stop is asked; then finish the current mail and give back the rest."""
        try:
            while not self._stop.asked():
                self.turn()
        finally:
            self._channel.quit()

    def turn(self) -> None:
        """Do one round: send a batch, or wait for mails, for the server or for the ledger."""
        try:
            wait = self._breaker.wait()
            if wait:
                self._stop.wait(min(wait, self._policy.idle))
                return
            probing = self._breaker.is_open
            claimed = self._for_probe() if probing else self._journal.claim(self._policy.batch, self._name)
            if claimed:
                crash.point("notify.claimed")
                self._send_all(claimed)
            elif probing:
                self._breaker.unused()
            self._outage.over()
        except TemporaryError as exc:
            self._stop.wait(self._outage.failed(exc))
            return
        if not claimed:
            self._bell.wait(self._policy.idle)
            self._bell.clear()

    def _for_probe(self) -> list[Notification]:
        """One mail to probe whether the server is back: preferably one that has met no outage."""
        suspects = self._breaker.suspects
        claimed = self._journal.claim(min(len(suspects) + 1, self._policy.batch), self._name)
        chosen = next((n for n in claimed if n.id not in suspects), claimed[0] if claimed else None)
        self._give_back([n for n in claimed if n is not chosen])
        return [chosen] if chosen else []

    def _send_all(self, claimed: list[Notification]) -> None:
        since = time.monotonic()
        left = list(claimed)
        try:
            refused = self._gate.refusals(claimed)
            self._settle(*refused.values())
            left = [notification for notification in claimed if notification.id not in refused]
            while left:
                overdue = time.monotonic() - since > self._policy.patience
                if self._stop.asked() or overdue:
                    break
                if not self._send(left.pop(0), since):
                    break
        finally:
            # Also during an outage of the ledger: then their leases expire.
            self._give_back(left)
            self._insist(self._journal.flush)
            crash.point("notify.settled")

    def _give_back(self, left: list[Notification]) -> None:
        if left:
            self._settle(*(Settlement(n, "queued", n.reason, count_attempt=False) for n in left))

    def _send(self, notification: Notification, since: float) -> bool:
        """Send one mail; False if the server is down, so that the others need not be tried."""
        began = time.monotonic()
        try:
            prepared = self._channel.prepare(notification, dt.datetime.now(dt.UTC))
        except Exception as exc:  # an error in one mail must not stop the others
            if not isinstance(exc, BadMail):
                logger.exception("A mail could not be made", extra=_about(notification))
            reason = str(exc) if isinstance(exc, BadMail) else f"it cannot be made: {type(exc).__name__}"
            self._settle(Settlement(notification, "failed", words(reason)))
            return True
        outcome = self._try(notification, prepared)
        if outcome.result == "not-ours":
            self._journal.forget(notification)
            logger.warning("A mail's lease ran out before it was sent", extra=_about(notification))
            return True
        # By the ledger's clock: the time of the claim, plus the time since.
        claimed_on = notification.updated_on or dt.datetime.now(dt.UTC)
        now = claimed_on + dt.timedelta(seconds=time.monotonic() - since)
        took = time.monotonic() - began
        if outcome.result == "down":
            return self._down(notification, outcome, now, took)
        self._breaker.suspects.passed(notification.id)
        if self._breaker.answered():
            logger.info("%s is back", self._name, extra={"action": "circuit_closed", "channel": self._name})
        self._finish(notification, outcome, now, took)
        return True

    def _try(self, notification: Notification, prepared: Any) -> Outcome:
        handed_over = False

        def hand_over() -> bool:
            nonlocal handed_over
            handed_over = self._journal.handing_over(notification)
            crash.point("notify.handed-over")
            return handed_over

        try:
            return self._channel.send(prepared, hand_over)
        except TemporaryError:
            # The hand-over may be committed although the reply was lost; nothing was sent, so undo it.
            self._settle(Settlement(notification, "queued", notification.reason, count_attempt=False))
            raise
        except Exception as exc:  # a bug that one mail triggers must not stop the others
            logger.exception("A mail could not be sent", extra=_about(notification))
            self._channel.close()
            return Outcome("unknown" if handed_over else "deferred", None, f"{type(exc).__name__}: {exc}")

    def _down(self, notification: Notification, outcome: Outcome, now: dt.datetime, took: float) -> bool:
        """Put the mail back, and let the breaker wait; True if only this mail is the cause, not an outage."""
        suspects, id_ = self._breaker.suspects, notification.id
        if suspects.down(id_):
            blamed = replace(
                outcome, result="deferred", text=f"others pass, this mail does not: {outcome.text}"
            )
            self._finish(notification, blamed, now, took)
            return True
        if suspects.age(id_) > self._policy.give_up:
            self._finish(notification, replace(outcome, result="deferred"), now, took, expired=True)
            return False
        if self._breaker.failed(id_, asked=min(outcome.retry_after, ASKED_MAX)):
            logger.error(
                "%s is down, what is to be sent there waits: %s",
                self._name,
                outcome.text,
                extra={"action": "circuit_open", "channel": self._name},
            )
        # Try another mail next: if this one breaks the connection, it must not delay the others.
        wait = self._policy.retries.while_down(suspects.times(id_), outcome.retry_after, self._rng)
        due = now + dt.timedelta(seconds=wait)
        self._settle(Settlement(notification, "queued", outcome.text, due, count_attempt=False))
        return False

    def _finish(
        self,
        notification: Notification,
        outcome: Outcome,
        now: dt.datetime,
        took: float,
        *,
        expired: bool = False,
    ) -> None:
        tried, policy = notification.attempts - notification.spared, self._policy
        state: NotificationState = _STATE[outcome.result]
        reason = outcome.text if outcome.code is None else f"{outcome.code} {outcome.text}"
        next_at = None
        if state == "unknown" and policy.resend_unknown and tried < policy.tries:
            state, reason = "deferred", f"sent again, as it is not known whether it arrived: {reason}"
        if state == "deferred":
            wait = None if expired else self._next_try(notification, outcome, now, took)
            if wait is None:
                state, reason = "failed", f"given up after {tried} attempts: {reason}"
            else:
                next_at = now + dt.timedelta(seconds=wait)
        if outcome.bad_address:
            self._on_bad_address(notification.recipient, reason)
        if state != "deferred":
            self._breaker.suspects.forget(notification.id)
        settlement = Settlement(notification, state, reason, next_at, True, outcome.code, took)
        # Not awaited: it is written together with the next hand-over of any sender.
        self._journal.settle_soon(settlement)
        self._tell(settlement, ours=True)
        about = {"custsvc.channel": notification.channel, "custsvc.state": state}
        followed.span("mail", "CLIENT", Followed.of(notification), time.time() - took, about)

    def _next_try(
        self, notification: Notification, outcome: Outcome, now: dt.datetime, took: float
    ) -> float | None:
        """Seconds until a mail is tried again; None if it is given up."""
        tried = notification.attempts - notification.spared
        first = self._journal.first_try(notification) if tried > 1 else None
        since = took if first is None else (now - first) / dt.timedelta(seconds=1)
        return self._policy.retries.after(tried, since, outcome.retry_after, self._rng)

    def _settle(self, *settlements: Settlement) -> None:
        """Write these results to the ledger; retry for at most the length of a lease."""
        if not settlements:
            return
        ours: set[str] = set()
        try:
            tries = self._insist(lambda: ours.update(self._journal.settle(*settlements)))
        except CustsvcError:
            self._forget(settlements)
            raise
        except Exception:  # noqa: BLE001 - the journal has logged it
            # A result that can never be written is left to its lease, and does not end the sender.
            self._forget(settlements)
            return
        for settlement in settlements:
            # If the reply was lost, the first write may have succeeded; then the second finds nothing to do.
            self._tell(settlement, ours=settlement.notification.id in ours or tries > 1)

    def _forget(self, settlements: Sequence[Settlement]) -> None:
        for settlement in settlements:
            self._journal.forget(settlement.notification)

    def _insist(self, write: Callable[[], None]) -> int:
        """Write, and retry for at most the length of a lease; return the number of tries."""
        deadline = time.monotonic() + self._policy.lease
        # Log only for debugging: the senders already log an outage of the ledger.
        outage = Outage("A step", base=0.1, cap=2.0, least=0.05, level=logging.DEBUG, rng=self._rng)

        def give_up() -> bool:
            return time.monotonic() > deadline or (self._stop.asked() and outage.failures >= 5)

        insist(write, outage, time.sleep, give_up=give_up)
        return outage.failures + 1

    def _tell(self, settlement: Settlement, *, ours: bool) -> None:
        notification, state = settlement.notification, settlement.state
        if not ours:
            logger.warning("A mail was %s after its lease had run out", state, extra=_about(notification))
        self.settled[state] += 1
        logger.log(
            _LOG[state],
            "Mail %s: %s",
            state,
            settlement.reason or "",
            extra={**_about(notification), "attempt": notification.attempts, "code": settlement.code},
        )


def _about(notification: Notification) -> dict[str, object]:
    return {
        "action": "mail",
        "notification_id": notification.id,
        **Followed.of(notification).names(),
        "rule": notification.rule,
        "channel": notification.channel,
    }
