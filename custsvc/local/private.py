"""Folders and files closed to other users of this machine, since they hold customers and passwords."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from .. import redact
from ..errors import ConfigurationError

_OURS: Final = ("servers.json", "ephemeral.json", "up.json", "servers.lock", "up.lock")


def data_folder(path: Path) -> None:
    """Create the data folder if it does not exist, and close it, even if an earlier version made it.

    A folder with other files keeps its mode: the files that we put into it are closed one by one.
    """
    with writing(path):
        is_ours = (
            not path.exists() or not any(path.iterdir()) or any((path / name).exists() for name in _OURS)
        )
        path.mkdir(parents=True, exist_ok=True)
        if is_ours:
            folder(path, passable=os.geteuid() == 0)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Refuse a data folder that this account cannot make, or cannot write to."""
    try:
        yield
    except OSError as exc:
        raise ConfigurationError(
            f"{path} cannot be written to ({exc.strerror})", fix="use --data-dir with your own folder"
        ) from exc


def is_open_to_us(path: Path) -> bool:
    """Whether we may enter a folder or it does not exist; False if it or a parent is closed to us."""
    try:
        return not path.is_dir() or os.access(path, os.X_OK)
    except PermissionError:
        return False


def folder(path: Path, *, passable: bool = False) -> None:
    """Create a folder if it does not exist, and close it if it is ours.

    A `passable` folder can be traversed but not listed: started by root, PostgreSQL runs as another account.
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
    """Replace a file atomically; only its owner can read it."""
    new = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)


def make_password(path: Path) -> None:
    """Write a new password to this file, unless it has one."""
    if password(path) is None:
        write(path, secrets.token_hex(16) + "\n")


def password(path: Path) -> str | None:
    """The password in this file, masked in all output from now on; None if there is no file."""
    try:
        found = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    redact.know(found)
    return found or None
