"""A killed test run leaves its servers to the next run, which ends them and no others."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from custsvc.local import LocalServers
from tests.run_folder import RunFolder, remove_left

_KILLED = """
import os, signal, sys
from pathlib import Path
from custsvc.local import LocalServers
from tests.run_folder import RunFolder
run = RunFolder(Path(sys.argv[1]))
LocalServers(run.path / "mail", names=["mail"], ephemeral=True).start()
print(run.path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def servers_of(run: Path) -> LocalServers:
    return LocalServers(run / "mail", names=["mail"], ephemeral=True)


def test_the_next_run_ends_the_servers_of_one_that_was_killed_and_no_others(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(folder)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    killed, at_work = Path(done.stdout.strip()), RunFolder(folder)
    servers_of(at_work.path).start()
    left, ours = (servers_of(run).server("mail").identity for run in (killed, at_work.path))
    assert left is not None
    assert left.is_running()

    remove_left(folder)

    assert not left.is_running()
    assert not killed.exists()
    assert ours is not None
    assert ours.is_running()
    at_work.remove()
    assert not ours.is_running()
    assert list(folder.iterdir()) == []
