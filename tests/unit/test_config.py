"""The sources of settings, and the errors for wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from custsvc.config import SETTINGS, Settings, env_name
from custsvc.errors import ConfigurationError


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(flags: dict[str, object] | None = None, /, **environ: str) -> Settings:
    return Settings.load(flags, environ=environ)


def test_without_any_source_the_defaults_hold() -> None:
    assert load() == Settings()


def test_a_flag_beats_the_environment_beats_dotenv_beats_toml(in_an_empty_folder: Path) -> None:
    Path("custsvc.toml").write_text(
        'http_port = 1\npartitions = 1\nworkers = 1\nmail_from = "toml@x.example"\n'
    )
    Path(".env").write_text("CUSTSVC_HTTP_PORT=2\nCUSTSVC_PARTITIONS=2\nCUSTSVC_WORKERS=2\n")

    settings = load({"http_port": 4}, CUSTSVC_HTTP_PORT="3", CUSTSVC_PARTITIONS="3")

    assert (settings.http_port, settings.partitions, settings.workers) == (4, 3, 2)
    assert settings.mail_from == "toml@x.example"
    assert settings.origins == {
        "http_port": "flag",
        "partitions": "environment",
        "workers": ".env",
        "mail_from": "custsvc.toml",
    }


def test_a_flag_that_was_not_given_hides_nothing() -> None:
    assert load({"http_port": None}, CUSTSVC_HTTP_PORT="3").http_port == 3


def test_a_secret_is_read_from_the_file_that_is_named(in_an_empty_folder: Path) -> None:
    Path("secret").write_text("postgresql://u:p@h/d\n")

    assert load(CUSTSVC_POSTGRES_URL_FILE="secret").postgres_url == "postgresql://u:p@h/d"


def test_a_secret_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigurationError, match="CUSTSVC_POSTGRES_URL_FILE names nowhere"):
        load(CUSTSVC_POSTGRES_URL_FILE="nowhere")


def test_any_property_of_librdkafka_can_be_given() -> None:
    settings = load(CUSTSVC_KAFKA_OPTIONS__SASL_USERNAME="me", CUSTSVC_KAFKA_OPTIONS__SECURITY_PROTOCOL="SSL")

    assert settings.kafka_options == {"sasl.username": "me", "security.protocol": "SSL"}


def test_the_originals_names_are_fall_backs() -> None:
    original = {"MICROSERVICES_KafkaService__Servers": "old:9092"}

    assert load(**original).kafka == "old:9092"
    assert load(**original, CUSTSVC_KAFKA="new:9092").kafka == "new:9092"


def test_an_unknown_name_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="unknown setting CUSTSVC_KAFKAA") as refused:
        load(CUSTSVC_KAFKAA="x")

    assert refused.value.fix == "did you mean CUSTSVC_KAFKA?"


@pytest.mark.parametrize(
    ("variable", "text", "right"),
    [
        ("CUSTSVC_HTTP_PORT", "abc", "must be a whole number"),
        ("CUSTSVC_HTTP_PORT", "70000", "1 to 65535"),
        ("CUSTSVC_BACKEND", "oracle", "postgres or mongo"),
        ("CUSTSVC_AUTH", "maybe", "on or off"),
        ("CUSTSVC_REQUIRE_IF_MATCH", "perhaps", "must be true or false"),
        ("CUSTSVC_LOG_LEVEL", "loud", "DEBUG or INFO"),
        ("CUSTSVC_GROUP_PREFIX", "", "1 to 100 letters"),
        ("CUSTSVC_GROUP_PREFIX", "ours/", "1 to 100 letters"),
        ("CUSTSVC_NOTIFY_RETRY_BASE", "soon", "must be a number"),
        ("CUSTSVC_NOTIFY_RETRY_BASE", "-1", "a number from"),
        ("CUSTSVC_NOTIFY_RETRY_BASE", "nan", "a number from"),
    ],
)
def test_a_wrong_value_is_reported_with_the_allowed_ones(variable: str, text: str, right: str) -> None:
    with pytest.raises(ConfigurationError, match=right) as refused:
        load(**{variable: text})

    assert variable in str(refused.value)


# As Windows saves a file: a mark before the text, CR LF; or as its PowerShell does, which is not UTF-8.
MARK = b"\xef\xbb\xbf"
UTF_16 = "workers = 3".encode("utf-16")


def test_files_may_begin_with_a_mark_and_end_their_lines_as_windows_does() -> None:
    Path("custsvc.toml").write_bytes(MARK + b"workers = 3\r\nthreads = 5\r\n")
    Path(".env").write_bytes(MARK + b"CUSTSVC_HTTP_PORT=9001\r\nCUSTSVC_STREAMS=7\r\n")
    Path("secret").write_bytes(MARK + b"geheim\r\n")

    settings = load(CUSTSVC_OIDC_CLIENT_SECRET_FILE="secret")

    assert (settings.workers, settings.threads, settings.http_port, settings.streams) == (3, 5, 9001, 7)
    assert settings.oidc_client_secret == "geheim"


@pytest.mark.parametrize("content", [UTF_16, b"workers = 3 # gr\xfc\xdf", b"\xff"])
@pytest.mark.parametrize("name", ["custsvc.toml", ".env", "named.toml"])
def test_a_file_that_is_not_utf8_is_named(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)

    with pytest.raises(ConfigurationError, match=f"{name} is not UTF-8"):
        load(**{"CUSTSVC_CONFIG": name} if name == "named.toml" else {})


@pytest.mark.parametrize("name", ["nowhere.toml", "folder"])
def test_a_file_that_was_named_must_be_there(name: str) -> None:
    Path("folder").mkdir()

    with pytest.raises(ConfigurationError, match=f"{name} cannot be read"):
        load(CUSTSVC_CONFIG=name)


def test_a_broken_toml_file_is_named() -> None:
    Path("custsvc.toml").write_text("= broken")

    with pytest.raises(ConfigurationError, match=r"custsvc\.toml is not valid TOML"):
        load()


def test_secrets_are_never_shown() -> None:
    settings = load(
        CUSTSVC_POSTGRES_URL="postgresql://u:canary@h/d",
        CUSTSVC_MONGO_URL="mongodb://u:canary@h/d",
        CUSTSVC_SMTP_URL="smtp://u:canary@h",
        CUSTSVC_KAFKA_OPTIONS__SASL_PASSWORD="canary",
    )

    assert "canary" not in repr(settings)


def test_a_missing_address_names_the_variable_to_set() -> None:
    with pytest.raises(ConfigurationError) as refused:
        load().url("mongo")

    assert "CUSTSVC_MONGO_URL" in str(refused.value.fix)


def test_every_setting_has_a_help_text_and_a_name_in_the_environment() -> None:
    for name, setting in SETTINGS.items():
        assert setting.doc, name
        assert env_name(name) == f"CUSTSVC_{name.upper()}"
