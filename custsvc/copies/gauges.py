"""The gauges of the last comparison of each copy."""

from __future__ import annotations

import datetime as dt

from ..ports.store import Store
from .verify import last_results


def verify_gauges(store: Store) -> dict[str, float]:
    """The result of the last comparison of each copy, and its time as Unix time."""
    found: dict[str, float] = {}
    for last in last_results(store.facts):
        copy = last["copy"]
        found[f"custsvc_verify_different{{copy={copy}}}"] = last["different"]
        found[f"custsvc_verify_behind{{copy={copy}}}"] = last["behind"]
        compared_on = dt.datetime.fromisoformat(last["time"])
        found[f"custsvc_verify_timestamp_seconds{{copy={copy}}}"] = compared_on.timestamp()
    return found
