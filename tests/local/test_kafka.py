"""Kafka only: the list of jars, a changed port, the listener for a proxy, the stand-in in memory."""

from __future__ import annotations

import json
import shutil
import socket
import uuid
from pathlib import Path
from typing import NoReturn

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from custsvc.config import Settings
from custsvc.config.kafka_address import connection
from custsvc.errors import ConfigurationError
from custsvc.kafka import topics
from custsvc.kafka.publisher import Publisher, Record
from custsvc.kafka.topics import ensure_topics
from custsvc.local import LocalServers, class_archive, jars
from custsvc.local import kafka as local_kafka
from custsvc.local.kafka import Kafka
from tests.addresses import through
from tests.chaos.checker import read_records
from tests.local.earlier import earlier_version
from tests.waiting import until

QUIET = {"log_level": 0}


def _no_jars(_say: object) -> NoReturn:
    raise jars.NoKafka("there is no network")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with the list of jars and nothing else."""
    known = list(jars.cache_folder().glob("*.json"))
    monkeypatch.setenv("CUSTSVC_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    for each in known:
        shutil.copy(each, tmp_path / "cache")
    return tmp_path / "cache"


def test_a_folder_from_before_there_were_passwords_gets_one_on_another_port_too(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy's clients are sent to the proxy. And an archive that Java cannot read stops nobody."""
    # To make one takes seconds; test_class_archive does it, of fewer classes.
    monkeypatch.setattr(class_archive, "_MAKE", 'mv "$1" "$0"')
    with earlier_version():
        bare = LocalServers(folder, names=("kafka",)).start()["CUSTSVC_KAFKA"]
    servers = LocalServers(folder, names=("kafka",))
    assert servers.start()["CUSTSVC_KAFKA"] == bare == servers.server("kafka").address  # joined
    ensure_topics(Settings(kafka=bare, topic_updates="kept", partitions=1))
    with Publisher(Settings(kafka=bare)) as publisher:
        publisher.send("kept", [Record(b"1", b"before", [])])
    server = servers.server("kafka")
    assert isinstance(server, Kafka)
    port = server.port
    servers.stop()
    (archive,) = until("the classes are kept", lambda: list(cache.glob("*.jsa")))
    assert "kafka/server/KafkaRaftServer" in archive.read_text().split()

    server.advertised_port = 19_999
    with socket.create_server(("127.0.0.1", port)):
        address = servers.start()["CUSTSVC_KAFKA"]

    assert server.port != port
    assert "@" in address
    assert [value for _, _, value in read_records(address, "kept")] == [b"before"]
    with pytest.raises(ConfigurationError, match="asks for a sign-in"):
        topics.describe(Settings(kafka=server.address))
    for way, advertised in ((address, server.port), (through(address, server.proxied_port), 19_999)):
        admin = AdminClient({**connection(way), **QUIET})
        assert [broker.port for broker in admin.list_topics(timeout=90).brokers.values()] == [advertised]


def test_without_jars_an_in_memory_broker_replaces_kafka_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jars, "classpath", _no_jars)
    said: list[str] = []
    servers = LocalServers(folder, names=("kafka",), on_progress=said.append)

    address = servers.start()["CUSTSVC_KAFKA"]

    assert any("warning" in line and "forgets all" in line for line in said)
    producer = Producer({**connection(address), **QUIET})
    producer.produce("t", "hello")
    assert producer.flush(90) == 0
    consumer = Consumer({**connection(address), "group.id": "g", "auto.offset.reset": "earliest", **QUIET})
    consumer.subscribe(["t"])
    (message,) = consumer.consume(1, timeout=90)
    consumer.close()
    assert message.value() == b"hello"
    assert LocalServers(folder, names=("kafka",)).start()["CUSTSVC_KAFKA"] == address


def test_the_stand_in_gets_our_topics_and_shows_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers no request to a controller, by which a broker makes topics."""
    monkeypatch.setattr(jars, "classpath", _no_jars)
    servers = LocalServers(folder, names=("kafka",))
    ours = Settings(kafka=servers.start()["CUSTSVC_KAFKA"])

    assert ensure_topics(ours) == list(topics.purposes(ours))
    assert ensure_topics(ours) == []
    assert all(topic.partitions for topic in topics.describe(ours).topics)
    with Publisher(ours) as publisher:
        publisher.send(ours.topic_updates, [Record(b"1", b"value", [])])
    assert [value for _, _, value in read_records(ours.kafka, ours.topic_updates)] == [b"value"]


def test_a_cluster_id_never_looks_like_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    dash, fine = uuid.UUID(int=0x3E << 122), uuid.UUID(int=0x3D << 122)
    drawn = iter([dash, dash, fine])
    monkeypatch.setattr(uuid, "uuid4", lambda: next(drawn))

    assert local_kafka._cluster_id().startswith("9")
    assert next(drawn, None) is None


def test_the_list_of_jars_is_remembered_until_one_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUSTSVC_CACHE_DIR", str(tmp_path / "cache"))
    jar = tmp_path / "a.jar"
    jar.write_bytes(b"PK")
    resolved: list[int] = []

    def resolve() -> list[Path]:
        resolved.append(1)
        return [jar]

    monkeypatch.setattr(jars, "_resolve", resolve)
    said: list[str] = []

    assert jars.classpath(said.append) == jars.classpath(said.append) == [jar]
    assert len(resolved) == len(said) == 1
    (remembered,) = (tmp_path / "cache").glob("*.json")
    remembered.write_text(json.dumps({"jars": [str(jar), str(tmp_path / "gone.jar")]}))
    jars.classpath(said.append)
    assert len(resolved) == 2
