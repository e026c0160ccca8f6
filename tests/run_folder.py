"""The folder of one run of the tests, where its embedded servers are; what a killed run has left is removed.

A run holds a lock on its folder. The system frees it however the run ends, so a folder whose lock is free has
nobody any more; one that has no lock yet is just being made, and is let be.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from custsvc.errors import CustsvcError
from custsvc.local import LocalServers

_PREFIX = "custsvc-tests-"
_LOCK = "run.lock"


class RunFolder:
    """A new folder in `base`, locked as long as this process lives or until it is removed."""

    def __init__(self, base: Path) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        # Named only once it is locked, so that nobody ever finds it free.
        unnamed = self.path / "unnamed"
        self._lock = unnamed.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unnamed.rename(self.path / _LOCK)

    def remove(self) -> None:
        """Stop the servers in it, and remove it."""
        _remove(self.path)
        self._lock.close()


def remove_left(base: Path) -> None:
    """Stop and remove what runs that were killed have left in `base`."""
    for lock in base.glob(f"{_PREFIX}*/{_LOCK}"):
        # One that is at work, another user's, or removed meanwhile; none of them is a reason not to run.
        with suppress(OSError, CustsvcError), lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(lock.parent)


def _remove(folder: Path) -> None:
    for server in folder.iterdir():
        if server.is_dir():
            LocalServers(server, names=[server.name], ephemeral=True).stop()
    shutil.rmtree(folder, ignore_errors=True)
