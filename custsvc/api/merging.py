"""Merging customers over HTTP, and undoing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import orjson

from ..errors import VersionConflict
from ..http.answer import Answer
from ..http.messages import JSON, customer_answer, json_answer, json_body, parameters, wants_minimal, word_of
from ..http.preconditions import Preconditions
from ..http.problems import Problem
from ..http.request import Request
from ..http.resource import ApiResource, position_header
from ..service.changes import Caller
from ..service.merging import Merge, Merged


class _Merging(ApiResource):
    conditional: ClassVar[bool] = True

    def _store(
        self,
        request: Request,
        customer_id: int,
        versions: Mapping[int, int | None],
        work: Callable[[Caller, int | None], Merged],
    ) -> Answer:
        """Do the work once, under the request's preconditions; `versions` are those asked of the others."""
        customers, asked, caller = self.services.customers, self.asked(request), self.caller(request)
        try:
            merged, replayed = customers.once_as(
                caller,
                lambda: work(caller, self.expected(customer_id, asked)),
                customers.replay_merge,
            )
        except VersionConflict as exc:
            raise self._mismatch(exc, asked, versions) from exc
        headers = [position_header(merged.versions)]
        if replayed:
            headers.append(("Idempotency-Replayed", "true"))
        return customer_answer(merged.stored, minimal=wants_minimal(request), extra=headers)

    def _mismatch(
        self, exc: VersionConflict, asked: Preconditions, versions: Mapping[int, int | None]
    ) -> Problem:
        other = versions.get(exc.current.id)
        return self.mismatch(exc, frozenset([other]) if other else asked.match or frozenset())


class CustomerMerge(_Merging):
    """`/api/customers/{id}/merge`: other customers become part of this one."""

    def post(self, request: Request, customer_id: int) -> Answer:
        given = parameters(request, "dry_run")
        merge, customers = Merge.parse(customer_id, json_body(request, JSON)), self.services.customers
        if word_of(given, "dry_run", ("false", "true"), "false") == "true":
            return self._preview(request, customer_id, merge)
        return self._store(
            request,
            customer_id,
            merge.others,
            lambda caller, expected: customers.merge(customer_id, merge, caller, expected=expected),
        )

    def _preview(self, request: Request, customer_id: int, merge: Merge) -> Answer:
        asked = self.asked(request)
        try:
            preview = self.services.customers.preview_merge(
                customer_id, merge, expected=self.expected(customer_id, asked)
            )
        except VersionConflict as exc:
            raise self._mismatch(exc, asked, merge.others) from exc
        return json_answer({"customer": orjson.Fragment(preview.customer.encode()), "took": preview.took})


class CustomerUnmerge(_Merging):
    """`/api/customers/{id}/unmerge`: undoes the newest merge of this customer."""

    def post(self, request: Request, customer_id: int) -> Answer:
        parameters(request)
        unmerge = self.services.customers.unmerge
        return self._store(
            request,
            customer_id,
            {},
            lambda caller, expected: unmerge(customer_id, caller, expected=expected),
        )
