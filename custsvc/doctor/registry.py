"""Checks of doctor: the schema registry, and what it holds and will take of the schema of events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from ..config import Settings
from ..kafka import formats
from ..kafka.registry import Registry
from .checks import Finding

_REGISTER: Final = "custsvc topics schema register"
# Rules by which the schema of a later release is compatible: it may have members that this one's lacks.
_GROWS: Final = ("BACKWARD", "BACKWARD_TRANSITIVE")


def schema_registry(settings: Settings) -> Iterator[Finding]:
    """Whether the registry answers, has the schema of the settings' format, and rules on later ones."""
    if not settings.schema_registry_url:
        return
    registry, subject = Registry(settings), formats.subject(settings)
    writes = settings.event_format != "json"
    ours = formats.schema(settings.event_format)
    started = time.monotonic()
    number = registry.id_of(subject, ours)
    took = (time.monotonic() - started) * 1000
    use = f"events are written as {settings.event_format}" if writes else "only to read what others wrote"
    yield Finding("ok", "schema registry", f"answers in {took:.0f} ms ({use})")
    if writes:
        yield _schema(settings, number, takes=number is not None or registry.is_compatible(subject, ours))
        yield _rule(settings, registry.rule(subject))


def _schema(settings: Settings, number: int | None, *, takes: bool) -> Finding:
    """Whether a relay that starts now finds this version's schema, or may register it."""
    check = f"schema {formats.subject(settings)}"
    if number is not None:
        return Finding("ok", check, f"registered, with the id {number}")
    if not takes:
        detail = (
            "the registry would not take this version's schema after the earlier ones: no relay can start"
        )
        fix = "choose another compatibility of the subject, or a new topic (docs/registry.md)"
        return Finding("failed", check, detail, fix)
    if not settings.schema_register:
        detail = "not registered, and CUSTSVC_SCHEMA_REGISTER is off: no relay can start"
        return Finding("failed", check, detail, _REGISTER)
    return Finding("ok", check, "not registered yet: the relay does it at its start")


def _rule(settings: Settings, rule: str | None) -> Finding:
    """Whether the rule of the subject keeps consumers able to read, and lets later releases in."""
    check, fix = f"rule of {formats.subject(settings)}", f"{_REGISTER} --compatibility BACKWARD"
    if rule is None:
        return Finding("ok", check, "hidden from this account")
    if rule == "NONE":
        detail = "NONE: the registry takes any schema, also one by which consumers can read nothing"
        return Finding("warning", check, detail, fix)
    if settings.event_format == "json-schema" and rule not in _GROWS:
        detail = f"{rule}: the registry will not take a later release's schema with one more member"
        return Finding("warning", check, detail, fix)
    return Finding("ok", check, rule)
