"""What PostgreSQL says at connect in other languages: a wrong setting, or an outage."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
import pytest

from custsvc.errors import TemporaryError, Unusable
from custsvc.stores.postgres.connection import _not_connected, connect
from custsvc.stores.postgres.refusals import TRANSLATIONS

URL = "postgresql://ada@db/custsvc"
QUOTES = {"de": "»%s«", "es": "«%s»", "fr": "«\N{NO-BREAK SPACE}%s\N{NO-BREAK SPACE}»"}
FORBIDDEN = (
    "kein pg_hba.conf-Eintrag für Host »::1«, Benutzer »ada«, Datenbank »custsvc«, keine Verschlüsselung",
    'pg_hba.conf rejects connection for host "::1", user "ada", database "custsvc", no encryption',
    '데이터베이스 "custsvc", 암호화 안함 연결에 대한 설정이 pg_hba.conf 파일에 없습니다.',
)
# The server starts, stops, or has no connection left.
OUTAGES = (
    "das Datenbanksystem startet",
    "das Datenbanksystem fährt herunter",
    "tut mir leid, schon zu viele Verbindungen",
    "Datenbank »custsvc« akzeptiert gegenwärtig keine Verbindungen",
    "el sistema de base de datos está iniciándose",
    "lo siento, ya tenemos demasiados clientes",
    "le système de bases de données se lance",
    "désolé, trop de clients sont déjà connectés",
    "il database si sta avviando",
    "データベースシステムは起動処理中です",
    "現在クライアント数が多すぎます",
    "데이터베이스 시스템이 새로 가동 중입니다.",
    "최대 동시 접속자 수를 초과했습니다.",
    "система баз данных запускается",
    "извините, уже слишком много клиентов",
    "数据库系统启动中",
    "对不起, 已经有太多的客户",
)


def error(message: str) -> Exception:
    said = f'connection to server at "db" (10.0.0.1), port 5432 failed: FATAL:  {message}\n'
    return _not_connected(URL, psycopg2.OperationalError(said))


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_a_refusal_is_a_wrong_setting_in_every_language(language: str) -> None:
    quoted = QUOTES.get(language, '"%s"') % "ada"

    for template in TRANSLATIONS[language]:
        assert isinstance(error(template.replace("…", quoted)), Unusable), template


def test_pg_hba_conf_is_named_in_every_language() -> None:
    for message in FORBIDDEN:
        assert isinstance(error(message), Unusable), message


def test_an_outage_is_one_in_every_language() -> None:
    for message in OUTAGES:
        assert isinstance(error(message), TemporaryError), message


@pytest.mark.parametrize(
    "message",
    [
        "sorry, too many clients already",
        "remaining connection slots are reserved for roles with the SUPERUSER attribute",
        "remaining connection slots are reserved for non-replication superuser connections",
        'too many connections for role "ada"',
        'too many connections for database "custsvc"',
        "no more connections allowed (max_client_conn)",
    ],
)
def test_a_server_without_a_connection_left_is_not_to_be_started(message: str) -> None:
    full = error(message)

    assert isinstance(full, TemporaryError)
    assert "max_connections" in (full.fix or "")


@contextmanager
def refusing(message: bytes) -> Iterator[str]:
    """The address of a port that refuses one login with this message, as PostgreSQL does."""

    def run() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            body = b"SFATAL\0VFATAL\0C28P01\0M" + message + b"\0\0"
            connection.sendall(b"E" + struct.pack("!I", len(body) + 4) + body)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run)
        thread.start()
        yield f"postgresql://ada:x@127.0.0.1:{listener.getsockname()[1]}/custsvc?sslmode=disable"
        thread.join()


@pytest.mark.parametrize(
    ("language", "encoding"),
    [
        ("de", "utf-8"),
        ("de", "latin-1"),
        ("ru", "koi8-r"),
        ("ru", "cp1251"),
        ("ja", "euc-jp"),
        ("zh_CN", "gbk"),
    ],
)
def test_a_refusal_in_the_encoding_of_the_server_is_read(language: str, encoding: str) -> None:
    message = TRANSLATIONS[language][1].replace("…", '"ada"')

    with refusing(message.encode(encoding)) as url, pytest.raises(Unusable) as refused:
        connect(url)

    assert message in str(refused.value)


def test_bytes_in_no_known_words_are_an_outage_with_what_is_readable() -> None:
    with refusing(b"\xfc\xff out of luck") as url, pytest.raises(TemporaryError, match="out of luck"):
        connect(url)
