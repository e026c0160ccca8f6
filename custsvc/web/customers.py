"""The list of customers, and actions on several of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson
from flask import Blueprint, Response, redirect, render_template, request

from ..domain.customers import Stored
from ..errors import NotFound
from ..http.lists import list_request
from ..service.customers import Caller
from ..transfer import sheet
from ..transfer.bulk import DOINGS, BulkChange, Do
from ..transfer.export import Format, export
from . import bulk as many
from . import columns, listing, once, toast, views
from .access import needs, route, services, still_may
from .forms import action_of
from .words import plural

# What the menu offers: the format, and the dialect of CSV.
_FILES: Final[dict[str, tuple[Format, sheet.Dialect]]] = {
    "csv": ("csv", sheet.PLAIN),
    "columns": ("csv", sheet.PLAIN),
    "excel": ("csv", sheet.Dialect(",", mark=True)),
    "excel-semicolon": ("csv", sheet.Dialect(";", mark=True)),
    "ndjson": ("ndjson", sheet.PLAIN),
    "vcard": ("vcard", sheet.PLAIN),
}
_TYPES: Final[dict[Format, str]] = {
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "vcard": "text/vcard; charset=utf-8",
}
_SUFFIXES: Final[dict[Format, str]] = {"vcard": "vcf"}


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, "/ui/customers", index)
    route(blueprint, "/ui/customers/columns", choose_columns)
    route(blueprint, "/ui/customers/bulk", bulk, "POST")
    route(blueprint, "/ui/customers/export", export_list, "GET", "POST")


def index() -> Any:
    view = views.named(request.args.get("view", ""))
    mine, shared = views.visible()
    return render_template(
        "customers/list.html",
        page=listing.of_request(view),
        mine=mine,
        shared=shared,
        owns_view=view is not None and view.owner == views.owner(),
    )


@needs("read")
def choose_columns() -> Any:
    """Show other columns, and keep the choice in this browser. A GET, as copies allow no other."""
    form = request.args
    wanted = columns.chosen(form, form.getlist("column"), form.get("key", ""))
    given = listing.given_by(_back(form).partition("?")[2])
    response = redirect(listing.href({**given, "cursor": None, **wanted}), 303)
    columns.remember(response, wanted)
    return response


def bulk() -> Any:
    """Delete, restore or edit the chosen customers; all that match the list, or an edit, by a plan first."""
    ids, action, back = _ids(), action_of(DOINGS), _back()
    if not ids and not _is_all():
        toast.put("Choose some customers first.", kind="bad")
        return redirect(back, 303)
    if _is_all() or action == "edit":
        return redirect(_plan_of(action, ids), 303)
    done = [each for each in ids if _changed(each, deleted=action == "delete")]
    word, other = ("Restored", "delete") if action == "restore" else ("Deleted", "restore")
    left = len(ids) - len(done)
    rest = f" {plural(left, 'other')} had been {word.lower()} before, or never was there." if left else ""
    toast.put(
        f"{word} {plural(len(done), 'customer')}.{rest}",
        undo="/ui/customers/bulk" if done else None,
        fields={"action": other, "ids": ",".join(map(str, done)), "back": back},
    )
    return redirect(back, 303)


def _plan_of(do: Do, ids: list[int]) -> str:
    """The address of the plan to change many customers, or of the page that asks what to change."""
    by_id = {} if _is_all() else {"ids": ",".join(map(str, ids))}
    choice = many.Choice({"of": _back().partition("?")[2], **by_id})
    return many.form_address(choice) if do == "edit" else many.begin(BulkChange(do), choice)


@needs("read")
def export_list() -> Any:
    """All pages of a list as a file, or the chosen customers."""
    ids = [] if _is_all() else _ids()
    if request.method == "POST" and not ids and not _is_all():
        toast.put("Choose some customers first.", kind="bad")
        return redirect(_back(), 303)
    word = request.values.get("format", "")
    fmt, dialect = _FILES.get(word, _FILES["csv"])
    fields = columns.of_request(request.args).fields() if word == "columns" else None
    given = {name: value.strip() for name, value in request.args.items() if value.strip()}
    if _is_all():
        given = {**listing.given_by(_back().partition("?")[2]), "limit": ""}
    asked = list_request(listing.api_parameters({**given, "cursor": ""}), services().cursors).query
    store = services().store.customers

    def parts(_: Any) -> Iterator[bytes]:
        if ids:
            docs = [stored.doc for stored in store.get_many(ids).values()]
            return iter([sheet.heading(), sheet.lines(map(orjson.loads, docs))])
        return export(
            store,
            fmt,
            asked.filter,
            sort=asked.sort,
            descending=asked.descending,
            fields=fields,
            dialect=dialect,
        )

    return Response(
        services().streams.carried(parts, *still_may()),
        content_type=_TYPES[fmt],
        headers={"Content-Disposition": f'attachment; filename="customers.{_SUFFIXES.get(fmt, fmt)}"'},
    )


def _changed(customer_id: int, *, deleted: bool) -> bool:
    """Delete or restore a customer; False if it was so already, as undoing this must not change it then."""
    customers = services().customers

    def work(who: Caller) -> Stored:
        stored = services().store.customers.get(customer_id)
        if stored is None or stored.deleted is deleted:
            raise NotFound("there is nothing to do")
        return (customers.delete if deleted else customers.restore)(customer_id, who)

    try:
        once.change(work, str(customer_id))
    except NotFound:
        return False
    return True


def _ids() -> list[int]:
    """The ids in a form, each once."""
    return many.ids_of(",".join(request.form.getlist("ids")))


def _is_all() -> bool:
    """Whether the form is about all customers that match its list."""
    return "all" in request.form


def _back(form: Mapping[str, str] | None = None) -> str:
    """The address of the list that the form was on."""
    path = (request.form if form is None else form).get("back", "")
    return path if path.startswith(listing.PATH) and path.isprintable() else listing.PATH
