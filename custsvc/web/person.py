"""The page of all data of a person: what each place holds, as a bundle; and the erasure, with its report.

The report is this page again: it counts what each place still holds, so it is true at any later time too.
"""

from __future__ import annotations

import logging
import tempfile
import weakref
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, Final

import orjson
from flask import Blueprint, Response, g, redirect, render_template, request

from ..domain.erasure import PLACES
from ..errors import CustsvcError
from ..http.problems import Problem
from ..service.merging import survivor_of
from . import once, toast
from .access import needs, route, services, still_may
from .words import plural

if TYPE_CHECKING:
    from ..copies.person import Held, Person

logger = logging.getLogger(__name__)

_BASE: Final = "/ui/customers/<id:customer_id>"
_PIECE: Final = 64 * 1024
# Of a bundle, what is kept in memory; the rest is in a temporary file.
_IN_MEMORY: Final = 1024 * 1024


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, f"{_BASE}/data", show)
    route(blueprint, f"{_BASE}/data/bundle", bundle)
    route(blueprint, f"{_BASE}/erase", erase, "POST")


@needs("admin")
def show(customer_id: int) -> Any:
    person, store = _person(customer_id), services().store.customers
    stored = services().customers.get(customer_id)
    (newest,) = store.history(customer_id, limit=1)
    last = orjson.loads(newest)
    return render_template(
        "customers/data.html",
        customer=stored.customer(),
        merged=person.ids[1:],
        survivor=survivor_of(store, customer_id) if stored.deleted else None,
        places=[(place, *_held(person, place.name)) for place in PLACES if place.given],
        elsewhere=[place for place in PLACES if not place.given],
        erased=last if last["op"] == "erased" else None,
        phrase=_phrase(customer_id),
    )


@needs("admin")
def bundle(customer_id: int) -> Response:
    """The bundle, made whole before its first byte is sent, so that none is incomplete."""
    person, by = _person(customer_id), g.principal.name
    file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - _Whole closes it
    try:
        person.write(file, by)
        size = file.tell()
        whole = _Whole(file)
        pieces = services().streams.carried(lambda _: whole, *still_may("admin"))
    except BaseException:
        file.close()
        raise
    _note("data_given", f"took all data of customer {customer_id}", person.ids)
    headers = {
        "Content-Disposition": f'attachment; filename="customer-{customer_id}.zip"',
        "Content-Length": str(size),
    }
    return Response(pieces, content_type="application/zip", headers=headers)


class _Whole:
    """The pieces of a file, which is closed after the last one, or when nobody can read it any more.

    So it is closed also for HEAD, and for a browser that went away.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        weakref.finalize(self, file.close)

    def __iter__(self) -> Iterator[bytes]:
        with self._file as file:
            file.seek(0)
            while piece := file.read(_PIECE):
                yield piece


@needs("admin")
def erase(customer_id: int) -> Any:
    """Erase the person if the form has the phrase typed."""
    if services().settings.read_only:
        raise Problem(403, "forbidden", "this serves a copy: erase where the system of record is served")
    if request.form.get("typed", "").strip().lower() != _phrase(customer_id):
        toast.put(f"Nothing was erased: type {_phrase(customer_id)} to confirm.", kind="bad")
        return redirect(f"/ui/customers/{customer_id}/data", 303)
    ids = services().customers.person(customer_id)
    once.change(lambda who: services().customers.erase(customer_id, who))
    _note("erased_by_hand", f"erased customer {customer_id}", ids)
    others = f" and {plural(len(ids) - 1, 'customer')} merged into it" if len(ids) > 1 else ""
    toast.put(f"Customer #{customer_id}{others} was erased. This page counts what is still left.")
    return redirect(f"/ui/customers/{customer_id}/data", 303)


def _person(customer_id: int) -> Person:
    # Imported here because Kafka's client is big and most processes never need it.
    from ..copies.person import Person

    return Person(services().settings, services().store, services().customers.person(customer_id))


def _held(person: Person, place: str) -> tuple[Held | None, str | None]:
    """What a place holds, or why that is unknown."""
    try:
        return person.held(place), None
    except CustsvcError as exc:
        return None, str(exc)


def _phrase(customer_id: int) -> str:
    return f"erase {customer_id}"


def _note(action: str, what: str, ids: list[int]) -> None:
    by = g.principal.name
    logger.info("%s %s", by, what, extra={"action": action, "by": by, "customer_ids": ids})
