"""Processes by pid and creation time, logs, locks."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from custsvc.local import ports, process
from custsvc.local.process import Identity


def python(code: str, log: Path) -> Identity:
    return process.spawn([sys.executable, "-c", code], log=log)


def test_a_pid_given_to_another_process_is_not_mistaken_for_the_first(tmp_path: Path) -> None:
    sleeper = python("import time; time.sleep(60)", tmp_path / "log")

    assert sleeper.is_running()
    assert not replace(sleeper, started=sleeper.started + "0").is_running()
    assert not Identity(sleeper.pid, sleeper.created - 60).is_running()
    process.kill(sleeper)
    assert not sleeper.is_running()
    assert sleeper.exit_code() == -9


def test_a_process_is_known_after_a_step_of_the_clock_and_from_a_file_of_the_release_before(
    tmp_path: Path,
) -> None:
    sleeper = python("import time; time.sleep(60)", tmp_path / "log")
    written = sleeper.as_json()
    before = {name: written[name] for name in ("pid", "created")}

    # What a process sees of its own past after the clock was put forward by an hour.
    stepped = Identity.from_json({**written, "created": sleeper.created - 3600})

    assert stepped.is_running()
    assert Identity.from_json(before).is_running()
    process.kill(stepped)
    assert not sleeper.is_running()


def test_a_process_that_does_not_stop_in_time_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    deaf = python(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('up', flush=True); time.sleep(60)",
        log,
    )
    assert process.wait_until(lambda: process.tail(log) == ["up"], 60)

    assert process.stop(deaf, grace_s=0.2) is False
    assert not deaf.is_running()


def test_a_parent_that_leaves_a_child_running_ends_without_a_warning(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from custsvc.local import process\n"
        "print(process.spawn(['sleep', '600'], log=Path(sys.argv[1])).pid)"
    )

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path / "log")],
        capture_output=True,
        text=True,
        check=True,
    )

    left = Identity.of(int(done.stdout))
    assert left is not None
    process.kill(left)
    assert done.stderr == ""


def test_the_tail_shows_the_last_lines_since_a_byte(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("old\none\ntwo\nthree\n")

    assert process.tail(log, 2) == ["two", "three"]
    assert process.tail(log, 9, since=4) == ["one", "two", "three"]
    assert process.tail(tmp_path / "none") == []


def test_a_log_past_its_limit_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("x" * 11)

    process.rotate(log, limit=11)
    assert log.exists()
    process.rotate(log, limit=10)

    assert not log.exists()
    assert (tmp_path / "log.1").read_text() == "x" * 11


def test_a_lock_keeps_others_out_even_when_its_file_is_removed(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        with process.file_lock(lock, waiting.set):
            order.append("second")

    with process.file_lock(lock):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(60)
        order.append("first")
        lock.unlink()
    thread.join(60)

    assert order == ["first", "second"]
    assert lock.exists()


def test_a_lock_is_free_when_its_holder_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; from custsvc.local import process\n"
        "with process.file_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        holder.wait(60)
        with process.file_lock(lock, lambda: pytest.fail("it is still held")):
            pass


def test_a_remembered_port_is_kept_while_it_is_free() -> None:
    port = ports.choose()

    assert ports.choose(port) == port
    assert not ports.answers(port)


def test_a_port_is_chosen_other_than_those_that_are_spoken_for() -> None:
    free = ports.choose()

    assert ports.choose(other_than=set(range(65_536)) - {free}) == free
