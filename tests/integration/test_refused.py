"""A Kafka that refuses says why: a wrong password, certificate or protocol is a setting, and no outage."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
import trustme

from custsvc import kafka, topics
from custsvc.config import Settings
from custsvc.errors import ConfigurationError, CustsvcError
from custsvc.local import jars
from custsvc.local.state import State
from tests.integration.secure_kafka import PASSWORD, USER, SecureKafka

SASL = {"sasl.mechanism": "PLAIN", "sasl.username": USER, "sasl.password": PASSWORD}
OVER_TLS = {"security.protocol": "SSL", "ssl.ca.location": "CA"}
WRONG: list[tuple[str, dict[str, str], str]] = [
    (
        "sasl_port",
        {"security.protocol": "SASL_PLAINTEXT", **SASL, "sasl.password": "wrong"},
        "Invalid username",
    ),
    (
        "sasl_port",
        {"security.protocol": "SASL_PLAINTEXT", **SASL, "sasl.username": "eve"},
        "Invalid username",
    ),
    (
        "sasl_port",
        {"security.protocol": "SASL_PLAINTEXT", **SASL, "sasl.mechanism": "SCRAM-SHA-256"},
        "mechanism",
    ),
    ("sasl_port", {}, "asks for a sign-in"),
    ("tls_port", {**OVER_TLS, "ssl.ca.location": "OTHER"}, "certificate verify failed"),
    ("tls_port", {"security.protocol": "SSL"}, "certificate verify failed"),
    ("tls_port", {}, "speaks TLS"),
    ("clear_port", OVER_TLS, "speaks clear text"),
    ("clear_port", {"security.protocol": "SASL_PLAINTEXT", **SASL}, "SASL"),
    ("sasl_tls_port", OVER_TLS, "asks for a sign-in"),
    ("sasl_tls_port", {**OVER_TLS, "security.protocol": "SASL_SSL", **SASL, "sasl.password": ""}, "sasl"),
    (
        "sasl_tls_port",
        {**OVER_TLS, "security.protocol": "SASL_SSL", **SASL, "sasl.password": "x"},
        "Invalid username",
    ),
]
RIGHT: list[tuple[str, dict[str, str]]] = [
    ("clear_port", {}),
    ("sasl_port", {"security.protocol": "SASL_PLAINTEXT", **SASL}),
    ("tls_port", OVER_TLS),
    ("sasl_tls_port", {**OVER_TLS, "security.protocol": "SASL_SSL", **SASL}),
]


@pytest.fixture(scope="module")
def secure() -> Iterator[SecureKafka]:
    with tempfile.TemporaryDirectory(prefix="custsvc-secure-") as name:
        home = Path(name)
        server = SecureKafka(home, State(home / "state.json"), lambda _line: None, Event())
        try:
            server.start()
            server.wait_ready(300)
        except jars.NoKafka as exc:
            pytest.skip(f"no Kafka here: {exc}")
        if server.is_mock:
            server.stop()
            pytest.skip("no Kafka here, only the stand-in")
        server.authority.cert_pem.write_to_path(str(home / "CA"))
        trustme.CA().cert_pem.write_to_path(str(home / "OTHER"))
        yield server
        server.stop()


def settings(secure: SecureKafka, port: str, options: dict[str, str]) -> Settings:
    files = {name: str(secure.folder.parent / name) for name in ("CA", "OTHER")}
    return Settings(kafka=secure.at(port), kafka_options={k: files.get(v, v) for k, v in options.items()})


@pytest.mark.parametrize(("port", "options", "reason"), WRONG, ids=[f"{p}-{r}" for p, _, r in WRONG])
@pytest.mark.parametrize("call", [topics.describe, kafka.ensure_topics], ids=["look", "role"])
def test_what_is_wrong_is_told_and_no_waiting_mends_it(
    secure: SecureKafka, port: str, options: dict[str, str], reason: str, call: object
) -> None:
    with pytest.raises(CustsvcError) as caught:
        call(settings(secure, port, options))  # type: ignore[operator]

    assert isinstance(caught.value, ConfigurationError), caught.value
    assert caught.value.exit_code == 3
    assert reason.lower() in str(caught.value).lower()
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(("port", "options"), RIGHT, ids=[p for p, _ in RIGHT])
def test_what_is_right_works(secure: SecureKafka, port: str, options: dict[str, str]) -> None:
    assert topics.describe(settings(secure, port, options)).brokers == 1


def test_a_broker_that_is_away_is_an_outage(secure: SecureKafka) -> None:
    nobody = secure.at("clear_port").rpartition(":")[0] + ":1"

    with pytest.raises(CustsvcError, match="Connection refused") as caught:
        topics.describe(Settings(kafka=nobody))

    assert caught.value.exit_code == 4
