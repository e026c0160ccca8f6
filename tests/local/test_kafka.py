"""What is Kafka's own: the jars' list, a changed port, the listener for a proxy, the stand-in in memory."""

from __future__ import annotations

import json
import socket
import uuid
from pathlib import Path
from typing import NoReturn

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from custsvc.local import LocalServers, jars
from custsvc.local import kafka as local_kafka
from custsvc.local.kafka import Kafka

QUIET = {"log_level": 0}


def _no_jars(_say: object) -> NoReturn:
    raise jars.NoKafka("there is no network")


def test_on_another_port_it_runs_again_and_a_proxys_clients_are_sent_to_the_proxy(folder: Path) -> None:
    servers = LocalServers(folder, names=("kafka",))
    servers.start()
    kafka = servers.server("kafka")
    assert isinstance(kafka, Kafka)
    port = kafka.port
    servers.stop()

    kafka.advertised_port = 19_999
    with socket.create_server(("127.0.0.1", port)):
        address = servers.start()["CUSTSVC_KAFKA"]

    assert kafka.port != port
    for bootstrap, advertised in ((address, kafka.port), (f"127.0.0.1:{kafka.proxied_port}", 19_999)):
        admin = AdminClient({"bootstrap.servers": bootstrap, **QUIET})
        assert [broker.port for broker in admin.list_topics(timeout=90).brokers.values()] == [advertised]


def test_without_jars_a_stand_in_in_memory_takes_its_place_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jars, "classpath", _no_jars)
    said: list[str] = []
    servers = LocalServers(folder, names=("kafka",), on_progress=said.append)

    address = servers.start()["CUSTSVC_KAFKA"]

    assert any("warning" in line and "forgets all" in line for line in said)
    producer = Producer({"bootstrap.servers": address, **QUIET})
    producer.produce("t", "hello")
    assert producer.flush(90) == 0
    consumer = Consumer(
        {"bootstrap.servers": address, "group.id": "g", "auto.offset.reset": "earliest", **QUIET}
    )
    consumer.subscribe(["t"])
    (message,) = consumer.consume(1, timeout=90)
    consumer.close()
    assert message.value() == b"hello"
    assert LocalServers(folder, names=("kafka",)).start()["CUSTSVC_KAFKA"] == address


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
