"""Whether the server may work yet, and why not: set by the main process, read by its workers."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..runtime.shared import Shared

_REASON_MAX: Final = 400


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
