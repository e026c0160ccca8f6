"""The real roles, each a process as a user starts it, watched from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from ..config import PREFIX, SETTINGS, Settings
from ..errors import CustsvcError
from . import proc

_START = 60.0
_STOP = 20.0


class Role:
    """A running `custsvc ROLE`. Leaving the block stops it; `rss_mb` is the most memory it had.

    `cpu_s` is the processor time that it took from the action that `began` waited for until `measure`, which
    leaving the block calls if nothing else did. `program`: what Python runs instead of custsvc.
    """

    def __init__(self, settings: Settings, *command: str, program: Sequence[str] = ("-m", "custsvc")) -> None:
        self.name = command[0]
        self.rss_mb: float | None = None
        self.cpu_s: float | None = None
        self._cpu_from = 0.0
        self.started = time.monotonic()
        self.lines: list[dict[str, Any]] = []
        self._seen: dict[str, float] = {}
        self._process = subprocess.Popen(
            [sys.executable, *program, *command],
            env=environment(settings),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def began(self, action: str) -> float:
        """Wait until the role logs this action (`leading`, `assigned`); returns the monotonic time of it."""
        until(lambda: action in self._seen or self._process.poll() is not None, _START, f"{self.name} starts")
        if action not in self._seen:
            raise CustsvcError(f"{self.name} ended at its start: {self.lines[-3:]}")
        self._cpu_from = proc.processor_s(self.pid) or 0.0
        return self._seen[action]

    def check(self) -> None:
        """Raise CustsvcError if the role has ended."""
        if self._process.poll() is not None:
            raise CustsvcError(f"{self.name} ended: {self.lines[-3:]}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def measure(self) -> None:
        """Note the most memory so far in MB and the processor time, each None if the system does not say."""
        self.rss_mb = proc.peak_mb(self.pid) or self.rss_mb
        used = proc.processor_s(self.pid)
        self.cpu_s = None if used is None else used - self._cpu_from

    def cpu_ms(self, events: int) -> float | None:
        """The measured processor time in milliseconds per 1,000 of these events."""
        return None if self.cpu_s is None else round(self.cpu_s / events * 1e6, 1)

    def __enter__(self) -> Role:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.cpu_s is None:
            self.measure()
        self._process.terminate()
        try:
            self._process.wait(_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        if self._process.stderr:
            self._process.stderr.close()

    def _read(self) -> None:
        for line in self._process.stderr or ():
            try:
                entry = orjson.loads(line)
            except orjson.JSONDecodeError:
                entry = {"message": line.decode(errors="replace").rstrip()}
            self._seen.setdefault(str(entry.get("action")), time.monotonic())
            self.lines.append(entry)


def environment(settings: Settings) -> dict[str, str]:
    """An environment with these settings for a role; unlike flags, it shows no passwords in `ps`."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    for name in SETTINGS:
        value = getattr(settings, name)
        if isinstance(value, Mapping):
            for option, text in value.items():
                environ[f"{PREFIX}{name.upper()}__{option.upper().replace('.', '_')}"] = text
        elif value != SETTINGS[name].default:
            environ[PREFIX + name.upper()] = str(value)
    return {**environ, PREFIX + "LOG_LEVEL": "INFO", PREFIX + "LOG_FORMAT": "json"}


def until(done: Callable[[], bool], seconds: float, what: str, *, pause: float = 0.02) -> float:
    """Wait until `done`; returns the time at which it was. Raises CustsvcError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise CustsvcError(f"gave up after {seconds:g} s: {what}")
        time.sleep(pause)
    return time.monotonic()
