"""An archive of Kafka's classes, with which Java starts Kafka for half the processor time.

A run of Kafka without one lists the classes that it loads. When that run is stopped, a process in the
background makes the archive from the list, once for this user, Kafka and Java. Without an archive, or if it
does not fit, Java loads the classes one by one.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from . import jars, process

# The oldest Java whose archives were tried; those of an older one save less.
_SINCE: Final = 21
# Java links the classes in advance since this one.
_LINKS_SINCE: Final = 24
_PREFIX: Final = "kafka-classes-"
# Longer than making one takes on any machine; and how long one of another Kafka or Java is kept.
_AT_WORK, _KEPT = 600.0, 30 * 86_400.0
# $0: the archive, $1: the list, then the command line of Java.
_MAKE: Final = """
archive=$0 classes=$1; shift
nice -n 5 "$@" && mv "$archive.new" "$archive" && rm -f "${archive%.jsa}.log"
rm -f "$archive.new" "$classes"
"""


class ClassArchive:
    """The archive for a Java with these options and jars. It may be there or not."""

    def __init__(self, java: Path, options: Sequence[str], classpath: Sequence[Path]) -> None:
        self._java = java
        self._options = options
        self._classpath = classpath
        self._version = jars.java_version(java)
        self.path = jars.cache_folder() / f"{_PREFIX}{self._fingerprint()}.jsa"

    def options(self) -> list[str]:
        """The options with which Java uses the archive; none if it is not there."""
        return [f"-XX:SharedArchiveFile={self.path}"] if self.path.exists() else []

    def listing(self, classes: Path) -> list[str]:
        """The options with which Java lists the classes of its run; none if the archive is there."""
        if self._version < _SINCE or self.path.exists():
            return []
        return [f"-XX:DumpLoadedClassList={classes}"]

    def make(self, classes: Path) -> None:
        """Make the archive from this list in the background, unless it is there or being made."""
        taken = self.path.with_suffix(".classes")
        with suppress(OSError):  # the cache may be read-only, and Kafka starts without an archive too
            if self.path.exists() or _is_young(taken, _AT_WORK):
                classes.unlink()
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for other in self.path.parent.glob(f"{_PREFIX}*"):
                if not _is_young(other, _KEPT):
                    other.unlink()
            shutil.move(classes, taken)
            log = self.path.with_suffix(".log")
            process.spawn(["/bin/sh", "-c", _MAKE, self.path, taken, *self._dump(taken)], log=log)

    def _dump(self, classes: Path) -> list[str | Path]:
        linked = ["-XX:+AOTClassLinking"] if self._version >= _LINKS_SINCE else []
        files = [f"-XX:SharedClassListFile={classes}", f"-XX:SharedArchiveFile={self.path}.new"]
        joined = ":".join(map(str, self._classpath))
        return [self._java, *self._options, "-Xshare:dump", *linked, *files, "-cp", joined]

    def _fingerprint(self) -> str:
        """Of all that an archive must fit."""
        known = [(str(jar), jar.stat().st_size, jar.stat().st_mtime_ns) for jar in self._classpath]
        release = jars.java_release(self._java)
        return hashlib.sha256(repr((release, self._options, known)).encode()).hexdigest()[:12]


def _is_young(path: Path, seconds: float) -> bool:
    try:
        return time.time() - path.stat().st_mtime < seconds
    except FileNotFoundError:
        return False
