"""Tells whether a planted bug did anything: in the package with the bug it decorates what was changed.

It leaves one file for each change whose function was called, and one where that function failed by itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parents[1]
# What code says that names something which is not there any more.
_OWN_ERRORS = (AttributeError, ImportError, NameError, TypeError)


def saw(mark: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Note by `mark` that a function was called, and whether its own lines (not what they call) failed."""

    def watch(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            _note(f"{mark}.called")
            try:
                return function(*args, **kwargs)
            except _OWN_ERRORS as exc:
                below = exc.__traceback__.tb_next if exc.__traceback__ else None
                if below is None or below.tb_next is None:
                    _note(f"{mark}.broken", repr(exc))
                raise

        return watched

    return watch


@functools.cache
def _note(name: str, what: str = "") -> None:
    (_FOLDER / name).write_text(what)
