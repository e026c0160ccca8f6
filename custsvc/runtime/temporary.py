"""The folder for temporary files. `serve` needs one, every other role works without."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Final

from ..errors import ConfigurationError

_VARIABLES: Final = ("TMPDIR", "TEMP", "TMP")
# The last one is in memory, and writable even in a container whose file system is read-only.
_USUAL: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - where to look, not what to open


def folder() -> str:
    """The first folder that is writable. Raises ConfigurationError if none is.

    Unlike `tempfile.gettempdir` it never falls back on the working directory, which belongs to the user.
    """
    for candidate in _candidates():
        try:
            with tempfile.TemporaryFile(dir=candidate) as file:
                file.write(b"x")
        except OSError:
            continue
        return candidate
    raise ConfigurationError(
        f"no folder takes temporary files (tried {', '.join(_candidates())})",
        fix="mount a tmpfs at /tmp, or set TMPDIR to a folder that this user may write to",
    )


def use() -> None:
    """Make this process and its children put all temporary files into `folder()`."""
    tempfile.tempdir = os.environ["TMPDIR"] = folder()


def _candidates() -> Iterator[str]:
    yield from (path for name in _VARIABLES if (path := os.environ.get(name)))
    yield from _USUAL
