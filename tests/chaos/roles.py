"""Roles of custsvc as processes, started as a user starts them, killed as by an accident."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.waiting import patience

COMMAND = (sys.executable, "-m", "custsvc")


def clean_environment() -> dict[str, str]:
    """Ours without any setting of custsvc, so that a developer's shell does not change a test."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CUSTSVC_")}


def request(
    port: int,
    method: str,
    path: str,
    body: Any = None,
    *,
    headers: dict[str, str] | None = None,
    seconds: float = 15,
) -> tuple[int, Any, dict[str, str]]:
    """Status, body and headers of one HTTP call. OSError or HTTPException where there is no answer."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        client.request(method, path, data, {"content-type": "application/json", **(headers or {})})
        answer = client.getresponse()
        text = answer.read()
        return answer.status, json.loads(text or b"null"), {k.lower(): v for k, v in answer.getheaders()}
    finally:
        client.close()


NO_ANSWER = (OSError, http.client.HTTPException)


def serves(port: int) -> bool:
    """Whether an API answers there."""
    try:
        return request(port, "GET", "/readyz", seconds=5)[0] == 200
    except NO_ANSWER:
        return False


class Role:
    """One command of custsvc; `start` may be called again after it has ended."""

    def __init__(
        self, arguments: list[str], env: Mapping[str, str], log: Path, command: Sequence[str] = COMMAND
    ) -> None:
        self.arguments = arguments
        self._command = command
        self.log = log
        # It ends with this process, however that ends.
        self._env = {**clean_environment(), "CUSTSVC_PARENT_PID": str(os.getpid()), **env}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, crash_at: str = "") -> Role:
        """Start it; with `crash_at` it will die at that crash point."""
        env = {**self._env, "CUSTSVC_CRASH_AT": crash_at} if crash_at else self._env
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._command, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait(self, seconds: float = 120.0) -> int:
        """How it ended: its exit code, or 137 for SIGKILL, as a shell says it."""
        assert self._process is not None
        code = self._process.wait(patience(seconds))
        return code if code >= 0 else 128 - code

    def signal(self, signum: signal.Signals) -> None:
        """Signal it and every process it has started."""
        if self.is_running():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signum)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(60)

    def stop(self) -> int:
        """Ask it to end, as a service manager does, and wait."""
        self.signal(signal.SIGCONT)
        if self.is_running():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
        try:
            return self.wait(90)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""
