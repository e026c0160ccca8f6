"""The supervisor over stand-in roles: small Python commands; the only server is the mail catcher."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from custsvc.errors import ConfigurationError, CustsvcError
from custsvc.local import LocalServers, process, runs
from custsvc.local.process import Identity
from custsvc.local.roles import Backoff, is_problem, readable
from custsvc.local.runs import Run

# Roles tell what happens to them in one file, in order.
ROLE = """
import os, signal, sys, time
from pathlib import Path
from custsvc.runtime.process import exit_with_parent
name, events, watch = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "watch"
def tell(what):
    with events.open("a") as file: file.write(f"{name} {what}\\n")
def stop(*_):
    tell("stopped"); os._exit(0)
signal.signal(signal.SIGTERM, stop)
if watch: exit_with_parent(every_s=0.1)
print(f"{name} says hello", flush=True)
tell("started")
"""
STEADY = ROLE + "time.sleep(120)"
DEAF = ROLE + "signal.signal(signal.SIGTERM, signal.SIG_IGN); tell('deaf'); time.sleep(120)"
# It may take a loaded machine so long to start one that crashes that it would pass for one that stands.
NEVER_READY = ", ready=lambda: False"
CRASHES = ROLE + "print('boom, says ' + name, flush=True); time.sleep(0.3); os._exit(3)"

SUPERVISOR = """
import sys
from pathlib import Path
from custsvc.errors import CustsvcError
from custsvc.local.roles import Backoff
from custsvc.local.servers import LocalServers
from custsvc.local.supervisor import RoleSpec, Supervisor
folder, events = Path(sys.argv[1]), sys.argv[2]
def role(name, code, watch="watch", **more):
    return RoleSpec(name, [sys.executable, "-c", code, name, events, watch], **more)
def say(line): print(line, file=sys.stderr, flush=True)
servers = LocalServers(folder, names=NAMES, on_progress=say)
supervisor = Supervisor(servers, ROLES, say, grace_s=GRACE, backoff=lambda: Backoff(0.05, 0.2))
try:
    sys.exit(supervisor.run(lambda s: say("ready")))
except CustsvcError as exc:
    say(f"error: {exc}"); sys.exit(exc.exit_code)
"""


class Up:
    """A supervisor in a process of its own, with what it says and what its roles tell."""

    def __init__(self, folder: Path, roles: Sequence[str], names: str, grace_s: float) -> None:
        self.data_dir = folder / "data"
        self._roles = len(roles)
        self.events_path = folder / "events"
        self.said_path = folder / "said"
        argv = supervisor_argv(folder, roles, names, grace_s)
        with self.said_path.open("wb") as said:
            self.process = subprocess.Popen(argv, stderr=said, stdout=said)

    def said(self) -> str:
        return self.said_path.read_text()

    def events(self) -> list[str]:
        return self.events_path.read_text().splitlines() if self.events_path.exists() else []

    def until(self, condition: Callable[[], object], what: str, deadline_s: float = 60) -> None:
        assert process.wait_until(lambda: bool(condition()), deadline_s), f"{what}; it said:\n{self.said()}"

    def until_ready(self) -> Up:
        """Until the supervisor is content, and every role has got as far as to hear signals."""
        self.until(lambda: "ready\n" in self.said(), "not ready")
        started = " started"
        self.until(lambda: sum(e.endswith(started) for e in self.events()) >= self._roles, "not started")
        return self

    def pid_of(self, role: str) -> int:
        return Run(self.data_dir).roles()[role].pid

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def supervisor_argv(folder: Path, roles: Sequence[str], names: str, grace_s: float = 60.0) -> list[str]:
    """The command of a supervisor whose roles have that long to stop."""
    words = {"NAMES": names, "ROLES": f"[{', '.join(roles)}]", "GRACE": str(grace_s)}
    code = SUPERVISOR
    for word, value in words.items():
        code = code.replace(word, value)
    return [sys.executable, "-c", code, str(folder / "data"), str(folder / "events")]


@pytest.fixture
def up(folder: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*roles: str, names: str = "()", grace_s: float = 60.0) -> Up:
        started.append(Up(folder, roles, names, grace_s))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait(60)
        runs.down(each.data_dir, print)


def role(name: str, code: str = STEADY, more: str = "") -> str:
    return f"role({name!r}, {code!r}{more})"


def test_roles_stop_in_order_and_servers_last(up: Callable[..., Up]) -> None:
    running = up(role("serve"), role("relay"), names="('mail',)").until_ready()

    assert running.stop() == 0

    assert running.events()[-2:] == ["serve stopped", "relay stopped"]
    assert running.said().index("stopping relay") < running.said().index("stopping the servers")
    assert LocalServers(running.data_dir).env() == {}
    assert not (running.data_dir / "up.json").exists()


def test_a_crashed_role_is_started_again_and_its_last_lines_shown(up: Callable[..., Up]) -> None:
    running = up(role("serve")).until_ready()
    pid = running.pid_of("serve")

    os.kill(pid, signal.SIGKILL)

    running.until(lambda: running.events() == ["serve started"] * 2, "not started again")
    assert "serve ended (killed by SIGKILL)" in running.said()
    assert "  serve says hello" in running.said()
    running.until(lambda: running.pid_of("serve") != pid, "the new one is not recorded")


def test_the_children_of_a_crashed_role_are_ended_before_it_restarts(up: Callable[..., Up]) -> None:
    mark = f"child-{uuid.uuid4()}"
    argv = f"[sys.executable, '-c', 'import time; time.sleep(99)', '{mark}']"
    child = f"import subprocess; subprocess.Popen({argv}, process_group=0)\n"
    running = up(role("serve", ROLE + child + "time.sleep(120)")).until_ready()
    running.until(lambda: len(process.find(mark)) == 1, "no child")
    (orphan,) = process.find(mark)

    os.kill(running.pid_of("serve"), signal.SIGKILL)

    running.until(lambda: not orphan.is_running(), "the child still runs")
    running.stop()
    assert process.find(mark) == []


def test_a_role_that_keeps_ending_at_the_start_is_an_error_and_all_is_stopped(up: Callable[..., Up]) -> None:
    running = up(role("relay"), role("serve", CRASHES, NEVER_READY), names="('mail',)")

    assert running.process.wait(60) == 1

    assert "boom, says serve" in running.said()
    assert "error: serve ended 3 times while starting" in running.said()
    assert running.events()[-1] == "relay stopped"
    assert LocalServers(running.data_dir).env() == {}


def test_a_role_that_does_not_stop_is_killed(up: Callable[..., Up]) -> None:
    running = up(role("serve", DEAF), grace_s=1.0).until_ready()
    running.until(lambda: "serve deaf" in running.events(), "it still hears")
    deaf = Identity.of(running.pid_of("serve"))

    assert running.stop() == 0

    assert "serve did not stop within 1 s and was killed" in running.said()
    assert deaf is not None
    assert not deaf.is_running()


def test_a_second_ctrl_c_kills_everything(up: Callable[..., Up]) -> None:
    running = up(role("serve", DEAF), names="('mail',)").until_ready()
    running.until(lambda: "serve deaf" in running.events(), "it still hears")
    deaf = Identity.of(running.pid_of("serve"))

    running.process.send_signal(signal.SIGINT)
    running.until(lambda: "stopping serve" in running.said(), "does not stop")
    running.process.send_signal(signal.SIGINT)

    assert running.process.wait(60) == 130
    assert deaf is not None
    assert not deaf.is_running()
    assert LocalServers(running.data_dir).env() == {}


def test_roles_end_with_a_supervisor_that_was_killed(up: Callable[..., Up]) -> None:
    running = up(role("serve")).until_ready()

    running.process.kill()

    running.until(lambda: running.events() == ["serve started", "serve stopped"], "the role still runs")


def test_the_next_supervisor_ends_roles_that_were_left_and_joins_the_servers(up: Callable[..., Up]) -> None:
    first = up(role("serve", STEADY, ", watch='no'"), names="('mail',)").until_ready()
    left = Identity.of(first.pid_of("serve"))
    mail = LocalServers(first.data_dir).server("mail").pid
    first.process.kill()
    first.process.wait(60)

    second = up(role("serve"), names="('mail',)").until_ready()

    assert left is not None
    assert not left.is_running()
    assert "stopped serve, left behind" in second.said()
    assert "mail catcher already ran" in second.said()
    assert LocalServers(second.data_dir).server("mail").pid == mail


def test_a_second_supervisor_over_the_same_folder_is_refused(up: Callable[..., Up]) -> None:
    running = up(role("serve")).until_ready()

    with pytest.raises(ConfigurationError, match=f"already runs .*pid {running.process.pid}") as caught:
        Run(running.data_dir).claim({})

    assert "custsvc down" in str(caught.value.fix)
    assert running.process.poll() is None


def test_a_crashed_server_is_started_again(up: Callable[..., Up]) -> None:
    running = up(names="('mail',)").until_ready()
    servers = LocalServers(running.data_dir)
    pid, port = servers.server("mail").pid, servers.server("mail").port

    servers.server("mail").kill()

    running.until(lambda: servers.server("mail").pid not in (None, pid), "not started again")
    running.until(lambda: "mail catcher ready" in running.said().split("ended; starting")[-1], "not ready")
    assert servers.server("mail").port == port


def test_a_role_that_is_run_once_is_not_started_again(up: Callable[..., Up]) -> None:
    once = ROLE + "print('wrote 5 customers', flush=True)"

    running = up(role("serve"), role("seed", once, ", once=True")).until_ready()

    running.until(lambda: "seed is done\n  wrote 5 customers" in running.said(), "not done")
    assert running.stop() == 0
    assert running.events().count("seed started") == 1


def test_warnings_of_roles_are_passed_on_and_the_rest_is_in_their_logs(up: Callable[..., Up]) -> None:
    lines = (
        '{"level": "info", "message": "all is well"}',
        '{"level": "warning", "message": "Kafka is slow"}',
        "12:00:00 relay     ERROR   no route",
    )
    running = up(
        role("relay", ROLE + f"print({chr(10).join(lines)!r}, flush=True); time.sleep(99)")
    ).until_ready()

    running.until(lambda: "no route" in running.said(), "the error is not shown")
    assert "relay: WARNING Kafka is slow\n" in running.said()
    assert "all is well" not in running.said()
    assert "all is well" in (running.data_dir / "logs/relay.log").read_text()


def test_down_stops_a_supervisor_and_status_shows_what_runs(up: Callable[..., Up]) -> None:
    running = up(role("serve"), names="('mail',)").until_ready()

    state = runs.status(running.data_dir)
    assert (state.supervisor, state.ready) == (running.process.pid, True)
    assert {(part.kind, part.name, part.running) for part in state.parts} == {
        ("role", "serve", True),
        ("server", "mail", True),
    }

    assert runs.down(running.data_dir, print) is True
    assert running.process.wait(60) == 0
    assert runs.down(running.data_dir, print) is False
    assert not any(part.running for part in runs.status(running.data_dir).parts)


def test_a_detached_run_is_waited_for_until_it_is_ready(folder: Path) -> None:
    said: list[str] = []
    try:
        runs.run_detached(folder / "data", supervisor_argv(folder, [role("serve")], "('mail',)"), said.append)

        assert runs.status(folder / "data").ready
        assert any("mail catcher ready" in line for line in said)
        with pytest.raises(ConfigurationError, match="already runs"):
            runs.run_detached(folder / "data", [sys.executable, "-c", ""], said.append)
    finally:
        assert runs.down(folder / "data", said.append)


def test_a_detached_run_that_fails_says_why(folder: Path) -> None:
    said: list[str] = []
    argv = supervisor_argv(folder, [role("serve", CRASHES, NEVER_READY)], "('mail',)")

    with pytest.raises(CustsvcError, match="ended while starting") as caught:
        runs.run_detached(folder / "data", argv, said.append)

    assert any("boom, says serve" in line for line in said)
    assert "up.log" in str(caught.value.fix)
    assert LocalServers(folder / "data").env() == {}


def test_a_process_without_a_supervisor_watches_nothing() -> None:
    code = "from custsvc.runtime.process import exit_with_parent; assert exit_with_parent() is None"
    env = {name: value for name, value in os.environ.items() if name != "CUSTSVC_PARENT_PID"}

    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == 0


def test_a_process_that_ignores_the_end_of_its_supervisor_is_ended_hard(tmp_path: Path) -> None:
    role_code = textwrap.dedent("""
        import signal, time; from custsvc.runtime.process import exit_with_parent
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        exit_with_parent(every_s=0.05, grace_s=0.3); print("up", flush=True); time.sleep(60)
    """)
    parent_code = (
        "import os, subprocess, sys\n"
        "env = {**os.environ, 'CUSTSVC_PARENT_PID': str(os.getpid())}\n"
        "child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], env=env, stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(child.pid, flush=True); os._exit(0)"
    )

    done = subprocess.run(
        [sys.executable, "-c", parent_code, role_code],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    child = Identity.of(int(done.stdout))

    assert process.wait_until(lambda: child is None or not child.is_running(), 60)


@pytest.mark.parametrize(
    ("failures", "longest"), [(0, 0.5), (1, 1.0), (2, 2.0), (5, 16.0), (6, 30.0), (1000, 30.0)]
)
def test_the_wait_doubles_up_to_a_cap_and_is_jittered(failures: int, longest: float) -> None:
    backoff = Backoff(0.5, 30.0, random.Random(1))
    backoff.failures = failures

    waits = []
    for _ in range(100):
        backoff.failures = failures
        waits.append(backoff.next())

    assert longest / 2 <= min(waits) < max(waits) <= longest
    assert len(set(waits)) > 50


@pytest.mark.parametrize(
    ("line", "problem", "shown"),
    [
        ('{"level": "info", "message": "m"}', False, "INFO m"),
        ('{"level": "error", "message": "m", "exception": "T\\nE: x"}', True, "ERROR m (E: x)"),
        ("12:00:00 relay     WARNING careful", True, "12:00:00 relay     WARNING careful"),
        ("error: no such thing", True, "error: no such thing"),
        ("{not json", False, "{not json"),
        ("plain", False, "plain"),
    ],
)
def test_log_lines_are_read_in_both_forms(line: str, problem: bool, shown: str) -> None:
    assert (is_problem(line), readable(line)) == (problem, shown)


def test_ctrl_c_while_servers_start_stops_them(up: Callable[..., Up]) -> None:
    running = up(names="('mongo',)")
    running.until(lambda: (running.data_dir / "logs/mongo.log").exists(), "does not start")

    assert running.stop() == 0

    assert LocalServers(running.data_dir).env() == {}
