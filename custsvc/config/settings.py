"""All settings: one line each, with its type, default, words and limits.

A value comes from the command line's flag, else the environment (`CUSTSVC_…`, or the file named by
`CUSTSVC_…_FILE`), else `.env`, else `custsvc.toml`, else the original services' variables (with one warning),
else the default. An unknown `CUSTSVC_` name is an error that names the nearest known one.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from .. import redact
from ..errors import ConfigurationError
from .kafka_address import connection
from .setting import PREFIX, Setting, env_name, setting, settings_of
from .sources import read
from .values import check_group_prefix, check_history_keep, check_replication, wrong_kafka

Backend = Literal["postgres", "mongo"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """All settings of a role. `Settings.load()` reads them; tests construct them."""

    backend: Backend = setting("postgres", "Database of this role: postgres or mongo")
    postgres_url: str = setting("", "postgresql://user:password@host:port/database", secret=True)
    mongo_url: str = setting("", "mongodb://host:port/database?replicaSet=name", secret=True)
    postgres_read_url: str = setting(
        "", "A stand-by of PostgreSQL that answers reads of the API, postgresql://…", secret=True
    )
    mongo_read_preference: Literal["primary", "secondary", "secondaryPreferred", "nearest"] = setting(
        "primary", "Which members of MongoDB answer reads of the API: primary, secondary, nearest"
    )
    read_lag: float = setting(
        10.0,
        "Seconds that a stand-by may be behind; beyond, the source answers all reads",
        limits=(0.1, 3600),
    )
    kafka: str = setting("", "Kafka bootstrap servers, [user:password@]host:port[,host:port]")
    kafka_options: Mapping[str, str] = setting(
        {}, "Any librdkafka property, as CUSTSVC_KAFKA_OPTIONS__SASL_USERNAME", secret=True
    )
    kafka_aws_region: str = setting(
        "", "AWS region of an Amazon MSK cluster, as eu-central-1: sign in by IAM (docs/kafka.md)"
    )
    event_format: Literal["json", "json-schema", "avro"] = setting(
        "json", "Format of events on the topic: json; json-schema or avro with a registry's schema"
    )
    schema_registry_url: str = setting(
        "", "Address of a schema registry, https://[user:password@]host:port (docs/registry.md)", secret=True
    )
    schema_registry_options: Mapping[str, str] = setting(
        {}, "Any property of Confluent's registry client, as …__SSL_CA_LOCATION", secret=True
    )
    schema_register: bool = setting(
        True, "Let the relay register the schema of its events at its start; off: it must be there"
    )
    topic_updates: str = setting("MICROSERVICE-CUSTOMER-UPDATES", "Topic of customer events")
    topic_notify: str = setting("MICROSERVICE-CUSTOMER-EMAIL-NOTIFICATION", "Topic of mail requests")
    topic_failed: str = setting("MICROSERVICE-CUSTOMER-EMAIL-NOTIFICATION-FAILED", "Topic of failed mails")
    topic_dead: str = setting("MICROSERVICE-CUSTOMER-UPDATES-DEAD", "Topic of dead letters")
    partitions: int = setting(12, "Partitions of the updates topic when it is created", limits=(1, 10_000))
    replication: int = setting(
        1,
        "Replication factor of topics when they are created; -1: what the broker says",
        limits=(-1, 15),
        check=check_replication,
    )
    group_prefix: str = setting(
        "custsvc-",
        "How the names of all consumer groups begin; installations that share one Kafka need one each",
        check=check_group_prefix,
    )
    instance_id: str = setting(
        "",
        "A lasting name of this process in its consumer group, so that a quick restart moves no partitions",
    )
    history_keep: str = setting(
        "",
        "How long replaced states of customers stay in the history, as 90d (8d at least); unset: for ever",
        check=check_history_keep,
    )
    history_archive: str = setting(
        "", "Folder for archive files of the history; unset: old events are dropped without an archive"
    )
    max_bad_records: int = setting(
        1000,
        "A copy stops when it has read N more unreadable records than readable ones",
        limits=(0, 1_000_000_000),
    )
    http_host: str = setting("127.0.0.1", "Address on which the API listens")
    http_port: int = setting(8000, "Port on which the API listens", limits=(1, 65535))
    workers: int = setting(2, "Worker processes of the API", limits=(1, 256))
    threads: int = setting(8, "Threads of each API worker, and its database connections", limits=(1, 256))
    streams: int = setting(64, "Most open event streams and exports of each API worker", limits=(1, 4096))
    import_max_mb: int = setting(
        64, "Largest file that POST /api/customers/import takes, in megabytes", limits=(1, 4096)
    )
    auth: Literal["on", "off"] = setting("on", "off: no API key needed; loopback only")
    session_idle: float = setting(
        7200.0, "Seconds without use after which a browser is signed out", limits=(1, 90 * 86400)
    )
    session_max: float = setting(
        43200.0, "Seconds after which a browser is signed out in any case", limits=(1, 365 * 86400)
    )
    second_factor: Literal["optional", "admins", "everyone"] = setting(
        "optional", "Which users must sign in with a second factor too: optional, admins or everyone"
    )
    body_timeout: float = setting(
        15.0, "Seconds within which a request's body must arrive (408)", limits=(0.1, 3600)
    )
    slow_bodies: int = setting(
        256, "Most bodies that each process waits for at once (more get 503)", limits=(1, 4096)
    )
    queue_timeout: float = setting(
        10.0,
        "Seconds that a request waits while all threads are busy before it is refused (503)",
        limits=(0.1, 3600),
    )
    oidc_issuer: str = setting("", "OpenID Connect provider for sign-in, as https://login.example.org")
    oidc_client_id: str = setting("", "This service's client id at the provider")
    oidc_client_secret: str = setting("", "The client's secret at the provider", secret=True)
    oidc_name: str = setting("single sign-on", "Name of the provider on the sign-in button")
    oidc_role_claim: str = setting("custsvc_role", "Claim of a token with the role: read, write or admin")
    oidc_role: Literal["read", "write", "admin"] = setting(
        "read", "Role for users whose token lacks that claim"
    )
    access_log: bool = setting(
        False, "Log each request of the API: method, route, status, time, bytes, request id, key or user"
    )
    tracing: Literal["off", "otlp"] = setting(
        "off", "otlp: spans for OpenTelemetry, to where OTEL_EXPORTER_OTLP_ENDPOINT says"
    )
    trusted_hosts: str = setting(
        "", "Host names of this server, comma-separated, .example.org with subdomains; others get 400"
    )
    rate_limit: int = setting(
        0, "Most requests a minute of one API key; more get 429. 0: no limit", limits=(0, 1_000_000_000)
    )
    read_only: bool = setting(False, "Serve a copy: answer reads, refuse writes (405)")
    require_if_match: bool = setting(False, "Refuse a write to a customer without If-Match (428)")
    smtp_url: str = setting(
        "", "smtp://user:password@host:port (STARTTLS), smtps://…, smtp+plain://… (clear text)", secret=True
    )
    mail_from: str = setting("custsvc@example.com", "Sender of notification mails")
    smtp_connect_timeout: float = setting(
        30.0, "Seconds to wait for a connection to the mail server", limits=(0.1, 3600)
    )
    smtp_greeting_timeout: float = setting(
        300.0, "Seconds to wait for the mail server's greeting", limits=(0.1, 3600)
    )
    smtp_mail_timeout: float = setting(
        300.0, "Seconds to wait for the answer to MAIL, EHLO, STARTTLS, AUTH", limits=(0.1, 3600)
    )
    smtp_rcpt_timeout: float = setting(300.0, "Seconds to wait for the answer to RCPT", limits=(0.1, 3600))
    smtp_data_timeout: float = setting(120.0, "Seconds to wait for the answer to DATA", limits=(0.1, 3600))
    smtp_block_timeout: float = setting(
        180.0, "Seconds within which the mail server must take the text", limits=(0.1, 3600)
    )
    smtp_end_timeout: float = setting(
        600.0,
        "Seconds to wait for the answer to the text; after that the mail is unknown",
        limits=(0.1, 3600),
    )
    notify_tries: int = setting(100, "Attempts before a mail is given up", limits=(1, 1000))
    notify_retry_base: float = setting(
        10.0, "Seconds before the first retry of a mail; doubles each time", limits=(0.001, 86400)
    )
    notify_retry_cap: float = setting(
        14400.0, "Most seconds between two attempts of a mail", limits=(0.001, 7 * 86400)
    )
    notify_retry_days: float = setting(
        5.0, "Days after its first attempt when a mail is given up", limits=(0.00001, 365)
    )
    notify_max_age: float = setting(
        86400.0, "Events older than this many seconds are never mailed", limits=(0, 3650 * 86400)
    )
    notify_rules: str = setting("", "TOML file of notification rules; default: the built-in rules")
    notify_cap: int = setting(
        100,
        "Most mails to one recipient in an hour; more are suppressed and counted (0: no cap)",
        limits=(0, 1_000_000),
    )
    notify_rate: int = setting(
        0, "Most mails to one recipient in a minute; more wait (0: no limit)", limits=(0, 100_000)
    )
    notify_on_unknown: Literal["hold", "resend"] = setting(
        "hold", "For a mail that may have arrived: hold it for a person, or resend it"
    )
    notify_connections: int = setting(4, "Connections to the mail server, per process", limits=(1, 100))
    notify_bounce_days: float = setting(
        30.0, "Days that an address refused by a mail server gets no mail", limits=(0.001, 36500)
    )
    notify_keep_days: float = setting(
        90.0,
        "Days that settled notifications are kept; unknown ones stay until a person settles them",
        limits=(0.001, 36500),
    )
    notify_text_days: float = setting(
        30.0,
        "Days after which the text of a sent mail is dropped, all else about it stays (0: kept too)",
        limits=(0, 36500),
    )
    webhook_allow: str = setting(
        "",
        "Hosts and networks inside that webhook endpoints may call, comma-separated, .corp.example with "
        "subdomains, 10.1.0.0/16; they may use http://",
    )
    webhook_pause_days: float = setting(
        5.0, "Days of failures after which a webhook endpoint is paused", limits=(0.00001, 365)
    )
    webhook_connections: int = setting(8, "Connections to webhook endpoints, per process", limits=(1, 100))
    public_url: str = setting(
        "", "Address of this service for browsers, for links in mails; https:// makes cookies Secure"
    )
    api_url: str = setting(
        "", "API that the commands of customers use, as http://localhost:8000; without it, the database"
    )
    api_key: str = setting("", "API key for that API", secret=True)
    metrics_host: str = setting("127.0.0.1", "Address of a worker's /livez, /readyz and /metrics")
    metrics_port: int = setting(
        0, "Port of a worker's /livez, /readyz and /metrics; 0: none", limits=(0, 65535)
    )
    data_dir: Path = setting(Path(".custsvc"), "Data folder of the embedded servers")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = setting("INFO", "DEBUG, INFO, WARNING or ERROR")
    log_format: Literal["auto", "text", "json"] = setting("auto", "auto: text on a terminal, JSON elsewhere")

    # The source of each value, for `config show`.
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Register the secrets of these settings with `redact`."""
        for name, found in SETTINGS.items():
            value = getattr(self, name)
            if isinstance(value, Mapping):
                redact.know_options(value)
            elif isinstance(value, str) and value:
                redact.know_address(value)
                if found.secret and not name.endswith("_url"):
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
        values, origins = read(SETTINGS, os.environ if environ is None else environ, flags or {})
        settings = cls(**values, origins=origins)
        if settings.kafka:
            _ = settings.kafka_connection  # address and options must go together
        if settings.event_format != "json" and not settings.schema_registry_url:
            raise ConfigurationError(
                f"CUSTSVC_EVENT_FORMAT is {settings.event_format}, which needs a schema registry",
                fix="set CUSTSVC_SCHEMA_REGISTRY_URL (docs/registry.md), or leave the format out",
            )
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
            return connection(address, {**self._by_iam, **self.kafka_options})
        except ValueError as exc:
            raise wrong_kafka(address, self.origins.get("kafka", "given"), exc) from exc

    @property
    def _by_iam(self) -> Mapping[str, str]:
        """librdkafka's properties for a sign-in to Amazon MSK by IAM; its tokens come from `kafka.msk`."""
        if not self.kafka_aws_region:
            return {}
        return {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}

    @property
    def kafka_servers(self) -> str:
        """Kafka's bootstrap servers, without user and password. Raises as `kafka_connection` does."""
        return self.kafka_connection["bootstrap.servers"]

    @property
    def other_backend(self) -> Backend:
        """The database that is not `backend`."""
        return "mongo" if self.backend == "postgres" else "postgres"


SETTINGS: Final[dict[str, Setting]] = settings_of(Settings)


def describe(settings: Settings) -> list[dict[str, str]]:
    """The variable, value and origin of each setting. Secrets are masked."""
    return [
        {
            "setting": env_name(name),
            "value": _shown(getattr(settings, name), secret=each.secret),
            "origin": settings.origins.get(name, "default"),
        }
        for name, each in SETTINGS.items()
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
