"""Nobody else on this machine can read what is in a data folder, or what its servers hold.

A folder from before is closed, and works on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from custsvc.config import Settings
from custsvc.errors import ConfigurationError
from custsvc.kafka import probe
from custsvc.kafka.publisher import Publisher, Record
from custsvc.kafka.topics import ensure_topics
from custsvc.local import LocalServers, private, process
from tests.chaos.checker import read_records

# Looks at all it can reach, as another account, and tells what it could list or read.
_LOOK = """
import os, sys
for folder, _, files in os.walk(sys.argv[1]):
    print("listed", folder)
    for name in files:
        try:
            open(os.path.join(folder, name), "rb").read(1)
            print("read", os.path.join(folder, name))
        except OSError:
            pass
for path in sys.argv[2:]:
    try:
        open(path, "rb").read(1)
        print("read", path)
    except OSError:
        pass
"""
_OTHER = 31_415
_NOT_ALLOWED = (13, 18)  # MongoDB's Unauthorized and AuthenticationFailed


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def seen_by_another(folder: Path) -> str:
    """The files that an unrelated account can read; it knows all names."""
    names = [str(path) for path in folder.rglob("*") if path.is_file()]
    done = subprocess.run(
        ["/usr/bin/env", "python3", "-I", "-c", _LOOK, str(folder), *names],
        user=_OTHER,
        group=_OTHER,
        extra_groups=[],
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def start(folder: Path, *names: str) -> LocalServers:
    servers = LocalServers(folder / "data", names=names)
    servers.start()
    return servers


def test_a_data_folder_is_closed_with_all_that_is_in_it(servers: LocalServers) -> None:
    mails = servers.home / "mail" / "mails"
    (mails / "one.eml").write_text("private")

    logs = [*(servers.home / "logs").iterdir()]
    assert mode(servers.home) == (0o711 if os.geteuid() == 0 else 0o700)
    assert [mode(servers.home / name) for name in ("logs", "mail")] == [0o700, 0o700]
    assert logs
    assert [mode(log) for log in logs] == [0o600] * len(logs)
    if os.geteuid() == 0:
        assert seen_by_another(servers.home) == ""


def test_servers_listen_on_loopback_only_and_no_command_line_has_a_password(servers: LocalServers) -> None:
    secrets = [
        path.read_text().strip() for path in servers.home.rglob("*") if path.name in ("password", "keyfile")
    ]

    assert len(secrets) >= 3
    for name in servers.names:
        running = psutil.Process(servers.server(name).pid)
        listens = {c.laddr.ip for c in running.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        assert {ip.removeprefix("::ffff:") for ip in listens} == {"127.0.0.1"}
        assert not any(secret in argument for argument in running.cmdline() for secret in secrets)


def test_customers_in_mongodb_are_read_with_the_password_only(servers: LocalServers) -> None:
    with MongoClient[dict[str, Any]](servers.env()["CUSTSVC_MONGO_URL"]) as client:
        client.get_default_database().customer.insert_one({"_id": 1, "name": "Ann"})
        assert client.get_default_database().customer.count_documents({}) == 1
    way = f"{servers.server('mongo').address}/?directConnection=true"

    asked: list[Callable[[MongoClient[dict[str, Any]]], Any]] = [
        lambda other: other.custsvc.customer.find_one(),
        lambda other: other.local["oplog.rs"].find_one(),
        lambda other: other.list_database_names(),
        lambda other: other.custsvc.customer.drop(),
        lambda other: other.admin.command("createUser", "eve", pwd="eve", roles=["root"]),
    ]
    for login in ("", "custsvc:custsvc@", "custsvc:wrong@", "eve:eve@", "__system:custsvc@"):
        with MongoClient[dict[str, Any]](f"mongodb://{login}{way}") as other:
            for ask in asked[: 1 if login else None]:  # once refused, the driver waits before it tries again
                with pytest.raises(OperationFailure) as refused:
                    ask(other)
                assert refused.value.code in _NOT_ALLOWED


def test_records_in_kafka_are_read_with_the_password_only(servers: LocalServers) -> None:
    address = servers.env()["CUSTSVC_KAFKA"]
    broker = servers.server("kafka")
    ensure_topics(Settings(kafka=address, partitions=1))
    with Publisher(Settings(kafka=address)) as publisher:
        publisher.send("MICROSERVICE-CUSTOMER-UPDATES", [Record(b"1", b"Ann", [])])
    assert read_records(address, "MICROSERVICE-CUSTOMER-UPDATES") == [(0, b"1", b"Ann")]

    for login in ("", "custsvc:custsvc@", "custsvc:wrong@", "eve:eve@"):
        with pytest.raises(ConfigurationError, match=r"asks for a sign-in|Invalid username or password"):
            ensure_topics(Settings(kafka=f"{login}{broker.address}"), timeout=20)
    for port in ("port", "controller_port"):
        assert probe._conversation("127.0.0.1", broker.record[port], tls=False) == "hangs up"


def test_a_folder_that_was_open_is_closed_at_the_next_start_and_works_on(folder: Path) -> None:
    url = start(folder, "postgres", "mail").env()["CUSTSVC_POSTGRES_URL"]
    LocalServers(folder / "data").stop()
    for path in (folder / "data", *(folder / "data").iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for log in (folder / "data" / "logs").iterdir():
        log.chmod(0o644)

    again = start(folder, "postgres", "mail")

    assert again.env()["CUSTSVC_POSTGRES_URL"] == url
    assert mode(again.home / "logs") == mode(again.home / "mail") == 0o700
    if os.geteuid() == 0:
        assert seen_by_another(again.home) == ""


@pytest.mark.parametrize("before", [0o755, 0o777])
def test_a_folder_with_other_things_in_it_stays_as_it_is(tmp_path: Path, before: int) -> None:
    (tmp_path / "thesis.txt").touch()
    tmp_path.chmod(before)

    private.data_folder(tmp_path)

    assert mode(tmp_path) == before


def test_a_log_is_its_owners_even_where_it_was_there_already(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("before\n")
    log.chmod(0o666)
    before = os.umask(0)
    try:
        ended = process.spawn([sys.executable, "-c", "print('after')"], log=log)
    finally:
        os.umask(before)
    assert process.wait_until(lambda: not ended.is_running(), 60)

    assert mode(log) == 0o600
    assert log.read_text() == "before\nafter\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_folder_of_somebody_else_is_an_error_with_the_fix(tmp_path: Path) -> None:
    data_dir = tmp_path / "theirs"
    data_dir.mkdir(mode=0o700)
    os.chown(tmp_path, _OTHER, _OTHER)

    # pytest's own folder is closed to others too.
    child = os.fork()
    if child == 0:
        os.setgid(_OTHER)
        os.setuid(_OTHER)
        try:
            LocalServers(data_dir)
        except ConfigurationError:
            os._exit(0)
        except BaseException:  # noqa: BLE001
            os._exit(2)
        os._exit(1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
