"""Which addresses are this machine, and which connections to others are unencrypted."""

from __future__ import annotations

import socket

import pytest

from custsvc.config import Settings
from custsvc.runtime.links import elsewhere, kafka_in_clear, mail_in_clear

HERE = ["", "/var/run/postgresql", "localhost", "127.0.0.1", "127.9.9.9", "::1", socket.gethostname()]
ELSEWHERE = ["198.51.100.1", "2001:db8::1", "db.invalid", "0.0.0.0.0", "8.8.8.8", "..", "a" * 70, "ü\udcff"]


@pytest.mark.parametrize("host", HERE)
def test_this_machine_is_known_by_any_of_its_names(host: str) -> None:
    if host == socket.gethostname():
        try:
            socket.getaddrinfo(host, 0)
        except OSError:
            pytest.skip("this machine does not know its own name")
    assert elsewhere([host]) == []


@pytest.mark.parametrize("host", ELSEWHERE)
def test_other_machines_and_names_that_nobody_knows_are_elsewhere(host: str) -> None:
    assert elsewhere([host, "localhost", host]) == [host]


@pytest.mark.parametrize(
    ("servers", "protocol", "expected"),
    [
        ("localhost:9092", None, []),
        ("198.51.100.1:9092", None, ["198.51.100.1"]),
        ("198.51.100.1:9092,localhost:9092,198.51.100.2:9092", "PLAINTEXT", ["198.51.100.1", "198.51.100.2"]),
        ("198.51.100.1:9092", "SASL_PLAINTEXT", ["198.51.100.1"]),
        ("198.51.100.1:9092", "sasl_plaintext", ["198.51.100.1"]),
        ("198.51.100.1:9092", "SSL", []),
        ("198.51.100.1:9092", "sasl_ssl", []),
        ("[2001:db8::1]:9092", None, ["2001:db8::1"]),
        ("PLAINTEXT://198.51.100.1:9092", None, ["198.51.100.1"]),
        ("SASL_SSL://198.51.100.1:9092", None, []),
        ("ann:s3cret@198.51.100.1:9092,localhost", None, ["198.51.100.1"]),
        ("ann:s3cret@localhost:9092", None, []),
        ("SASL_SSL://ann:s3cret@198.51.100.1:9092", None, []),
        ("ann:s3cret@198.51.100.1:9092", "SASL_SSL", []),
        ("", None, []),
    ],
)
def test_brokers_in_clear_text_are_named(servers: str, protocol: str | None, expected: list[str]) -> None:
    options = {"security.protocol": protocol} if protocol else {}

    assert kafka_in_clear(Settings(kafka=servers, kafka_options=options)) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", []),
        ("smtp+plain://localhost:25", []),
        ("smtp+plain://198.51.100.1", ["198.51.100.1"]),
        ("smtp://198.51.100.1", []),
        ("smtps://198.51.100.1", []),
    ],
)
def test_a_mail_server_in_clear_text_is_named(url: str, expected: list[str]) -> None:
    assert mail_in_clear(Settings(smtp_url=url)) == expected
