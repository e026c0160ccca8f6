"""What the metrics show of the last comparison of each copy."""

from __future__ import annotations

import datetime as dt

from ..ports.store import Store
from .verify import last_results


def verify_gauges(store: Store) -> dict[str, float]:
    """How the last comparison of each copy went, and when it was, in seconds since 1970."""
    found: dict[str, float] = {}
    for last in last_results(store.facts):
        copy = last["copy"]
        found[f"custsvc_verify_different{{copy={copy}}}"] = last["different"]
        found[f"custsvc_verify_behind{{copy={copy}}}"] = last["behind"]
        compared_on = dt.datetime.fromisoformat(last["time"])
        found[f"custsvc_verify_timestamp_seconds{{copy={copy}}}"] = compared_on.timestamp()
    return found
