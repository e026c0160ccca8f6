"""What a worker counts of itself: beats of its loops, events by result, how far it is behind.

Counting costs a dictionary's update and needs no library; `custsvc.metrics_server` shows it to Prometheus.
Nothing here tells of a person: labels are names of loops, roles and results.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Final, NamedTuple

METRICS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder in which the processes of `serve` add up what they count."""

_lock = threading.Lock()
_beats: dict[str, float] = {}
_lags: dict[str, float] = {}
_events: Counter[tuple[str, str]] = Counter()
_loops: Counter[str] = Counter()


class Snapshot(NamedTuple):
    """What was counted. `silence` is each loop's seconds since its last beat."""

    loops: dict[str, int]
    silence: dict[str, float]
    lags: dict[str, float]
    events: dict[tuple[str, str], int]


def beat(loop: str) -> None:
    """The loop went round once more."""
    with _lock:
        _loops[loop] += 1
        _beats[loop] = time.monotonic()


def count(loop: str, result: str, events: int = 1) -> None:
    """So many events ended so: published, applied, stale, dead …"""
    with _lock:
        _events[loop, result] += events


def lag(loop: str, seconds: float) -> None:
    """How old the newest event was that the loop has dealt with; 0 where it waits for the next one."""
    with _lock:
        _lags[loop] = max(0.0, seconds)


def snapshot() -> Snapshot:
    """Everything counted so far."""
    now = time.monotonic()
    with _lock:
        silence = {loop: now - last for loop, last in _beats.items()}
        return Snapshot(dict(_loops), silence, dict(_lags), dict(_events))
