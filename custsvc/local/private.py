"""Folders and files that nobody else on this machine may look into: customers and passwords are in them."""

from __future__ import annotations

import os
import secrets
import threading
from pathlib import Path
from typing import BinaryIO, Final

from .. import redact

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


def write(path: Path, text: str) -> None:
    """Replace a file, in one step, by one for its owner only."""
    new = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)


def make_password(path: Path) -> None:
    """Keep a new password in this file, unless it holds one."""
    if password(path) is None:
        write(path, secrets.token_hex(16) + "\n")


def password(path: Path) -> str | None:
    """The password in this file, which from now on nothing says; None where there is no file."""
    try:
        found = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    redact.know(found)
    return found or None
