"""The four servers together: start, join, restart, crash. Real servers, in a separate folder."""

from __future__ import annotations

import os
import smtplib
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from pymongo import MongoClient

from custsvc.config.kafka_address import connection
from custsvc.errors import ConfigurationError
from custsvc.local import LocalServers, join_or_start, ports, process
from custsvc.local.mail import MailCatcher

QUIET = {"log_level": 0}


@contextmanager
def postgres(url: str) -> Iterator[Any]:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def mongo(url: str) -> MongoClient[dict[str, Any]]:
    return MongoClient(url, serverSelectionTimeoutMS=60_000)


def make_topic(address: str, topic: str) -> None:
    admin = AdminClient({**connection(address), **QUIET})
    for future in admin.create_topics([NewTopic(topic, 1)]).values():
        future.result(90)


def produce(address: str, topic: str, value: str) -> None:
    producer = Producer({**connection(address), "acks": "all", **QUIET})
    producer.produce(topic, value)
    assert producer.flush(90) == 0


def consume(address: str, topic: str, count: int) -> list[str]:
    options = {"group.id": os.urandom(4).hex(), "auto.offset.reset": "earliest"}
    consumer = Consumer({**connection(address), **options, **QUIET})
    try:
        consumer.subscribe([topic])
        found = [message for message in consumer.consume(count, timeout=90) if message.error() is None]
        return [(message.value() or b"").decode() for message in found]
    finally:
        consumer.close()


def test_all_four_answer_at_the_addresses_given(servers: LocalServers) -> None:
    env = servers.env()

    with postgres(env["CUSTSVC_POSTGRES_URL"]) as cursor:
        cursor.execute("SELECT current_database(), current_setting('fsync'), lower('ÄÖÜ')")
        assert cursor.fetchone() == ("custsvc", "on", "äöü")
    with mongo(env["CUSTSVC_MONGO_URL"]) as client, client.start_session() as session:
        client.get_default_database().create_collection("t")
        with session.start_transaction():
            client.get_default_database().t.insert_one({"_id": 1}, session=session)
        assert client.get_default_database().name == "custsvc"
    make_topic(env["CUSTSVC_KAFKA"], "first")
    produce(env["CUSTSVC_KAFKA"], "first", "hello")
    assert consume(env["CUSTSVC_KAFKA"], "first", 1) == ["hello"]
    assert env["CUSTSVC_SMTP_URL"].startswith("smtp+plain://127.0.0.1:")


def test_a_caught_mail_is_in_the_mailbox(servers: LocalServers) -> None:
    catcher = servers.server("mail")
    assert isinstance(catcher, MailCatcher)
    mail = EmailMessage()
    mail["Subject"] = "Grüße"
    mail["From"] = "a@example.org"
    mail["To"] = "jörg@example.org"
    mail["Message-ID"] = "<1@example.org>"
    mail.set_content("Hällo")

    with smtplib.SMTP("127.0.0.1", catcher.port) as smtp:
        smtp.send_message(mail)

    (caught,) = catcher.mailbox.messages(to="jörg@example.org")
    assert (caught.sender, caught.subject, caught.message_id) == ("a@example.org", "Grüße", "<1@example.org>")
    assert caught.message().get_content().strip() == "Hällo"
    assert caught.path.suffix == ".eml"
    assert catcher.mailbox.messages(to="somebody@else.org") == []


def test_another_process_joins_the_same_servers(servers: LocalServers) -> None:
    said: list[str] = []
    other = LocalServers(servers.data_dir, on_progress=said.append)

    assert other.start() == servers.env()
    assert [other.server(n).pid for n in other.names] == [servers.server(n).pid for n in servers.names]
    assert all("already ran" in line for line in said)


def test_servers_have_sessions_of_their_own_so_that_ctrl_c_misses_them(servers: LocalServers) -> None:
    for name in servers.names:
        pid = servers.server(name).pid
        assert pid is not None
        assert os.getsid(pid) == pid


def test_the_state_file_is_for_its_owner_only(servers: LocalServers) -> None:
    state = servers.data_dir / "servers.json"

    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(
            host="127.0.0.1", port=servers.server("postgres").port, user="custsvc", dbname="custsvc"
        )


def test_data_written_before_a_kill_9_is_there_after_it(servers: LocalServers) -> None:
    env = servers.env()
    with postgres(env["CUSTSVC_POSTGRES_URL"]) as cursor:
        cursor.execute("CREATE TABLE kept (id int)")
        cursor.execute("INSERT INTO kept VALUES (7)")
    with mongo(env["CUSTSVC_MONGO_URL"]) as client:
        client.get_default_database().kept.insert_one({"_id": 7})
    make_topic(env["CUSTSVC_KAFKA"], "kept")
    produce(env["CUSTSVC_KAFKA"], "kept", "7")

    for name in servers.names:
        servers.server(name).kill()
    assert servers.env() == {}
    again = servers.start()

    assert again == env
    with postgres(env["CUSTSVC_POSTGRES_URL"]) as cursor:
        cursor.execute("SELECT id FROM kept")
        assert cursor.fetchall() == [(7,)]
    with mongo(env["CUSTSVC_MONGO_URL"]) as client:
        assert client.get_default_database().kept.find_one() == {"_id": 7}
    assert consume(env["CUSTSVC_KAFKA"], "kept", 1) == ["7"]


def test_two_starters_at_once_end_up_with_the_same_servers(servers: LocalServers) -> None:
    servers.server("postgres").kill()
    servers.server("mail").kill()
    code = (
        "import sys; from pathlib import Path; from custsvc.local import LocalServers\n"
        "s = LocalServers(Path(sys.argv[1])); s.start(); print([s.server(n).pid for n in s.names])"
    )

    starters = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(servers.data_dir)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    first, second = (starter.communicate(timeout=180)[0] for starter in starters)

    assert first == second != ""


def test_a_running_server_whose_record_is_lost_is_found_and_restarted(folder: Path) -> None:
    servers = LocalServers(folder, names=("mail", "postgres"))
    servers.start()
    lost = [process.Identity.of(servers.server(name).pid or 0) for name in servers.names]
    (folder / "servers.json").rename(folder / "lost.json")

    servers.start()

    assert all(servers.server(name).is_running() for name in servers.names)
    assert not any(identity is None or identity.is_running() for identity in lost)


def test_a_role_without_an_address_starts_the_servers_and_says_so_once(folder: Path) -> None:
    said: list[str] = []

    first = join_or_start(folder, ["mail"], said.append)
    second = join_or_start(folder, ["mail"], said.append)

    assert first == second == {"CUSTSVC_SMTP_URL": first["CUSTSVC_SMTP_URL"]}
    assert len(said) == 1
    assert "custsvc down" in said[0]


def test_embedded_servers_can_be_forbidden(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTSVC_LOCAL", "never")

    with pytest.raises(ConfigurationError) as caught:
        join_or_start(folder, ["postgres", "kafka"], print)

    assert caught.value.fix == "set CUSTSVC_POSTGRES_URL, CUSTSVC_KAFKA"


def test_an_ephemeral_set_leaves_nothing(folder: Path) -> None:
    data_dir = folder / "data"
    servers = LocalServers(data_dir, names=("mail", "postgres"), ephemeral=True)

    env = servers.start()
    home = servers.home
    joined = LocalServers(data_dir, names=("mail", "postgres")).env()
    servers.stop()

    assert joined == env
    assert home != data_dir
    assert not home.exists()
    assert not data_dir.exists()


def test_a_process_that_looked_before_an_ephemeral_set_started_still_joins_it(folder: Path) -> None:
    early, starter = (
        LocalServers(folder / "set", names=["postgres"], ephemeral=True) for _ in ("early", "starter")
    )
    early.server("postgres")
    started = starter.start()

    assert early.start() == started
    starter.stop()


def test_an_unknown_server_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="no server redis"):
        LocalServers(folder, names=("redis",))


def test_a_server_whose_port_was_taken_before_it_listened_starts_on_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[socket.socket] = []
    prepare = MailCatcher.prepare

    def prepare_too_late(self: MailCatcher) -> None:
        prepare(self)
        if not taken:
            taken.append(socket.create_server((ports.HOST, self.port)))

    monkeypatch.setattr(MailCatcher, "prepare", prepare_too_late)
    servers = LocalServers(folder, names=["mail"])
    try:
        address = urlsplit(servers.start()["CUSTSVC_SMTP_URL"])
        assert address.port != taken[0].getsockname()[1]
        smtplib.SMTP(str(address.hostname), address.port or 0, timeout=60).quit()
    finally:
        taken[0].close()
