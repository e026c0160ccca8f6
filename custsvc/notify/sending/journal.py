"""What the senders of a process write into the ledger: many steps in one write, and leases kept alive.

Whoever comes while a write is under way leaves the step for the next one, which takes all that wait. So the
cost of a commit is shared by as many mails as there are connections, and none waits for a timer.
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


# How long an answer may wait for a write to go along with.
_SOON = 0.02
_RETRY = 0.2
_UNWRITABLE = "the answer cannot be written down; the log of that time tells why"


@dataclass(slots=True, eq=False)
class _Step:
    """What one sender wants written, and the answer."""

    hand_overs: Sequence[Notification]
    settlements: Sequence[Settlement]
    # Somebody waits for it; else it is written again until it went well.
    is_awaited: bool = True
    done: bool = False
    error: Exception | None = None
    advanced: Advanced = field(default_factory=lambda: Advanced(set(), set()))

    @property
    def rows(self) -> list[Notification]:
        return [*self.hand_overs, *(settlement.notification for settlement in self.settlements)]


class Journal:
    """One per process, shared by its senders."""

    def __init__(self, ledger: Ledger, lease: float) -> None:
        self.lease = lease
        self._ledger = ledger
        self._writing = threading.Lock()
        self._joining = threading.Lock()
        self._claiming = threading.Lock()
        self._waiting: list[_Step] = []
        self._held: dict[str, Notification] = {}

    def claim(self, limit: int, channel: str) -> list[Notification]:
        """As the ledger's, and the lease is kept alive until each is settled."""
        # One at a time: those that look at once see the same mails, and all but one come back empty.
        with self._claiming:
            claimed = self._ledger.claim(limit, self.lease, channel)
        self._held.update((notification.id, notification) for notification in claimed)
        return claimed

    def handing_over(self, notification: Notification) -> bool:
        """As the ledger's, in one write with the steps of other senders."""
        return bool(self._advance(_Step([notification], [])).handed_over)

    def settle(self, *settlements: Settlement) -> set[str]:
        """As the ledger's: those that were still ours. In one write with the steps of other senders."""
        settled = self._advance(_Step([], settlements)).settled
        self._let_go(settlements)
        return settled

    def settle_soon(self, settlement: Settlement) -> None:
        """Settle with the next write, which comes in a moment; `flush` waits for it."""
        with self._joining:
            self._waiting.append(_Step([], [settlement], is_awaited=False))

    def flush(self) -> None:
        """Write what waits. Where that fails, it goes on waiting, and the error is raised."""
        self._advance(_Step([], []))

    def first_try(self, notification: Notification) -> dt.datetime | None:
        """When it was first tried, since a person had it sent again; None where that cannot be told now."""
        try:
            tries = self._ledger.attempts([notification.id]).get(notification.id, [])
        except TemporaryError:
            return None
        return next((t.tried_on for t in tries if t.number > notification.spared), None)

    def forget(self, notification: Notification) -> None:
        """Let its lease run out."""
        self._held.pop(notification.id, None)

    def keep_alive(self, stop: Stop) -> None:
        """Renew the leases of what is held, until stop is asked and nothing is held any more."""
        while not (stop.asked() and not self._held):
            # While stopping, the wish to stop no longer wakes; the mails in hand are done soon.
            if stop.wait(self.lease / 4):
                time.sleep(min(0.1, self.lease / 4))
            if held := list(self._held.values()):
                try:
                    self._ledger.renew(held, self.lease)
                except TemporaryError:
                    continue  # The senders tell of it; the lease bears some that are missed.

    def write_soon(self, stop: Stop) -> None:
        """Write what nobody came by to take along, until stop is asked and nothing waits any more."""
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
        except Exception as exc:  # noqa: BLE001 - told, and raised in the sender whose step it was
            # Something in one of the steps cannot be written: it must not take the others along.
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
        """The ledger did not take them: each sender that waits is told, the others are written again."""
        for step in steps:
            step.error, step.done = exc, True
        with self._joining:
            self._waiting[:0] = [_Step([], s.settlements, False) for s in steps if not s.is_awaited]

    def _poisoned(self, step: _Step, exc: Exception) -> None:
        """A step that can never be written fails alone; how a mail ended is written in our words then."""
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
            # Not even so. The lease runs out, and upkeep settles it.
            self._let_go(step.settlements)

    def _let_go(self, settlements: Sequence[Settlement]) -> None:
        for settlement in settlements:
            self._held.pop(settlement.notification.id, None)
