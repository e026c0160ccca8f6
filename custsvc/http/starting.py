"""Whether the server may work yet, and why not: set by the main process, read by its workers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..runtime.shared import Shared

if TYPE_CHECKING:
    from ..stores.prepare import Preparing

logger = logging.getLogger(__name__)

_REASON_MAX: Final = 400
_LOOK_EVERY: Final = 0.2


class Starting:
    """A reason not to work yet, which all processes share; empty if there is none."""

    def __init__(self, dependency: str, path: Path | None = None) -> None:
        self.dependency = dependency
        self._reason = Shared(_REASON_MAX + 1, path)

    def tell(self, reason: str) -> None:
        """Refuse requests from now on, for this reason."""
        # The reader drops a character that is cut in two.
        self._reason.value = reason.encode()[:_REASON_MAX]

    def reason(self) -> str:
        """Why the server may not work yet; empty if it may."""
        return self._reason.value.decode(errors="ignore")


def follow(opening: Preparing, starting: Starting, give_up: Callable[[], None]) -> threading.Thread:
    """Report the progress of `opening`, in another thread; call `give_up` if it fails."""
    starting.tell(opening.reason)

    def run() -> None:
        try:
            while not opening.is_done():
                starting.tell(opening.reason)
                opening.join(_LOOK_EVERY)
        except BaseException:  # noqa: BLE001 - whoever asks `opening` next gets it too
            give_up()
        else:
            starting.tell("")
            logger.info("The schema is up to date", extra={"action": "ready"})

    following = threading.Thread(target=run, name="opening", daemon=True)
    following.start()
    return following
