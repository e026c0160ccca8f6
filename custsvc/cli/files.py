"""Files and pipes that commands read from and write to."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, cast

import typer

from ..errors import BadArgument
from ..runtime import temporary

FileArgument = Annotated[str, typer.Argument(help="A file, or - for stdin or stdout.", metavar="FILE")]


def check_place(file: str) -> None:
    """Raise BadArgument where no file can be made, before any server is looked for."""
    folder = Path(file).parent
    if file != "-" and not folder.is_dir():
        raise BadArgument(f"there is no folder {folder}", fix=f"mkdir -p {folder}")


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name when it is complete; until then a file of that name stays unchanged."""
    if path.exists() and not path.is_file():
        with path.open("wb") as device:  # a pipe or /dev/null
            yield device
        return
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as opened:
            if path.exists():
                shutil.copymode(path, part)
            yield opened
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def opened(file: str, mode: str) -> Iterator[IO[bytes]]:
    """The file, or stdin or stdout. A source can be read again from its beginning."""
    try:
        if file != "-" and mode == "wb":
            with _whole(Path(file)) as whole:
                yield whole
        elif file != "-":
            with Path(file).open(mode) as found:
                yield cast("IO[bytes]", found)
        elif mode == "wb":
            yield sys.stdout.buffer
        else:
            with tempfile.TemporaryFile(dir=temporary.folder()) as copy:
                shutil.copyfileobj(sys.stdin.buffer, copy)
                yield cast("IO[bytes]", copy)
    except OSError as exc:
        if exc.filename not in (file, f"{file}.part"):
            raise
        raise BadArgument(f"cannot open {file} ({exc.strerror})", fix="name a file that exists") from exc
