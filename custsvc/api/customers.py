"""Customers over HTTP: the list, one customer, restoring it, its history."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import orjson

from ..domain.canonical import canonical_fields, merge_patch
from ..domain.customers import INT64_MAX, Stored
from ..errors import FieldError, NotFound, ValidationError, unknown_fields
from ..http.answer import Answer
from ..http.lists import (
    METADATA,
    PARAMETERS,
    ListRequest,
    cursor_of,
    list_request,
    neighbours,
    only_fields,
    time_of,
)
from ..http.messages import (
    JSON,
    MERGE_PATCH,
    customer_answer,
    etag_answer,
    json_body,
    limit_of,
    page_answer,
    parameters,
    wants_minimal,
    word_of,
)
from ..http.preconditions import refuse_unsupported
from ..http.problems import Problem, bad_parameter
from ..http.request import Request
from ..http.resource import ApiResource
from ..ports.accounts import Role
from ..ports.customers import CustomerStore, Page, Position
from ..service.customers import CustomerService, live
from ..service.duplicates import CONTACT
from ..service.trimmed import trimmed

# The most duplicates that the answer to a new customer names.
_WARNED_MAX: Final = 10


class CustomerList(ApiResource):
    """`/api/customers/`"""

    def get(self, request: Request) -> Answer:
        given = parameters(request, *PARAMETERS, prefix=METADATA)
        asked = list_request(given, self.services.cursors)
        page, (count, exact) = self.read(request, lambda customers: _listed(customers, asked))
        docs = page.docs if asked.fields is None else only_fields(page.docs, asked.fields)
        following, preceding = neighbours(asked.query, page)
        return page_answer(
            request,
            docs,
            # The estimate may be lower than the number of customers on this page.
            count=count if count is None or exact else max(count, page.count),
            count_estimated=not exact,
            has_more=following is not None,
            given=given,
            following=self._cursor(following, asked.scope, backward=False),
            preceding=self._cursor(preceding, asked.scope, backward=True),
        )

    def _cursor(self, end: Position | None, scope: str, *, backward: bool) -> str | None:
        return self.services.cursors.make(cursor_of(end, backward=backward), scope) if end else None

    def post(self, request: Request) -> Answer:
        given = parameters(request, "duplicates")
        warn = word_of(given, "duplicates", ("warn", "off"), "off") == "warn"
        fields = canonical_fields(json_body(request, JSON))
        like = self.services.duplicates.like(fields, kinds=CONTACT) if warn else []
        caller = self.caller(request)
        stored, put = self.once(caller, lambda: self.services.customers.create(fields, caller))
        put["extra"].append(("Location", f"/api/customers/{stored.id}/"))
        if ids := [str(each.id) for each in like[:_WARNED_MAX] if each.id != stored.id]:
            put["extra"].append(("X-Custsvc-Duplicates", ",".join(ids)))
        return customer_answer(stored, 201, minimal=wants_minimal(request), **put)


def _listed(store: CustomerStore, asked: ListRequest) -> tuple[Page, tuple[int | None, bool]]:
    """A page, and the number of all that match."""
    page = store.find(asked.query)
    return page, _counted(store, asked, page)


def _counted(store: CustomerStore, asked: ListRequest, page: Page) -> tuple[int | None, bool]:
    """The number of matching customers, if requested, and whether it is exact."""
    where = asked.query.filter
    if asked.counting == "none":
        return None, True
    if asked.counting != "estimated" and asked.query.after is None and not page.has_more:
        return page.count, True  # all of them are on this page
    if asked.counting == "cheap":
        return store.count_if_cheap(where)
    exact = asked.counting == "exact"
    return store.count(where, exact=exact), exact


class OneCustomer(ApiResource):
    """`/api/customers/{id}/`"""

    conditional: ClassVar[bool] = True

    def get(self, request: Request, customer_id: int) -> Answer:
        parameters(request)
        found = self.read(request, lambda customers: live(customers, customer_id))
        return self.conditional_answer(request, found)

    def put(self, request: Request, customer_id: int) -> Answer:
        parameters(request)
        fields, replace = canonical_fields(json_body(request, JSON)), self.services.customers.replace
        stored, put = self.write(
            request,
            customer_id,
            lambda caller, expected: replace(customer_id, fields, caller, expected=expected),
        )
        return customer_answer(stored, minimal=wants_minimal(request), **put)

    def patch(self, request: Request, customer_id: int) -> Answer:
        parameters(request)
        patch, update = json_body(request, MERGE_PATCH, JSON), self.services.customers.update
        stored, put = self.write(
            request,
            customer_id,
            lambda caller, expected: update(
                customer_id, lambda fields: merge_patch(fields, patch), caller, expected=expected
            ),
        )
        return customer_answer(stored, minimal=wants_minimal(request), **put)

    def delete(self, request: Request, customer_id: int) -> Answer:
        parameters(request)
        delete = self.services.customers.delete
        stored, put = self.write(
            request, customer_id, lambda caller, expected: delete(customer_id, caller, expected=expected)
        )
        return etag_answer(stored, 204, **put)


class CustomerRestore(ApiResource):
    """`/api/customers/{id}/restore`"""

    conditional: ClassVar[bool] = True

    def post(self, request: Request, customer_id: int) -> Answer:
        parameters(request)
        restore = self.services.customers.restore
        stored, put = self.write(
            request, customer_id, lambda caller, expected: restore(customer_id, caller, expected=expected)
        )
        return customer_answer(stored, minimal=wants_minimal(request), **put)


class CustomerRevert(ApiResource):
    """`/api/customers/{id}/revert`: the fields of an earlier version, as a new version."""

    conditional: ClassVar[bool] = True

    def post(self, request: Request, customer_id: int) -> Answer:
        parameters(request)
        version, revert = _version(json_body(request, JSON)), self.services.customers.revert
        stored, put = self.write(
            request,
            customer_id,
            lambda caller, expected: revert(customer_id, version, caller, expected=expected),
        )
        return customer_answer(stored, minimal=wants_minimal(request), **put)


def _version(body: Any) -> int:
    if not isinstance(body, dict):
        raise ValidationError([FieldError("", "not_an_object", "the body must be a JSON object")])
    errors = unknown_fields(body, ("version",), "is unknown; there is version")
    version = body.get("version")
    if type(version) is not int or not 0 < version < INT64_MAX:
        errors.append(FieldError("version", "bad_value", "must be the number of a version"))
    if errors:
        raise ValidationError(errors)
    return int(body["version"])


class CustomerErase(ApiResource):
    """`/api/customers/{id}/erase`: removes all personal data from the customer and its history."""

    conditional: ClassVar[bool] = True
    writing: ClassVar[Role] = "admin"

    def post(self, request: Request, customer_id: int) -> Answer:
        parameters(request)
        erase = self.services.customers.erase
        stored, put = self.write(
            request, customer_id, lambda caller, expected: erase(customer_id, caller, expected=expected)
        )
        return customer_answer(stored, minimal=wants_minimal(request), **put)


class CustomerHistory(ApiResource):
    """`/api/customers/{id}/history`: the events of a customer, the newest first, as they go to Kafka."""

    conditional: ClassVar[bool] = True

    def get(self, request: Request, customer_id: int) -> Answer:
        if self.services.copy is not None:
            raise Problem(404, "not-found", "a copy keeps no history; ask the system of record")
        given = parameters(request, "at", "limit", "cursor")
        if "at" in given:
            return self._at(request, customer_id, given)
        refuse_unsupported(request, conditional=False)
        limit = limit_of(given)
        scope = f"history {customer_id}"
        before = self.services.cursors.read(given["cursor"], scope) if "cursor" in given else None

        # One more than requested: its presence shows that there is another page.
        newest, events = self.read(request, lambda store: _history(store, customer_id, limit + 1, before))
        shown, has_more = events[:limit], len(events) > limit
        cursor = None
        if has_more:
            cursor = self.services.cursors.make(orjson.loads(shown[-1])["version"], scope)
        return page_answer(
            request,
            b",".join(shown),
            # Versions have no gaps, so the newest one is also how many changes there were.
            count=newest.version if newest else None,
            has_more=has_more,
            given=given,
            following=cursor,
            more={"begins_at": trimmed(self.services.store.facts).begins or None},
        )

    def _at(self, request: Request, customer_id: int, given: dict[str, str]) -> Answer:
        """The customer as it was at a time."""
        time = time_of(given, "at")
        if len(given) > 1 or time is None:
            raise bad_parameter("at", "goes with no other parameter: it asks for one state")
        found = self.read(request, lambda customers: CustomerService(customers).at(customer_id, time))
        return self.conditional_answer(request, found)


def _history(
    store: CustomerStore, customer_id: int, limit: int, before: int | None
) -> tuple[Stored | None, list[bytes]]:
    """Events of a customer, and for the first page the customer. Raises NotFound."""
    newest = store.get(customer_id) if before is None else None
    if before is None and newest is None:
        raise NotFound(f"there is no customer {customer_id}")
    return newest, store.history(customer_id, limit=limit, before_version=before)
