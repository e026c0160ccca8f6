"""Before many changes a person at a terminal is asked whether the rules send mails for them."""

from __future__ import annotations

import fcntl
import os
import pty
import shlex
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from custsvc.ports.store import Store
from tests.chaos.roles import clean_environment
from tests.waiting import until


class Screen:
    """A command on a terminal of its own: its output, and the keys typed."""

    def __init__(self, arguments: tuple[str, ...], env: dict[str, str], cwd: Path) -> None:
        self._ours, theirs = pty.openpty()
        os.set_blocking(self._ours, False)
        self._text = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "custsvc", *arguments],
            env=env,
            cwd=cwd,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def shown(self) -> str:
        """All that it has shown so far."""
        with suppress(OSError):  # nothing new, or the other end is closed
            self._text += os.read(self._ours, 65536).decode()
        return self._text

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def ended(self) -> int:
        until("the command ends", lambda: (self.shown(), self._process.poll() is not None)[1])
        self.shown()
        os.close(self._ours)
        return self._process.returncode


@pytest.mark.parametrize(
    ("keys", "is_marked", "told"),
    [("y\r", False, "They are sent."), ("n\r", True, "None of them is sent"), ("\r", True, "None of them")],
)
@pytest.mark.parametrize("backend", ["postgres"])
def test_the_answer_decides_whether_the_rules_see_the_changes(
    store: Store, backend: str, database_url: str, tmp_path: Path, keys: str, is_marked: bool, told: str
) -> None:
    (tmp_path / "people.csv").write_text("name,email\nAnn,ann@example.com\nBob,\n")
    env = clean_environment() | {"CUSTSVC_POSTGRES_URL": database_url, "CUSTSVC_LOCAL": "never"}
    screen = Screen(("import", "people.csv", "--backend", backend), env | {"TERM": "xterm"}, tmp_path)

    until("it asks", lambda: "Send them? [y/N]" in screen.shown())
    assert "The rules would send 1 mails for it (welcome 1)" in screen.shown()
    assert store.customers.count() == 0
    screen.type(keys)

    assert screen.ended() == 0, screen.shown()
    assert told in screen.shown()
    events = [store.customers.history(row.id, limit=1)[0] for row in store.contents.scan(0, 10)]
    assert [orjson.loads(event).get("bulk", False) for event in events] == [is_marked] * 2


@pytest.mark.parametrize("backend", ["postgres"])
def test_a_job_in_the_background_is_not_asked_and_not_stopped(
    store: Store, backend: str, database_url: str, tmp_path: Path
) -> None:
    """To read from the terminal would stop it until somebody brings it to the front."""
    env = clean_environment() | {"CUSTSVC_POSTGRES_URL": database_url, "CUSTSVC_LOCAL": "never"}
    seed = f"{shlex.quote(sys.executable)} -m custsvc seed 3 --backend {backend}"
    script = f"set -m; {seed} & wait $!; echo ended with $?"
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["bash", "-c", script],
        env=env | {"TERM": "xterm"},
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    shown = ""
    with suppress(OSError):  # the last process that has the terminal open ends
        while text := os.read(ours, 65536):
            shown += text.decode()
    os.close(ours)

    assert process.wait(60) == 0
    assert "None of them is sent; --mails sends them all." in shown
    assert "ended with 0" in shown
    assert store.customers.count() == 3
