"""The common base of the four embedded servers: a process, its ports, its log, its record in the state."""

from __future__ import annotations

import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import ClassVar

from custsvc.errors import TemporaryError

from . import ports, private, process
from .process import Account, Identity
from .state import Record, State


class Server(ABC):
    """One embedded server over one folder.

    `start` returns when the process runs, `wait_ready` when it answers. If other processes may call `start`
    or `stop` too, the caller must hold the lock of the set (`LocalServers` does).
    """

    name: ClassVar[str]
    title: ClassVar[str]
    variable: ClassVar[str]  # the environment variable of its address
    dependency: ClassVar[str]  # its name in errors
    port_names: ClassVar[tuple[str, ...]] = ("port",)
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    grace_s: ClassVar[float] = 20.0

    def __init__(self, home: Path, state: State, say: Callable[[str], None], cancelled: Event) -> None:
        self.folder = home / self.name
        self.log_path = home / "logs" / f"{self.name}.log"
        self.say = say
        self.cancelled = cancelled
        self._state = state
        self._log_start = 0

    # What each server defines.

    @property
    @abstractmethod
    def url(self) -> str:
        """The address for clients."""

    @abstractmethod
    def prepare(self) -> None:
        """Prepare its folder for `command`. Called after the ports are chosen."""

    @abstractmethod
    def command(self) -> Sequence[str | Path]:
        """The command line."""

    @abstractmethod
    def probe(self) -> bool:
        """Whether it answers. May finish the set-up after the start (create the database …)."""

    @abstractmethod
    def marks(self) -> Sequence[str]:
        """Arguments of its command line that identify a process over this folder."""

    def close_folder(self) -> None:
        """Create its folder, closed to other users."""
        private.folder(self.folder)

    def environment(self) -> Mapping[str, str]:
        return os.environ

    def account(self) -> Account | None:
        """The account to run it as; None: the account of this process."""
        return None

    # What they share.

    @property
    def record(self) -> Record:
        return self._state.get(self.name)

    @property
    def identity(self) -> Identity | None:
        record = self.record
        return Identity.from_json(record) if record.get("pid") else None

    @property
    def pid(self) -> int | None:
        """The pid of the running process, else None."""
        identity = self.identity
        return identity.pid if identity is not None and identity.is_running() else None

    @property
    def port(self) -> int:
        port: int = self.record["port"]
        return port

    @property
    def address(self) -> str:
        """host:port."""
        return f"{ports.HOST}:{self.port}"

    def is_running(self) -> bool:
        return self.pid is not None

    def listens(self) -> bool:
        """Whether this server, not another process, listens on its port."""
        identity = self.identity
        return identity is not None and identity.listens(self.port)

    def start(self) -> None:
        """Start the process, unless it runs. First stops stray processes over the same folder."""
        if self.is_running():
            return
        for stray in process.find(*self.marks()):
            process.stop(stray, grace_s=self.grace_s, signum=self.stop_signal)
        self._choose_ports()
        private.folder(self.log_path.parent)
        self.close_folder()
        self.prepare()
        process.rotate(self.log_path)
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        identity = process.spawn(
            self.command(), log=self.log_path, env=self.environment(), cwd=self.folder, account=self.account()
        )
        self._remember(**identity.as_json(), log=str(self.log_path), url=self.url)

    def _choose_ports(self) -> None:
        chosen = {name: self.record.get(name) for name in self.port_names}
        for name, remembered in chosen.items():
            chosen[name] = ports.choose(remembered, other_than=chosen.values())
        self._remember(**chosen)

    def lost_a_port(self) -> bool:
        """Whether it ended and another process has a port of it; the next start chooses another port."""
        return not (self.is_running() or all(ports.is_free(self.record[name]) for name in self.port_names))

    def wait_ready(self, deadline_s: float = 120.0) -> None:
        """Wait until it answers. Raises TemporaryError, with the end of its log, if it ends or times out."""
        end = time.monotonic() + deadline_s
        while not (self.listens() and self.probe()):
            if not self.is_running():
                raise self.failure("ended while starting")
            if self.cancelled.is_set():
                raise self.failure("was stopped while starting")
            if time.monotonic() > end:
                raise self.failure(f"did not answer within {deadline_s:g} s")
            time.sleep(0.05)
        self._remember(url=self.url)

    def stop(self) -> None:
        """Ask it to end, and kill it after `grace_s`. Does nothing if it does not run."""
        identity = self.identity
        if identity is not None and not process.stop(identity, grace_s=self.grace_s, signum=self.stop_signal):
            self.say(f"{self.title} did not stop within {self.grace_s:g} s and was killed")

    def kill(self) -> None:
        """End it at once, as a crash would (kill -9)."""
        identity = self.identity
        if identity is not None:
            process.kill(identity)

    def failure(self, what: str) -> TemporaryError:
        """The error of a failed start: the reason, and the end of the server's log."""
        said = "\n".join(f"  {line}" for line in process.tail(self.log_path, since=self._log_start))
        fix = self.fix_of(said) or f"see {self.log_path}"
        return TemporaryError(
            f"{self.title} {what}; the end of {self.log_path}:\n{said or '  (it is empty)'}",
            dependency=self.dependency,
            fix=f"{fix}, or set {self.variable} to a server of your own",
        )

    def fix_of(self, said: str) -> str | None:
        """The fix of a failed start that the end of its log names; None if it is not known."""
        del said
        return None

    def remove(self) -> None:
        """Remove its files outside its folder. The set removes the folder itself."""
        return

    def _remember(self, **values: object) -> None:
        self._state.put(self.name, {**self.record, **values})
