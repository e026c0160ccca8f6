"""Trims the history once a day beside the relay that leads, in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

from ..config import Settings
from ..errors import CustsvcError
from ..ports.store import Store
from ..relay.relay import Beside
from ..runtime.loop import Stop
from ..service.trimmed import trimmed
from .trim import Report, Trim

logger = logging.getLogger(__name__)

# Seconds before the first look, and between two.
_FIRST: Final = 30.0
_EVERY: Final = 600.0
_DAY: Final = 86400.0


def daily(settings: Settings, store: Store) -> Beside:
    """What runs beside the leading relay; nothing if history is kept for ever."""
    if settings.history_days is None:
        return nullcontext

    @contextmanager
    def beside() -> Iterator[None]:
        stop = Stop()
        thread = threading.Thread(
            target=_look_daily, args=(settings, store, stop), name="history", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            stop.ask()
            thread.join()

    return beside


def trim_once(settings: Settings, store: Store, stop: Stop, *, dry_run: bool = False) -> Report:
    """One run as these settings want it; an empty report if history is kept for ever."""
    if settings.history_days is None:
        return Report()
    folder = Path(settings.history_archive) if settings.history_archive else None
    return Trim(store, settings.topic_updates, settings.history_days, folder, stop).run(dry_run=dry_run)


def _look_daily(settings: Settings, store: Store, stop: Stop) -> None:
    pause = _FIRST
    while not stop.wait(pause):
        pause = _EVERY
        try:
            if time.time() - trimmed(store.facts).ended >= _DAY:
                _tell(trim_once(settings, store, stop))
        except CustsvcError as exc:
            logger.warning("The history is not trimmed: %s", exc, extra={"action": "trim_waits"})
        except Exception:
            logger.exception(
                "Trimming the history failed; it is tried again", extra={"action": "trim_failed"}
            )


def _tell(report: Report) -> None:
    logger.info(
        "Trimmed the history: %d events dropped, %d archive files; it begins at %s",
        report.outdated,
        len(report.files),
        report.begins or "its beginning",
        extra={"action": "trimmed", "count": report.outdated},
    )
