"""What administrators do with webhook endpoints; the API, the pages and the commands do it here.

A secret is made here, given to the caller once, and not read again: the account of `serve` cannot read it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Any, Final

from ...config import Settings
from ...errors import Conflict, KeyMismatch, NotFound
from ...ports.endpoints import Endpoint
from ...ports.ledger import UNSETTLED, Notification, Place
from ...ports.store import Store
from ..channels.reachable import Reachable
from ..intake.deliveries import test_id
from . import fields

ENDPOINTS_MAX: Final = 100
OVERLAP_DEFAULT: Final = 86400
OVERLAP_MAX: Final = 7 * 86400
_SECRET_BYTES: Final = 24


class Managed:
    """The webhook endpoints of a store."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._endpoints = store.endpoints
        self._reachable = Reachable.parse(settings.webhook_allow)

    def all(self) -> list[Endpoint]:
        """Every endpoint, the oldest first."""
        return self._endpoints.all()

    def find(self, endpoint_id: str) -> Endpoint:
        """The endpoint. Raises NotFound."""
        found = self._endpoints.find(endpoint_id)
        if found is None:
            raise _none(endpoint_id)
        return found

    def waiting(self, endpoint: Endpoint) -> int:
        """How many deliveries wait for it."""
        return self._store.ledger.waiting(endpoint.channel)

    def create(self, body: Any, by: str, key: str | None = None) -> tuple[Endpoint, str]:
        """Make an endpoint; return it with its secret.

        `key` is the caller's own and the idempotency key of the request: the same one again gets the same
        answer. Raises ValidationError, KeyMismatch, and Conflict beyond ENDPOINTS_MAX.
        """
        given = fields.read(body, self._reachable, partial=False)
        id_, secret = self._derived(key, "endpoint")[:8].hex(), self._new_secret(key)
        known = self._endpoints.find(id_) if key else None
        if known is not None:
            if any(getattr(known, name) != value for name, value in given.items()):
                raise KeyMismatch("the Idempotency-Key was used for another endpoint.")
            return known, secret
        if len(self._endpoints.all()) >= ENDPOINTS_MAX:
            raise Conflict(f"there are {ENDPOINTS_MAX} webhook endpoints, and no more may be made")
        return self._endpoints.add(Endpoint(id=id_, created_by=by, **given), secret), secret

    def change(self, endpoint_id: str, body: Any) -> Endpoint:
        """Change fields of an endpoint; return it. Raises ValidationError and NotFound."""
        given = fields.read(body, self._reachable, partial=True)
        if not self._endpoints.change(endpoint_id, given):
            raise _none(endpoint_id)
        return self.find(endpoint_id)

    def remove(self, endpoint_id: str) -> None:
        """Delete an endpoint, and discard its waiting deliveries. Raises NotFound."""
        endpoint = self.find(endpoint_id)
        if not self._endpoints.remove(endpoint_id):
            raise _none(endpoint_id)
        # Killed before this, `notify` does it.
        while self._store.ledger.discard_waiting(endpoint.channel, "the endpoint was deleted"):
            pass

    def rotate(self, endpoint_id: str, overlap: int = OVERLAP_DEFAULT, key: str | None = None) -> str:
        """Give an endpoint a new secret, and return it; the ones before sign for `overlap` seconds more."""
        secret = self._new_secret(key, f"secret of {endpoint_id}")
        if not self._endpoints.add_secret(endpoint_id, secret, float(overlap)):
            raise _none(endpoint_id)
        return secret

    def pause(self, endpoint_id: str, by: str) -> Endpoint:
        """Pause an endpoint: its deliveries wait. One that is paused stays as it is."""
        self._endpoints.pause(endpoint_id, f"paused by {by}", by)
        return self.find(endpoint_id)

    def resume(self, endpoint_id: str) -> Endpoint:
        """End the pause: waiting deliveries are sent at once, with all tries left."""
        endpoint = self.find(endpoint_id)
        while self._store.ledger.hasten(endpoint.channel):
            pass
        self._endpoints.resume(endpoint_id)
        return self.find(endpoint_id)

    def test(self, endpoint_id: str) -> str:
        """Ask `notify` for a test delivery; return its id. Raises Conflict for a paused endpoint."""
        endpoint = self.find(endpoint_id)
        if endpoint.paused_on is not None:
            raise Conflict(f"webhook endpoint {endpoint_id} is paused; resume it first")
        asked = self._endpoints.ask_test(endpoint_id)
        if asked is None:
            raise _none(endpoint_id)
        return test_id(endpoint.id, endpoint.channel, asked)

    def deliveries(
        self, endpoint_id: str, *, state: str | None = None, limit: int = 50, after: Place | None = None
    ) -> list[Notification]:
        """The log of an endpoint, the newest delivery first. Raises NotFound."""
        channel = self.find(endpoint_id).channel
        return self._store.ledger.deliveries(channel, state=state, limit=limit, after=after)

    def redeliver(self, endpoint_id: str, delivery_id: str) -> None:
        """Send a settled delivery again, under its own webhook-id; one that waits is sent anyway.

        Raises NotFound, and Conflict for one whose content is gone.
        """
        channel = self.find(endpoint_id).channel
        found = [each for each in self._store.ledger.find([delivery_id]) if each.channel == channel]
        if not found:
            raise NotFound(f"webhook endpoint {endpoint_id} has no delivery {delivery_id}")
        if not found[0].text:
            raise Conflict(f"delivery {delivery_id} was blanked when its customer was erased")
        if found[0].state not in UNSETTLED:
            self._store.ledger.retry([delivery_id], redeliver=True)

    # -- ids and secrets -----------------------------------------------------------------------------------

    def _derived(self, key: str | None, purpose: str) -> bytes:
        """Random bytes; with a key those that belong to it, which nobody can guess."""
        if key is None:
            return secrets.token_bytes(32)
        return hmac.digest(self._store.secret(), f"webhook {purpose} {key}".encode(), hashlib.sha256)

    def _new_secret(self, key: str | None, purpose: str = "secret") -> str:
        return "whsec_" + base64.b64encode(self._derived(key, purpose)[:_SECRET_BYTES]).decode()


def _none(endpoint_id: str) -> NotFound:
    return NotFound(f"there is no webhook endpoint {endpoint_id}")
