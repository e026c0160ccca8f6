"""Kafka's address may have a user and a password, which reach the client unchanged and are never shown."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from custsvc import redact
from custsvc.config import Settings, describe
from custsvc.errors import ConfigurationError
from custsvc.kafka import client as kafka

SIGNED_IN = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "ann"}
OPTION = "CUSTSVC_KAFKA_OPTIONS__"
RIGHT: list[tuple[str, dict[str, str], str, dict[str, str]]] = [
    ("kafka:9092", {}, "kafka:9092", {}),
    ("a:1, b:2", {}, "a:1, b:2", {}),
    ("ann:s3cret@kafka:9092", {}, "kafka:9092", SIGNED_IN | {"sasl.password": "s3cret"}),
    ("ann:s3cret@a:1,b:2,c", {}, "a:1,b:2,c", SIGNED_IN | {"sasl.password": "s3cret"}),
    ("ann:s3cret@[::1]:9092", {}, "[::1]:9092", SIGNED_IN | {"sasl.password": "s3cret"}),
    ("ann:a:b==@k:1", {}, "k:1", SIGNED_IN | {"sasl.password": "a:b=="}),
    ("ann:%40%2C%2F%3A%25+@k:1", {}, "k:1", SIGNED_IN | {"sasl.password": "@,/:%+"}),
    ("ann:gr%C3%BC%C3%9Fe@k:1", {}, "k:1", SIGNED_IN | {"sasl.password": "grüße"}),
    (
        "SASL_SSL://ann:s3cret@a:1,SASL_SSL://b:2",
        {},
        "SASL_SSL://a:1,SASL_SSL://b:2",
        SIGNED_IN | {"security.protocol": "SASL_SSL", "sasl.password": "s3cret"},
    ),
    ("SSL://a:1", {}, "SSL://a:1", {"security.protocol": "SSL"}),
    ("ann@k:1", {"SASL_PASSWORD": "other"}, "k:1", SIGNED_IN | {"sasl.password": "other"}),
    (
        "ann:s3cret@k:1",
        {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "SCRAM-SHA-512", "SASL_USERNAME": "bob"},
        "k:1",
        {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "bob",
            "sasl.password": "s3cret",
        },
    ),
]
WRONG = [
    "kafka:9092,ann:s3cret@b:9092",
    "ann:s3cret@a:1,bob:s3cret@b:1",
    "ann:s3cret@",
    "ann:s3cret@kafka:99999",
    "ann:s3cret@kafka:9092,",
    "ann:s3cret@@kafka",
    "ann:s3cret,x@kafka",
    "ann:s3cret/x@kafka",
    "ann:s3cret x@kafka",
    "ann:s3cret%zz@kafka",
    "ann:s3cret%ff@kafka",
    "ann:s3cret%00@kafka",
    "ann:s3cret%0A@kafka",
    ":s3cret@kafka",
    "ann:@kafka",
    "ann@kafka",
    "PLAINTEXT://ann:s3cret@kafka",
    "SSL://ann:s3cret@kafka",
    "http://ann:s3cret@kafka",
    "ann:s3cret",
    "ann:s3cret,kafka:9092",
    "http://ann:s3cret",
]


def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, **options: str) -> Settings:
    monkeypatch.chdir(tmp_path)
    more = {OPTION + name: value for name, value in options.items()}
    return Settings.load(environ={"CUSTSVC_KAFKA": address, **more})


@pytest.mark.parametrize(("address", "options", "servers", "properties"), RIGHT, ids=[a for a, *_ in RIGHT])
def test_an_address_is_taken_apart_and_options_override_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    options: dict[str, str],
    servers: str,
    properties: dict[str, str],
) -> None:
    settings = load(tmp_path, monkeypatch, address, **options)

    assert settings.kafka_servers == servers
    assert settings.kafka_connection == {"bootstrap.servers": servers, **properties}
    kafka.check_options(settings)  # librdkafka takes it


@pytest.mark.parametrize("address", WRONG)
def test_a_wrong_address_is_an_error_with_the_fix_that_shows_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    with pytest.raises(ConfigurationError, match="CUSTSVC_KAFKA") as caught:
        load(tmp_path, monkeypatch, address)

    assert "s3cret" not in f"{caught.value}{caught.value.fix}"
    assert "CUSTSVC_KAFKA" in (caught.value.fix or "")


@pytest.mark.parametrize("protocol", ["SSL", "plaintext"])
def test_a_user_who_would_not_sign_in_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    with pytest.raises(ConfigurationError, match="nobody signs in"):
        load(tmp_path, monkeypatch, "ann:s3cret@k:1", SECURITY_PROTOCOL=protocol)


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_forms", set())
    monkeypatch.setattr(redact, "_pattern", None)


NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12)


@given(NAMES, NAMES)
@hypothesis.settings(max_examples=20)
def test_any_user_and_password_come_through_encoded_and_are_never_shown(user: str, password: str) -> None:
    redact._forms.clear()
    secret = f"canary{password}"
    settings = Settings(kafka=f"{quote(user, safe='')}:{quote(secret, safe='')}@k:1,l:2")

    properties = settings.kafka_connection
    shown = {row["setting"]: row["value"] for row in describe(settings)}

    assert (properties["sasl.username"], properties["sasl.password"]) == (user, secret)
    assert settings.kafka_servers == "k:1,l:2"
    assert "canary" not in shown["CUSTSVC_KAFKA"]
    assert shown["CUSTSVC_KAFKA"].endswith("@k:1,l:2")
    assert "canary" not in repr(settings)
