"""Kafka Connect, standalone, with one connector: fetched, started on loopback, watched, stopped.

`peers/debezium/jars.txt` pins what is fetched, through the means by which `custsvc.local` fetches Kafka.
"""

from __future__ import annotations

import hashlib
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from custsvc.bench.roles import until
from custsvc.config import Settings
from custsvc.errors import CustsvcError
from custsvc.local import jars, ports, private, process

PINNED = Path(__file__).parent / "peers/debezium/jars.txt"
RUNTIME = "connect"
_STOP = 20.0
_START = 120.0

# As the scripts of Kafka start Connect.
_JAVA = (
    *("-Xms256M", "-Xmx2G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"),
    *("-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"),
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    *("--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"),
)


def pinned() -> list[tuple[str, str, str]]:
    """The lines of jars.txt: plugin, Maven coordinates, SHA-256."""
    lines = PINNED.read_text(encoding="ascii").splitlines()
    parts = [line.split() for line in lines if line and not line.startswith("#")]
    return [(plugin, coordinates, digest) for plugin, coordinates, digest in parts]


def fetch(say: Callable[[str], None]) -> dict[str, list[Path]]:
    """The jars of each plugin, downloaded unless they are here. Raises CustsvcError if one is another."""
    say("fetching Kafka Connect, Debezium and the MongoDB connector (77 MB, once for this user)")
    context = jars.maven()

    def download(each: tuple[str, str]) -> tuple[str, Path]:
        coordinates, digest = each
        path = Path(context.create_dependency(coordinates).artifact.resolve())
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise CustsvcError(f"{coordinates} is not the one of {PINNED.name}", fix=f"rm {path}")
        return coordinates, path

    lines = pinned()
    # Several plugins have the same jar, and no two threads may download it.
    wanted = {(coordinates, digest) for _, coordinates, digest in lines}
    with ThreadPoolExecutor(8) as pool:
        paths = dict(pool.map(download, wanted))
    found: dict[str, list[Path]] = {}
    for plugin, coordinates, _ in lines:
        found.setdefault(plugin, []).append(paths[coordinates])
    return found


class Connect:
    """A running worker with one connector, in a new folder. Leaving the block stops it, by its id."""

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        fetched: Mapping[str, list[Path]],
        plugin: str,
        connector: Mapping[str, str],
    ) -> None:
        # The group of a sink is named for its connector: a name of its own begins at the topic's beginning.
        self.name = f"{connector['name']}-{uuid.uuid4().hex[:8]}"
        self._folder = folder
        self._port = ports.choose()
        self._log = folder / "connect.log"
        private.folder(folder)
        plugins = folder / "plugins" / plugin
        plugins.mkdir(parents=True)
        for jar in fetched[plugin]:
            (plugins / jar.name).symlink_to(jar)
        private.write(folder / "worker.properties", _text(self._worker(settings)))
        # Passwords stay in files that only their owner can read.
        private.write(folder / "connector.properties", _text({**connector, "name": self.name}))
        java: list[str | Path] = [jars.java(), *_JAVA, "-cp", ":".join(map(str, fetched[RUNTIME]))]
        main = ["org.apache.kafka.connect.cli.ConnectStandalone"]
        files = [folder / "worker.properties", folder / "connector.properties"]
        self.started = time.monotonic()
        self._process = process.spawn([*java, *main, *files], log=self._log, cwd=folder)
        self.pid = self._process.pid

    def _worker(self, settings: Settings) -> dict[str, str]:
        kafka = settings.kafka_connection
        signed = {
            "security.protocol": kafka["security.protocol"],
            "sasl.mechanism": kafka["sasl.mechanism"],
            "sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule required "
            f'username="{kafka["sasl.username"]}" password="{kafka["sasl.password"]}";',
        }
        return {
            "bootstrap.servers": kafka["bootstrap.servers"],
            "listeners": f"http://{ports.HOST}:{self._port}",
            "plugin.path": str(self._folder / "plugins"),
            "offset.storage.file.filename": str(self._folder / "offsets"),
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.storage.StringConverter",
            **{
                f"{who}{name}": value
                for who in ("", "producer.", "consumer.")
                for name, value in signed.items()
            },
        }

    def check(self) -> None:
        """Raise CustsvcError with the reason if the worker ended or its connector failed."""
        if not self._process.is_running():
            raise CustsvcError(
                f"{self.name} ended; the end of its log:\n" + "\n".join(process.tail(self._log))
            )
        status = self._status()
        for part in (status.get("connector", {}), *status.get("tasks", ())):
            if part.get("state") == "FAILED":
                raise CustsvcError(f"{self.name} failed: {part.get('trace', '')[:3000]}")

    def wait_running(self) -> float:
        """Wait until the connector and its first task run; returns the monotonic time."""

        def runs() -> bool:
            self.check()
            tasks = self._status().get("tasks") or [{}]
            return all(task.get("state") == "RUNNING" for task in tasks)

        return until(runs, _START, f"{self.name} starts", pause=0.1)

    def _status(self) -> dict[str, Any]:
        url = f"http://{ports.HOST}:{self._port}/connectors/{self.name}/status"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except (OSError, urllib.error.URLError, ValueError):
            return {}

    def __enter__(self) -> Connect:
        return self

    def __exit__(self, *exc: object) -> None:
        process.stop(self._process, grace_s=_STOP)


def _text(properties: Mapping[str, str]) -> str:
    """A properties file: backslashes doubled, one line for each value."""
    escaped = {name: value.replace("\\", "\\\\") for name, value in properties.items()}
    return "".join(f"{name}={value}\n" for name, value in escaped.items())
