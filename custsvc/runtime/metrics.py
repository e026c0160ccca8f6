"""What a worker counts of itself: beats of its loops, events by result, how far it is behind.

Counting costs a dictionary's update and needs no library; `custsvc.runtime.metrics_server` shows it to
Prometheus. Nothing here tells of a person: labels are names of loops, roles and results.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

METRICS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder in which the processes of `serve` add up what they count."""

_lock = threading.Lock()
_beats: dict[str, float] = {}
_lags: dict[str, float] = {}
_waiting: dict[str, float] = {}
_events: Counter[tuple[str, str]] = Counter()
_loops: Counter[str] = Counter()


class Behind(NamedTuple):
    """What is not dealt with yet: how many records, and how old the oldest is, in seconds."""

    records: int
    seconds: float


class Lag(NamedTuple):
    """How far a consumer is behind, by topic and partition, and how old that knowledge is, in seconds."""

    partitions: Mapping[tuple[str, int], Behind]
    known: float


_followed: dict[str, Callable[[], Lag]] = {}


class Snapshot(NamedTuple):
    """What was counted. `silence` is each loop's seconds since its last beat."""

    loops: dict[str, int]
    silence: dict[str, float]
    lags: dict[str, float]
    events: dict[tuple[str, str], int]
    behind: dict[str, Lag]


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
        _waiting.pop(loop, None)
        _lags[loop] = max(0.0, seconds)


def waiting_since(loop: str, since: float) -> None:
    """The oldest event in the loop's hands is of this time (seconds since 1970): its lag grows from it."""
    with _lock:
        _waiting[loop] = since


def follow(loop: str, lag: Callable[[], Lag]) -> None:
    """Ask this for the loop's lag from now on, whenever it is to be shown."""
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
