"""`/api/customers/batch`: many operations in one request, one result for each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from ..errors import CustsvcError, FieldError, ValidationError, VersionConflict, unknown_fields
from ..http.answer import Answer
from ..http.messages import JSON, json_answer, json_body, parameters
from ..http.problems import Problem, problem_for, problem_of
from ..http.request import Request
from ..http.resource import POSITIONS_MAX, ApiResource, position_header
from ..service.batch import OPERATIONS_MAX, BatchResult, Operation, Outcome

_ENVELOPE: Final = ("atomic", "operations")
# Beyond this number of errors in an answer, each later operation has its first one only.
_ERRORS_MAX: Final = 1000


class CustomerBatch(ApiResource):
    """`/api/customers/batch`"""

    body_max = 8 * 1024 * 1024

    def post(self, request: Request) -> Answer:
        parameters(request)
        raw, atomic = _envelope(json_body(request, JSON))
        must_match = self.services.settings.require_if_match
        operations = [_operation(each, must_match=must_match) for each in raw]
        caller, customers = self.caller(request), self.services.customers

        def body_of(result: BatchResult) -> dict[str, Any]:
            return _body(request, operations, result, atomic=atomic)

        body, replayed = customers.once_as(
            caller,
            lambda: body_of(customers.batch(operations, caller, atomic=atomic, body_of=body_of)),
            lambda kept: kept,
        )
        answer = json_answer(body)
        changed = {each["id"]: each["version"] for each in body["results"] if each["error"] is None}
        if body["done"] and 0 < len(changed) <= POSITIONS_MAX:
            answer.headers.append(position_header(changed))
        if replayed:
            answer.headers.append(("Idempotency-Replayed", "true"))
        return answer


def _envelope(body: Any) -> tuple[list[Any], bool]:
    if not isinstance(body, dict):
        raise ValidationError([FieldError("", "not_an_object", "the body must be a JSON object")])
    errors = unknown_fields(body, _ENVELOPE, f"is not one of {', '.join(_ENVELOPE)}")
    operations, atomic = body.get("operations"), body.get("atomic", False)
    if not isinstance(operations, list) or not 0 < len(operations) <= OPERATIONS_MAX:
        errors.append(
            FieldError("operations", "bad_value", f"must be a list of 1 to {OPERATIONS_MAX:,} operations")
        )
    if not isinstance(atomic, bool):
        errors.append(FieldError("atomic", "bad_value", "must be true or false"))
    if errors:
        raise ValidationError(errors)
    return operations or [], atomic


def _operation(raw: Any, *, must_match: bool) -> Operation | CustsvcError:
    try:
        operation = Operation.parse(raw)
    except ValidationError as exc:
        return exc
    if must_match and operation.op != "create" and operation.version is None:
        return VersionRequired()
    return operation


class VersionRequired(CustsvcError):
    """`version` is required: the version that the operation is based on."""


@problem_of.register
def _(exc: VersionRequired) -> Problem:
    return Problem(428, "if-match-required", str(exc))


def _body(
    request: Request, operations: list[Operation | CustsvcError], result: BatchResult, *, atomic: bool
) -> dict[str, Any]:
    left, results = _ERRORS_MAX, []
    for index, outcome in enumerate(result.outcomes):
        if isinstance(outcome.error, ValidationError):
            errors = outcome.error.errors[: max(1, left)]
            left -= len(errors)
            outcome = replace(outcome, error=ValidationError(errors))
        results.append(_result(request, index, operations[index], outcome, done=result.done))
    return {"atomic": atomic, "done": result.done, "results": results}


def _result(
    request: Request, index: int, operation: Operation | CustsvcError, outcome: Outcome, *, done: bool
) -> dict[str, Any]:
    customer_id = operation.id if isinstance(operation, Operation) else None
    problem, version, status = _problem(request, outcome, done=done), None, 200
    if problem is not None:
        status = problem.status
    elif outcome.stored is not None:
        customer_id, version = outcome.stored.id, outcome.stored.version
        deleted = isinstance(operation, Operation) and operation.op == "delete"
        status = 204 if deleted else 201 if outcome.created else 200
    error = problem.body() if problem else None
    return {"index": index, "status": status, "id": customer_id, "version": version, "error": error}


def _problem(request: Request, outcome: Outcome, *, done: bool) -> Problem | None:
    if isinstance(outcome.error, VersionConflict):
        return Problem(412, "version-mismatch", str(outcome.error))
    if outcome.error is not None:
        return problem_for(outcome.error, request.id)
    if not done:
        return Problem(424, "batch-undone", "another operation of this atomic batch failed")
    return None
