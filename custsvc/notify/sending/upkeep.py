"""Maintains the ledger beside the senders: expired leases, mails blocked wrongly, old texts and rows."""

from __future__ import annotations

import logging
import time

from ...errors import TemporaryError
from ...ports.ledger import Ledger
from ...runtime.loop import Stop
from .texts import Texts

logger = logging.getLogger(__name__)

_SWEEP_EVERY = 60.0
_PRUNE_EVERY = 600.0
_AT_A_TIME = 5000


class Upkeep:
    """The upkeep thread, one per process; several do no harm."""

    def __init__(
        self,
        ledger: Ledger,
        stop: Stop,
        *,
        keep: float,
        texts: Texts | None = None,
        resend: bool = False,
        every: float = 5.0,
    ) -> None:
        """`keep`: seconds that settled rows are kept. Without `texts` they keep their texts."""
        self._ledger = ledger
        self._stop = stop
        self._keep = keep
        self._texts = texts
        self._resend = resend
        self._every = every
        self._sweep_at = 0.0
        self._prune_at = 0.0

    def run(self) -> None:
        """Run until stop is asked. Waits out outages; the senders log them."""
        while not self._stop.asked():
            try:
                self.turn()
            except TemporaryError as exc:
                logger.debug("Upkeep waits: %s", exc)
            self._stop.wait(self._every)

    def turn(self) -> None:
        """Do one round."""
        again, unknown = self._ledger.expire(resend=self._resend)
        if again:
            logger.warning("%d mails of a lost sender are queued again", again, extra={"action": "requeued"})
        if unknown:
            logger.error(
                "%d mails may or may not have arrived: their sender was lost in the hand-over",
                unknown,
                extra={"action": "unknown", "count": unknown},
            )
        if time.monotonic() >= self._sweep_at:
            self._sweep()
            self._sweep_at = time.monotonic() + _SWEEP_EVERY
        if time.monotonic() >= self._prune_at:
            self._prune()
            if self._texts is not None and (dropped := self._texts.drop(self._stop)):
                logger.info(
                    "The texts of %d old mails were dropped", dropped, extra={"action": "texts_dropped"}
                )
            self._prune_at = time.monotonic() + _PRUNE_EVERY

    def _sweep(self) -> None:
        if freed := self._ledger.sweep():
            logger.warning("%d mails waited without reason", freed, extra={"action": "freed", "count": freed})

    def _prune(self) -> None:
        pruned = 0
        while not self._stop.asked() and (some := self._ledger.prune(self._keep, _AT_A_TIME)):
            pruned += some
        if pruned:
            logger.info("%d old notifications were pruned", pruned, extra={"action": "pruned"})
