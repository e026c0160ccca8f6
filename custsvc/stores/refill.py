"""Makes again the terms and name keys of customers that an earlier version made, beside the role's own work.

Processes of an earlier release may still write while roles are replaced one by one, so it looks repeatedly,
at growing intervals.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from ..errors import ConfigurationError, Stopped, TemporaryError
from ..ports.store import Store
from ..ports.waiting import Waiting
from ..runtime.loop import Stop

logger = logging.getLogger(__name__)

_FIRST_GAP: Final = 15.0
_LONGEST_GAP: Final = 3600.0


def refill_beside(store: Store, stop: Stop) -> threading.Thread:
    """Refill in another thread until stop is asked. The end of the process may interrupt it at any point."""
    thread = threading.Thread(target=_refill, args=(store, stop), name="refill", daemon=True)
    thread.start()
    return thread


def _refill(store: Store, stop: Stop) -> None:
    gap = _FIRST_GAP
    while not stop.asked():
        try:
            refilled = store.refill(Waiting(stop))
            if refilled:
                extra = {"action": "refilled", "customers": refilled}
                logger.info("Recomputed search terms and name keys of %d customers", refilled, extra=extra)
        except Stopped:
            return
        except TemporaryError as exc:
            logger.info("Refilling waits: %s", exc, extra={"action": "refill_waits"})
        except ConfigurationError as exc:
            # A role that only reads a copy may not write to it; replicate refills it.
            logger.info("Not refilling: %s", exc, extra={"action": "not_refilling"})
            return
        stop.wait(gap)
        gap = min(gap * 4, _LONGEST_GAP)
