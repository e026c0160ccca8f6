"""The OpenAPI document is the API: its paths, its parameters, its roles, its shapes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from flask import Flask
from openapi_spec_validator import validate

from custsvc.api.describe.openapi import document
from custsvc.domain.canonical import canonical_fields
from custsvc.errors import ValidationError
from custsvc.http.codes import CODES
from custsvc.http.resource import ApiResource
from custsvc.ports.accounts import Role
from custsvc.serve.routes import ORIGINALS, ROUTES

from .conftest import ANN, Client

DOCUMENT = document()
METHODS = ("get", "post", "put", "patch", "delete")


def described() -> dict[tuple[str, str], Any]:
    """The operations by path, without its final slash, and method."""
    return {
        (path.rstrip("/"), method): item[method]
        for path, item in DOCUMENT["paths"].items()
        for method in METHODS
        if method in item
    }


def routed() -> dict[tuple[str, str], type[ApiResource]]:
    """The routes in the same form."""
    return {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path), method): resource
        for path, resource in (*ROUTES, *ORIGINALS)
        for method in METHODS
        if hasattr(resource, method)
    }


def parameters_of(operation: Any, place: str) -> dict[str, Any]:
    return {p["name"]: p for p in operation.get("parameters", []) if p["in"] == place}


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def test_the_document_is_valid_openapi() -> None:
    validate(DOCUMENT)

    ids = [operation["operationId"] for operation in described().values()]
    assert len(set(ids)) == len(ids)


def test_every_route_is_in_the_document_and_nothing_else_is() -> None:
    """S39."""
    assert set(described()) == set(routed())


def test_the_document_names_the_encodings_of_a_body() -> None:
    with_body = [operation for operation in described().values() if "requestBody" in operation]
    assert len(with_body) == 14

    for operation in with_body:
        assert "Content-Encoding: gzip" in operation["requestBody"]["description"]
        assert {"400", "413", "415"} <= set(operation["responses"]), operation["operationId"]
    assert "Accept-Encoding" in DOCUMENT["components"]["responses"]["415"]["headers"]


def test_the_document_asks_for_a_key_where_the_route_does() -> None:
    for where, operation in described().items():
        role = routed()[where].role(where[1].upper())

        assert bool(operation["security"]) == (role is not None), where
        assert role is None or f"role `{role}`" in operation["description"], where


def test_the_document_names_exactly_the_parameters_that_a_path_takes(
    app: Flask, make_key: Callable[[Role], str]
) -> None:
    admin = Client(app, make_key("admin"))
    customer = admin.create()

    for (path, method), operation in described().items():
        if path in ("/livez", "/readyz", "/metrics"):
            continue  # Probes may add any parameters.
        where = path.replace("{customer_id}", str(customer["id"])).replace("{code}", "validation")
        answer = admin(method.upper(), where.replace("{name}", "docs.css") + "?no_such=1", json={})

        assert answer.json["code"] == "unknown-parameter", (method, where)
        known = answer.json["detail"].rpartition("there are ")[2]
        taken = set() if "has none" in known else set(known.split(", "))
        documented = set(parameters_of(operation, "query"))
        assert documented == {re.sub("KEY$", "{key}", name) for name in taken} or documented == taken, where


def test_every_problem_is_in_the_document_under_its_status() -> None:
    for code, about in CODES.items():
        response = DOCUMENT["components"]["responses"][str(about.status)]
        shape = response["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]

        assert code in shape["code"]["enum"]


def test_the_api_accepts_exactly_the_bodies_that_the_document_allows(client: Client) -> None:
    fields, path = validator("CustomerFields"), f"/api/customers/{client.create()['id']}"
    long = {f"k{n}": n for n in range(50)}
    good: list[Any] = [
        {"name": "Ada"},
        {**ANN, "metadata": {"a": 1, "b": 1.5, "c": None, "d": True, "e": "two\nlines"}},
        {**ANN, "email": None, "phone": None, "metadata": None},
        {**ANN, "metadata": long, "id": "whatever", "version": [], "deleted": None, "created_on": {}},
        {"name": "n" * 400, "phone": "1" * 50},
    ]
    bad: list[Any] = [
        [],
        {},
        {"name": None},
        {"name": " \n"},
        {"name": 7},
        {"name": "n" * 401},
        {"name": "a\u202eb"},
        {**ANN, "phone": "1" * 51},
        {**ANN, "phone": "1\n2"},
        {**ANN, "email": ["ada@example.org"]},
        {**ANN, "age": 7},
        {**ANN, "metadata": {**long, "one more": 1}},
        {**ANN, "metadata": {"a.b": 1}},
        {**ANN, "metadata": {"$a": 1}},
        {**ANN, "metadata": {"k" * 41: 1}},
        {**ANN, "metadata": {"a": {"deep": 1}}},
        {**ANN, "metadata": {"a": 2**63}},
        {**ANN, "metadata": {"a": "x" * 501}},
    ]

    for body in good:
        assert fields.is_valid(body), body
        assert client.put(path, json=body).status_code == 200, body
    for body in bad:
        assert not fields.is_valid(body), body
        assert client.put(path, json=body).status_code == 400, body


def test_the_api_answers_as_the_document_says(client: Client, stranger: Client) -> None:
    """S5."""
    customer = client.create(metadata={"a": 1.5})
    path = f"/api/customers/{customer['id']}"

    for name, answer in (
        ("Customer", client.get(path)),
        ("CustomerList", client.get("/api/customers/?limit=1")),
        ("CustomerHistory", client.get(path + "/history")),
        ("Problem", client.get("/api/customers/?nothing=1")),
        ("Problem", stranger.get("/api/customers/")),
        ("Health", client.get("/livez")),
    ):
        validator(name).validate(answer.json)


def test_the_document_is_served_under_both_names(stranger: Client) -> None:
    answers = [stranger.get(path) for path in ("/api/openapi.json", "/api/schema/")]

    assert [answer.json for answer in answers] == [DOCUMENT, DOCUMENT]
    assert DOCUMENT["openapi"].startswith("3.1")


@pytest.mark.slow
def test_the_command_prints_the_contracts(stranger: Client) -> None:
    for name, path in (
        ("openapi", "/api/openapi.json"),
        ("events", "/api/events/schema"),
        ("asyncapi", "/api/events/asyncapi.json"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "custsvc", "schema", name], capture_output=True, text=True, check=True
        )

        assert json.loads(done.stdout) == stranger.get(path).json


@pytest.mark.parametrize("module", ["custsvc.serve.app", "custsvc.cli"])
def test_serving_and_help_work_without_pydantic(module: str) -> None:
    code = f"import sys, {module}; assert 'pydantic' not in sys.modules"

    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_patterns_of_names_and_keys_match_the_values_that_the_api_accepts() -> None:
    fields = DOCUMENT["components"]["schemas"]["CustomerFields"]["properties"]
    key = re.compile(fields["metadata"]["anyOf"][0]["propertyNames"]["pattern"])
    name = re.compile(fields["name"]["pattern"])
    chars = [chr(code) for code in (*range(1, 0x600), *range(0x1100, 0x1200), *range(0x17B0, 0x1820))]
    chars += [chr(code) for code in (*range(0x2000, 0x2100), 0x2800, 0x3000, 0x3164, *range(0xFDD0, 0x10000))]

    def takes(body: dict[str, Any]) -> bool:
        try:
            canonical_fields(body)
        except ValidationError:
            return False
        return True

    for text in (text for char in chars for text in (char, f" {char}", f"\u200e{char}", f"{char}$")):
        assert bool(key.search(text)) == takes({"name": "A", "metadata": {text: 1}}), repr(text)
        # Characters that are trimmed from its ends are accepted too.
        assert takes({"name": text}) or not name.search(text), repr(text)
