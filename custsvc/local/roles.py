"""One supervised role: its child process, its log, its readiness, and the time of its next start."""

from __future__ import annotations

import json
import os
import random
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custsvc.runtime.process import PARENT_PID

from . import process
from .process import Identity

HEALTHY_S = 30.0
_STANDS_S = 1.0
_REPEAT_S = 30.0
_PROBLEM = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b|^(warning|error):")
# Requests to roles on this machine must not go through a proxy of the environment.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class RoleSpec:
    """A role to run.

    It is ready when the URL `ready` answers 2xx, or the function `ready` returns true; without `ready`, when
    it has run for a second. A `once` role ends by itself and is not started again.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: str | Callable[[], bool] | None = None
    once: bool = False


class Backoff:
    """The wait before the next try: doubles up to a cap, with jitter, so that many roles spread out."""

    def __init__(self, base_s: float = 0.5, cap_s: float = 30.0, rng: random.Random | None = None) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._rng = rng or random.Random()  # noqa: S311 - not a secret
        self.failures = 0

    def next(self) -> float:
        """Count a failure; returns the wait after it."""
        longest: float = min(self._cap_s, self._base_s * 2 ** min(self.failures, 20))
        self.failures += 1
        return longest * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        self.failures = 0


class Role:
    """A running, stopped or waiting role."""

    def __init__(self, spec: RoleSpec, log: Path, backoff: Backoff) -> None:
        self.spec = spec
        self.log = log
        self.backoff = backoff
        self.identity: Identity | None = None
        self.exit_code: int | None = None
        self.start_at: float | None = 0.0
        self._started = 0.0
        self._read_up_to = _size(log)
        self._seen: dict[str, float] = {}
        self._held_back = 0

    def start(self, env: Mapping[str, str]) -> None:
        """Start it with these addresses, which its own environment overrides."""
        process.rotate(self.log)
        self._read_up_to = _size(self.log)
        own = {PARENT_PID: str(os.getpid()), **env, **self.spec.env}
        self.identity = process.spawn(self.spec.argv, log=self.log, env={**os.environ, **own})
        self.start_at = None
        self.exit_code = None
        self._started = time.monotonic()

    def is_running(self) -> bool:
        return self.identity is not None and self.identity.is_running()

    def has_ended(self) -> bool:
        """Whether it ended since the last call; kills the processes that it left behind."""
        if self.identity is None or self.identity.is_running():
            return False
        self.exit_code = self.identity.exit_code()
        process.kill_session(self.identity.pid)
        self.identity = None
        return True

    def is_ready(self) -> bool:
        """Whether it runs and is ready."""
        if not self.is_running():
            return False
        ready = self.spec.ready
        if ready is None:
            return time.monotonic() - self._started > _STANDS_S
        return _answers(ready) if isinstance(ready, str) else ready()

    def postpone(self) -> float:
        """Plan its next start after a failure; returns the seconds until then."""
        wait = self.backoff.next()
        self.start_at = time.monotonic() + wait
        return wait

    def note_health(self) -> None:
        """Forget earlier failures once it has run for a while."""
        if self.backoff.failures and self.is_running() and time.monotonic() - self._started > HEALTHY_S:
            self.backoff.reset()

    def stop(self, grace_s: float) -> bool:
        """SIGTERM, then kill. True if it ended by itself."""
        self.start_at = None
        if self.identity is None:
            return True
        by_itself = process.stop(self.identity, grace_s=grace_s)
        process.kill_session(self.identity.pid)
        self.identity = None
        return by_itself

    def kill(self) -> None:
        """End it and its children at once."""
        if self.identity is not None:
            process.kill_session(self.identity.pid)
            process.kill(self.identity)
            self.identity = None

    def last_lines(self, lines: int = 10) -> list[str]:
        """The last lines of its log, in readable form."""
        return [readable(line) for line in process.tail(self.log, lines)]

    def problems(self) -> Iterator[str]:
        """The warnings and errors logged since the last call; a repeated one only after _REPEAT_S seconds."""
        if _size(self.log) <= self._read_up_to:
            return
        with self.log.open("rb") as file:
            file.seek(self._read_up_to)
            new = file.read(256 * 1024)
        whole = new[: new.rfind(b"\n") + 1]
        self._read_up_to += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            if is_problem(line) and self._is_news(readable(line)):
                yield readable(line)

    def held_back(self) -> int:
        """The number of repeated problems omitted since the last call."""
        count, self._held_back = self._held_back, 0
        return count

    def _is_news(self, line: str) -> bool:
        # Lines that differ only in numbers (times, ports, counts) count as equal.
        key, now = re.sub(r"\d+", "0", line), time.monotonic()
        if now - self._seen.get(key, -_REPEAT_S) < _REPEAT_S:
            self._held_back += 1
            return False
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[key] = now
        return True


def is_problem(line: str) -> bool:
    """Whether a log line, JSON or text, is a warning or worse."""
    record = _as_record(line)
    if record is not None:
        return record.get("level") in ("warning", "error", "critical")
    return _PROBLEM.search(line) is not None


def readable(line: str) -> str:
    """A JSON log line as `LEVEL message`; any other line as it is."""
    record = _as_record(line)
    if record is None:
        return line
    last = str(record.get("exception", "")).strip().splitlines()[-1:]
    return " ".join([str(record.get("level", "")).upper(), str(record["message"]), *(f"({e})" for e in last)])


def _as_record(line: str) -> dict[str, object] | None:
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "message" in record else None


def get_json(url: str) -> Any:
    """The JSON answer of a role on this machine. Raises OSError."""
    with _direct.open(url, timeout=10) as response:
        return json.load(response)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _answers(url: str) -> bool:
    try:
        with _direct.open(url, timeout=2) as response:
            return bool(200 <= response.status < 300)
    except (urllib.error.URLError, OSError):
        return False
