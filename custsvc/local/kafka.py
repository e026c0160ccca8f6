"""An embedded Kafka: broker and controller in one Java process; if unavailable, a stand-in in memory.

Sized for a developer's machine: a small heap, one replica, no rebalance delay, no automatic topics. Every
listener needs a password, which only the owner of the data folder can read; the stand-in has no password.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from custsvc.config.kafka_address import connection
from custsvc.errors import TemporaryError

from . import jars, mockbroker, ports, private
from .class_archive import ClassArchive
from .server import Server

_JAVA_OPTIONS = (
    "-Xms64m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    # Only the first compiler: starts in two thirds of the time, at the same throughput.
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss,SSS",
)

USER = "custsvc"
_LISTENERS = ("CLIENTS", "CONTROLLER", "PROXIED")

_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "CLIENTS",
    "listener.security.protocol.map": ",".join(f"{name}:SASL_PLAINTEXT" for name in _LISTENERS),
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "sasl.mechanism.controller.protocol": "PLAIN",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
    "broker.heartbeat.interval.ms": "500",
}


class Kafka(Server):
    """Kafka on loopback, with a password.

    With `advertised_port` set before the start there is a second listener, on `proxied_port`, which sends its
    clients to `advertised_port`, where a test runs a proxy between them and the broker.

    After a kill -9 the controller refuses a new broker until the dead one's session ends, so it is short, in
    seconds. A broker that stands still for longer loses its partitions until it goes on.
    """

    name = "kafka"
    title = "Kafka"
    variable = "CUSTSVC_KAFKA"
    dependency = "kafka"
    port_names: ClassVar[tuple[str, ...]] = ("port", "controller_port", "proxied_port")

    advertised_port: int | None = None
    session = 3.0
    _classpath: list[Path] | None = None

    @property
    def url(self) -> str:
        if self.is_mock:
            return self._mock_address.read_text(encoding="ascii").strip()
        password = private.password(self._password)
        # A running server that an earlier version started has no password.
        return f"{USER}:{password}@{self.address}" if password else self.address

    @property
    def is_mock(self) -> bool:
        """Whether it is the stand-in."""
        return bool(self.record.get("mock", False))

    @property
    def proxied_port(self) -> int:
        port: int = self.record["proxied_port"]
        return port

    def prepare(self) -> None:
        try:
            self._classpath = jars.classpath(self.say)
            jars.java()
        except jars.NoKafka as exc:
            self.say(f"warning: {mockbroker.WARNING} ({exc})")
            self._mock_address.write_text(f"{self.address}\n", encoding="ascii")
            self._remember(mock=True)
            return
        self._remember(mock=False)
        private.make_password(self._password)
        private.write(self._settings, "".join(f"{k}={v}\n" for k, v in self._properties().items()))
        if not (self._data / "meta.properties").exists():
            self._format()

    def command(self) -> Sequence[str | Path]:
        if self.is_mock:
            return [sys.executable, "-m", "custsvc.local.mockbroker", *self.marks()]
        listing = self._archive().listing(self._classes)
        return [*self._java(), *listing, "kafka.Kafka", self._settings]

    def marks(self) -> Sequence[str]:
        if self.is_mock:
            return ["--address-file", str(self._mock_address)]
        return ["kafka.Kafka", str(self._settings)]

    def stop(self) -> None:
        ran = self.is_running()
        super().stop()
        # The list of a broker that was killed is not whole.
        if ran and self._classes.exists():
            self._archive().make(self._classes)

    def listens(self) -> bool:
        # The stand-in listens on a port that the system chooses.
        return self.is_mock or super().listens()

    def probe(self) -> bool:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        properties = connection(self.url)
        host, _, port = properties["bootstrap.servers"].rpartition(":")
        if not ports.answers(int(port), host):
            return False
        try:
            # Suppress the client's errors about a server that is not up yet.
            client = AdminClient({**properties, "log_level": 0, "socket.timeout.ms": 5000})
            return bool(client.list_topics(timeout=5).brokers)
        except KafkaException:
            return False

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _settings(self) -> Path:
        return self.folder / "server.properties"

    @property
    def _password(self) -> Path:
        return self.folder / "password"

    @property
    def _classes(self) -> Path:
        return self.folder / "classes"

    @property
    def _mock_address(self) -> Path:
        return self.folder / "mock-address"

    def _properties(self) -> dict[str, str]:
        listeners = {"CLIENTS": self.port, "CONTROLLER": self.record["controller_port"]}
        advertised = {"CLIENTS": self.port}
        if self.advertised_port is not None:
            listeners["PROXIED"] = self.proxied_port
            advertised["PROXIED"] = self.advertised_port
        return {
            **_PROPERTIES,
            "log.dirs": str(self._data),
            "broker.session.timeout.ms": f"{self.session * 1000:.0f}",
            "controller.quorum.voters": f"1@{ports.HOST}:{self.record['controller_port']}",
            "listeners": _addresses(listeners),
            "advertised.listeners": _addresses(advertised),
            **{f"listener.name.{name.lower()}.plain.sasl.jaas.config": self._jaas() for name in _LISTENERS},
        }

    def _jaas(self) -> str:
        """The users of a listener, and the user as which the broker connects to the others."""
        password = private.password(self._password)
        return (
            "org.apache.kafka.common.security.plain.PlainLoginModule required "
            f'username="{USER}" password="{password}" user_{USER}="{password}";'
        )

    def _archive(self) -> ClassArchive:
        java = jars.java()
        return ClassArchive(java, _java_options(java), self._jars())

    def _jars(self) -> list[Path]:
        return self._classpath or jars.classpath(self.say)

    def _java(self) -> list[str | Path]:
        java, joined = jars.java(), ":".join(str(jar) for jar in self._jars())
        return [java, *_java_options(java), *self._archive().options(), "-cp", joined]

    def _format(self) -> None:
        options = ("format", "--ignore-formatted", "--cluster-id", _cluster_id(), "--config", self._settings)
        done = subprocess.run(
            [str(a) for a in (*self._java(), "kafka.tools.StorageTool", *options)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            raise TemporaryError(
                f"Kafka's data folder {self._data} cannot be formatted:\n{said}",
                dependency=self.dependency,
                fix="set CUSTSVC_KAFKA to a Kafka of your own",
            )


def _java_options(java: Path) -> list[str]:
    # Newer Javas print long warnings about Kafka's jars, which hide Kafka's own messages.
    allowed = ["--enable-native-access=ALL-UNNAMED"] if jars.java_version(java) >= 22 else []
    allowed += ["--sun-misc-unsafe-memory-access=allow"] if jars.java_version(java) >= 23 else []
    return [*_JAVA_OPTIONS, *allowed]


def _cluster_id() -> str:
    """A Kafka UUID: 22 letters of URL-safe base64, not beginning with a dash, which would be an option."""
    while (cluster := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return cluster


def _addresses(listeners: dict[str, int]) -> str:
    return ",".join(f"{name}://{ports.HOST}:{port}" for name, port in listeners.items())
