"""Load on an HTTP API by wrk: each connection sends its next request after each answer."""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import orjson

from ..errors import ConfigurationError, CustsvcError
from .roles import until

Kind = Literal["get", "list", "post", "put"]
KINDS: tuple[Kind, ...] = get_args(Kind)

CONNECTIONS = 32
_SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True, slots=True)
class Target:
    """An API: the path of its customers, the form of an id, the text after it, the query of a list of 100."""

    name: str
    port: int
    path: str = "/api/customers/"
    tail: str = "/"
    listing: str = "?limit=100&count=none"
    ids: str = "%d"

    def url(self, rest: str = "") -> str:
        return f"http://127.0.0.1:{self.port}{self.path}{rest}"


@dataclass(frozen=True, slots=True)
class Load:
    """The result of a run of wrk: the number of answered requests, and their rate per second."""

    requests: int
    rate: float
    p50_ms: float
    p99_ms: float


def require_wrk() -> str:
    """The path of wrk. Raises ConfigurationError, which names the command that installs it."""
    found = shutil.which("wrk")
    if found is None:
        raise ConfigurationError("wrk, which makes the load, is not installed", fix="apt-get install wrk")
    return found


def load(target: Target, kind: Kind, *, customers: int, seconds: float) -> Load:
    """Send requests as fast as the API answers. Raises CustsvcError if an answer was an error."""
    done = subprocess.run(
        [
            *(require_wrk(), "--threads", "2", "--connections", str(CONNECTIONS)),
            *("--duration", f"{max(1, round(seconds))}s", "--script", str(_SCRIPT), target.url()),
        ],
        env={
            **os.environ,
            "BENCH_KIND": kind,
            "BENCH_PATH": target.path,
            "BENCH_TAIL": target.tail,
            "BENCH_LIST": target.listing,
            "BENCH_ID": target.ids,
            "BENCH_COUNT": str(customers),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        raise CustsvcError(f"wrk failed: {(done.stderr or done.stdout).strip()}")
    found = orjson.loads(lines[-1])
    if found["bad_status"] or found["broken"] or not found["requests"]:
        raise CustsvcError(f"{target.name} answered {kind} with errors: {found}")
    requests = found["requests"]
    return Load(requests, round(requests / found["seconds"]), found["p50_ms"], found["p99_ms"])


def wait_for(target: Target, seconds: float = 60.0) -> None:
    """Wait until the API answers with its first customer."""

    def answers() -> bool:
        try:
            with urllib.request.urlopen(target.url(target.ids % 1 + target.tail), timeout=5) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    until(answers, seconds, f"{target.name} answers", pause=0.1)
