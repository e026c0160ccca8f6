"""Customers that are likely one: of one customer, pairs of them all, and the pairs that are dismissed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast, get_args

import orjson

from ..domain.customers import INT64_MAX
from ..domain.likeness import DEFAULT_SCORE
from ..errors import FieldError, ValidationError, unknown_fields
from ..http.answer import Answer
from ..http.lists import place_of
from ..http.messages import JSON, json_answer, json_body, limit_of, page_answer, parameters, word_of
from ..http.problems import bad_parameter
from ..http.request import Request
from ..http.resource import ApiResource, Services
from ..service.duplicates import Dismissed, Duplicate, FoundPair

DISMISSED_MAX: Final = 20
"""The most customers of one request that dismisses all their pairs."""
_NUMBER: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{0,30})?([eE][+-]?[0-9]{1,3})?")


class CustomerDuplicates(ApiResource):
    """`/api/customers/{id}/duplicates`"""

    def get(self, request: Request, customer_id: int) -> Answer:
        given = parameters(request, "limit", "min_score", "dismissed")
        limit = limit_of(given)
        self.wait_for_copy(request)
        found = self.services.duplicates.of(
            customer_id, min_score=_min_score(given), dismissed=_dismissed(given, self.services)
        )[:limit]
        there = self.services.store.customers.get_many([each.id for each in found])
        results = [
            {
                "customer": orjson.Fragment(there[each.id].doc),
                "score": each.score,
                "reasons": each.reasons,
                "dismissed": _is_dismissed(each, self.services),
            }
            for each in found
            if each.id in there
        ]
        return json_answer({"results": results})


class DuplicatePairs(ApiResource):
    """`/api/customers/duplicates`"""

    def get(self, request: Request) -> Answer:
        given = parameters(request, "limit", "cursor", "min_score", "dismissed")
        limit, min_score, dismissed = limit_of(given), _min_score(given), _dismissed(given, self.services)
        scope = f"duplicates {min_score} {dismissed}"
        self.wait_for_copy(request)
        after = place_of(self.services.cursors.read(given["cursor"], scope)) if "cursor" in given else None
        page = self.services.duplicates.pairs(
            limit=limit, after=after, min_score=min_score, dismissed=dismissed
        )
        return page_answer(
            request,
            orjson.dumps(self._shown(page.pairs))[1:-1],
            count=None,
            has_more=page.place is not None,
            given=given,
            following=self.services.cursors.make(list(page.place), scope) if page.place else None,
        )

    def _shown(self, pairs: Iterable[FoundPair]) -> list[dict[str, Any]]:
        pairs = list(pairs)
        there = self.services.store.customers.get_many(sorted({id_ for each in pairs for id_ in each.pair}))
        return [
            {
                "customers": [orjson.Fragment(there[id_].doc) for id_ in each.pair],
                "score": each.score,
                "reasons": each.reasons,
                "dismissed": _is_dismissed(each, self.services),
            }
            for each in pairs
        ]


class DuplicatesDismiss(ApiResource):
    """`/api/customers/duplicates/dismiss`: they are not the same, as they are now."""

    def post(self, request: Request) -> Answer:
        parameters(request)
        ids = _ids(json_body(request, JSON))
        self.services.duplicates.dismiss(ids, request.principal.name)
        return json_answer({"ids": ids, "dismissed": True})


class DuplicatesUndismiss(ApiResource):
    """`/api/customers/duplicates/undismiss`: show these pairs again."""

    def post(self, request: Request) -> Answer:
        parameters(request)
        ids = _ids(json_body(request, JSON))
        self.services.duplicates.undismiss(ids)
        return json_answer({"ids": ids, "dismissed": False})


def _min_score(given: Mapping[str, str]) -> float:
    text = given.get("min_score", str(DEFAULT_SCORE))
    if not _NUMBER.fullmatch(text) or not 0 <= float(text) <= 1:
        raise bad_parameter("min_score", "must be a number from 0 to 1, as 0.8")
    return float(text)


def _dismissed(given: Mapping[str, str], services: Services) -> Dismissed:
    """Which pairs are asked for. A copy has no notes of what was dismissed, so there it is all of them."""
    asked = cast(Dismissed, word_of(given, "dismissed", get_args(Dismissed), "exclude"))
    if services.copy is None:
        return asked
    if "dismissed" in given and asked != "include":
        raise bad_parameter("dismissed", "is known to the system of record only; a copy takes include")
    return "include"


def _is_dismissed(found: Duplicate | FoundPair, services: Services) -> bool | None:
    return found.is_dismissed if services.copy is None else None


def _ids(body: Any) -> list[int]:
    """The ids in a body: two or more, none twice."""
    if not isinstance(body, dict):
        raise ValidationError([FieldError("", "not_an_object", "the body must be a JSON object")])
    errors = unknown_fields(body, ("ids",), "is unknown; there is ids")
    ids = body.get("ids")
    if not _is_list_of_ids(ids):
        what = f"must be a list of 2 to {DISMISSED_MAX} different ids of customers"
        errors.append(FieldError("ids", "bad_value", what))
    if errors:
        raise ValidationError(errors)
    return sorted(cast(list[int], ids))


def _is_list_of_ids(ids: Any) -> bool:
    return (
        isinstance(ids, list)
        and 2 <= len(ids) <= DISMISSED_MAX
        and all(type(each) is int and 0 < each <= INT64_MAX for each in ids)
        and len(set(ids)) == len(ids)
    )
