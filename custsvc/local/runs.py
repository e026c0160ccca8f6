"""The run of `up` over a data folder: claim it, read its status, start it detached, stop it.

`<data_dir>/up.json` names the supervisor and its roles, each by pid and creation time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from custsvc.errors import ConfigurationError, CustsvcError, ExitCode, TemporaryError

from . import private, process
from .process import Identity
from .servers import KINDS, LocalServers
from .state import Record, read_json, write_json

STOP_S = 120.0
START_S = 300.0


@dataclass(frozen=True, slots=True)
class Part:
    """A role or server of a data folder."""

    kind: str  # "role" or "server"
    name: str
    pid: int | None
    running: bool
    url: str = ""
    log: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The processes of a data folder. `supervisor` is the pid of `up`, None if it does not run."""

    data_dir: Path
    supervisor: int | None
    ready: bool
    parts: tuple[Part, ...]
    info: Mapping[str, str]


class Run:
    """The file of the run. Only its supervisor writes it."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.absolute()
        self.path = self.data_dir / "up.json"
        self._me: Identity | None = None
        self._info: dict[str, str] = {}
        self._made_data_dir = False

    def claim(self, info: Mapping[str, str]) -> list[str]:
        """Become the supervisor of this data folder; stop the roles that a killed supervisor left running.

        Returns the names of those roles. Raises ConfigurationError if another supervisor runs.
        """
        self._made_data_dir = not self.data_dir.exists()
        private.data_folder(self.data_dir)
        with process.file_lock(self.data_dir / "up.lock"):
            self.check_free()
            left = [(name, role) for name, role in self.roles().items() if role.is_running()]
            for _, role in left:
                process.send(role, signal.SIGTERM)
            for _, role in left:
                process.stop(role, grace_s=10)
                process.kill_session(role.pid)
            self._me = Identity.of(os.getpid())
            self._info = dict(info)
            self.write({}, ready=False)
            return [name for name, _ in left]

    def check_free(self) -> None:
        """Raise ConfigurationError if a supervisor runs."""
        other = self.supervisor()
        if other is not None:
            raise ConfigurationError(
                f"custsvc up already runs in {self.data_dir} (pid {other.pid})",
                fix=f"custsvc down --data-dir {self.data_dir}, or give another --data-dir and --port",
            )

    @property
    def is_mine(self) -> bool:
        """Whether this process is the supervisor."""
        return self._me is not None

    def write(self, roles: Mapping[str, Identity], *, ready: bool) -> None:
        """Write the state for other processes. Only for the supervisor that has claimed the run."""
        if self._me is None:
            raise CustsvcError(f"this process has not claimed {self.path}")
        content: Record = {"supervisor": self._me.as_json(), "ready": ready, "info": self._info}
        content["roles"] = {name: role.as_json() for name, role in roles.items()}
        write_json(self.path, content)

    def remove(self) -> None:
        """End the run: remove its files."""
        self.path.unlink(missing_ok=True)
        (self.data_dir / "up.lock").unlink(missing_ok=True)
        if self._made_data_dir:
            with suppress(OSError):  # not empty: data or logs are kept
                self.data_dir.rmdir()

    def supervisor(self) -> Identity | None:
        """The supervisor, if it runs."""
        found = read_json(self.path).get("supervisor")
        identity = Identity.from_json(found) if found else None
        return identity if identity is not None and identity.is_running() else None

    def roles(self) -> dict[str, Identity]:
        """The roles by name, as last written."""
        return {
            name: Identity.from_json(role) for name, role in read_json(self.path).get("roles", {}).items()
        }

    def is_ready(self, supervisor: Identity) -> bool:
        """Whether this supervisor has reported that all is ready."""
        content = read_json(self.path)
        found = content.get("supervisor") or {}
        return found.get("pid") == supervisor.pid and content.get("ready") is True

    def info(self) -> dict[str, str]:
        """The supervisor's facts for others: API address, backend …"""
        return dict(read_json(self.path).get("info", {}))


def status(data_dir: Path) -> Status:
    """The processes of a data folder."""
    run = Run(data_dir)
    supervisor = run.supervisor()
    servers = LocalServers(data_dir)
    parts = []
    for name in KINDS:
        server = servers.server(name)
        record = server.record
        if record.get("pid"):
            url, log = str(record.get("url", "")), str(record.get("log", ""))
            parts.append(Part("server", name, server.pid, server.is_running(), url, log))
    for name, role in run.roles().items():
        log = str(servers.home / "logs" / f"{name}.log")
        running = role.is_running()
        parts.append(Part("role", name, role.pid if running else None, running, log=log))
    ready = supervisor is not None and run.is_ready(supervisor)
    return Status(run.data_dir, supervisor.pid if supervisor else None, ready, tuple(parts), run.info())


def down(data_dir: Path, say: Callable[[str], None]) -> bool:
    """Stop the supervisor of a data folder, detached or not, and all servers. False if nothing ran."""
    run = Run(data_dir)
    supervisor = run.supervisor()
    if supervisor is not None:
        say(f"stopping custsvc up (pid {supervisor.pid})")
        if not process.stop(supervisor, grace_s=STOP_S):
            say(f"it did not stop within {STOP_S:g} s and was killed")
    for name, role in run.roles().items():
        if role.is_running():
            say(f"stopping {name}, which was left behind")
            process.stop(role, grace_s=10)
            process.kill_session(role.pid)
    stopped = supervisor is not None
    if run.path.exists() and run.supervisor() is None:
        run.remove()
    for ephemeral in (True, False):
        servers = LocalServers(data_dir, ephemeral=ephemeral, on_progress=say)
        if ephemeral and not (run.data_dir / "ephemeral.json").exists():
            continue
        stopped = bool(servers.env()) or stopped
        servers.stop()
    return stopped


def run_detached(data_dir: Path, argv: Sequence[str], say: Callable[[str], None]) -> dict[str, str]:
    """Run `argv`, a foreground `up`, in the background, and wait until all of it is ready.

    Passes its output to `say`. Returns `Run.info()`. If it ends before, raises an error with its exit code.
    """
    run = Run(data_dir)
    run.check_free()
    log = run.data_dir / "logs" / "up.log"
    process.rotate(log)
    passed_on = log.stat().st_size if log.exists() else 0
    with private.writing(data_dir):
        child = process.spawn(argv, log=log)

    def settled() -> bool:
        nonlocal passed_on
        ended = not child.is_running()
        with log.open("rb") as file:
            file.seek(passed_on)
            new = file.read()
        whole = new if ended else new[: new.rfind(b"\n") + 1]
        passed_on += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            say(line)
        return ended or run.is_ready(child)

    if not process.wait_until(settled, START_S, every_s=0.1):
        process.stop(child, grace_s=30)
        raise CustsvcError(f"custsvc up was not ready within {START_S:g} s and was stopped", fix=f"see {log}")
    if not child.is_running():
        raise _ended(child.exit_code(), log)
    return run.info()


def _ended(code: int | None, log: Path) -> CustsvcError:
    message, fix = f"custsvc up ended while starting (exit code {code})", f"see {log}"
    if code == ExitCode.CONFIGURATION:
        return ConfigurationError(message, fix=fix)
    if code == ExitCode.UNREACHABLE:
        return TemporaryError(message, dependency="local", fix=fix)
    return CustsvcError(message, fix=fix)
