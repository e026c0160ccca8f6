"""The proof of the copy on the pipeline page: compares it with its source, and repairs differences."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from flask import Blueprint, g, redirect, render_template, request

from ..config import Settings
from ..copies.verify import Difference, Report, note_repaired, remember, repair, verify
from ..ports.store import Store
from ..stores import open_store
from . import toast
from .access import has_copy, needs, route, services, web
from .words import plural

logger = logging.getLogger(__name__)

_DIFFERENCES: Final = 100
_PATH: Final = "/ui/pipeline#verify"

Progress = Callable[[int, int | None], None]


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, "/ui/pipeline/verify", start_verify, "POST")
    route(blueprint, "/ui/pipeline/verify/state", verify_state)
    route(blueprint, "/ui/pipeline/repair", start_repair, "POST")


def state() -> dict[str, Any]:
    """The last comparison, and what was repaired since, as the template needs them."""
    settings, job = services().settings, web().jobs.last("verify")
    repair_job = _repairs_of(job)
    return {
        "job": job,
        "repair_job": repair_job,
        "repaired": _repaired(repair_job),
        "source": services().store.name,
        "copy": settings.other_backend,
        "can_verify": has_copy() and bool(settings.kafka),
        "may_repair": g.principal.may("admin") and not settings.read_only,
    }


def verify_state() -> Any:
    """The last comparison as a fragment; its end tells the page to count again what needs a person."""
    found = state()
    ended = all(job is None or job["state"] != "running" for job in (found["job"], found["repair_job"]))
    return render_template("pipeline/verify.html", **found), {"HX-Trigger": "compared"} if ended else {}


@needs("write")
def start_verify() -> Any:
    """Compare the source with its copy, in the background."""
    running = web().jobs.last("verify")
    if running is None or running["state"] != "running":
        settings, source = services().settings, services().store

        def work(progress: Progress) -> dict[str, Any]:
            from ..copies.pipeline import pipeline

            compared = 0

            def note_progress(count: int) -> None:
                nonlocal compared
                compared += count
                progress(compared, None)

            with (
                open_store(settings, settings.other_backend) as copy,
                pipeline(settings, source, copy) as flow,
            ):
                report = verify(source.contents, copy.contents, flow, progress=note_progress)
                remember(source.facts, copy.name, report)
                return _result(report)

        web().jobs.start("verify", g.principal.name, work)
    return _answer("Comparing the copy with its source.")


@needs("admin")
def start_repair() -> Any:
    """Send the customers that the last comparison found different to the copy again, in the background.

    Only those: what else differs has to be found by a comparison first.
    """
    job = web().jobs.last("verify")
    chosen = _chosen(job)
    last = _repairs_of(job)
    if not chosen:
        return _answer("The last comparison found no such difference. Compare again.", kind="bad")
    if last is not None and last["state"] == "running":
        return _answer("A repair is running. Wait for its end.", kind="bad")
    before = _repaired(last)
    ids = [each["id"] for each in chosen if each["id"] not in before]
    if not ids:
        return _answer("It is repaired already.")
    who, settings, source = g.principal.name, services().settings, services().store

    def work(progress: Progress) -> dict[str, Any]:
        begun = time.monotonic()
        done = _repair(settings, source, ids)
        progress(len(done), len(ids))
        logger.info(
            "%s had %d of %d customers repaired in the copy",
            who,
            len(done),
            len(ids),
            extra={"action": "repaired", "by": who, "customer_ids": done},
        )
        left = [customer_id for customer_id in ids if customer_id not in done]
        seconds = round(time.monotonic() - begun, 2)
        return {"repaired": [*before, *done], "now": len(done), "left": left, "seconds": seconds}

    web().jobs.start("repair", who, work, of=job["id"] if job else "", before=before)
    return _answer(f"Sending {plural(len(ids), 'customer')} to the copy again.")


def _repair(settings: Settings, source: Store, ids: Sequence[int]) -> list[int]:
    """Repair these customers in the copy, and note it with the last result; the ids of the repaired ones."""
    from ..copies.pipeline import resending

    report = Report(differences=[Difference(each, "differs", None, None, []) for each in ids])
    with open_store(settings, settings.other_backend) as copy, resending(settings, source) as resend:
        repair(source.contents, copy.contents, report, resend)
        done = [each.customer_id for each in report.differences if each.repaired]
        note_repaired(source.facts, copy.name, len(done))
    return done


def _chosen(job: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The differences of the last comparison that the form names: one, or `all` that are shown."""
    asked = request.form.get("id", "")
    found: list[dict[str, Any]] = job["result"]["differences"] if job and job["state"] == "done" else []
    return found if asked == "all" else [each for each in found if str(each["id"]) == asked]


def _repairs_of(job: dict[str, Any] | None) -> dict[str, Any] | None:
    """The last repair of what this comparison found."""
    last = web().jobs.last("repair") if job else None
    return last if last is not None and job is not None and last.get("of") == job["id"] else None


def _repaired(last: dict[str, Any] | None) -> list[int]:
    """The customers that repairs up to this one have put right."""
    if last is None:
        return []
    ids: list[int] = last["result"]["repaired"] if last["state"] == "done" else last["before"]
    return ids


def _answer(text: str, kind: str = "good") -> Any:
    """The state of the comparison: as a fragment for the script, else by a redirect with a message."""
    if request.headers.get("HX-Request"):
        return verify_state()
    toast.put(text, kind=kind)
    return redirect(_PATH, 303)


def _result(report: Report) -> dict[str, Any]:
    shown = report.differences[:_DIFFERENCES]
    return {
        "compared": report.compared,
        "seconds": round(report.seconds, 2),
        "differ": len(report.differences),
        "behind": len(report.behind),
        "differences": [{"id": each.customer_id, "kind": each.kind, "fields": each.fields} for each in shown],
    }
