"""The real roles, each a process as a user starts it, watched from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from ..config import PREFIX, SETTINGS, Settings
from ..errors import CustsvcError

_START = 60.0
_STOP = 20.0


class Role:
    """A running `custsvc ROLE`. Leaving the block stops it; `rss_mb` is the most memory it had."""

    def __init__(self, settings: Settings, *command: str) -> None:
        self.name = command[0]
        self.rss_mb: float | None = None
        self.lines: list[dict[str, Any]] = []
        self._seen: dict[str, float] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "custsvc", *command],
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
        return self._seen[action]

    @property
    def pid(self) -> int:
        return self._process.pid

    def measure_rss(self) -> float | None:
        """The most memory the process had so far, in MB; None if the system does not report it."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        except OSError:
            return None
        line = next((each for each in status.splitlines() if each.startswith("VmHWM:")), "")
        self.rss_mb = round(int(line.split()[1]) / 1024) if line else self.rss_mb
        return self.rss_mb

    def __enter__(self) -> Role:
        return self

    def __exit__(self, *exc: object) -> None:
        self.measure_rss()
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
        if name != "kafka_options" and value != SETTINGS[name].default:
            environ[PREFIX + name.upper()] = str(value)
    for option, value in settings.kafka_options.items():
        environ[f"{PREFIX}KAFKA_OPTIONS__{option.upper().replace('.', '_')}"] = value
    return {**environ, PREFIX + "LOG_LEVEL": "INFO", PREFIX + "LOG_FORMAT": "json"}


def until(done: Callable[[], bool], seconds: float, what: str, *, pause: float = 0.02) -> float:
    """Wait until `done`; returns the time at which it was. Raises CustsvcError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise CustsvcError(f"gave up after {seconds:g} s: {what}")
        time.sleep(pause)
    return time.monotonic()
