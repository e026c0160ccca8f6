"""A refusal of a database has its reason: a wrong password, certificate or protocol is no outage."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import pytest

from custsvc.errors import ConfigurationError, CustsvcError
from custsvc.local import postgres as embedded
from custsvc.local.server import Server
from custsvc.local.state import State
from tests.addresses import changed
from tests.conftest import Servers
from tests.databases import open_database
from tests.integration.secure_databases import SecureMongod, SecurePostgres, write_certificates

Changes = dict[str, str | None]
POSTGRES: list[tuple[Changes, str]] = [
    ({"sslrootcert": "OTHER"}, "certificate verify failed"),
    ({"sslrootcert": "JUNK"}, "could not read root certificate"),
    ({"sslrootcert": "MISSING"}, "does not exist"),
    ({"sslrootcert": None}, "root certificate"),
    ({"host": "localhost"}, "does not match host name"),
    ({"login": "custsvc:not-it"}, "password authentication failed"),
    ({"login": "eve:not-it"}, "password authentication failed"),
    ({"login": "custsvc"}, "no password supplied"),
    ({"database": "nowhere"}, "does not exist"),
    ({"sslmode": "disable"}, "no encryption"),
    ({"database": "locked"}, "certificate"),
    ({"database": "locked", "sslcert": "stranger", "sslkey": "stranger"}, "unknown ca"),
    ({"sslcert": "JUNK", "sslkey": "client"}, "could not read certificate"),
]
MONGO: list[tuple[Changes, str]] = [
    ({"tlsCAFile": "OTHER"}, "certificate verify failed"),
    ({"tlsCAFile": "JUNK"}, "tlscafile"),
    ({"tlsCAFile": "MISSING"}, "tlscafile file is not readable"),
    ({"tlsCAFile": None}, "certificate verify failed"),
    ({"host": "localhost", "replicaSet": None, "directConnection": "true"}, "hostname mismatch"),
    ({"login": "custsvc:not-it"}, "authentication failed"),
    ({"login": "eve:not-it"}, "authentication failed"),
    ({"login": None, "authSource": None}, "requires authentication"),
    ({"tls": None, "tlsCAFile": None, "tlsCertificateKeyFile": None}, "speaks TLS"),
    ({"tlsCertificateKeyFile": "JUNK"}, "private key"),
]
# A server of the run's, that speaks clear text.
CLEAR: dict[str, Changes] = {
    "postgres": {"sslmode": "require"},
    "mongo": {"tls": "true", "tlsAllowInvalidCertificates": "true"},
}


@pytest.fixture(scope="module")
def secure() -> Iterator[tuple[Path, dict[str, str]]]:
    """The folder of the certificates, and the addresses of both."""
    with tempfile.TemporaryDirectory(prefix="custsvc-secure-") as name, ExitStack() as stack:
        home = Path(name)
        home.chmod(0o755)
        write_certificates(home)
        kinds: list[type[Server]] = [SecureMongod]
        if embedded._system_binaries() is not None:
            kinds.append(SecurePostgres)
        urls = {}
        for kind in kinds:
            server = kind(home, State(home / "state.json"), lambda _line: None, Event())
            stack.callback(server.remove)
            server.start()
            stack.callback(server.stop)
            server.wait_ready(300)
            urls[kind.name] = server.url
        yield home, urls


def error_of(
    backend: str,
    url: str,
    tells: Callable[[CustsvcError], bool] = lambda e: isinstance(e, ConfigurationError),
) -> CustsvcError:
    """The error of a role that starts with this address: of its first try that `tells` what is wrong.

    A server that is too busy to answer in time looks like one that is away, which a role waits for.
    """
    deadline = time.monotonic() + 60
    while not tells(error := _error_of_one_try(backend, url)) and time.monotonic() < deadline:
        pass
    return error


def _error_of_one_try(backend: str, url: str) -> CustsvcError:
    with (
        pytest.raises(CustsvcError) as caught,
        open_database(backend, url) as store,
    ):
        store.ping()
        store.facts.get("role")  # which MongoDB tells nobody who has not signed in
    return caught.value


@pytest.mark.parametrize(
    ("backend", "changes", "reason"),
    [*(("postgres", *each) for each in POSTGRES), *(("mongo", *each) for each in MONGO)],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_a_refusal_is_reported_with_its_cause_and_is_not_retried(
    secure: tuple[Path, dict[str, str]], backend: str, changes: Changes, reason: str
) -> None:
    folder, urls = secure
    if backend not in urls:
        pytest.skip("NOT CHECKED: no PostgreSQL here that speaks TLS (the wheel's does not)")
    files = ("OTHER", "JUNK", "MISSING", "client", "stranger")
    changes = {name: str(folder / v) if v in files else v for name, v in changes.items()}

    error = error_of(backend, changed(urls[backend], changes))

    assert isinstance(error, ConfigurationError), error
    assert error.exit_code == 3
    assert reason.lower() in str(error).lower()
    assert "not-it" not in str(error)
    assert f"CUSTSVC_{backend.upper()}_URL" in (error.fix or "")


@pytest.mark.parametrize("file", [None, "stranger"])
def test_a_certificate_of_the_client_that_mongodb_does_not_take_is_named(
    secure: tuple[Path, dict[str, str]], file: str | None
) -> None:
    """It only hangs up, which a proxy before a server that is away does too: no role ends over that."""
    folder, urls = secure
    certificate = str(folder / file) if file else None

    reason = "may want a certificate of its clients"

    error = error_of(
        "mongo",
        changed(urls["mongo"], {"tlsCertificateKeyFile": certificate}),
        lambda error: reason in str(error),
    )

    assert reason in str(error)
    assert "CUSTSVC_MONGO_URL" in (error.fix or "")


def test_tls_at_a_clear_text_server_is_reported(backend: str, servers: Servers) -> None:
    error = error_of(backend, changed(servers.url(backend), CLEAR[backend]))

    assert isinstance(error, ConfigurationError), error
    assert error.exit_code == 3
    assert "SSL" in str(error) or "clear text" in str(error)


def test_right_settings_connect(secure: tuple[Path, dict[str, str]]) -> None:
    for backend, url in secure[1].items():
        with open_database(backend, url) as store:
            store.ping()
