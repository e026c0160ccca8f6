"""Commands of custsvc as processes, forked from one that has imported everything: many are soon run.

Importing takes most of what a short command costs. That the installed command itself starts, tests/setup and
tests/e2e see, which start it as a user does.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        *("custsvc.cli", "custsvc.notify.run", "custsvc.copies.replicate", "custsvc.relay.relay"),
        *("custsvc.stores.postgres", "custsvc.stores.mongo", "custsvc.transfer.export", "custsvc.local"),
        *("custsvc.client", "custsvc.serve.inside", "dotenv", "pydantic", "rich.console", "rich.table"),
    ]
)


def run_custsvc(
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: str = "",
    seconds: float = 120.0,
) -> CompletedProcess[str]:
    """Run one command to its end with this environment, and give its exit code and what it said."""
    with tempfile.TemporaryDirectory() as folder:
        given, out, err = (Path(folder) / name for name in ("stdin", "stdout", "stderr"))
        given.write_bytes(stdin.encode())
        where = str(cwd or Path.cwd())
        process = FORKS.Process(
            target=_run, args=(arguments, dict(env), where, str(given), str(out), str(err)), daemon=True
        )
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutExpired(arguments, seconds, out.read_text(), err.read_text())
        return CompletedProcess(arguments, process.exitcode, out.read_text(), err.read_text())


def _run(arguments: tuple[str, ...], env: dict[str, str], cwd: str, given: str, out: str, err: str) -> None:
    for number, (path, mode) in enumerate(((given, os.O_RDONLY), *((p, os.O_WRONLY) for p in (out, err)))):
        file = os.open(path, mode | (os.O_CREAT if mode else 0), 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = ["custsvc", *arguments]
    from custsvc.cli import main

    try:
        main()
    except Exception:  # noqa: BLE001 - told by the hook
        # As Python ends a process: by its hook, which a fork does not call.
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
