"""The ids of notifications."""

from __future__ import annotations

import hashlib

import orjson


def notification_id(event_id: str, rule: str, recipient: str) -> str:
    """The id for an event, a rule and a recipient: always the same."""
    return hashlib.blake2b(orjson.dumps([event_id, rule, recipient]), digest_size=16).hexdigest()
