"""Archive files of the history: one event a line, exactly as on Kafka, compressed by gzip.

`zcat` and `jq` read them. Beside `NAME.ndjson.gz` stands `NAME.ndjson.gz.sha256`, for `sha256sum -c`. A file
gets its name only after it was written to the disk and read again. The name has the times of the oldest and
the newest event.
"""

from __future__ import annotations

import fcntl
import gzip
import os
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from ..domain.erasure import scrubbed
from ..errors import CheckFailed, ConfigurationError
from ..ports.history import Old

_PART: Final = ".part"
_SUM: Final = ".sha256"
# A part of a file that is older than this is of a process that died.
_STALE: Final = 86400.0
_LINE_MAX: Final = 16 * 1024 * 1024


class Summary(NamedTuple):
    """What a file holds: its events, and the times of the oldest and the newest."""

    path: Path
    events: int
    first: str
    last: str


class _Line(NamedTuple):
    """One event of a file, and its time."""

    old: Old
    time: str


class Writing:
    """A new archive file in a folder. It has no name until `finish`."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder, self._prefix = folder, prefix
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _remove_stale(folder)
            self._part = folder / f"{prefix}-{uuid.uuid4().hex}{_PART}"
            self._raw = os.fdopen(os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")
        except OSError as exc:
            raise _unwritable(folder, exc) from exc
        self._zip = gzip.GzipFile(filename="", fileobj=self._raw, mode="wb", compresslevel=6, mtime=0)
        self._hash = sha256()
        self.events = 0

    def add(self, events: Iterable[Old]) -> None:
        """Append events."""
        try:
            for event in events:
                line = event.payload + b"\n"
                self._zip.write(line)
                self._hash.update(line)
                self.events += 1
        except OSError as exc:
            raise _unwritable(self._folder, exc) from exc

    def finish(self, check: Callable[[Path], None]) -> Summary:
        """Bring the file to the disk, read it again, pass it to `check`, and give it its name.

        Raises CheckFailed if what is read is not what was written, and what `check` raises.
        """
        try:
            self._zip.close()
            self._raw.flush()
            os.fsync(self._raw.fileno())
            self._raw.close()
            found, read = _summary(self._part)
            written = self._hash.digest()
            if read != written or found.events != self.events:
                raise CheckFailed(f"{self._part} does not hold what was written", fix="check the disk")
            check(self._part)
            path = _free_name(self._folder, f"{self._prefix}-{_short(found.first)}-{_short(found.last)}")
            _write_sum(path, [_sum(self._part)])
            self._part.rename(path)
            _sync_folder(self._folder)
        except OSError as exc:
            raise _unwritable(self._folder, exc) from exc
        return found._replace(path=path)

    def abandon(self) -> None:
        """Remove the file, if it has no name yet."""
        with suppress(OSError):
            self._raw.close()
            self._part.unlink(missing_ok=True)


def read(path: Path) -> Iterator[Old]:
    """The events of a file. Raises CheckFailed if it cannot be read to its end."""
    return (line.old for line in _lines(path))


def verify(path: Path) -> Summary:
    """What a file holds, after comparing it with its checksum. Raises CheckFailed."""
    try:
        sums = [line.split()[0] for line in _sum_of(path).read_text(encoding="utf-8").splitlines() if line]
        found = _sum(path)
    except (OSError, UnicodeDecodeError) as exc:
        raise CheckFailed(f"{path} or its checksum cannot be read: {exc}") from exc
    if found not in sums:
        raise CheckFailed(
            f"{path} is not what it was: its checksum is {found}", fix="restore it from a backup"
        )
    return _summary(path)[0]


def erase(path: Path, customers: Mapping[int, int]) -> int:
    """Blank the events of each customer up to a version in a file; return how many were not blank yet.

    Until the new file has the old one's place, the checksum file names both, so that a crash leaves a good
    file. One process at a time does so in a folder. Raises CheckFailed.
    """
    with _alone(path.parent):
        return _erase(path, customers)


def _erase(path: Path, customers: Mapping[int, int]) -> int:
    verify(path)
    writing, blanked = Writing(path.parent, "erasing"), 0
    try:
        for old in read(path):
            is_to_go = old.version <= customers.get(old.customer_id, 0)
            payload = scrubbed(old.payload) if is_to_go else old.payload
            blanked += payload != old.payload
            writing.add([old._replace(payload=payload)])
        if blanked:
            _replace(path, writing)
    finally:
        writing.abandon()
    return blanked


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder: of two that rewrite one file, the second reads what the first wrote."""
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def customers_of(paths: Iterable[Path]) -> set[int]:
    """The customers with events in these files."""
    return {old.customer_id for path in paths for old in read(path)}


def _replace(path: Path, writing: Writing) -> None:
    new = writing.finish(lambda _: None).path
    _write_sum(path, [_sum(path), _sum(new)])
    new.replace(path)
    _sum_of(new).unlink()
    _write_sum(path, [_sum(path)])
    _sync_folder(path.parent)


def _summary(path: Path) -> tuple[Summary, bytes]:
    """What a file holds, and the hash of its lines."""
    events, times, digest = 0, set[str](), sha256()
    for old, when in _lines(path):
        events += 1
        times = {min({when} | times), max({when} | times)}
        digest.update(old.payload + b"\n")
    return Summary(path, events, min(times, default=""), max(times, default="")), digest.digest()


def _lines(path: Path) -> Iterator[_Line]:
    number = 0
    try:
        with gzip.open(path, "rb") as file:
            while line := file.readline(_LINE_MAX):
                number += 1
                yield _line(line)
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as exc:
        raise CheckFailed(f"{path} cannot be read at line {number}: {exc}") from exc


def _line(line: bytes) -> _Line:
    if not line.endswith(b"\n"):
        raise ValueError("it has no end")
    event = orjson.loads(line)
    return _Line(Old(int(event["customer_id"]), int(event["version"]), line[:-1]), str(event["event_ts"]))


def _short(time_: str) -> str:
    """A time for a file's name: `20261129T122554Z`."""
    return time_[:19].replace("-", "").replace(":", "") + "Z"


def _free_name(folder: Path, name: str) -> Path:
    """A path that is nobody's yet: a run after a crash, or beside this one, may archive the same events.

    Its checksum file, which only one run can create, reserves it.
    """
    path, number = folder / f"{name}.ndjson.gz", 1
    while path.exists() or not _is_created(_sum_of(path)):
        number += 1
        path = folder / f"{name}-{number}.ndjson.gz"
    return path


def _is_created(path: Path) -> bool:
    """Create an empty file; False if it is there."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _sum_of(path: Path) -> Path:
    return path.with_name(path.name + _SUM)


def _write_sum(path: Path, sums: Sequence[str]) -> None:
    part = path.with_name(path.name + _SUM + _PART)
    with part.open("w", encoding="utf-8") as file:
        file.writelines(f"{each}  {path.name}\n" for each in sums)
        file.flush()
        os.fsync(file.fileno())
    part.replace(_sum_of(path))


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _remove_stale(folder: Path) -> None:
    for part in folder.glob(f"*{_PART}"):
        if part.stat().st_mtime < time.time() - _STALE:
            part.unlink(missing_ok=True)


def _unwritable(folder: Path, exc: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"the archive folder {folder} cannot be written ({exc.strerror or exc})",
        fix="make room or give the process the right to write there; nothing is dropped until then",
    )
