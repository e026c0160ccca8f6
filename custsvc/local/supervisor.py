"""`custsvc up`: run the servers and the roles, restart them after a crash, stop them in order.

Roles stop in their order, then the servers. The first SIGINT or SIGTERM (or the terminal's end) drains, a
second one kills. Roles watch their supervisor and end within a second after it is killed
(`custsvc.runtime.process`).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType

from custsvc.errors import CustsvcError, ExitCode, TemporaryError

from . import process
from .roles import HEALTHY_S, Backoff, Role, RoleSpec
from .runs import Run
from .servers import LocalServers

__all__ = ["RoleSpec", "Supervisor"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TICK_S = 0.1
_SERVER_LOOK_S = 1.0
_TRIES_AT_START = 3
_LINES_AT_ONCE = 20


class Killed(BaseException):
    """The second signal: no time for an orderly stop."""


class RoleFailed(CustsvcError):
    """A role did not become ready."""


class Supervisor:
    """Runs roles and their servers in the foreground of this process. Call `run` once."""

    def __init__(
        self,
        servers: LocalServers,
        roles: Sequence[RoleSpec],
        say: Callable[[str], None],
        *,
        info: Mapping[str, str] | None = None,
        grace_s: float = 10.0,
        ready_within_s: float = 90.0,
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        self._servers = servers
        self._specs = list(roles)
        self._say = say
        self._info = dict(info or {})
        self._grace_s = grace_s
        self._ready_within_s = ready_within_s
        self._backoff = backoff
        self._run = Run(servers.data_dir)
        self._roles: list[Role] = []
        self._env: dict[str, str] = {}
        self._ready = False
        self._stop_asked = False
        # A thread restarts servers, one at a time: Kafka takes seconds, and signals must not wait.
        self._repairs = ThreadPoolExecutor(1, thread_name_prefix="repair")
        self._repair: tuple[str, Future[None]] | None = None
        self._server_backoffs = {name: backoff() for name in servers.names}
        self._server_not_before: dict[str, float] = {}
        self._next_look = 0.0

    @property
    def env(self) -> dict[str, str]:
        """The servers' addresses, once they run."""
        return dict(self._env)

    def run(
        self,
        on_ready: Callable[[Supervisor], None] | None = None,
        *,
        preflight: Callable[[], None] | None = None,
    ) -> int:
        """Start all, call `on_ready`, supervise until a signal, stop all. Returns the exit code.

        `preflight` runs before anything is started, after the left-overs of an earlier run are gone; it may
        raise to refuse the start.

        If a server or role does not start, stops everything and raises the error.
        """
        with self._signals():
            try:
                for name in self._run.claim(self._info):
                    self._say(f"stopped {name}, left behind by a supervisor that was killed")
                if preflight is not None:
                    preflight()
                return self._start_and_watch(on_ready)
            except Killed:
                self._kill_all()
                return ExitCode.INTERRUPTED
            except CustsvcError:
                if self._run.is_mine:
                    self._run.remove()
                raise
            finally:
                self._repairs.shutdown(wait=False, cancel_futures=True)

    def add(self, spec: RoleSpec) -> None:
        """Add a role; the next turn of the loop starts it."""
        role = Role(spec, self._servers.home / "logs" / f"{spec.name}.log", self._backoff())
        self._roles.append(role)

    def _start_and_watch(self, on_ready: Callable[[Supervisor], None] | None) -> int:
        try:
            self._start_servers()
            for spec in self._specs:
                self.add(spec)
            self._bring_up()
            if not self._stop_asked:
                self._ready = True
                self._write()
                if on_ready is not None:
                    on_ready(self)
            while not self._stop_asked:
                self._turn()
                time.sleep(_TICK_S)
        finally:
            self._stop_all()
        return ExitCode.OK

    def _start_servers(self) -> None:
        try:
            self._env = self._servers.start()
        except TemporaryError:
            if not self._stop_asked:
                raise

    def _bring_up(self) -> None:
        """Wait until every role is ready. Raises RoleFailed for a role that keeps ending."""
        end = time.monotonic() + self._ready_within_s
        waiting = [role for role in self._roles if not role.spec.once]
        while waiting and not self._stop_asked:
            self._turn()
            waiting = [role for role in waiting if not role.is_ready()]
            for role in waiting:
                if role.backoff.failures >= _TRIES_AT_START:
                    raise self._failed(role, f"ended {role.backoff.failures} times while starting")
            if waiting and time.monotonic() > end:
                raise self._failed(waiting[0], f"was not ready within {self._ready_within_s:g} s")
            time.sleep(_TICK_S)

    def _failed(self, role: Role, what: str) -> RoleFailed:
        return RoleFailed(f"{role.spec.name} {what}", fix=f"see the lines above, or all of {role.log}")

    def _turn(self) -> None:
        """Check every role and server once."""
        for role in self._roles:
            self._pass_on_problems(role)
            if role.has_ended():
                self._after_end(role)
            elif role.start_at is not None and time.monotonic() >= role.start_at:
                role.start(self._env)
                self._write()
            role.note_health()
        if time.monotonic() >= self._next_look:
            self._look_at_servers()
            self._next_look = time.monotonic() + _SERVER_LOOK_S

    def _after_end(self, role: Role) -> None:
        name, code = role.spec.name, role.exit_code
        if role.spec.once:
            self._say(f"{name} is done" if code == 0 else f"{name} failed (exit code {code})")
            self._show_lines(role.last_lines(1 if code == 0 else 10))
        else:
            wait = role.postpone()
            self._say(f"{name} ended ({_how(code)}); starting it again in {wait:.1f} s. Its last lines:")
            self._show_lines(role.last_lines())
        self._write()

    def _pass_on_problems(self, role: Role) -> None:
        lines = list(role.problems())
        self._show_lines(lines[:_LINES_AT_ONCE], prefix=f"{role.spec.name}: ")
        left_out = len(lines[_LINES_AT_ONCE:]) + (role.held_back() if lines else 0)
        if left_out:
            self._say(f"{role.spec.name}: … {left_out} more like these in {role.log}")

    def _show_lines(self, lines: Sequence[str], prefix: str = "  ") -> None:
        for line in lines:
            self._say(prefix + line)

    def _look_at_servers(self) -> None:
        if self._repair is not None:
            self._finish_repair()
            return
        for name in self._servers.names:
            backoff = self._server_backoffs[name]
            due = time.monotonic() - self._server_not_before.get(name, 0.0)
            server = self._servers.server(name)
            if server.is_running():
                if backoff.failures and due > HEALTHY_S:
                    backoff.reset()
            elif due >= 0:
                wait = backoff.next()
                self._server_not_before[name] = time.monotonic() + wait
                self._say(f"{server.title} ended; starting it again. Its last lines:")
                self._show_lines(process.tail(server.log_path, 10))
                self._repair = (name, self._repairs.submit(self._servers.restart, name))
                return

    def _finish_repair(self) -> None:
        if self._repair is None or not self._repair[1].done():
            return
        (name, future), self._repair = self._repair, None
        error = future.exception()
        if error is not None:
            self._say(f"{self._servers.server(name).title} could not be started again: {error}")
            return
        env = self._servers.env()
        moved = {key for key, value in env.items() if self._env.get(key) != value}
        self._env.update(env)
        if moved:
            self._say(f"{', '.join(sorted(moved))} changed; starting the roles again")
            for role in self._roles:
                if not role.spec.once:
                    role.stop(self._grace_s)
                    role.start_at = 0.0

    # Shutdown.

    def _stop_all(self) -> None:
        for role in self._roles:
            self._pass_on_problems(role)
            if role.is_running():
                self._say(f"stopping {role.spec.name}")
            if not role.stop(self._grace_s):
                self._say(f"{role.spec.name} did not stop within {self._grace_s:g} s and was killed")
            self._pass_on_problems(role)
        self._repairs.shutdown(wait=True, cancel_futures=True)
        if self._servers.names:
            self._say("stopping the servers")
        self._servers.stop()
        self._run.remove()

    def _kill_all(self) -> None:
        self._say("killing everything")
        for role in self._roles:
            role.kill()
        for name in self._servers.names:
            self._servers.server(name).kill()
        self._servers.stop()  # removes an ephemeral set
        self._run.remove()

    def _write(self) -> None:
        running = {role.spec.name: role.identity for role in self._roles if role.identity is not None}
        self._run.write(running, ready=self._ready)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(_signum: int, _frame: FrameType | None) -> None:
            if self._stop_asked:
                raise Killed
            self._stop_asked = True
            self._servers.cancelled.set()

        before = {signum: signal.signal(signum, stop) for signum in _SIGNALS}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)


def _how(code: int | None) -> str:
    if code is None:
        return "for an unknown reason"
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
