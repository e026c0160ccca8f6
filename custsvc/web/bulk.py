"""One change to many customers on the pages: what to change, the plan with examples, and that plan applied.

All steps are those of an import, whose record undoes it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from flask import Blueprint, g, redirect, render_template, request

from ..errors import NotFound, ValidationError
from ..notify.rules.forecast import Forecast
from ..ports.customers import LIVE
from ..service.idempotency import Keyed
from ..transfer.bulk import MOST, BulkChange, Preview, chosen, matching, packed, rows
from ..transfer.imported import Imports, id_of
from ..transfer.load import load
from ..transfer.plan import Planned
from ..transfer.row import METADATA
from ..transfer.rows import Reading
from ..transfer.shape import Shape
from . import listing, toast
from .access import caller, needs, route, services, web
from .forms import KINDS, Pair
from .jobs import Progress
from .uploads import Uploads
from .words import FIELDS, plural

PATH: Final = "/ui/bulk"
IDS_MAX: Final = 200
"""The most customers that are chosen one by one."""
# Less than the life of idempotency answers, which apply a plan sent twice only once.
_PLAN_KEPT: Final = 20 * 3600.0
_FIELDS: Final = ("phone", "email", "name", "metadata")
_KINDS: Final = {kind: label for kind, label in KINDS.items() if kind != "null"}
_DOES: Final = {"edit": "change", "delete": "delete", "restore": "restore"}
_DID: Final = {"edit": "changed", "delete": "deleted", "restore": "restored"}
_ACTION: Final = {"edit": "update", "delete": "delete", "restore": "restore"}


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, PATH, edit, "GET", "POST")
    route(blueprint, PATH + "/<job_id>", plan)
    route(blueprint, PATH + "/<job_id>/apply", apply, "POST")
    route(blueprint, PATH + "/<job_id>/result/<done_id>", result)


class Choice:
    """The customers to change: some by their ids, or all that match a list."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self.of = given.get("of", "")
        self.ids = ids_of(given["ids"]) if "ids" in given else None
        # Refuse a filter that is wrong before anything else: its sender wants fewer customers than all.
        self._where = listing.filter_of_query(self.of) if self.ids is None else LIVE

    def parameters(self) -> dict[str, str]:
        """The choice as parameters of an address."""
        ids = {} if self.ids is None else {"ids": ",".join(map(str, self.ids))}
        return {"of": self.of, **ids}

    @property
    def back(self) -> str:
        """The list that the choice was made on."""
        return listing.href(listing.given_by(self.of))

    @property
    def words(self) -> str:
        if self.ids is not None:
            return plural(len(self.ids), "customer")
        count, is_exact = services().store.customers.count_if_cheap(self._where)
        return f"{'' if is_exact else 'about '}{plural(count, 'customer')}"

    def pairs(self) -> Iterator[tuple[int, int]]:
        """The ids and versions of the customers now."""
        store = services().store.customers
        return matching(store, self._where) if self.ids is None else chosen(store, self.ids)


def ids_of(text: str) -> list[int]:
    """The ids in a text, each once, at most IDS_MAX."""
    found = [int(each) for each in text.split(",") if each.isascii() and each.isdigit() and len(each) < 19]
    return [each for each in dict.fromkeys(found) if each][:IDS_MAX]


def form_address(choice: Choice) -> str:
    """The page that asks what to change."""
    return f"{PATH}?{urlencode(choice.parameters())}"


@needs("write")
def edit() -> Any:
    """The first step: which field gets which value."""
    choice = Choice(request.values)
    if request.method == "GET":
        return _form(choice, {}, None)
    try:
        change = _change_of(request.form)
        change.check()
    except ValidationError as exc:
        text = "; ".join(f"{_label(error.field)} {error.message}" for error in exc.errors)
        return _form(choice, request.form, text), 400
    except ValueError as exc:
        return _form(choice, request.form, str(exc)), 400
    return redirect(begin(change, choice), 303)


def _form(choice: Choice, form: Mapping[str, str], error: str | None) -> str:
    return render_template(
        "bulk/form.html",
        choice=choice,
        form=form,
        error=error,
        fields=[(name, FIELDS[name]) for name in _FIELDS],
        kinds=_KINDS,
        most=MOST,
    )


def _change_of(form: Mapping[str, str]) -> BulkChange:
    """The edit that the form asks for. Raises ValueError, which says what is wrong."""
    name, removes, value = form.get("field", ""), form.get("how") == "remove", form.get("value", "")
    if name == "metadata":
        key = form.get("key", "").strip()
        if not key:
            raise ValueError("Name the key of the metadata.")
        try:
            found = None if removes else Pair(key, value, form.get("kind", "text")).meant({})
        except ValueError as exc:
            raise ValueError(f"The value {exc}.") from exc
        return BulkChange("edit", METADATA + key, found)
    if name not in _FIELDS:
        raise ValueError("Choose the field to change.")
    if removes and name == "name":
        raise ValueError("A customer always has a name; it cannot be removed.")
    if not removes and not value.strip():
        raise ValueError("Give the new value, or choose to remove the value.")
    return BulkChange("edit", name, None if removes else value)


def begin(change: BulkChange, choice: Choice) -> str:
    """Start the plan of a change; gives the address of its page."""
    store, settings, who = services().store, services().settings, caller()
    uploads, pairs = Uploads(store.shelf), choice.pairs()

    def work(progress: Progress) -> dict[str, Any]:
        content = packed(pairs, lambda number: progress(number, None))
        kept = uploads.keep("bulk", Shape("ndjson"), content)
        total, done, preview = content.count(b"\n"), 0, Preview()

        def seen(row: Planned) -> None:
            nonlocal done
            done += 1
            preview.add(row)
            progress(done, total)

        def source() -> Reading:
            return rows(content, change, lambda: None)

        options = change.options(dry_run=True)
        report = load(store.customers, source, options, who, seen=seen, forecast=Forecast.of(settings))
        return {**report.as_dict(), **preview.as_dict(), "rows": [], "upload": kept.id, "total": total}

    job_id = web().jobs.start(
        "bulk-plan", g.principal.name, work, change=asdict(change), choice=choice.parameters()
    )
    return f"{PATH}/{job_id}"


@needs("write")
def plan(job_id: str) -> Any:
    """The second step: what would change, with examples, and what would not and why."""
    job = _plan(job_id)
    return render_template("bulk/plan.html", job=job, choice=Choice(job["choice"]), **_about(job))


@needs("write")
def apply(job_id: str) -> Any:
    """Apply exactly the plan that was shown; or go on with it, if the process that applied it died."""
    job = _plan(job_id)
    report = job.get("result")
    if report is None:
        raise NotFound("there is no such plan")
    store, change = services().store, BulkChange(**job["change"])
    keyed = _keyed(job_id, job)
    record = Imports(store.shelf).find(id_of(keyed))
    kept = Uploads(store.shelf).find(report["upload"])
    if record is not None and record.undone is not None:
        toast.put("This was undone. To do it after all, begin again.", kind="bad")
        return redirect(f"{PATH}/{job_id}", 303)
    if kept is None or time.time() - job["begun"] > _PLAN_KEPT:
        toast.put("The plan is from yesterday, or a customer was erased since. Begin again.", kind="bad")
        return redirect(Choice(job["choice"]).back, 303)
    done_id, is_new = web().jobs.claim(job_id)
    if is_new:
        content, mails = Uploads(store.shelf).content(kept), "mails" in request.form
        _start(change, content, keyed, done_id, of_plan=job_id, mails=mails, total=report["total"])
    return redirect(f"{PATH}/{job_id}/result/{done_id}", 303)


def _start(
    change: BulkChange, content: bytes, keyed: Keyed, job_id: str, *, mails: bool, **about: Any
) -> None:
    store, settings, who = services().store, services().settings, replace(caller(), keyed=keyed)
    total = about["total"]

    def work(progress: Progress) -> dict[str, Any]:
        done = 0

        def seen(_: Planned) -> None:
            nonlocal done
            done += 1
            progress(done, total)

        def source() -> Reading:
            return rows(content, change, lambda: progress(done, total))

        report = load(
            store.customers,
            source,
            change.options(dry_run=False, mails=mails),
            who,
            store.answers,
            seen=seen,
            forecast=Forecast.of(settings),
            imports=Imports(store.shelf),
        )
        skipped = [row for row in report.rows() if row["action"] in ("conflict", "error")]
        return {**report.as_dict(), "rows": skipped}

    about |= {"change": asdict(change), "mails": mails, "import": id_of(keyed)}
    web().jobs.start("bulk", g.principal.name, work, job_id=job_id, **about)


def _keyed(plan_id: str, job: Mapping[str, Any]) -> Keyed:
    """The key under which each chunk of a plan is applied only once, however often the button is pressed."""
    asked = orjson.dumps([job["change"], job["result"]["upload"]])
    return Keyed("pages", f"bulk-{plan_id}", hashlib.sha256(asked).digest())


@needs("write")
def result(job_id: str, done_id: str) -> Any:
    """The last step: what was done, and to which customers nothing was done."""
    job = web().jobs.find(done_id)
    if job is None or job.get("of_plan") != job_id:
        raise NotFound(
            "there is no such change any more; Import lists those of the last week, which can be undone"
        )
    record = Imports(services().store.shelf).find(job["import"])
    is_undone = record is not None and record.undone is not None
    return render_template("bulk/result.html", job=job, is_undone=is_undone, **_about(job))


def _about(job: Mapping[str, Any]) -> dict[str, Any]:
    change = BulkChange(**job["change"])
    words = {"does": _DOES[change.do], "did": _DID[change.do], "action": _ACTION[change.do]}
    return {"change": change, "sentence": _sentence(change), "label": _label, **words}


def _sentence(change: BulkChange) -> str:
    """What the change does: `Phone becomes “+44”`."""
    if change.do != "edit":
        return {"delete": "Delete customers", "restore": "Restore customers"}[change.do]
    name = _label(change.field)
    return f"Remove: {name}" if change.value is None else f"{name} becomes “{_text(change.value)}”"


def _text(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _label(field: str) -> str:
    """`Phone`, or `Metadata “tier”`."""
    return FIELDS.get(field) or f"Metadata “{field.removeprefix(METADATA)}”"


def _plan(job_id: str) -> dict[str, Any]:
    job = web().jobs.find(job_id)
    if job is None or job["kind"] != "bulk-plan":
        raise NotFound("there is no such plan: plans are kept for a day")
    return job
