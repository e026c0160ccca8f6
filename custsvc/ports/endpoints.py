"""The port of webhook endpoints: receivers of changes over HTTP, their secrets, and their state."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

Payload = Literal["event", "state"]

CHANNEL_PREFIX: Final = "webhook:"
"""Begins the channel of each endpoint's deliveries; no channel of a rules file has a colon in its name."""
SECRETS_MAX: Final = 4
"""The most secrets of an endpoint that sign at once."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A webhook endpoint, without its secrets.

    `conditions` is a JSON object as the rules' `when`. `paused_by` is the person who paused it, None if it
    was paused because it failed; `owner_told` says that the mail about that is in the ledger. `test_asked` is
    when a test was asked for that is not queued yet. Times are the database's.
    """

    id: str
    url: str = field(repr=False)
    ops: tuple[str, ...]
    created_by: str
    changed: tuple[str, ...] = ()
    conditions: str = "{}"
    payload: Payload = "event"
    email: str | None = None
    description: str = ""
    created_on: dt.datetime | None = None
    updated_on: dt.datetime | None = None
    secret_made_on: dt.datetime | None = None
    failing_since: dt.datetime | None = None
    failure: str | None = None
    paused_on: dt.datetime | None = None
    paused_by: str | None = None
    paused_why: str | None = None
    owner_told: bool = False
    test_asked: dt.datetime | None = None

    @property
    def channel(self) -> str:
        """The channel of its deliveries in the ledger."""
        return CHANNEL_PREFIX + self.id


EDITABLE: Final = ("url", "ops", "changed", "conditions", "payload", "email", "description")
"""The fields that `Endpoints.change` takes."""


class Endpoints(Protocol):
    """The webhook endpoints of a system of record."""

    def add(self, endpoint: Endpoint, secret: str) -> Endpoint:
        """Store an endpoint with its first secret; return it with its times. Raises Conflict: a taken id."""

    def find(self, endpoint_id: str) -> Endpoint | None:
        """The endpoint with this id."""

    def all(self) -> list[Endpoint]:
        """Every endpoint, the oldest first."""

    def change(self, endpoint_id: str, changes: Mapping[str, Any]) -> bool:
        """Give an endpoint these values of EDITABLE fields; False if there is none."""

    def remove(self, endpoint_id: str) -> bool:
        """Delete an endpoint and its secrets; False if there is none. Its deliveries stay in the ledger."""

    def add_secret(self, endpoint_id: str, secret: str, overlap: float) -> bool:
        """Give an endpoint a new secret; the earlier ones sign for `overlap` seconds more. False: none."""

    def secrets(self) -> dict[str, list[str]]:
        """The secrets of each endpoint that sign now, the newest first; at most SECRETS_MAX of each."""

    def prune_secrets(self) -> int:
        """Delete the secrets that sign no more; return how many."""

    def failed(self, endpoint_id: str, why: str, pause_after: float) -> bool:
        """Note that a delivery failed; True if that paused it.

        It is paused when it has failed for `pause_after` seconds without a success in between.
        """

    def worked(self, endpoint_id: str) -> None:
        """Note that a delivery succeeded: it is not failing any more."""

    def pause(self, endpoint_id: str, why: str, by: str | None) -> bool:
        """Pause an endpoint; False if there is none, or it is paused already. `by`: None if it failed."""

    def resume(self, endpoint_id: str) -> bool:
        """End the pause; it is not failing any more. False if there is none, or it is not paused."""

    def note_owner_mailed(self, endpoint_id: str, paused_on: dt.datetime) -> None:
        """Note that the mail about this pause is in the ledger."""

    def ask_test(self, endpoint_id: str) -> dt.datetime | None:
        """Ask for a test delivery; return when it was asked for, None if there is no such endpoint.

        One that waits already is asked for once.
        """

    def test_queued(self, endpoint_id: str, asked: dt.datetime) -> None:
        """Note that the test asked for then is in the ledger."""


def paused_channels(endpoints: Sequence[Endpoint]) -> list[str]:
    """The channels whose deliveries wait because a person or failures paused their endpoint."""
    return [endpoint.channel for endpoint in endpoints if endpoint.paused_on is not None]


def signing(rows: Sequence[tuple[str, str, dt.datetime, float]], now: dt.datetime) -> dict[str, list[str]]:
    """The secrets that sign now, the newest first.

    `rows`: endpoint, secret, when it was made, and the seconds for which it lets earlier ones go on; the
    newest first.
    """
    found: dict[str, list[str]] = {}
    until: dict[str, dt.datetime] = {}
    for endpoint, secret, made_on, overlap in rows:
        theirs = found.setdefault(endpoint, [])
        if (endpoint not in until or now < until[endpoint]) and len(theirs) < SECRETS_MAX:
            theirs.append(secret)
        end = made_on + dt.timedelta(seconds=overlap)
        until[endpoint] = min(end, until.get(endpoint, end))
    return found
