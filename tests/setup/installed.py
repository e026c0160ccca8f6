"""The wheel as a user has it: installed alone, run by a separate account, where nothing can be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
_ACCOUNT = 10001  # as in the image: no entry in /etc/passwd, no home
_PYTHONS = (sys.executable, "/usr/bin/python3", "python3.13", "python3.12", "python3.11", "python3")
_WHERE = "import os, sys; assert sys.version_info >= (3, 11); print(os.path.realpath(os.__file__))"

# In a mount namespace of its own: one folder that may be written to, or none, and the rest to read only.
_JAIL = """
set -e
if [[ -n "$1" ]]; then mount --bind "$1" "$1"; fi
for place in / /tmp /var/tmp /dev/shm; do
  if mountpoint --quiet "$place"; then mount -o remount,bind,ro "$place"; fi
done
cd /
shift
exec "$@"
"""


class NotHere(Exception):
    """This machine cannot install the wheel, or has no Python that another account can run."""


class Installed:
    """A wheel in a virtual environment of its own. `writable` is all that its commands may write to."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="custsvc-wheel-"))
        self.folder.chmod(0o755)
        self.writable = self.folder / "writable"
        self.writable.mkdir(mode=0o700)
        self.python = self.folder / "venv" / "bin" / "python"
        if os.geteuid() == 0:
            os.chown(self.writable, _ACCOUNT, _ACCOUNT)

    def install(self, wheel: Path) -> None:
        """Make the environment, with nothing but the wheel and what it depends on. Raises NotHere."""
        subprocess.run(
            [self._interpreter(), "-m", "venv", "--without-pip", self.python.parents[1]], check=True
        )
        pip: list[str | Path] = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            self.python,
            "install",
            "--quiet",
            wheel,
        ]
        done = subprocess.run(pip, capture_output=True, text=True, check=False, timeout=540)
        if done.returncode != 0:
            raise NotHere(f"pip cannot install the wheel here:\n{done.stderr}")

    def _interpreter(self) -> str:
        for candidate in _PYTHONS:
            found = shutil.which(candidate)
            if found is None:
                continue
            mine, theirs = (
                subprocess.run(
                    [*jail, found, "-I", "-c", _WHERE], capture_output=True, text=True, check=False
                )
                for jail in ((), self._as_another())
            )
            if mine.returncode == 0 and mine.stdout == theirs.stdout:
                return found
        raise NotHere("there is no Python 3.11 or later here that another account can run")

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    @staticmethod
    def _as_another() -> list[str]:
        if os.geteuid() != 0:
            return []
        return ["setpriv", f"--reuid={_ACCOUNT}", f"--regid={_ACCOUNT}", "--clear-groups", "--no-new-privs"]

    def argv(
        self, *arguments: str | Path, settings: Mapping[str, str] | None = None, may_write: bool = False
    ) -> list[str]:
        """The command line of the installed `custsvc` in its jail; a path is what is run instead of it."""
        command = [] if isinstance(arguments[0], Path) else [self.python.with_name("custsvc")]
        told = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            **(settings or {}),
        }
        if may_write:
            told["TMPDIR"] = str(self.writable)
        what = ["env", "-i", *(f"{name}={value}" for name, value in told.items()), *command, *arguments]
        if os.geteuid() != 0:  # a namespace needs rights that not everybody has
            return list(map(str, what))
        jail = ["unshare", "--mount", "bash", "-c", _JAIL, "jail", self.writable if may_write else ""]
        return list(map(str, [*jail, *self._as_another(), *what]))

    def run(
        self,
        *arguments: str | Path,
        settings: Mapping[str, str] | None = None,
        may_write: bool = False,
        stdin: str = "",
        seconds: float = 240,
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            self.argv(*arguments, settings=settings, may_write=may_write),
            input=stdin,
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
            timeout=seconds,
        )


def build_wheel(folder: Path) -> Path:
    """The wheel of this checkout."""
    command: Sequence[str] = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path
