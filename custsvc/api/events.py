"""The live stream of events."""

from __future__ import annotations

from ..http.live_events import LiveEvents


class EventStream(LiveEvents):
    """`/api/events/stream`"""
