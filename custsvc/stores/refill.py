"""Makes the terms and name keys of customers anew that an earlier version made, beside the role's own work.

Once would do, were there no processes of an earlier release that still write while roles are replaced one by
one. So it looks again, more and more seldom.
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
    """Refill in a thread of its own until stop is asked. It ends with the process, at any point."""
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
                logger.info("Made the search terms and name keys of %d customers anew", refilled, extra=extra)
        except Stopped:
            return
        except TemporaryError as exc:
            logger.info("Refilling waits: %s", exc, extra={"action": "refill_waits"})
        except ConfigurationError as exc:
            # Whoever only reads a copy may not write to it; who replicates it refills it.
            logger.info("Not refilling: %s", exc, extra={"action": "not_refilling"})
            return
        stop.wait(gap)
        gap = min(gap * 4, _LONGEST_GAP)
