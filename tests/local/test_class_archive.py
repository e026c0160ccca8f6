"""The archive of classes: Java uses it once it is there; it is made once, and those of other Javas go."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from custsvc.local import class_archive, jars
from custsvc.local.class_archive import ClassArchive
from tests.waiting import until


@pytest.fixture
def jar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CUSTSVC_CACHE_DIR", str(tmp_path / "cache"))
    jar = tmp_path / "empty.jar"
    jar.write_bytes(b"PK\x05\x06" + bytes(18))
    return jar


@pytest.fixture
def java() -> Path:
    try:
        return jars.java()
    except jars.NoKafka as exc:
        if os.environ.get("CUSTSVC_TEST_REQUIRE"):
            raise
        pytest.skip(str(exc))


def run(java: Path, jar: Path, *options: str) -> str:
    argv = [str(java), "-XX:+UseSerialGC", *options, "-cp", str(jar), "-version"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_java_takes_the_classes_from_an_archive_that_was_made_of_an_earlier_run(
    java: Path, jar: Path, tmp_path: Path
) -> None:
    classes = tmp_path / "classes"
    archive = ClassArchive(java, ["-XX:+UseSerialGC"], [jar])
    assert archive.options() == []
    run(java, jar, *archive.listing(classes))

    archive.make(classes)

    until("it is made", archive.path.exists)
    from_archive = "java.lang.Object source: shared objects file"
    assert from_archive in run(java, jar, *archive.options(), "-Xlog:class+load")
    assert archive.listing(classes) == []
    until("nothing else is left", lambda: list(archive.path.parent.iterdir()) == [archive.path])
    # Another jar under the same name needs another one.
    os.utime(jar, (1, 1))
    assert ClassArchive(java, ["-XX:+UseSerialGC"], [jar]).options() == []


def test_one_process_makes_the_archive_and_removes_those_that_nobody_has_used_for_long(
    java: Path, jar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_archive, "_MAKE", 'cat "$1" >> "$0"')
    cache = jars.cache_folder()
    cache.mkdir()
    (cache / "kafka-classes-old.jsa").touch()
    os.utime(cache / "kafka-classes-old.jsa", (1, 1))
    (cache / "kafka-classes-other.jsa").touch()
    (cache / "kafka.json").touch()
    os.utime(cache / "kafka.json", (1, 1))
    archive = ClassArchive(java, [], [jar])
    lists = [tmp_path / name for name in ("first", "second")]
    for each in lists:
        each.write_text(f"{each.name}\n")
        archive.make(each)

    until("it is made", lambda: archive.path.exists() and archive.path.read_text())

    assert archive.path.read_text() == "first\n"
    assert not any(each.exists() for each in lists)
    names = {each.name for each in cache.iterdir()}
    assert {"kafka-classes-other.jsa", "kafka.json"} < names
    assert "kafka-classes-old.jsa" not in names
