"""What the senders of a process write into the ledger: many steps in one write, and leases kept alive.

Whoever comes while a write is under way leaves the step for the next one, which takes all that wait. So the
cost of a commit is shared by as many mails as there are connections, and none waits for a timer.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import TemporaryError
from ..stores.ledger import Advanced, Ledger, Notification, Settlement
from ..workers.loop import Stop


@dataclass(slots=True, eq=False)
class _Step:
    """What one sender wants written, and the answer."""

    hand_overs: Sequence[Notification]
    settlements: Sequence[Settlement]
    done: bool = False
    error: Exception | None = None
    advanced: Advanced = field(default_factory=lambda: Advanced(set(), set()))


class Journal:
    """One per process, shared by its senders."""

    def __init__(self, ledger: Ledger, lease: float) -> None:
        self.lease = lease
        self._ledger = ledger
        self._writing = threading.Lock()
        self._joining = threading.Lock()
        self._waiting: list[_Step] = []
        self._held: dict[str, Notification] = {}

    def claim(self, limit: int, channel: str) -> list[Notification]:
        """As the ledger's, and the lease is kept alive until each is settled."""
        claimed = self._ledger.claim(limit, self.lease, channel)
        self._held.update((notification.id, notification) for notification in claimed)
        return claimed

    def handing_over(self, notification: Notification) -> bool:
        """As the ledger's, in one write with the steps of other senders."""
        return bool(self._advance(_Step([notification], [])).handed_over)

    def settle(self, *settlements: Settlement) -> set[str]:
        """As the ledger's: those that were still ours. In one write with the steps of other senders."""
        settled = self._advance(_Step([], settlements)).settled
        for settlement in settlements:
            self._held.pop(settlement.notification.id, None)
        return settled

    def forget(self, notification: Notification) -> None:
        """Let its lease run out."""
        self._held.pop(notification.id, None)

    def keep_alive(self, stop: Stop) -> None:
        """Renew the leases of what is held, until stop is asked and nothing is held any more."""
        while not (stop.asked() and not self._held):
            # While stopping, the wish to stop no longer wakes; the mails in hand are done soon.
            if stop.wait(self.lease / 4):
                threading.Event().wait(min(0.1, self.lease / 4))
            if held := list(self._held.values()):
                try:
                    self._ledger.renew(held, self.lease)
                except TemporaryError:
                    continue  # The senders tell of it; the lease bears some that are missed.

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
        except Exception as exc:  # noqa: BLE001 - raised in each sender whose step it was
            for step in steps:
                step.error, step.done = exc, True
            return
        for step in steps:
            ours = {each.id for each in step.hand_overs}
            theirs = {each.notification.id for each in step.settlements}
            step.advanced = Advanced(advanced.handed_over & ours, advanced.settled & theirs)
            step.done = True
