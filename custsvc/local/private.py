"""Folders and files that nobody else on this machine may look into: customers and passwords are in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Final

_OURS: Final = ("servers.json", "ephemeral.json", "up.json", "servers.lock", "up.lock")


def data_folder(path: Path) -> None:
    """Make the data folder where there is none, and close it, one from before too.

    A folder in which somebody keeps other things stays as it is: what we put into it is closed by itself.
    """
    is_ours = not path.exists() or not any(path.iterdir()) or any((path / name).exists() for name in _OURS)
    path.mkdir(parents=True, exist_ok=True)
    if is_ours:
        folder(path, passable=os.geteuid() == 0)


def is_open_to_us(path: Path) -> bool:
    """Whether we may go into a folder, or it is not there; not where it or one above is somebody else's."""
    try:
        return not path.is_dir() or os.access(path, os.X_OK)
    except PermissionError:
        return False


def folder(path: Path, *, passable: bool = False) -> None:
    """Make a folder where there is none, and close it, one of ours from before too.

    A `passable` one can be gone through by those who know what is in it, and not be listed: started by root,
    PostgreSQL runs as another account.
    """
    path.mkdir(parents=True, exist_ok=True)
    if path.stat().st_uid == os.geteuid():
        path.chmod(0o711 if passable else 0o700)


def appended(path: Path) -> BinaryIO:
    """A file to append to, for its owner only."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "ab")
