"""Writes the steps of all senders in a process to the ledger: many steps per write; also renews leases.

A sender that comes during a write leaves its step for the next write, which takes all waiting steps. So as
many mails as there are senders share the cost of a commit, and none waits for a timer.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...domain.text import words
from ...errors import CustsvcError, TemporaryError
from ...ports.ledger import Advanced, Ledger, Notification, Settlement
from ...runtime.loop import Stop

logger = logging.getLogger(__name__)


# Seconds that a result may wait for another write to join.
_SOON = 0.02
_RETRY = 0.2
_UNWRITABLE = "the answer cannot be stored; the log of that time has the reason"


@dataclass(slots=True, eq=False)
class _Step:
    """The step that one sender wants to write, and its result."""

    hand_overs: Sequence[Notification]
    settlements: Sequence[Settlement]
    # A sender waits for it; otherwise it is written again until it succeeds.
    is_awaited: bool = True
    done: bool = False
    error: Exception | None = None
    advanced: Advanced = field(default_factory=lambda: Advanced(set(), set()))

    @property
    def rows(self) -> list[Notification]:
        return [*self.hand_overs, *(settlement.notification for settlement in self.settlements)]


class Journal:
    """The journal of a process, shared by its senders."""

    def __init__(self, ledger: Ledger, lease: float) -> None:
        self.lease = lease
        self._ledger = ledger
        self._writing = threading.Lock()
        self._joining = threading.Lock()
        self._claiming = threading.Lock()
        self._waiting: list[_Step] = []
        self._held: dict[str, Notification] = {}

    def claim(self, limit: int, channel: str) -> list[Notification]:
        """Like the ledger's `claim`; the journal renews the leases until each mail is settled."""
        # One at a time: concurrent claims see the same mails, and all but one come back empty.
        with self._claiming:
            claimed = self._ledger.claim(limit, self.lease, channel)
        self._held.update((notification.id, notification) for notification in claimed)
        return claimed

    def handing_over(self, notification: Notification) -> bool:
        """Like the ledger's step, in one write with the steps of other senders."""
        return bool(self._advance(_Step([notification], [])).handed_over)

    def settle(self, *settlements: Settlement) -> set[str]:
        """Return the ids that were still ours, in one write with the steps of other senders."""
        settled = self._advance(_Step([], settlements)).settled
        self._let_go(settlements)
        return settled

    def settle_soon(self, settlement: Settlement) -> None:
        """Settle with the next write, which comes soon; `flush` waits for it."""
        with self._joining:
            self._waiting.append(_Step([], [settlement], is_awaited=False))

    def flush(self) -> None:
        """Write the waiting steps. If that fails, they go on waiting, and the error is raised."""
        self._advance(_Step([], []))

    def first_try(self, notification: Notification) -> dt.datetime | None:
        """When the mail was first tried (since the last manual retry); None if that is unknown now."""
        try:
            tries = self._ledger.attempts([notification.id]).get(notification.id, [])
        except TemporaryError:
            return None
        return next((t.tried_on for t in tries if t.number > notification.spared), None)

    def forget(self, notification: Notification) -> None:
        """Let the mail's lease expire."""
        self._held.pop(notification.id, None)

    def keep_alive(self, stop: Stop) -> None:
        """Renew the leases of all held mails, until stop is asked and none is held."""
        while not (stop.asked() and not self._held):
            # Once stop is asked, `wait` returns at once; the held mails are done soon.
            if stop.wait(self.lease / 4):
                time.sleep(min(0.1, self.lease / 4))
            if held := list(self._held.values()):
                try:
                    self._ledger.renew(held, self.lease)
                except TemporaryError:
                    continue  # The senders log it; the lease tolerates some missed renewals.

    def write_soon(self, stop: Stop) -> None:
        """Write steps that no other write has taken along, until stop is asked and none waits."""
        while not (stop.asked() and not self._waiting):
            time.sleep(_SOON)
            if self._waiting:
                try:
                    self.flush()
                except TemporaryError as exc:
                    logger.debug("Answers wait to be written: %s", exc)
                    time.sleep(_RETRY)

    def _advance(self, step: _Step) -> Advanced:
        with self._joining:
            self._waiting.append(step)
        with self._writing:
            if not step.done:
                with self._joining:
                    steps, self._waiting = self._waiting, []
                self._write(steps)
        if step.error is not None:
            raise step.error
        return step.advanced

    def _write(self, steps: list[_Step]) -> None:
        try:
            advanced = self._ledger.advance(
                [each for step in steps for each in step.hand_overs],
                [each for step in steps for each in step.settlements],
            )
        except CustsvcError as exc:
            self._failed(steps, exc)
            return
        except Exception as exc:  # noqa: BLE001 - logged, and raised in the sender whose step it was
            # One of the steps cannot be written: it must not make the others fail.
            if len(steps) > 1:
                for step in steps:
                    self._write([step])
            else:
                self._poisoned(steps[0], exc)
            return
        for step in steps:
            ours = {each.id for each in step.hand_overs}
            theirs = {each.notification.id for each in step.settlements}
            step.advanced = Advanced(advanced.handed_over & ours, advanced.settled & theirs)
            step.done = True
            if not step.is_awaited:
                self._let_go(step.settlements)

    def _failed(self, steps: list[_Step], exc: Exception) -> None:
        """The write failed: each waiting sender gets the error, the other steps are written again."""
        for step in steps:
            step.error, step.done = exc, True
        with self._joining:
            self._waiting[:0] = [_Step([], s.settlements, False) for s in steps if not s.is_awaited]

    def _poisoned(self, step: _Step, exc: Exception) -> None:
        """Fail a step that can never be written alone; then write its results with our own text."""
        logger.error(
            "A step cannot be written to the ledger: %s",
            words(f"{type(exc).__name__}: {exc}"),
            extra={"action": "unwritable", "notification_ids": [n.id for n in step.rows]},
        )
        plain = [dataclasses.replace(settlement, reason=_UNWRITABLE) for settlement in step.settlements]
        if plain != list(step.settlements):
            step.settlements = plain
            self._write([step])
            return
        step.error, step.done = exc, True
        if not step.is_awaited:
            # That failed too. The lease expires, and upkeep settles it.
            self._let_go(step.settlements)

    def _let_go(self, settlements: Sequence[Settlement]) -> None:
        for settlement in settlements:
            self._held.pop(settlement.notification.id, None)
