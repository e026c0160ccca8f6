"""Processes that outlive their starter: spawn, recognise later, stop, and read the end of their log.

A process is identified by its pid and its start, so that a process which got a reused pid is never signalled.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from custsvc.runtime.extras import needs

from . import private

with needs("local"):
    import psutil

LOG_LIMIT = 10 * 1024 * 1024

# Of creation times: they count from the boot time, which is known only to a second and follows the clock.
_CLOCK_TOLERANCE_S = 2.0
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
# Field 22 of /proc/PID/stat, counted from the one after the program's name.
_START_TICKS: Final = 19

# Children of this process, kept until it has waited for them.
_children: dict[int, subprocess.Popen[bytes]] = {}


@atexit.register
def _let_go() -> None:
    """Leave children that outlive this process to init; otherwise each causes a ResourceWarning."""
    while _children:
        _, child = _children.popitem()
        child.returncode = child.poll() or 0


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged system account to run a process as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Identity:
    """One process: its pid and its start, which are never reused together.

    `created` is the start by the clock, `started` by the system, which no step of the clock changes; empty
    where the system does not show it, or an older custsvc wrote the identity.
    """

    pid: int
    created: float
    started: str = ""

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The identity of the running process with this pid; None if there is none."""
        try:
            return cls(pid, psutil.Process(pid).create_time(), _started(pid))
        except psutil.NoSuchProcess:
            return None

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Identity:
        """The identity that `as_json` gave to a file, maybe by an older custsvc."""
        return cls(record["pid"], record["created"], record.get("started", ""))

    def as_json(self) -> dict[str, Any]:
        return {"pid": self.pid, "created": self.created, "started": self.started}

    def is_running(self) -> bool:
        """Whether exactly this process runs. A zombie does not."""
        child = _children.get(self.pid)
        if child is not None and child.poll() is not None:
            return False
        try:
            process = psutil.Process(self.pid)
            return self._is(process) and not _is_dead(process)
        except psutil.NoSuchProcess:
            return False

    def _is(self, process: psutil.Process) -> bool:
        if self.started and (started := _started(self.pid)):
            return started == self.started
        return bool(abs(process.create_time() - self.created) < _CLOCK_TOLERANCE_S)

    def listens(self, port: int) -> bool:
        """Whether this process listens on a port; True if the system does not show it."""
        try:
            connections = psutil.Process(self.pid).net_connections("tcp")
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True
        return any(c.status == psutil.CONN_LISTEN and c.laddr[1:] == (port,) for c in connections)

    def exit_code(self) -> int | None:
        """The exit code; None if it is not a child of this process or still runs."""
        child = _children.get(self.pid)
        return None if child is None else child.poll()


def _started(pid: int) -> str:
    """The boot and the ticks after it at which a process started; empty where the system does not show it."""
    try:
        # The name of the program, in brackets, may contain anything.
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return f"{_BOOT.read_text('ascii').strip()} {fields[_START_TICKS]}"
    except (OSError, IndexError):
        return ""


def _is_dead(process: psutil.Process) -> bool:
    # The first thread may have ended while other threads still hold ports and files.
    return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1


def spawn(
    argv: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    account: Account | None = None,
) -> Identity:
    """Start a process in a new session (no Ctrl-C from the terminal), with its output appended to `log`."""
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with private.appended(log) as output:
        child = subprocess.Popen(
            [str(a) for a in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
            **as_account(account),
        )
    _children[child.pid] = child
    return Identity.of(child.pid) or Identity(child.pid, time.time())


def as_account(account: Account | None) -> dict[str, Any]:
    """The arguments with which `subprocess` runs a program as this account."""
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}


def send(identity: Identity, signum: signal.Signals) -> None:
    """Signal a process if it still runs."""
    if identity.is_running():
        with suppress(ProcessLookupError):
            os.kill(identity.pid, signum)


def stop(identity: Identity, *, grace_s: float, signum: signal.Signals = signal.SIGTERM) -> bool:
    """Ask a process to end, and kill it after `grace_s`. True if it ended by itself."""
    send(identity, signum)
    if wait_until(lambda: not identity.is_running(), grace_s):
        return True
    kill(identity)
    return False


def kill(identity: Identity) -> None:
    """End a process at once and wait until it is gone."""
    send(identity, signal.SIGKILL)
    wait_until(lambda: not identity.is_running(), 10)


def kill_session(pid: int) -> None:
    """Kill all processes in the session of a process that `spawn` started, in any process group."""
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == pid:
                os.kill(process.pid, signal.SIGKILL)


def find(*words: str) -> list[Identity]:
    """The running processes whose command line has all these arguments."""
    found = []
    for process in psutil.process_iter(["cmdline", "create_time", "status"]):
        line = process.info["cmdline"] or []
        if process.info["status"] != psutil.STATUS_ZOMBIE and all(word in line for word in words):
            found.append(Identity(process.pid, process.info["create_time"], _started(process.pid)))
    return found


def wait_until(condition: Callable[[], bool], deadline_s: float, *, every_s: float = 0.02) -> bool:
    """Wait until the condition holds; False if it does not within the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every_s)
    return True


def tail(log: Path, lines: int = 20, *, since: int = 0) -> list[str]:
    """The last lines of a log after the byte `since`."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since if since <= size else 0, size - 64 * 1024))
            return file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []


def rotate(log: Path, limit: int = LOG_LIMIT) -> None:
    """Rename a log above the limit to `NAME.1`, replacing an older one."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > limit:
            log.replace(log.with_name(log.name + ".1"))


@contextmanager
def file_lock(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold an exclusive lock between processes; the system frees it when its holder dies."""
    while True:
        with private.writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            locked = private.appended(path)
        with locked as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if on_wait is not None:
                    on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            # The previous holder may have removed the file; a lock on a removed file excludes no process.
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                yield
                return
