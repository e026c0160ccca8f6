"""Many requests generated from the OpenAPI document find no bug, and no error in the document."""

from __future__ import annotations

import itertools
import re
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyStrategyDefinition
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
)

from custsvc.accounts.keys import new_key
from custsvc.ports.store import Store

pytestmark = pytest.mark.slow

# JSON Schema's idea of an address is not that of those who deliver mail; both agree on these.
ADDRESS = r"[a-z0-9]{1,20}(\.[a-z0-9]{1,10})?@[a-z]{1,12}\.(com|org|de)"
schemathesis.openapi.format("email", st.from_regex(ADDRESS, fullmatch=True))

# A file's rows are more than the text that a schema describes; what can be reverted to depends on the past,
# and whom one can merge or dismiss on who is there. What a webhook may call depends on what is allowed.
HALF_DESCRIBED = (
    *("importCustomers", "revertCustomer", "mergeCustomers", "exportCustomers"),
    *("dismissDuplicates", "undismissDuplicates", "createWebhook", "changeWebhook"),
)
GOOD_KEY = re.compile("[!#-~]{1,255}")


class Fuzz:
    """Requests from the document of an app; all checks on each answer."""

    def __init__(self, app: Flask, store: Store, *, derandomize: bool = True) -> None:
        key, stored = new_key("fuzz", "admin")
        store.keys.add(stored)
        self.headers = {"Authorization": f"Bearer {key}"}
        self.requests = 0
        # A version that somebody made up is refused with 412, as it should be.
        refused = [400, 401, 403, 404, 405, 406, 409, 410, 412, 415, 422, 428, 429]
        fine = {
            "positive_data_acceptance": {"expected-statuses": ["2xx", "3xx", 404, 409, 410, 412]},
            "negative_data_rejection": {"expected-statuses": refused},
        }
        config = schemathesis.Config.from_dict({"checks": fine})
        app.wsgi_app = _from_everywhere(app.wsgi_app)  # type: ignore[method-assign]
        # Over WSGI its client says that it takes gzip, and then reads the bytes as they are.
        self.headers["Accept-Encoding"] = "identity"
        schema = schemathesis.openapi.from_wsgi("/api/openapi.json", app, config=config)
        # The stream and the failed ones want Kafka. The originals' paths have the same handlers.
        self.schema = schema.exclude(path_regex="^/api/(events/stream|failed)").exclude(tag="originals")
        self._options: dict[str, Any] = {
            "deadline": None,
            "database": None,
            "derandomize": derandomize,
            "suppress_health_check": list(HealthCheck),
            "phases": (Phase.explicit, Phase.generate),
        }

    def operations(self, examples: int) -> None:
        """N requests to each operation by itself."""
        for result in self.schema.get_all_operations():
            assert isinstance(result, Ok), result
            run = given(case=result.ok().as_strategy())(self._call)
            settings(max_examples=examples, **self._options)(run)()

    def walks(self, count: int, rounds: int = 1) -> None:
        """N walks of ten steps in each round, each step using the result of the one before."""
        fuzz = self
        found: list[Exception] = []

        class Walk(self.schema.as_state_machine()):
            def get_call_kwargs(self, case: Any) -> dict[str, Any]:
                fuzz.tame(case)
                return {"headers": fuzz.headers}

            def validate_response(self, response: Any, case: Any, **_: Any) -> None:
                # A walk cannot send wrong keys; each operation by itself is sent without a key too.
                try:
                    case.validate_response(
                        response,
                        excluded_checks=[*excluded(case), ignored_auth],
                        transport_kwargs={"headers": fuzz.headers},
                    )
                except Exception as exc:
                    found.append(exc)
                    raise

        for _ in range(rounds):
            # A walk that begins like another finds another state of the database, which ends a round early.
            with suppress(FlakyStrategyDefinition):
                Walk.run(settings=settings(max_examples=count, stateful_step_count=10, **self._options))
            assert found == []

    def _call(self, case: Any) -> None:
        self.tame(case)
        case.call_and_validate(headers=self.headers, excluded_checks=excluded(case))

    def tame(self, case: Any) -> None:
        """Leave out what no schema can describe, and so is refused though it looks right."""
        self.requests += 1
        # A cursor is signed.
        (case.query or {}).pop("cursor", None)
        headers = case.headers or {}
        # Ours is the key; a second one that was made up is not looked at.
        for name in ("X-Api-Key", "Authorization"):
            headers.pop(name, None)
        # The state at a time is one, and has no pages.
        if "at" in (case.query or {}):
            case.query.pop("limit", None)
        # A key is good for one request.
        if GOOD_KEY.fullmatch(headers.get("Idempotency-Key") or ""):
            headers["Idempotency-Key"] = f"key-{self.requests}"
        # A 201 has a body or, as was asked for, none.
        if operation_id(case).lower().endswith("createcustomer"):
            headers.pop("Prefer", None)


def _from_everywhere(app: Any) -> Any:
    """Each request from an address of its own: wrong keys are counted by address, and refused after some."""
    numbers = itertools.count(1)

    def call(environ: dict[str, Any], start: Any) -> Any:
        return app({**environ, "REMOTE_ADDR": str(ip_address(next(numbers)))}, start)

    return call


def operation_id(case: Any) -> str:
    return str(case.operation.definition.raw["operationId"])


def excluded(case: Any) -> list[Any]:
    left_out = [positive_data_acceptance] if operation_id(case) in HALF_DESCRIBED else []
    body = case.body if isinstance(case.body, dict) else {}
    if isinstance(body.get("fields"), dict):
        body = body["fields"]
    # 1e300 is taken, and a whole number of as many digits is not; to a schema they are the same number.
    metadata = body.get("metadata")
    values = metadata.values() if isinstance(metadata, dict) else ()
    huge = any(isinstance(value, float) and abs(value) >= 2**63 for value in values)
    # The edges of a text are trimmed before it is measured, which a schema cannot say.
    trimmed = any(isinstance(text, str) and text != text.strip() for text in body.values())
    return [*left_out, negative_data_rejection] if huge or trimmed else left_out


@pytest.mark.timeout(1800)
def test_no_request_finds_a_server_error_or_an_answer_that_is_not_described(app: Flask, store: Store) -> None:
    """S37."""
    fuzz = Fuzz(app, store)

    fuzz.operations(15)
    fuzz.walks(12)

    assert fuzz.requests >= 600, fuzz.requests  # on each of the two databases


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_no_request_of_ten_thousand_does_either(app: Flask, store: Store) -> None:
    """S37, full size."""
    fuzz = Fuzz(app, store, derandomize=False)

    fuzz.operations(400)
    fuzz.walks(20, rounds=60)

    print(f"{store.name}: {fuzz.requests} requests")
    assert fuzz.requests >= 10_000, fuzz.requests  # on each of the two databases
