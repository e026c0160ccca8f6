"""The tools: what an assistant can do with customers. Their docstrings are what it reads of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from ..client import Client, Invalid
from .confirm import Confirmations

_MOST: Final = 50

Id = Annotated[int, Field(description="The customer's id.", ge=1)]
Version = Annotated[
    int | None, Field(description="Only if the customer is at this version, as it was read.", ge=1)
]
Limit = Annotated[int, Field(ge=1, le=_MOST)]
Confirm = Annotated[
    str | None,
    Field(description="The token of the preview. Give it only after a person agreed to what that showed."),
]
Fields = Annotated[
    dict[str, Any] | None,
    Field(description="name, email, phone, metadata (an object of texts); null empties a field."),
]
Found = dict[str, Any]


class Reading:
    """Tools that look."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def all(self) -> tuple[Callable[..., Found], ...]:
        """These tools."""
        return self.search_customers, self.get_customer, self.customer_history, self.find_duplicates

    def search_customers(
        self,
        q: Annotated[str | None, Field(description="Beginnings of words of name, e-mail or phone.")] = None,
        email: Annotated[str | None, Field(description="Exactly this address, in any case.")] = None,
        deleted: Literal["exclude", "include", "only"] = "exclude",
        sort: Annotated[str, Field(description="id, name, email, updated_on …; - descends.")] = "id",
        limit: Limit = 20,
        cursor: Annotated[str | None, Field(description="`next` of the page before, same filters.")] = None,
    ) -> Found:
        """Find customers; without a filter, list all. `next` is the cursor of the next page, or null."""
        filters: dict[str, Any] = {"deleted": deleted, "sort": sort}
        filters |= {name: value for name, value in (("q", q), ("email", email)) if value is not None}
        page = self._client.page(cursor, limit=limit, **filters)
        found = [each.as_dict() for each in page.customers]
        return {"customers": found, "count": page.count, "next": page.next}

    def get_customer(
        self,
        id: Id,
        at: Annotated[dt.datetime | None, Field(description="As it was at this time (ISO 8601).")] = None,
    ) -> Found:
        """One customer with its version. Give that version to a change, so that nobody's change is lost."""
        return (self._client.get(id) if at is None else self._client.at(id, at)).as_dict()

    def customer_history(self, id: Id, limit: Limit = 20) -> Found:
        """The changes of a customer, the newest first: when, by whom, which fields, before and after."""
        return {"events": [dict(each.raw) for each in islice(self._client.history(id), limit)]}

    def find_duplicates(self, id: Id, limit: Limit = 20) -> Found:
        """Customers that are likely the same as this one, with a score from 0 to 1 and the reasons."""
        found = self._client.duplicates(id, limit=limit)
        shown = [{"customer": e.customer.as_dict(), "score": e.score, "reasons": e.reasons} for e in found]
        return {"duplicates": shown}


class Writing:
    """Tools that change customers. Deleting and merging take a confirmation of what a preview showed."""

    def __init__(self, client: Client, confirmations: Confirmations | None = None) -> None:
        self._client = client
        self._confirmations = confirmations or Confirmations()

    def careful(self) -> tuple[Callable[..., Found], ...]:
        """The tools that change at once what can be changed back."""
        return self.create_customer, self.update_customer, self.restore_customer, self.unmerge_customer

    def confirmed(self) -> tuple[Callable[..., Found], ...]:
        """The tools that show first."""
        return self.delete_customer, self.merge_customers

    def create_customer(
        self,
        name: str,
        email: str | None = None,
        phone: str | None = None,
        metadata: Annotated[dict[str, Any] | None, Field(description="An object of texts.")] = None,
    ) -> Found:
        """Make a customer. Search before: the same person may be there already."""
        return self._client.create(name, email=email, phone=phone, metadata=metadata).as_dict()

    def update_customer(self, id: Id, fields: Fields, version: Version = None) -> Found:
        """Change these fields of a customer; the others stay. Metadata is merged key by key."""
        return self._client.update(id, fields or {}, version=version).as_dict()

    def restore_customer(self, id: Id, version: Version = None) -> Found:
        """Bring back a deleted customer as it was."""
        return self._client.restore(id, version=version).as_dict()

    def unmerge_customer(self, id: Id, version: Version = None) -> Found:
        """Take back the newest merge of a customer, but not what was changed since."""
        return self._client.unmerge(id, version=version).as_dict()

    def delete_customer(self, id: Id, confirm: Confirm = None) -> Found:
        """Delete a customer; it can be restored. The first call only shows it, with a token to confirm."""
        call = ("delete", id)
        if confirm is None:
            customer = self._client.get(id)
            return self._ask(call, {id: customer.version}, {"would_delete": customer.as_dict()})
        versions = self._confirmations.take(confirm, call)
        return {"deleted": id, "version": self._client.delete(id, version=versions[id])}

    def merge_customers(
        self,
        into: Annotated[int, Field(description="The customer that stays.", ge=1)],
        others: Annotated[
            list[int], Field(description="The customers that become part of it.", min_length=1, max_length=20)
        ],
        fields: Fields = None,
        confirm: Confirm = None,
    ) -> Found:
        """Make several customers one. The first call only shows the result and gives a token to confirm.

        What `into` lacks is taken from the others; `fields` overrides. `unmerge_customer` takes it back.
        """
        if len({into, *others}) <= len(others):
            raise Invalid("`others` names a customer twice, or the one that stays")
        call = ("merge", into, tuple(others), repr(fields))
        if confirm is None:
            shown = {each: self._client.get(each) for each in (into, *others)}
            versions = {each: customer.version for each, customer in shown.items()}
            preview = self._client.preview_merge(into, {each: versions[each] for each in others}, fields)
            gone = [shown[each].as_dict() for each in others]
            would = {"would_become": preview.customer.as_dict(), "took": dict(preview.took), "would_go": gone}
            return self._ask(call, versions, would)
        agreed = self._confirmations.take(confirm, call)
        guarded = {each: agreed[each] for each in others}
        return self._client.merge(into, guarded, fields, version=agreed[into]).as_dict()

    def _ask(self, call: tuple[Any, ...], versions: Mapping[int, int], shown: Found) -> Found:
        token = self._confirmations.ask(call, versions)
        return {
            **shown,
            "done": False,
            "confirm": token,
            "next": "Nothing is changed yet. Show this to the person; if they agree, call with `confirm`.",
        }
