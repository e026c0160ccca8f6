"""A schema registry: its schemas by their ids, and our schema's id. By Confluent's client and API.

A registry that does not answer is an outage (TemporaryError); one that refuses us, or is none, is a wrong
setting (ConfigurationError), and never the fault of a record.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from ..config import Settings
from ..errors import ConfigurationError, CustsvcError, TemporaryError, Unusable
from ..runtime.extras import needs

OPTION: Final = "CUSTSVC_SCHEMA_REGISTRY_OPTIONS__"
URL: Final = "CUSTSVC_SCHEMA_REGISTRY_URL"

# Seconds for a request; a worker tries again, and a person waits for it.
_TIMEOUT: Final = 5.0
_FORBIDDEN: Final = (401, 403)
# What a provider of tokens answers to a client that it refuses.
_REFUSED: Final = re.compile(r"invalid_|unauthorized|access_denied|\b40[013]\b")
# The beginning of an answer by TLS, where clear text was expected.
_TLS_ANSWER: Final = re.compile(r"illegal status line|\\x15\\x03")
_NUMBERS: Final = frozenset(
    {"timeout", "max.retries", "retries.wait.ms", "retries.max.wait.ms", "cache.capacity"}
)
# The registry's own codes of "not found"; a 404 without one comes from something else.
_NO_SUBJECT, _NO_SCHEMA, _NO_RULE = 40401, 40403, 40408
_UNKNOWN: Final = (_NO_SUBJECT, 40402, _NO_SCHEMA, _NO_RULE)


# The last outage, until the registry answers again.
_outage: TemporaryError | None = None


def checks(settings: Settings) -> dict[str, Callable[[], None]]:
    """What `/readyz` asks of a role that uses the registry: nothing without an address of one."""
    return {"schema registry": _check} if settings.schema_registry_url else {}


def _check() -> None:
    if _outage is not None:
        raise _outage


class Schema(NamedTuple):
    """A schema: `AVRO`, `JSON` or `PROTOBUF`, and its text."""

    kind: str
    text: str


class Incompatible(Unusable):
    """The registry does not take our schema after the subject's earlier ones."""


class Registry:
    """The registry of the settings. Each call opens a connection and closes it: calls are few."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigurationError without an address."""
        if not settings.schema_registry_url:
            raise ConfigurationError("the schema registry's address is not set", fix=f"set {URL}")
        self._settings = settings

    def _client(self) -> Any:
        """Confluent's client. Raises NotInstalled, and ConfigurationError for a wrong option."""
        with needs("registry"):
            from confluent_kafka.schema_registry import SchemaRegistryClient
        options = self._settings.schema_registry_options
        config = {
            "timeout": _TIMEOUT,
            # Who calls tries again by itself.
            "max.retries": 0,
            **{name: _number(name, text) if name in _NUMBERS else text for name, text in options.items()},
            "url": self._settings.schema_registry_url,
        }
        try:
            return SchemaRegistryClient(config)
        except (OSError, ValueError, TypeError) as exc:
            raise _wrong_option(exc, options) from exc

    def schema(self, number: int) -> Schema | None:
        """The schema with this id; None if the registry has none."""
        try:
            with self._asking() as client:
                found = client.get_schema(number)
        except _NotThere:
            return None
        return Schema(found.schema_type or "AVRO", found.schema_str or "")

    def id_of(self, subject: str, schema: Schema) -> int | None:
        """The id of this schema under a subject; None if it is not registered there."""
        try:
            with self._asking() as client:
                return int(client.lookup_schema(subject, _theirs(schema)).schema_id)
        except _NotThere:
            return None

    def register(self, subject: str, schema: Schema) -> int:
        """Register the schema under a subject unless it is there, and return its id.

        Raises Incompatible if the registry does not take it after the earlier ones.
        """
        with self._asking() as client:
            return int(client.register_schema(subject, _theirs(schema)))

    def is_compatible(self, subject: str, schema: Schema) -> bool:
        """Whether the subject's rule allows the schema after its latest one; True if it has none yet."""
        try:
            with self._asking() as client:
                return bool(client.test_compatibility(subject, _theirs(schema)))
        except _NotThere:
            return True

    def require(self, subject: str, compatibility: str) -> None:
        """Let the registry refuse later schemas of a subject that are not compatible in this way."""
        with self._asking() as client:
            client.set_compatibility(subject, compatibility)

    def rule(self, subject: str) -> str | None:
        """How later schemas of a subject must be compatible: its own rule, else that of the registry.

        None if this account may not see it.
        """
        try:
            return self._rule(subject) or self._rule(None)
        except ConfigurationError:
            return None

    def _rule(self, subject: str | None) -> str | None:
        try:
            with self._asking() as client:
                return str(client.get_compatibility(subject))
        except _NotThere:
            return None

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        """A client for the block; translates its errors, and remembers an outage."""
        global _outage
        with self._client() as client:
            try:
                yield client
            except Exception as exc:
                found = _translated(exc, self._settings.schema_registry_url)
                _outage = found if isinstance(found, TemporaryError) else None
                raise found from exc
        _outage = None


def _theirs(schema: Schema) -> Any:
    from confluent_kafka.schema_registry import Schema as Theirs

    return Theirs(schema.text, schema.kind)


class _NotThere(CustsvcError):
    """The registry has no such subject or schema."""


def _translated(exc: Exception, where: str) -> CustsvcError:
    """Our error for one of Confluent's client, or of whichever HTTP library it has."""
    from confluent_kafka.schema_registry.error import OAuthTokenError, SchemaRegistryError

    if isinstance(exc, SchemaRegistryError):
        return _refusal(exc.http_status_code, exc.error_code, exc.error_message, where)
    if isinstance(exc, OAuthTokenError):
        if _REFUSED.search(str(exc)):
            fix = f"correct {OPTION}BEARER_AUTH_CLIENT_ID and …_CLIENT_SECRET"
            return _unusable(f"no token for the schema registry: {exc}", fix=fix)
        return TemporaryError(f"no token for the schema registry: {exc}", dependency="registry")
    return _failure(exc, where)


def _refusal(status: int, code: Any, message: Any, where: str) -> CustsvcError:
    """The error about an answer that is no success."""
    about = f"the schema registry at {where}"
    if code in _UNKNOWN:
        return _NotThere(str(message))
    if status in _FORBIDDEN:
        return _unusable(
            f"{about} refuses this account: {message or status}",
            fix=f"give user and password by {OPTION}BASIC_AUTH_USER_INFO_FILE, or in {URL}; or allow it",
        )
    if status == 409:
        return Incompatible(
            f"{about} does not take the schema after the earlier ones: {message}",
            dependency="registry",
            fix="choose another compatibility of the subject, or a new topic (docs/registry.md)",
        )
    if status == 429 or status >= 500:
        return TemporaryError(f"{about} answers {status}: {message}", dependency="registry")
    if status == 422:
        return _unusable(f"{about} does not take the schema: {message}", fix="see its log")
    return _unusable(
        f"{where} answers {status}, and is no schema registry", fix=f"correct {URL}, with its path"
    )


def _failure(exc: Exception, where: str) -> CustsvcError:
    """The error about no answer, or about one that is none of a registry."""
    about = f"the schema registry at {where}"
    for cause in _causes(exc):
        if isinstance(cause, ssl.SSLError):
            return _of_tls(cause, about)
        if isinstance(cause, OSError):
            why = cause.strerror or type(cause).__name__
            fix = f"start it, or correct {URL}"
            return TemporaryError(f"cannot reach {about} ({why})", dependency="registry", fix=fix)
    if _TLS_ANSWER.search(str(exc)):
        return _unusable(f"{about} speaks TLS", fix=f"set {URL} to https://…")
    if isinstance(exc, ValueError | TypeError | KeyError | AttributeError):
        return _unusable(
            f"what answers at {where} is no schema registry", fix=f"correct {URL}, with its path"
        )
    return TemporaryError(
        f"{about} does not answer ({exc or type(exc).__name__})",
        dependency="registry",
        fix=f"start it; if it speaks TLS, set {URL} to https://…",
    )


def _of_tls(error: ssl.SSLError, about: str) -> CustsvcError:
    reason = error.reason or str(error)
    text = " ".join(str(getattr(error, "verify_message", "") or reason).replace("_", " ").split())
    if isinstance(error, ssl.SSLCertVerificationError):
        fix = f"set {OPTION}SSL_CA_LOCATION to the file of its authority, or name it as its certificate does"
    elif "WRONG_VERSION" in reason or "RECORD_LAYER" in reason or "HTTP_REQUEST" in reason:
        fix = f"set {URL} to http://…: it speaks clear text"
    else:
        fix = f"set {OPTION}SSL_CERTIFICATE_LOCATION and {OPTION}SSL_KEY_LOCATION, by an authority it knows"
    return _unusable(f"no TLS with {about}: {text}", fix=fix)


def _unusable(message: str, *, fix: str) -> Unusable:
    return Unusable(message, dependency="registry", fix=fix)


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as exc:
        raise ConfigurationError(f"{_variable(name)} is {text!r}, not a number", fix="give a number") from exc


def _variable(option: str) -> str:
    return OPTION + option.replace(".", "_").upper()


def _wrong_option(exc: Exception, options: Mapping[str, str]) -> ConfigurationError:
    """The error about an option that the client refuses."""
    named = [name for name in options if name in str(exc)]
    named += [name for name, text in options.items() if isinstance(exc, OSError) and name.startswith("ssl.")]
    if isinstance(exc, FileNotFoundError):
        named = [n for n in named if not _is_file(options[n])] or named
    what = _variable(named[0]) if named else f"{OPTION}… or {URL}"
    why = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
    return ConfigurationError(
        f"the options of the schema registry are wrong: {why}", fix=f"correct {what} (docs/registry.md)"
    )


def _is_file(path: str) -> bool:
    from pathlib import Path

    return Path(path).is_file()
