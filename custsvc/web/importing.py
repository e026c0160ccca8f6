"""Import on the pages: a file, its columns, the plan with what is wrong row by row, and that plan applied."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, Final, cast

from flask import Blueprint, g, redirect, render_template, request

from ..customer import EDITABLE
from ..errors import NotFound, ValidationError
from ..transfer.load import Options, load
from ..transfer.plan import ACTIONS, KEYS, Key, Planned
from ..transfer.rows import METADATA, Format, Row, columns, field_of, read
from . import toast
from .access import caller, needs, route, services, web
from .jobs import Progress
from .uploads import Upload, Uploads
from .words import FIELDS

LARGEST: Final = 10 * 1024 * 1024
ENDPOINT: Final = "web.importing_upload"

WORDS: Final = {
    "create": "to add",
    "update": "to change",
    "same": "the same already",
    "restore": "to restore",
    "trashed": "in the trash",
    "error": "wrong",
    "conflict": "changed meanwhile",
}
DONE: Final = {**WORDS, "create": "added", "update": "changed", "restore": "restored", "error": "left out"}
_KINDS: Final = {"create": "good", "update": "accent", "restore": "accent", "error": "bad", "conflict": "bad"}


def add_routes(blueprint: Blueprint) -> None:
    base = "/ui/import/<upload_id>"
    route(blueprint, "/ui/import", upload, "GET", "POST")
    route(blueprint, base, mapping, "GET", "POST")
    route(blueprint, base + "/plan/<job_id>", plan)
    route(blueprint, base + "/apply/<job_id>", apply, "POST")
    route(blueprint, base + "/result/<job_id>", result)


@needs("write")
def upload() -> Any:
    """The first step: which file."""
    if request.method == "GET":
        return render_template("import/upload.html", largest=LARGEST, error=None)
    file = request.files.get("file")
    content = file.read() if file else b""
    if file is None or not content.strip():
        error = "Choose a file that has something in it."
        return render_template("import/upload.html", largest=LARGEST, error=error), 400
    name = PurePath(file.filename or "file").name[:100]
    kept = _uploads().keep(name, _format(name, content), content)
    return redirect(f"/ui/import/{kept.id}", 303)


def _format(name: str, content: bytes) -> Format:
    is_lines = name.lower().endswith((".ndjson", ".jsonl", ".json")) or content.lstrip()[:1] == b"{"
    return "ndjson" if is_lines else "csv"


@needs("write")
def mapping(upload_id: str) -> Any:
    """The second step: which column is what, and by what a row finds its customer."""
    kept = _upload(upload_id)
    heading = columns(io.BytesIO(_uploads().content(kept))) if kept.fmt == "csv" else []
    if request.method == "GET":
        return _mapping_page(kept, heading, None)
    chosen = _mapping(heading)
    options = Options(
        on=cast(Key, request.form["on"] if request.form.get("on") in KEYS else "id"),
        restore="restore" in request.form,
        skip_errors=True,
        dry_run=True,
    )
    try:
        # The first row tells whether the file as a whole can be read.
        next(_rows(kept, chosen), None)
    except ValidationError as exc:
        return _mapping_page(kept, heading, str(exc)), 400
    job_id = _start(kept, "import-plan", chosen, options)
    return redirect(f"/ui/import/{kept.id}/plan/{job_id}", 303)


def _mapping_page(kept: Upload, heading: list[str], error: str | None) -> str:
    sample = []
    for line in io.BytesIO(_uploads().content(kept)).readlines()[1:4]:
        sample.append(line.decode("utf-8", "replace").strip()[:200])
    return render_template(
        "import/mapping.html",
        upload=kept,
        heading=[(column, field_of(column)) for column in heading],
        fields=[(name, FIELDS[name]) for name in EDITABLE],
        sample=sample,
        error=error,
    )


def _mapping(heading: list[str]) -> dict[str, str]:
    """The field of each column as chosen; "" where it is left out."""
    chosen = {}
    for number, column in enumerate(heading):
        field = request.form.get(f"column-{number}", field_of(column) or "")
        chosen[column] = METADATA + column.strip().replace(".", "_")[:40] if field == "metadata.*" else field
    return chosen


@needs("write")
def plan(upload_id: str, job_id: str) -> Any:
    """The third step: what would happen."""
    return _job_page("import/plan.html", upload_id, job_id, WORDS)


@needs("write")
def apply(upload_id: str, job_id: str) -> Any:
    """The plan that was shown, and no other, is done."""
    kept, shown = _upload(upload_id), _job(job_id, upload_id)
    report = shown.get("result")
    if report is None or not report["dry_run"]:
        raise NotFound("there is no such plan")
    options = Options(
        on=shown["on"], restore=shown["restore"], skip_errors="skip" in request.form, plan=report["plan"]
    )
    if report["counts"]["error"] and not options.skip_errors:
        toast.put("Say first that the rows that are wrong may be left out.", kind="bad")
        return redirect(f"/ui/import/{kept.id}/plan/{job_id}", 303)
    total = sum(report["counts"].values())
    done_id = _start(kept, "import", shown["mapping"], options, total)
    return redirect(f"/ui/import/{kept.id}/result/{done_id}", 303)


@needs("write")
def result(upload_id: str, job_id: str) -> Any:
    """The last step: how each row ended."""
    return _job_page("import/result.html", upload_id, job_id, DONE)


def _job_page(template: str, upload_id: str, job_id: str, words: dict[str, str]) -> str:
    return render_template(
        template,
        upload=_upload(upload_id),
        job=_job(job_id, upload_id),
        actions=ACTIONS,
        words=words,
        kinds=_KINDS,
        fields=FIELDS,
    )


def _start(
    kept: Upload, kind: str, chosen: dict[str, str], options: Options, total: int | None = None
) -> str:
    store, who = services().store, caller()
    content = _uploads().content(kept)

    def work(progress: Progress) -> dict[str, Any]:
        done = 0

        def seen(_: Planned) -> None:
            nonlocal done
            done += 1
            progress(done, total)

        def source() -> Iterator[Row]:
            return read(io.BytesIO(content), kept.fmt, chosen)

        return load(store.customers, source, options, who, seen=seen).as_dict()

    about = {"upload": kept.id, "on": options.on, "restore": options.restore, "mapping": chosen}
    return web().jobs.start(kind, g.principal.name, work, **about)


def _rows(kept: Upload, chosen: dict[str, str]) -> Iterator[Row]:
    return read(io.BytesIO(_uploads().content(kept)), kept.fmt, chosen)


def _uploads() -> Uploads:
    return Uploads(services().store.facts)


def _upload(upload_id: str) -> Upload:
    kept = _uploads().find(upload_id)
    if kept is None:
        raise NotFound("this upload is gone: files are kept for a day")
    return kept


def _job(job_id: str, upload_id: str) -> dict[str, Any]:
    job = web().jobs.find(job_id)
    if job is None or job.get("upload") != upload_id:
        raise NotFound("there is no such import")
    return job
