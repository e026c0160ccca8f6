"""Tells the workers, while the schema is brought up to date, why they cannot work yet."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..http.starting import Starting

if TYPE_CHECKING:
    from ..stores.prepare import Preparing

logger = logging.getLogger(__name__)

_LOOK_EVERY: Final = 0.2


def follow(opening: Preparing, starting: Starting, give_up: Callable[[], None]) -> threading.Thread:
    """Report the progress of `opening`, in another thread; call `give_up` if it fails."""
    starting.tell(opening.reason)

    def run() -> None:
        try:
            while not opening.is_done():
                starting.tell(opening.reason)
                opening.join(_LOOK_EVERY)
        except BaseException:  # noqa: BLE001 - the next call of `opening` raises it too
            give_up()
        else:
            starting.tell("")
            logger.info("The schema is up to date", extra={"action": "ready"})

    following = threading.Thread(target=run, name="opening", daemon=True)
    following.start()
    return following
