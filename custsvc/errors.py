"""One tree of errors. The branch says what a caller can do; the message says what failed and the fix.

`CustsvcError.fix` is a sentence or command that repairs the failure; the command line prints it on its own
line. Only the adapters (`stores/`, `kafka/`, `notify/`) translate drivers' exceptions.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from itertools import islice
from typing import Any, ClassVar, Final

from .redact import redact


class ExitCode:
    """The exit codes of the process. Part of the command line's contract."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    CONFIGURATION = 3
    UNREACHABLE = 4
    NOT_FOUND = 5
    CONFLICT = 6
    CHECK_FAILED = 7
    PARTLY_DONE = 8
    INTERRUPTED = 130
    # As a shell says of a program that a closed pipe ended: `custsvc export - | head`.
    PIPE_CLOSED = 141


class CustsvcError(Exception):
    """Something in custsvc failed."""

    exit_code: ClassVar[int] = ExitCode.UNEXPECTED

    def __init__(self, message: str | None = None, *, fix: str | None = None) -> None:
        # Messages quote drivers, whose messages may contain addresses with passwords.
        super().__init__(redact(message or self.__doc__ or ""))
        self.fix = redact(fix) if fix else fix


class ConfigurationError(CustsvcError):
    """A setting is missing or wrong."""

    exit_code = ExitCode.CONFIGURATION


class Unusable(ConfigurationError):
    """A server cannot be used with these settings, or as it is set up: only an operator can repair that.

    `dependency` as for TemporaryError.
    """

    def __init__(self, message: str | None = None, *, dependency: str, fix: str | None = None) -> None:
        super().__init__(message, fix=fix)
        self.dependency = dependency


class DatabaseRestored(ConfigurationError):
    """The source is not in the state from which its events were sent: it was restored from a backup."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message,
            fix="if it is the one to go on with, bring the topic and the copies to its state: "
            "custsvc relay --resync",
        )


class BadArgument(ConfigurationError):
    """An argument of a command cannot be right, whatever is set elsewhere."""

    exit_code = ExitCode.USAGE


class TemporaryError(CustsvcError):
    """A dependency does not answer; the same call may work later.

    `dependency` is `postgres`, `mongo`, `kafka` or `smtp`.
    """

    exit_code = ExitCode.UNREACHABLE

    def __init__(self, message: str | None = None, *, dependency: str, fix: str | None = None) -> None:
        super().__init__(message, fix=fix)
        self.dependency = dependency


class NotAllowed(TemporaryError):
    """This account may not write a topic of Kafka, until somebody allows it."""


class RecordTooLarge(TemporaryError):
    """A topic of Kafka takes no record of this size, until somebody raises its max.message.bytes."""


class DataRefused(CustsvcError):
    """The database cannot store this data, now or later; it can store other data."""


# The most errors reported for one input: a body of a megabyte can have a hundred thousand.
ERRORS_MAX: Final = 100
# The most characters of a field's name that an error repeats; it is there three times in an answer.
_NAME_SHOWN: Final = 200


class FieldError:
    """One error of one field of the input."""

    __slots__ = ("code", "field", "message")

    def __init__(self, field: str, code: str, message: str) -> None:
        self.field = field
        self.code = code
        self.message = message

    def __repr__(self) -> str:
        return f"FieldError({self.field!r}, {self.code!r}, {self.message!r})"

    def as_dict(self) -> dict[str, str]:
        return {"field": self.field, "code": self.code, "message": self.message}


def unknown_fields(names: Iterable[Any], known: Container[str], message: str) -> list[FieldError]:
    """An error for each name that is not known, up to ERRORS_MAX."""
    unknown = (name for name in names if name not in known)
    return [FieldError(str(name), "unknown_field", message) for name in islice(unknown, ERRORS_MAX)]


class ValidationError(CustsvcError):
    """The input is not a valid customer."""

    exit_code = ExitCode.USAGE

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(f"{e.field}: {e.message}" for e in errors) or "the input is not valid")
        self.errors = errors


class NotFound(CustsvcError):
    """There is no such customer."""

    exit_code = ExitCode.NOT_FOUND


class HistoryTrimmed(NotFound):
    """This state of a customer is older than its history."""


class CustomerDeleted(NotFound):
    """The customer is deleted; it can be restored."""


class CustomerMerged(CustomerDeleted):
    """The customer was merged into another one, whose id is `survivor`."""

    def __init__(self, message: str, *, survivor: int) -> None:
        super().__init__(message)
        self.survivor = survivor


class Conflict(CustsvcError):
    """Somebody else changed the same thing first."""

    exit_code = ExitCode.CONFLICT


class TopicGone(Conflict):
    """The topic that a record came from is gone, so that it cannot be sent there again."""


class VersionConflict(Conflict):
    """The customer is not at the version that was expected.

    `current` is the stored state, as a `custsvc.domain.customers.Stored`, or None if the store did not read
    it.
    """

    def __init__(self, message: str | None = None, *, current: Any = None) -> None:
        super().__init__(message)
        self.current = current


class KeyTaken(Conflict):
    """The idempotency key already has an answer."""


class InFlight(Conflict):
    """A request with this idempotency key is being worked on."""


class KeyMismatch(CustsvcError):
    """The idempotency key was used for another request."""

    exit_code = ExitCode.CONFLICT


class BadEvent(CustsvcError):
    """A record on a topic cannot be read as an event. It goes to the dead-letter topic.

    `reason_class` is a stable word: `bad-json`, `bad-utf8`, `bad-schema`, `bad-key`, `too-deep` …
    """

    def __init__(self, reason_class: str, message: str) -> None:
        super().__init__(message)
        self.reason_class = reason_class


class NewerSchema(CustsvcError):
    """An event was written by a newer custsvc than this one; skipping it would lose it."""

    exit_code = ExitCode.CONFIGURATION


class CheckFailed(CustsvcError):
    """Something is not what it should be."""

    exit_code = ExitCode.CHECK_FAILED


class TooManyBadRecords(CustsvcError):
    """Too many records cannot be read: the whole topic must be broken."""

    exit_code = ExitCode.CHECK_FAILED


class Stopped(CustsvcError):
    """Stopped before all was done; run the same command again to go on."""

    exit_code = ExitCode.PARTLY_DONE


class Superseded(TemporaryError):
    """The copy was rebuilt meanwhile: read on from its new positions."""


class PositionLost(CustsvcError):
    """The topic no longer holds the events after the copy's position."""

    exit_code = ExitCode.CHECK_FAILED
