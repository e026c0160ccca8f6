"""The base of all resources: their services, the required roles, and preconditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

import orjson

from ..accounts.keys import KeyRing
from ..config import Settings
from ..domain.customers import Stored
from ..errors import NotFound, VersionConflict
from ..ports.accounts import Role
from ..ports.customers import CustomerStore
from ..ports.store import Store
from ..service.customers import Caller, CustomerService
from ..service.duplicates import DuplicateFinder
from .answer import Answer
from .copy import Copy
from .cursors import Cursors
from .few import Few
from .guard import sent_key
from .intake import BODY_MAX
from .limit import RateLimit
from .messages import customer_answer, etag_answer, keyed_request, min_position, prefer_wait
from .preconditions import NONE, Preconditions, not_modified, preconditions, refuse_unsupported
from .problems import Problem
from .reads import Reads
from .request import Request
from .streams import BigAnswers, LazyFeed, Streams

T = TypeVar("T")

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
# Most changes listed in a 412: beyond that the client should read the customer again.
_CHANGES_MAX = 100


@dataclass(frozen=True, slots=True)
class Services:
    """The services that the resources use; one object per app."""

    settings: Settings
    store: Store
    customers: CustomerService
    duplicates: DuplicateFinder
    cursors: Cursors
    keys: KeyRing
    streams: Streams
    big: BigAnswers
    feed: LazyFeed
    # Around what waits for Kafka in a lane.
    few_at_kafka: Few
    # The limit of requests, if configured; and that of wrong keys and links.
    limit: RateLimit | None
    tries: RateLimit
    reads: Reads
    copy: Copy | None = None


# More positions do not fit into a header.
POSITIONS_MAX: Final = 100


def position_header(versions: Mapping[int, int]) -> tuple[str, str]:
    """The header with the position that a copy must reach to show these customers at these versions."""
    return "X-Custsvc-Position", ",".join(f"{each}-{version}" for each, version in versions.items())


class ApiResource:
    """A resource: its methods `get`, `post` … take a request and the path's parameters, and return an answer.

    Reading needs the role read, anything else write; a subclass may require more. `conditional` says that it
    is about one customer and honours preconditions; other resources refuse them.
    """

    conditional: ClassVar[bool] = False
    public: ClassVar[bool] = False
    reading: ClassVar[Role] = "read"
    writing: ClassVar[Role] = "write"
    # The longest body it accepts, in bytes; or a function of the settings.
    body_max: ClassVar[int | Callable[[Settings], int]] = BODY_MAX

    def __init__(self, services: Services) -> None:
        self.services = services

    @classmethod
    def role(cls, method: str) -> Role | None:
        """The role that a method needs; None if it needs no key."""
        if cls.public:
            return None
        return cls.reading if method in _SAFE else cls.writing

    @classmethod
    def methods(cls) -> list[str]:
        """The HTTP methods that it answers."""
        return [name for name in METHODS if hasattr(cls, name.lower())]

    def longest_body(self) -> int:
        """The longest body it accepts, in bytes."""
        limit = type(self).body_max
        return limit(self.services.settings) if callable(limit) else limit

    def answer(self, request: Request, **named: Any) -> Answer:
        """Answer a request; `named` are the path's parameters."""
        refuse_unsupported(request, conditional=self.conditional)
        name = "get" if request.method == "HEAD" else request.method.lower()
        method: Callable[..., Answer] = getattr(self, name)
        return method(request, **named)

    def caller(self, request: Request) -> Caller:
        """The caller of a request, with its idempotency key."""
        return Caller(request.principal.name, request.id, request.traceparent, keyed_request(request))

    def still_may(self, request: Request) -> tuple[Callable[[], bool], str | None]:
        """A function that says later whether the caller still may read, and the caller; None without keys."""
        if self.services.settings.auth != "on":
            return lambda: True, None
        keys, sent, role = self.services.keys, sent_key(request.environ) or "", self.reading

        def may() -> bool:
            principal = keys.principal(sent)
            return principal is not None and principal.may(role)

        return may, f"key {request.principal.id}"

    def wait_for_copy(self, request: Request) -> None:
        """On a copy: wait until it has the versions that the request requires. Answers 504 `copy-behind`."""
        if "HTTP_X_CUSTSVC_MIN_POSITION" in request.environ:
            wanted = min_position(request, POSITIONS_MAX)
            if self.services.copy is not None:
                self.services.copy.wait(wanted, prefer_wait(request))

    def read(self, request: Request, work: Callable[[CustomerStore], T]) -> T:
        """The result of `work` on customers that are as the request requires. Answers 504 `copy-behind`."""
        wanted: dict[int, int] = {}
        if "HTTP_X_CUSTSVC_MIN_POSITION" in request.environ:
            wanted = min_position(request, POSITIONS_MAX)
            if self.services.copy is not None:
                self.services.copy.wait(wanted, prefer_wait(request))
        return self.services.reads.read(wanted, work)

    def write(
        self, request: Request, customer_id: int, work: Callable[[Caller, int | None], Stored]
    ) -> tuple[Stored, dict[str, Any]]:
        """Do a write to a customer once, under the request's preconditions; answers 412 and 428.

        `work` gets the version to expect. Returns the customer, and arguments for the answer.
        """
        asked, caller = self.asked(request), self.caller(request)
        try:
            return self.once(caller, lambda: work(caller, self.expected(customer_id, asked)))
        except VersionConflict as exc:
            raise self.mismatch(exc, asked.match or frozenset()) from exc

    def asked(self, request: Request) -> Preconditions:
        """The preconditions of a write; answers 428."""
        if self.services.settings.require_if_match and "HTTP_IF_MATCH" not in request.environ:
            raise Problem(428, "if-match-required", 'send If-Match with the ETag you read, as "v3"')
        return preconditions(request)

    def conditional_answer(self, request: Request, stored: Stored) -> Answer:
        """Answer with the customer, under the request's preconditions: 200, 304 or 412."""
        asked = preconditions(request)
        if asked.broken_by(stored):
            raise self.mismatch(_conflict(stored, asked), asked.match or frozenset())
        return etag_answer(stored, 304) if not_modified(request, stored) else customer_answer(stored)

    def once(self, caller: Caller, work: Callable[[], Stored]) -> tuple[Stored, dict[str, Any]]:
        """Do a write once. Returns the customer, and arguments for the answer."""
        stored, replayed = self.services.customers.once(caller, work)
        headers = [position_header({stored.id: stored.version})]
        if replayed:
            headers.append(("Idempotency-Replayed", "true"))
        return stored, {"extra": headers}

    def expected(self, customer_id: int, asked: Preconditions) -> int | None:
        """The version to expect for a write under these preconditions. Raises VersionConflict."""
        if asked == NONE or asked.version is not None:
            return asked.version
        current = self.services.store.customers.get(customer_id)
        if current is None:
            raise NotFound(f"there is no customer {customer_id}")
        if asked.broken_by(current):
            raise _conflict(current, asked)
        return current.version

    def mismatch(self, exc: VersionConflict, allowed: frozenset[int]) -> Problem:
        """The 412 for a customer that is not at one of these versions."""
        current: Stored = exc.current
        known = max((version for version in allowed if version < current.version), default=None)
        return Problem(
            412,
            "version-mismatch",
            str(exc),
            headers=[("ETag", f'"v{current.version}"')],
            members={
                "current": orjson.Fragment(current.doc),
                "changed": self._changed_since(current, known) if known else [],
            },
        )

    def _changed_since(self, current: Stored, version: int) -> list[str]:
        """The fields that changed after `version`, in the order of their changes."""
        limit = min(current.version - version, _CHANGES_MAX)
        events = self.services.store.customers.history(current.id, limit=limit)
        names = [name for event in reversed(events) for name in orjson.loads(event)["changed"]]
        return list(dict.fromkeys(names))


def _conflict(current: Stored, asked: Preconditions) -> VersionConflict:
    what = f"customer {current.id} is at version {current.version}"
    return VersionConflict(f"{what}, which {asked.broken_by(current)} rules out", current=current)
