"""The role as processes forked from one that has imported everything, so that a hundred start fast."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

from custsvc.config import Settings
from custsvc.notify.run import policy_of, run_notify
from custsvc.runtime.loop import Stop
from tests.processes import FORKS


class Copy:
    """One of them, running."""

    def __init__(self, settings: Settings, log: Path, crash_at: str, how: dict[str, Any]) -> None:
        self._process = FORKS.Process(target=_run, args=(settings, log, crash_at, how), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def send_signal(self, signum: signal.Signals) -> None:
        os.kill(self.pid, signum)

    def kill(self) -> None:
        """As kill -9 does."""
        if self._process.is_alive():
            self._process.kill()
        self.wait(120)

    def wait(self, seconds: float) -> int:
        """How it ended: its exit code."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"still there after {seconds:g} s"
        return self._process.exitcode


def _run(settings: Settings, log: Path, crash_at: str, how: dict[str, Any]) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    os.environ["CUSTSVC_CRASH_AT"] = crash_at
    with Stop().on_signals() as stop:
        run_notify(settings, stop, policy=dataclasses.replace(policy_of(settings), **how))
