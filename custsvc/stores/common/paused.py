"""Counts deliveries to paused webhook endpoints apart from those that are on their way."""

from __future__ import annotations

from collections.abc import Mapping

from ...ports.ledger import PAUSED


def apart(counted: Mapping[str, int], held: Mapping[str, int]) -> dict[str, int]:
    """The counts by state without those in `held`, which are counted as PAUSED; empty ones are left out."""
    states = {state: count - held.get(state, 0) for state, count in counted.items()}
    found = {**states, PAUSED: sum(held.values())}
    return {state: count for state, count in found.items() if count > 0}
