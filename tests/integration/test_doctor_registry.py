"""`doctor` and `config check` say what a schema registry holds, and what its rule means for later ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from custsvc.config import Settings
from custsvc.doctor.checks import Finding, addresses
from custsvc.kafka import formats
from tests.schema_registry import SchemaRegistry

SUBJECT = formats.subject(Settings())
WRITTEN = ["json-schema", "avro"]


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    with SchemaRegistry() as serving:
        yield serving


def findings(registry: SchemaRegistry, event_format: Any, **more: Any) -> dict[str, Finding]:
    """What is said of the registry, by the first word of each check."""
    settings = Settings(schema_registry_url=registry.url, event_format=event_format, **more)
    checks = {"schema registry": "registry", f"schema {SUBJECT}": "schema", f"rule of {SUBJECT}": "rule"}
    return {checks[found.check]: found for found in addresses(settings) if found.check in checks}


def put(registry: SchemaRegistry, event_format: str) -> None:
    ours = formats.schema(event_format)
    registry.put(SUBJECT, ours.text, ours.kind)


def test_nothing_is_said_without_a_registry() -> None:
    assert [found.check for found in addresses(Settings()) if "schema" in found.check] == []


def test_a_registry_that_only_readers_use_need_not_have_our_schema(registry: SchemaRegistry) -> None:
    (found,) = findings(registry, "json").values()

    assert (found.level, "only to read" in found.detail) == ("ok", True)


@pytest.mark.parametrize("event_format", WRITTEN)
def test_a_schema_that_is_registered_or_that_the_relay_registers_is_in_order(
    registry: SchemaRegistry, event_format: str
) -> None:
    absent = findings(registry, event_format)
    put(registry, event_format)
    there = findings(registry, event_format, schema_register=False)

    assert {name: found.level for name, found in absent.items()} == dict.fromkeys(
        ("registry", "schema", "rule"), "ok"
    )
    assert "not registered yet" in absent["schema"].detail
    assert (there["schema"].level, there["schema"].detail) == ("ok", "registered, with the id 1")
    assert there["rule"].detail == "BACKWARD"
    assert SUBJECT not in registry.rules, "doctor changes nothing"


def test_a_schema_that_nobody_registers_is_a_failure(registry: SchemaRegistry) -> None:
    found = findings(registry, "avro", schema_register=False)["schema"]

    assert (found.level, found.fix) == ("failed", "custsvc topics schema register")


@pytest.mark.parametrize("register", [True, False])
def test_a_schema_that_the_registry_would_not_take_is_a_failure(
    registry: SchemaRegistry, register: bool
) -> None:
    put(registry, "json-schema")
    registry.refusing.add(SUBJECT)

    found = findings(registry, "avro", schema_register=register)["schema"]

    assert found.level == "failed"
    assert "would not take" in found.detail
    assert "docs/registry.md" in (found.fix or "")


@pytest.mark.parametrize(
    ("event_format", "rule", "level"),
    [
        ("avro", "BACKWARD", "ok"),
        ("avro", "BACKWARD_TRANSITIVE", "ok"),
        ("avro", "FULL", "ok"),
        ("avro", "NONE", "warning"),
        ("json-schema", "BACKWARD", "ok"),
        ("json-schema", "FULL", "warning"),
        ("json-schema", "FORWARD", "warning"),
        ("json-schema", "NONE", "warning"),
    ],
)
def test_a_rule_that_lets_in_too_much_or_keeps_out_the_next_release_is_a_warning(
    registry: SchemaRegistry, event_format: str, rule: str, level: str
) -> None:
    put(registry, event_format)
    registry.rule = rule

    found = findings(registry, event_format)["rule"]

    assert found.level == level
    assert rule in found.detail
    assert found.fix == (None if level == "ok" else "custsvc topics schema register --compatibility BACKWARD")


def test_the_rule_of_the_subject_is_stronger_than_that_of_the_registry(registry: SchemaRegistry) -> None:
    put(registry, "avro")
    registry.rule, registry.rules[SUBJECT] = "BACKWARD", "NONE"

    assert findings(registry, "avro")["rule"].level == "warning"


def test_a_rule_that_the_account_may_not_see_is_no_matter(registry: SchemaRegistry) -> None:
    put(registry, "avro")
    registry.hidden = True

    found = findings(registry, "avro")

    assert (found["rule"].level, found["rule"].detail) == ("ok", "hidden from this account")
    assert found["schema"].level == "ok"


def test_a_registry_that_is_away_is_a_failure_with_the_fix(registry: SchemaRegistry) -> None:
    registry.stop()

    (found,) = findings(registry, "avro").values()

    registry.start()
    assert (found.level, found.check) == ("failed", "schema registry")
    assert "CUSTSVC_SCHEMA_REGISTRY_URL" in (found.fix or "")


@pytest.mark.parametrize("event_format", ["json", *WRITTEN])
def test_a_missing_extra_is_a_failure_that_names_it(
    registry: SchemaRegistry, event_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka.schema_registry", None)

    (found,) = findings(registry, event_format).values()

    assert found.level == "failed"
    assert found.fix == "pip install 'custsvc[registry]'"
