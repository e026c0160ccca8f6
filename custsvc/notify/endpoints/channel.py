"""The channel of one webhook endpoint: it calls, and stores with the endpoint whether the call succeeded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from ...errors import TemporaryError
from ...ports.endpoints import Endpoints
from ..channels.channel import Outcome
from ..channels.reachable import Reachable
from ..channels.webhook import Call, WebhookChannel

logger = logging.getLogger(__name__)

# Seconds between two notes that an endpoint still fails.
_NOTE_EVERY: Final = 1.0
_GONE: Final = 410
# Seconds from which on a call is slow.
SLOW: Final = 2.0


class Health:
    """Whether an endpoint works or fails; shared by all its lanes in a process."""

    def __init__(self, endpoints: Endpoints, endpoint_id: str, pause_after: float) -> None:
        """`pause_after`: seconds of failures after which the endpoint is paused."""
        self._endpoints = endpoints
        self._id = endpoint_id
        self._pause_after = pause_after
        # A wrong True costs one write; a wrong False lasts until the next failure.
        self.is_failing = False
        self.is_slow = False
        self._next_note = 0.0

    def note(self, outcome: Outcome, took: float) -> None:
        """Note the result of a call. What cannot be stored now is stored after the next call."""
        self.is_slow = took > SLOW
        try:
            if outcome.result == "sent":
                self._worked()
            else:
                self._failed(outcome)
        except TemporaryError as exc:
            logger.debug("The state of a webhook endpoint cannot be stored: %s", exc)

    def _worked(self) -> None:
        if self.is_failing:
            self._endpoints.worked(self._id)
            self.is_failing = False

    def _failed(self, outcome: Outcome) -> None:
        why = outcome.text if outcome.code is None else f"{outcome.code} {outcome.text}"
        now = time.monotonic()
        if outcome.code == _GONE:
            self._told(self._endpoints.pause(self._id, f"the receiver is gone: {why}", None))
        elif not self.is_failing or now >= self._next_note:
            self._told(self._endpoints.failed(self._id, why, self._pause_after))
            self._next_note = now + min(_NOTE_EVERY, self._pause_after / 2)
        self.is_failing = True

    def _told(self, paused: bool) -> None:
        if paused:
            logger.error(
                "Webhook endpoint %s is paused: what is to be sent there waits",
                self._id,
                extra={"action": "webhook_paused", "endpoint": self._id},
            )


class EndpointChannel(WebhookChannel):
    """The port `Channel` on an endpoint. No answer is final: a receiver that refuses is paused instead."""

    def __init__(self, url: str, *secrets: str, reachable: Reachable, health: Health) -> None:
        super().__init__(url, *secrets, reachable=reachable)
        self._health = health

    def send(self, prepared: Call, hand_over: Callable[[], bool]) -> Outcome:
        began = time.monotonic()
        outcome = super().send(prepared, hand_over)
        if outcome.result == "failed":
            outcome = replace(outcome, result="deferred")
        self._health.note(outcome, time.monotonic() - began)
        return outcome
