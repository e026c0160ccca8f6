"""A refusal of Kafka has its reason: a wrong password, certificate or protocol is no outage."""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
import trustme
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from custsvc.config import Settings
from custsvc.doctor.access import kafka_rights
from custsvc.errors import ConfigurationError, CustsvcError
from custsvc.kafka import acls, topics
from custsvc.kafka import client as kafka
from custsvc.kafka.publisher import Publisher, Record
from custsvc.kafka.topics import ensure_topics
from custsvc.local import jars
from custsvc.local.state import State
from custsvc.ports.rights import RoleName
from tests.integration.secure_kafka import LIMITED, PASSWORD, USER, SecureKafka
from tests.waiting import until

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
@pytest.mark.parametrize("call", [topics.describe, ensure_topics], ids=["look", "role"])
def test_a_refusal_is_reported_with_its_cause_and_is_not_retried(
    secure: SecureKafka, port: str, options: dict[str, str], reason: str, call: object
) -> None:
    with pytest.raises(CustsvcError) as caught:
        call(settings(secure, port, options))  # type: ignore[operator]

    assert isinstance(caught.value, ConfigurationError), caught.value
    assert caught.value.exit_code == 3
    assert reason.lower() in str(caught.value).lower()
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(("port", "options"), RIGHT, ids=[p for p, _ in RIGHT])
def test_right_settings_connect(secure: SecureKafka, port: str, options: dict[str, str]) -> None:
    assert topics.describe(settings(secure, port, options)).brokers == 1


def test_a_broker_that_is_away_is_an_outage(secure: SecureKafka) -> None:
    nobody = secure.at("clear_port").rpartition(":")[0] + ":1"

    with pytest.raises(CustsvcError, match="Connection refused") as caught:
        topics.describe(Settings(kafka=nobody))

    assert caught.value.exit_code == 4


@pytest.mark.parametrize("role", ["serve", "relay", "notify", "replicate", "commands"])
def test_the_acls_of_the_page_suffice_for_each_role_and_doctor_names_missing_ones(
    secure: SecureKafka, role: RoleName
) -> None:
    options = {"security.protocol": "SASL_PLAINTEXT", **SASL, "sasl.username": LIMITED}
    names = {
        f"topic_{kind}": f"{kind}-{uuid.uuid4().hex[:8]}" for kind in ("updates", "notify", "failed", "dead")
    }
    everybody = settings(secure, "clear_port", {}).replace(**names, partitions=1)
    limited = settings(secure, "sasl_port", options).replace(**names)
    ensure_topics(everybody)

    before = acls.lacking(limited)
    assert before is not None
    given = [_acl(command) for command in acls.commands(limited, role, LIMITED)]
    admin = kafka.admin(everybody)  # kept: its answers come while it lives
    for future in admin.create_acls([each for some in given for each in some]).values():
        future.result(60)
    after = until(
        "what is allowed is known", lambda: (found := acls.lacking(limited)) and not found[role] and found
    )

    assert before is not None
    assert before[role] == [f"{o} on topic {t}" for t, all in acls.needed(limited, role).items() for o in all]
    assert bool(after["commands"]) is (role != "commands")
    for topic, operations in acls.needed(limited, role).items():
        if "Write" in operations:
            with Publisher(limited) as publisher:
                publisher.send(topic, [Record(b"1", b"{}", [])])
    wanted = [f.check.rpartition(" of ")[2] for f in kafka_rights(limited) if f.level == "warning"]
    assert role not in wanted


def _acl(command: str) -> list[AclBinding]:
    """The rights that a command of kafka-acls.sh gives."""
    kind, name = re.search(r"--(topic|group) (\S+)", command).groups()  # type: ignore[union-attr]
    pattern = ResourcePatternType.PREFIXED if "prefixed" in command else ResourcePatternType.LITERAL
    user = re.search(r"--allow-principal (\S+)", command)[1]  # type: ignore[index]
    return [
        AclBinding(
            ResourceType[kind.upper()],
            name,
            pattern,
            user,
            "*",
            AclOperation[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper()],
            AclPermissionType.ALLOW,
        )
        for operation in re.findall(r"--operation (\S+)", command)
    ]
