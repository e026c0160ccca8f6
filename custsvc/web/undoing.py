"""Past imports on the pages: what each did, and undoing it."""

from __future__ import annotations

import datetime as dt
from typing import Any

from flask import Blueprint, g, redirect, render_template

from ..domain.customers import format_time
from ..errors import NotFound
from ..transfer.imported import Imported, Imports
from ..transfer.undo import undo as undo_import
from .access import caller, needs, route, services, web
from .jobs import Progress

SHOWN = 10
_TITLES = {"import": "Import", "edit": "Bulk edit", "delete": "Bulk delete", "restore": "Bulk restore"}
_TAKES_BACK = {
    "import": "Customers that it added are deleted, and those that it changed get their fields back.",
    "edit": "The customers get their value back.",
    "delete": "The customers are restored.",
    "restore": "The customers are deleted again.",
}
_DID = {"create": "added", "update": "changed", "restore": "restored", "delete": "deleted"}


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, "/ui/imports/<import_id>", show)
    route(blueprint, "/ui/imports/<import_id>/undo", undo, "POST")
    route(blueprint, "/ui/imports/<import_id>/undo/<job_id>", undone)


def recent() -> list[dict[str, Any]]:
    """The newest imports, as the page of uploads lists them."""
    return [_about(each) for each in Imports(services().store.shelf).all()[:SHOWN]]


def _about(imported: Imported) -> dict[str, Any]:
    at = format_time(dt.datetime.fromtimestamp(imported.at, dt.UTC))
    usual = ("create", "update") if imported.what == "import" else ()
    did = [(each, word) for each, word in _DID.items() if each in usual or imported.counts.get(each)]
    return {
        "id": imported.id,
        "by": imported.by,
        "at": at,
        "takes_back": _TAKES_BACK[imported.what],
        "title": _TITLES[imported.what],
        "did": ", ".join(f"{imported.counts.get(action, 0):,} {word}" for action, word in did),
        "is_undone": imported.undone is not None,
    }


@needs("write")
def show(import_id: str) -> Any:
    """What an import did, and the button that undoes it."""
    return render_template("import/past.html", imported=_about(_imported(import_id)), job=None)


@needs("write")
def undo(import_id: str) -> Any:
    """Undo an import, once, however often the button is pressed."""
    _imported(import_id)
    job_id, is_new = web().jobs.claim(f"undo{import_id}")
    if is_new:
        store, who = services().store, caller()

        def work(progress: Progress) -> dict[str, Any]:
            done = 0

            def more(count: int) -> None:
                nonlocal done
                done += count
                progress(done, None)

            imports = Imports(store.shelf)
            report = undo_import(store.customers, store.answers, imports, import_id, who, progress=more)
            return report.as_dict()

        web().jobs.start("undo", g.principal.name, work, job_id=job_id, imported=import_id)
    return redirect(f"/ui/imports/{import_id}/undo/{job_id}", 303)


@needs("write")
def undone(import_id: str, job_id: str) -> Any:
    """How far undoing an import is, and what it did."""
    job = web().jobs.find(job_id)
    if job is None or job.get("imported") != import_id:
        raise NotFound("there is no such import")
    return render_template("import/past.html", imported=_about(_imported(import_id)), job=job)


def _imported(import_id: str) -> Imported:
    found = Imports(services().store.shelf).find(import_id)
    if found is None:
        raise NotFound("there is no such import: imports can be undone for a week")
    return found
