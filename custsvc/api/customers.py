"""Customers over HTTP: the list, one customer, restoring it, its history."""

from __future__ import annotations

from typing import cast, get_args

import orjson
from flask import Response

from ..customer import canonical_fields, merge_patch
from ..errors import NotFound
from ..stores.base import CustomerQuery, Deleted
from .messages import (
    JSON,
    MERGE_PATCH,
    customer_response,
    etag_response,
    json_body,
    limit_of,
    not_modified,
    page_response,
    parameters,
    wants_minimal,
    word_of,
)
from .resource import ApiResource


class CustomerList(ApiResource):
    """`/api/customers/`"""

    def get(self) -> Response:
        given = parameters("limit", "cursor", "deleted", "count")
        deleted = cast(Deleted, word_of(given, "deleted", get_args(Deleted), "exclude"))
        counted = word_of(given, "count", ("exact", "none"), "none" if "cursor" in given else "exact")
        scope = f"customers deleted={deleted}"
        after = self.services.cursors.read(given["cursor"], scope) if "cursor" in given else None

        store = self.services.store.customers
        page = store.find(CustomerQuery(limit_of(given), after, deleted))
        cursor = None
        if page.has_more and page.last_id is not None:
            cursor = self.services.cursors.make(page.last_id, scope)
        return page_response(
            page.docs,
            count=store.count(deleted) if counted == "exact" else None,
            has_more=page.has_more,
            cursor=cursor,
            given=given,
        )

    def post(self) -> Response:
        parameters()
        stored = self.services.customers.create(canonical_fields(json_body(JSON)), self.caller)
        location = ("Location", f"/api/customers/{stored.id}/")
        return customer_response(stored, 201, extra=[location], minimal=wants_minimal())


class OneCustomer(ApiResource):
    """`/api/customers/{id}/`"""

    def get(self, customer_id: int) -> Response:
        parameters()
        stored = self.services.customers.get(customer_id)
        if not_modified(f'"v{stored.version}"'):
            return etag_response(stored, 304)
        return customer_response(stored)

    def put(self, customer_id: int) -> Response:
        parameters()
        fields = canonical_fields(json_body(JSON))
        with self.guarded(customer_id) as expected:
            stored = self.services.customers.replace(customer_id, fields, self.caller, expected=expected)
        return customer_response(stored, minimal=wants_minimal())

    def patch(self, customer_id: int) -> Response:
        parameters()
        patch = json_body(MERGE_PATCH, JSON)
        with self.guarded(customer_id) as expected:
            stored = self.services.customers.update(
                customer_id, lambda fields: merge_patch(fields, patch), self.caller, expected=expected
            )
        return customer_response(stored, minimal=wants_minimal())

    def delete(self, customer_id: int) -> Response:
        parameters()
        with self.guarded(customer_id) as expected:
            stored = self.services.customers.delete(customer_id, self.caller, expected=expected)
        return etag_response(stored, 204)


class CustomerRestore(ApiResource):
    """`/api/customers/{id}/restore`"""

    def post(self, customer_id: int) -> Response:
        parameters()
        with self.guarded(customer_id) as expected:
            stored = self.services.customers.restore(customer_id, self.caller, expected=expected)
        return customer_response(stored, minimal=wants_minimal())


class CustomerHistory(ApiResource):
    """`/api/customers/{id}/history`: the events of a customer, the newest first, as they go to Kafka."""

    def get(self, customer_id: int) -> Response:
        given = parameters("limit", "cursor")
        limit = limit_of(given)
        scope = f"history {customer_id}"
        before = self.services.cursors.read(given["cursor"], scope) if "cursor" in given else None

        store = self.services.store.customers
        newest = store.get(customer_id) if before is None else None
        if before is None and newest is None:
            raise NotFound(f"there is no customer {customer_id}")
        # One more than asked for: its presence tells that there is another page.
        events = store.history(customer_id, limit=limit + 1, before_version=before)
        shown, has_more = events[:limit], len(events) > limit
        cursor = None
        if has_more:
            cursor = self.services.cursors.make(orjson.loads(shown[-1])["version"], scope)
        return page_response(
            b",".join(shown),
            # Versions have no gaps, so the newest one is also their number.
            count=newest.version if newest else None,
            has_more=has_more,
            cursor=cursor,
            given=given,
        )
