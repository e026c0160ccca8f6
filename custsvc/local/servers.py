"""The set of embedded servers over one data folder: start together, join, stop in order.

`<data_dir>/servers.json` has the ports and processes; a lock excludes two simultaneous starts. With
`ephemeral` the data is in a temporary folder, named in `<data_dir>/ephemeral.json`, and `stop` removes it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

from custsvc.errors import ConfigurationError, TemporaryError
from custsvc.runtime import temporary

from . import private, process
from .kafka import Kafka
from .mail import MailCatcher
from .mongod import Mongod
from .postgres import Postgres
from .server import Server
from .state import State, read_json, write_json

KINDS: dict[str, type[Server]] = {kind.name: kind for kind in (Postgres, Mongod, Kafka, MailCatcher)}
_STOP_ORDER = ("mail", "kafka", "mongo", "postgres")


class LocalServers:
    """The embedded servers of a data folder. The constructor starts and writes nothing."""

    def __init__(
        self,
        data_dir: Path,
        *,
        names: Sequence[str] = tuple(KINDS),
        on_progress: Callable[[str], None] | None = None,
        ephemeral: bool = False,
    ) -> None:
        for name in names:
            if name not in KINDS:
                raise ConfigurationError(f"there is no server {name}", fix=f"one of {', '.join(KINDS)}")
        self.data_dir = data_dir.absolute()
        if not private.is_open_to_us(self.data_dir):
            raise ConfigurationError(
                f"{data_dir} belongs to another user", fix="use --data-dir with your own folder"
            )
        self.names = tuple(names)
        self.ephemeral = ephemeral
        self.cancelled = Event()  # another thread sets it to cancel a start
        self._say = on_progress or (lambda _line: None)
        self._servers: dict[str, Server] = {}

    def start(self) -> dict[str, str]:
        """Start all servers that do not run, in parallel, and wait until all answer. Returns `env()`.

        If one fails, stops the servers that this call started, and raises its error.
        """
        made_data_dir = not self.data_dir.exists()
        with self._locked():
            servers = self._open(made_data_dir)
            fresh = [server for server in servers if not server.is_running()]
            pool = ThreadPoolExecutor(len(servers) or 1, thread_name_prefix="start")
            try:
                results = [pool.submit(self._bring_up, server) for server in servers]
                wait(results)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
            failures = [error for result in results if (error := result.exception()) is not None]
            if failures:
                for server in fresh:
                    server.stop()
                raise failures[0]
            return self.env()

    def env(self) -> dict[str, str]:
        """The addresses of the running servers, by environment variable."""
        running = [server for server in self._known() if server.is_running()]
        return {server.variable: server.url for server in running}

    def remember_source(self, backend: str) -> None:
        """Note which database is the system of record, for later commands."""
        with self._locked():
            self._state().put_source(backend)

    def stop(self) -> None:
        """Stop the running servers; remove an ephemeral set with its data."""
        if not (self._state_path.exists() or self._ephemeral_path.exists()):
            return
        with self._locked():
            ephemeral = self._is_ephemeral()
            servers = sorted(self._known(), key=lambda server: _STOP_ORDER.index(server.name))
            for server in servers:
                server.stop()
            if ephemeral and not self._any_runs(State(self._ephemeral_path)):
                self._remove()

    def restart(self, name: str) -> None:
        """Stop one server, start it, and wait until it answers."""
        with self._locked():
            server = self.server(name)
            server.stop()
            self._bring_up(server)

    def server(self, name: str) -> Server:
        """A server of the set, running or not."""
        if name not in self.names:
            raise ConfigurationError(f"there is no server {name} here", fix=f"one of {', '.join(self.names)}")
        if name not in self._servers:
            self._servers[name] = self._make(name)
        return self._servers[name]

    @property
    def home(self) -> Path:
        """The folder of data and logs: the data folder, or the temporary folder of an ephemeral set."""
        if self._is_ephemeral():
            home = read_json(self._ephemeral_path).get("home")
            return Path(home) if home else self.data_dir / "none"
        return self.data_dir

    @property
    def _state_path(self) -> Path:
        return self.data_dir / "servers.json"

    @property
    def _ephemeral_path(self) -> Path:
        return self.data_dir / "ephemeral.json"

    @property
    def _lock_path(self) -> Path:
        return self.data_dir / "servers.lock"

    def _is_ephemeral(self) -> bool:
        """Whether this set is ephemeral, or an ephemeral set runs here that this process joins."""
        return self.ephemeral or (
            self._ephemeral_path.exists() and self._any_runs(State(self._ephemeral_path))
        )

    @staticmethod
    def _any_runs(state: State) -> bool:
        records = (state.get(name) for name in KINDS)
        return any(process.Identity.from_json(r).is_running() for r in records if r.get("pid"))

    def _make(self, name: str) -> Server:
        return KINDS[name](self.home, self._state(), self._say, self.cancelled)

    def _state(self) -> State:
        return State(self._ephemeral_path if self._is_ephemeral() else self._state_path)

    def _known(self) -> list[Server]:
        return [self.server(name) for name in self.names]

    def _open(self, made_data_dir: bool) -> list[Server]:
        """The servers, after creating the folder of an ephemeral set."""
        if self._is_ephemeral():
            # Servers made before the home was known would use another folder.
            self._servers.clear()
            if not self.home.exists():
                home = Path(tempfile.mkdtemp(prefix="custsvc-", dir=temporary.folder()))
                home.chmod(0o711 if os.geteuid() == 0 else 0o700)
                write_json(self._ephemeral_path, {"home": str(home), "made_data_dir": made_data_dir})
        return self._known()

    def _bring_up(self, server: Server) -> None:
        begun = time.monotonic()
        joined = server.is_running()
        for tries_left in reversed(range(3)):
            server.start()
            try:
                server.wait_ready()
                break
            except TemporaryError:
                # Another process may take the port between the check and the server's start.
                if not (tries_left and server.lost_a_port()):
                    raise
        took = "already ran" if joined else f"ready in {time.monotonic() - begun:.1f} s"
        self._say(f"{server.title} {took} at {server.address}")

    def _remove(self) -> None:
        content = read_json(self._ephemeral_path)
        if content:
            home = Path(content["home"])
            for kind in KINDS.values():
                kind(home, State(self._ephemeral_path), self._say, self.cancelled).remove()
            if home.exists():
                shutil.rmtree(home)
            self._ephemeral_path.unlink()
        self._servers.clear()
        if not self._state_path.exists():
            self._lock_path.unlink()
        if content.get("made_data_dir"):
            with suppress(OSError):  # not empty: it has other files
                self.data_dir.rmdir()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        waiting = f"waiting for another custsvc that starts or stops the servers of {self.data_dir}"
        private.data_folder(self.data_dir)
        with process.file_lock(self._lock_path, lambda: self._say(waiting)):
            yield


def discard_ephemeral(data_dir: Path, say: Callable[[str], None]) -> None:
    """Stop and remove an ephemeral set whose `up` was killed."""
    left = LocalServers(data_dir, ephemeral=True, on_progress=say)
    if left.home.exists():
        say(f"removing what an earlier --ephemeral run left in {left.home}")
        left.stop()


def join_or_start(data_dir: Path, names: Sequence[str], say: Callable[[str], None]) -> dict[str, str]:
    """The addresses of a data folder's servers, for a role without addresses. Starts missing servers."""
    if os.environ.get("CUSTSVC_LOCAL", "").lower() == "never":
        raise ConfigurationError(
            f"no address of {', '.join(names)} is set, and CUSTSVC_LOCAL=never forbids embedded servers",
            fix="set " + ", ".join(KINDS[name].variable for name in names),
        )
    servers = LocalServers(data_dir, names=names)
    missing = [name for name in names if not servers.server(name).is_running()]
    env = servers.start()
    if missing:
        titles = ", ".join(KINDS[name].title for name in missing)
        say(f"started {titles} in {data_dir}; they keep running: stop them with `custsvc down`")
    return env
