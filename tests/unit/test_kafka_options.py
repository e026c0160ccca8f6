"""An unknown or wrong option of Kafka is an error that names its variable, in every command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from custsvc import cli
from custsvc.config import Settings
from custsvc.errors import ConfigurationError
from custsvc.kafka import client as kafka
from custsvc.kafka.publisher import Publisher

OPTION = "CUSTSVC_KAFKA_OPTIONS__"
# Each as the environment has it, and what the error must name.
WRONG: list[tuple[dict[str, str], str]] = [
    ({"FOO": "bar"}, "FOO"),
    ({"": "x"}, ""),
    ({"SASL_PASWORD": "x"}, "SASL_PASWORD"),
    ({"SOCKET_TIMEOUT_MS": "soon"}, "SOCKET_TIMEOUT_MS"),
    ({"SOCKET_TIMEOUT_MS": ""}, "SOCKET_TIMEOUT_MS"),
    ({"SOCKET_TIMEOUT_MS": "99999999999"}, "SOCKET_TIMEOUT_MS"),
    ({"SOCKET_TIMEOUT_MS": "-5"}, "SOCKET_TIMEOUT_MS"),
    ({"DEBUG": "nosuch"}, "DEBUG"),
    ({"COMPRESSION_TYPE": "zip"}, "COMPRESSION_TYPE"),
    ({"BROKER_ADDRESS_FAMILY": "v5"}, "BROKER_ADDRESS_FAMILY"),
    ({"SECURITY_PROTOCOL": "TLS"}, "SECURITY_PROTOCOL"),
    ({"ENABLE_SSL_CERTIFICATE_VERIFICATION": "maybe"}, "ENABLE_SSL_CERTIFICATE_VERIFICATION"),
    ({"SSL_ENDPOINT_IDENTIFICATION_ALGORITHM": "http"}, "SSL_ENDPOINT_IDENTIFICATION_ALGORITHM"),
    ({"PLUGIN_LIBRARY_PATHS": "/nonexistent.so"}, "PLUGIN_LIBRARY_PATHS"),
    ({"OPAQUE": "1"}, "OPAQUE"),
    ({"ERROR_CB": "print"}, "ERROR_CB"),
    ({"DEFAULT_TOPIC_CONFIG": "x"}, "DEFAULT_TOPIC_CONFIG"),
    ({"SECURITY_PROTOCOL": "SSL", "SSL_CA_LOCATION": "/nonexistent"}, "ssl.ca.location"),
    ({"SECURITY_PROTOCOL": "SSL", "SSL_CA_PEM": "junk"}, "ssl.ca.pem"),
    ({"SECURITY_PROTOCOL": "SSL", "SSL_KEY_LOCATION": "/nonexistent"}, "ssl.key.location"),
    ({"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_MECHANISM": "PLAIN"}, "sasl.username"),
    ({"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_MECHANISM": "NOPE"}, "SASL mechanism"),
    ({"SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, "SASL mechanism"),
    ({"MAX_POLL_INTERVAL_MS": "100"}, "max.poll.interval.ms"),
    ({"GROUP_PROTOCOL": "consumer"}, ""),
    ({"BOOTSTRAP_SERVERS": "elsewhere:9092"}, "BOOTSTRAP_SERVERS"),
    ({"TRANSACTIONAL_ID": "x"}, "TRANSACTIONAL_ID"),
    ({"ACKS": "1"}, "ACKS"),
    ({"REQUEST_REQUIRED_ACKS": "0"}, "REQUEST_REQUIRED_ACKS"),
    ({"ENABLE_IDEMPOTENCE": "false"}, "ENABLE_IDEMPOTENCE"),
    ({"ENABLE_AUTO_COMMIT": "true"}, "ENABLE_AUTO_COMMIT"),
    ({"GROUP_ID": "mine"}, "GROUP_ID"),
    ({"AUTO_OFFSET_RESET": "latest"}, "AUTO_OFFSET_RESET"),
    ({"PARTITIONER": "random"}, "PARTITIONER"),
    ({"MESSAGE_TIMEOUT_MS": "1000"}, "MESSAGE_TIMEOUT_MS"),
]
RIGHT: list[dict[str, str]] = [
    {},
    {"LOG_LEVEL": "3"},
    {"ACKS": "all", "ENABLE_IDEMPOTENCE": "TRUE", "ENABLE_AUTO_COMMIT": "false"},
    {"SESSION_TIMEOUT_MS": "6000", "HEARTBEAT_INTERVAL_MS": "2000"},
    {
        "SECURITY_PROTOCOL": "SASL_SSL",
        "SASL_MECHANISM": "SCRAM-SHA-512",
        "SASL_USERNAME": "a",
        "SASL_PASSWORD": "b",
    },
    {"SSL_CA_LOCATION": "/nonexistent"},  # not looked at without TLS
    {"MESSAGE_MAX_BYTES": "2000000"},
]


def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str]) -> Settings:
    monkeypatch.chdir(tmp_path)
    return Settings.load(environ={OPTION + name: value for name, value in options.items()})


@pytest.mark.parametrize(("options", "named"), WRONG, ids=[repr(o) for o, _ in WRONG])
def test_a_wrong_option_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], named: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        kafka.check_options(load(tmp_path, monkeypatch, options))

    assert named in str(caught.value)
    assert caught.value.fix
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("options", RIGHT, ids=repr)
def test_a_right_option_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    kafka.check_options(load(tmp_path, monkeypatch, options))


@pytest.mark.parametrize("kind", ["admin", "consumer", "publisher"])
def test_a_client_that_is_made_without_the_check_says_the_same(kind: str) -> None:
    settings = Settings(kafka="127.0.0.1:1", kafka_options={"foo": "bar"})
    make: dict[str, Any] = {
        "admin": lambda: kafka.admin(settings),
        "consumer": lambda: kafka.consumer(settings, "group"),
        "publisher": lambda: Publisher(settings),
    }

    with pytest.raises(ConfigurationError, match="CUSTSVC_KAFKA_OPTIONS__FOO is wrong"):
        make[kind]()


def test_an_option_can_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    path = str(tmp_path / "secret")

    settings = load(tmp_path, monkeypatch, {"SASL_PASSWORD_FILE": path, "SSL_KEY_PASSWORD_FILE": path})

    assert settings.kafka_options == {"sasl.password": "s3cret", "ssl.key.password": "s3cret"}


def test_a_property_that_ends_as_a_file_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(tmp_path, monkeypatch, {"SASL_OAUTHBEARER_ASSERTION_PRIVATE_KEY_FILE": "/key"})

    assert settings.kafka_options == {"sasl.oauthbearer.assertion.private.key.file": "/key"}


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=r"SASL_PASSWORD_FILE names .* which cannot be read"):
        load(tmp_path, monkeypatch, {"SASL_PASSWORD_FILE": str(path)})


def test_one_option_leaves_those_of_other_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "custsvc.toml").write_text(
        '[kafka_options]\n"security.protocol" = "SASL_SSL"\nsasl.username = "ann"\nsasl.mechanism = "PLAIN"\n'
        "socket_keepalive_enable = true\nretries = 5\n"
    )
    (tmp_path / ".env").write_text(f"{OPTION}SASL_USERNAME=bob\n")

    settings = load(tmp_path, monkeypatch, {"SASL_PASSWORD": "s3cret"})

    assert settings.kafka_options == {
        "security.protocol": "SASL_SSL",
        "sasl.username": "bob",
        "sasl.mechanism": "PLAIN",
        "sasl.password": "s3cret",
        "socket.keepalive.enable": "true",
        "retries": "5",
    }


@pytest.mark.parametrize(
    "text", ['kafka_options = "x"', "kafka_options = 7", "kafka_options = [1]", "kafka_options.x = [1]"]
)
def test_options_that_are_no_table_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "custsvc.toml").write_text(text + "\n")

    with pytest.raises(ConfigurationError, match="kafka_options"):
        load(tmp_path, monkeypatch, {})


@pytest.mark.parametrize("name", ["CUSTSVC_KAFKA_OPTIONS", "CUSTSVC_KAFKA_OPTIONS_FILE"])
def test_the_options_as_a_whole_are_no_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigurationError, match=name):
        Settings.load(environ={name: "x"})


ADDRESSES = [
    "http://kafka:9092",
    "kafka:99999",
    "kafka:0",
    "kafka:abc",
    ":9092",
    "kafka:9092,,",
    "a b",
    "kafka;b",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_invalid_address_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigurationError, match="CUSTSVC_KAFKA"):
        Settings.load(environ={"CUSTSVC_KAFKA": address})


@pytest.mark.parametrize(
    "address",
    ["kafka", "kafka:9092", "a:1, b:2", "[::1]:9092", "SASL_SSL://b-1.x.example.org:9096", "10.0.0.1:65535"],
)
def test_an_address_may_be_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.chdir(tmp_path)

    assert Settings.load(environ={"CUSTSVC_KAFKA": address}).kafka == address


def _commands() -> list[str]:
    """Every command that reads settings, with what it needs to get that far."""
    more = {
        "seed": "1",
        "export": "-",
        "import": "- --format csv",
        "replay": "1",
        "health": "serve",
        "keys create": "x",
        "keys revoke": "x",
        "users create": "x",
        "users disable": "x",
        "users passwd": "x",
        "users role": "x read",
        "users delete": "x",
        "sessions revoke": "x",
        "failed show": "x",
        "notify suppressions bounced": "custsvc.toml",
        "failed retry": "x --yes",
        "failed discard": "x --yes",
        "notify show": "x",
        **dict.fromkeys(("customers get", "customers history", "customers unmerge"), "7"),
        "customers merge": "7 8 --yes",
        "customers revert": "7 --to 1",
        "customers erase": "7 --yes",
        "webhooks create": "https://example.com/hook",
        "webhooks change": "x --description x",
        "webhooks delete": "x",
        "webhooks redeliver": "x y",
        **dict.fromkeys(
            [f"webhooks {verb}" for verb in ("get", "pause", "resume", "test", "rotate", "log")], "x"
        ),
        "users reset-factor": "x",
        "users address": "x ann@example.com",
        "imports undo": "x",
        "topics grow": "--partitions 24",
        "archive erase": "custsvc.toml --erased",
        "notify retry": "x --yes",
        "notify discard": "x --yes",
        "notify preview": "--sample created",
        "notify test": "ann@example.com",
        "notify suppressions add": "ann@example.com",
        "notify suppressions remove": "ann@example.com",
    }
    without = {"schema", "notify init", "archive verify", "dashboards export"}

    def walk(command: Any, words: str) -> list[str]:
        inner = getattr(command, "commands", {})
        found = [] if inner and words != "notify" else [words]
        for name, each in inner.items():
            found += walk(each, f"{words} {name}".strip())
        return found

    names = [name for name in walk(typer.main.get_command(cli.app), "") if name not in without]
    return [f"{name} {more.get(name, '')}".strip() for name in names]


@pytest.mark.parametrize("command", _commands())
@pytest.mark.slow
def test_every_command_refuses_a_wrong_option_with_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "custsvc.toml").touch()
    monkeypatch.setenv(OPTION + "FOO", "bar")
    monkeypatch.setattr(sys, "argv", ["custsvc", *command.split()])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    said = capsys.readouterr().err
    assert ended.value.code == 3, said
    assert said.startswith("error: CUSTSVC_KAFKA_OPTIONS__FOO is wrong: ")
    assert "\nfix: " in said


def test_the_command_itself_ends_without_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "custsvc", "doctor"],
        env={"PATH": "/usr/bin", OPTION + "FOO": "bar"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert (done.returncode, len(done.stderr.splitlines())) == (3, 2), done.stderr
