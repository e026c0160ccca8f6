"""Whatever a process has as stdin, stdout and stderr, nothing or a full disk: it ends with its exit code."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_FULL = "/dev/full"
# A command that prints a result and one that only says something, each with its exit code.
COMMANDS = [
    ("config show", 0),
    ("relay", 3),
]


def run(command: str, streams: str) -> subprocess.CompletedProcess[str]:
    """A command, without an address of any server, with these redirections of a shell."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CUSTSVC_")}
    return subprocess.run(
        ["bash", "-c", f'"$0" -m custsvc {command} {streams}', sys.executable],
        env={**environ, "CUSTSVC_LOCAL": "never"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(("command", "code"), COMMANDS)
def test_a_process_without_streams_ends_as_any_other(command: str, code: int) -> None:
    assert run(command, "<&- >&- 2>&-").returncode == code


@pytest.mark.parametrize("command", ["schema events", "--help"])
def test_a_result_that_the_disk_does_not_take_is_one_line_of_error(command: str) -> None:
    done = run(command, f">{_FULL}")

    assert done.returncode == 1
    error, fix = done.stderr.splitlines()
    assert error == "error: cannot write the output (No space left on device)"
    assert fix.startswith("fix: ")


def test_an_error_that_cannot_be_printed_keeps_its_exit_code() -> None:
    assert run("no-such-command", f"2>{_FULL}").returncode == 2


def test_a_closed_stdin_is_an_empty_one() -> None:
    done = run("customers create", "<&-")

    assert done.returncode == 3
    assert done.stderr.startswith("error: the address of the postgres database is not set")
