"""A real schema registry for the long test: Apicurio Registry, from Maven's repositories, on loopback."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from custsvc.local import jars, ports
from tests.waiting import until

VERSION: Final = "3.3.3"
_API: Final = "/apis/ccompat/v7"


@contextmanager
def apicurio(folder: Path) -> Iterator[str]:
    """Run it within the block; gives the address of its API like Confluent's. Its log is in the folder."""
    project = jars.maven().project("io.apicurio", "apicurio-registry-app").at_version(VERSION)
    archive = Path(project.artifact(classifier="all", packaging="tar.gz").resolve())
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    port = ports.choose()
    properties = {
        "quarkus.http.host": "127.0.0.1",
        "quarkus.http.port": str(port),
        # Its metrics, by default on every address.
        "quarkus.management.host": "127.0.0.1",
        "quarkus.management.port": str(ports.choose(other_than=(port,))),
        "java.util.logging.manager": "org.jboss.logmanager.LogManager",
    }
    given = [f"-D{name}={value}" for name, value in properties.items()]
    command = [str(jars.java()), "-Xmx512m", "-XX:TieredStopAtLevel=1", *given, "-jar", "quarkus-run.jar"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{port}{_API}"
            until("the registry answers", lambda: _answers(url), 300)
            yield url
        finally:
            process.terminate()
            process.wait(60)


def _answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/subjects", timeout=10) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
