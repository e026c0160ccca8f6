"""A worker's own counts: beats of its loops, events by result, its lag.

Counting costs a dictionary update and needs no library; `custsvc.runtime.metrics_server` exports the counts
to Prometheus. They hold no personal data: labels are names of loops, roles and results.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

METRICS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder in which the processes of `serve` sum up their counts."""

_lock = threading.Lock()
_beats: dict[str, float] = {}
_lags: dict[str, float] = {}
_waiting: dict[str, float] = {}
_events: Counter[tuple[str, str]] = Counter()
_loops: Counter[str] = Counter()


class Behind(NamedTuple):
    """Unfinished records: their number, and the age of the oldest in seconds."""

    records: int
    seconds: float


class Lag(NamedTuple):
    """How far a consumer is behind, by topic and partition, and how old that knowledge is, in seconds."""

    partitions: Mapping[tuple[str, int], Behind]
    known: float


_followed: dict[str, Callable[[], Lag]] = {}


class Snapshot(NamedTuple):
    """All counts. `silence` is each loop's seconds since its last beat."""

    loops: dict[str, int]
    silence: dict[str, float]
    lags: dict[str, float]
    events: dict[tuple[str, str], int]
    behind: dict[str, Lag]


def beat(loop: str) -> None:
    """Note that the loop did another round."""
    with _lock:
        _loops[loop] += 1
        _beats[loop] = time.monotonic()


def forget(loop: str) -> None:
    """Forget the beats and the lag of a loop that has ended."""
    with _lock:
        for about in (_beats, _lags, _waiting, _loops):
            about.pop(loop, None)


def count(loop: str, result: str, events: int = 1) -> None:
    """Count events by result: published, applied, stale, dead …"""
    with _lock:
        _events[loop, result] += events


def lag(loop: str, seconds: float) -> None:
    """Set the age of the newest event that the loop has finished; 0 if it waits for the next one."""
    with _lock:
        _waiting.pop(loop, None)
        _lags[loop] = max(0.0, seconds)


def waiting_since(loop: str, since: float) -> None:
    """Set the time of the loop's oldest unfinished event (Unix time): its lag grows from it."""
    with _lock:
        _waiting[loop] = since


def follow(loop: str, lag: Callable[[], Lag]) -> None:
    """Call this for the loop's lag from now on, whenever it is shown."""
    with _lock:
        _followed[loop] = lag


def snapshot() -> Snapshot:
    """Everything counted so far."""
    now = time.monotonic()
    with _lock:
        silence = {loop: now - last for loop, last in _beats.items()}
        waiting = {loop: max(0.0, time.time() - since) for loop, since in _waiting.items()}
        lags, events, loops, followed = _lags | waiting, dict(_events), dict(_loops), dict(_followed)
    behind = {loop: lag() for loop, lag in followed.items()}
    for loop, found in behind.items():
        lags[loop] = max((each.seconds for each in found.partitions.values()), default=0.0)
    return Snapshot(loops, silence, lags, events, behind)
