"""Import on the pages: a file, its columns, the plan with what is wrong row by row, and that plan applied."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import PurePath
from typing import Any, Final

from flask import Blueprint, Response, g, redirect, render_template, request

from ..errors import FieldError, NotFound, ValidationError
from ..notify.rules.forecast import Forecast
from ..service.customers import Caller
from ..service.idempotency import Keyed
from ..transfer.encodings import label
from ..transfer.headings import fields_of, key_of
from ..transfer.imported import Imports
from ..transfer.likely import Likely
from ..transfer.load import Options, load
from ..transfer.plan import ACTIONS, Planned
from ..transfer.rows import TABLES, Look, Reading, look, read
from ..transfer.shape import Asked, Format, shape_of
from ..transfer.wrong import FORMATS, TYPES, wrong_rows
from . import toast, undoing
from .access import caller, needs, route, services, still_may, takes, web
from .choices import COLUMNS, Choices
from .jobs import Progress
from .uploads import Upload, Uploads
from .words import FIELDS

LARGEST: Final = 10 * 1024 * 1024
# The most columns of a table: a form has a field for each, and a few more.
_WIDEST: Final = 1900
# Less than the life of idempotency answers, which apply a plan sent twice only once.
_PLAN_KEPT: Final = 20 * 3600.0
_COLUMN_NAMES: Final = {
    **FIELDS,
    "id": "Id",
    "version": "Version, which guards newer changes",
    "first_name": "First name",
    "middle_name": "Middle name",
    "last_name": "Last name",
}
FORMAT_NAMES: Final[dict[Format, str]] = {
    "csv": "CSV",
    "xlsx": "Excel workbook",
    "ndjson": "NDJSON",
    "json": "JSON array",
    "vcard": "vCards",
}
ENCODINGS: Final = (
    *("utf-8", "windows-1252", "windows-1250", "iso-8859-2", "windows-1251", "koi8-r", "windows-1253"),
    *("windows-1254", "macintosh", "cp850", "utf-16", "shift-jis", "gb18030", "big5", "euc-kr"),
)
DELIMITERS: Final = ((",", "comma"), (";", "semicolon"), ("\t", "tab"), ("|", "pipe"))
# Values shown beside each column, and the characters of each.
_SAMPLES: Final = 3
_SAMPLE_SHOWN: Final = 40

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
    route(blueprint, base + "/shape", reshape, "POST")
    route(blueprint, base + "/plan/<job_id>", plan)
    route(blueprint, base + "/apply/<job_id>", apply, "POST")
    route(blueprint, base + "/result/<job_id>", result)
    route(blueprint, base + "/wrong/<job_id>", wrong)


@takes(LARGEST + 64 * 1024)
@needs("write")
def upload() -> Any:
    """The first step: choose a file."""
    if request.method == "GET":
        return _upload_page(None)
    file = request.files.get("file")
    content = file.read() if file else b""
    if file is None or not content.strip():
        return _upload_page("Choose a file that has something in it."), 400
    name = PurePath(file.filename or "file").name[:100]
    try:
        shape = shape_of(io.BytesIO(content), None, name)
        _check_width(look(io.BytesIO(content), shape))
    except ValidationError as exc:
        return _upload_page(_sentence(exc)), 400
    kept = _uploads().keep(name, shape, content)
    return redirect(f"/ui/import/{kept.id}", 303)


def _upload_page(error: str | None) -> str:
    return render_template("import/upload.html", largest=LARGEST, error=error, imports=undoing.recent())


def _look(kept: Upload) -> Look:
    """The columns of a table and its first rows; nothing of another format. Raises ValidationError."""
    return look(io.BytesIO(_uploads().content(kept)), kept.shape)


def _check_width(found: Look) -> None:
    """Refuse a table with more columns than the form of the second step can have. Raises ValidationError."""
    if (count := len(found.heading)) > _WIDEST:
        text = f"has {count:,} columns, and at most {_WIDEST:,} can be chosen from; remove those of no use"
        raise ValidationError([FieldError("file", "too_many_columns", text)])


def _sentence(exc: ValidationError) -> str:
    return "; ".join(f"{FIELDS.get(each.field, each.field)} {each.message}" for each in exc.errors)


@needs("write")
def reshape(upload_id: str) -> Any:
    """The second step, if the file was read in a wrong way: name another encoding, delimiter or sheet."""
    kept = _upload(upload_id)
    given = {name: request.form.get(name) or None for name in ("encoding", "delimiter", "sheet")}
    try:
        asked = Asked.of(kept.fmt, **given)
        shape = shape_of(io.BytesIO(_uploads().content(kept)), asked, kept.name)
        _check_width(look(io.BytesIO(_uploads().content(kept)), shape))
    except ValidationError as exc:
        toast.put(f"The file cannot be read so: {_sentence(exc)}.", kind="bad")
    else:
        _uploads().reshape(kept, shape)
    return redirect(f"/ui/import/{kept.id}", 303)


@needs("write")
def mapping(upload_id: str) -> Any:
    """The second step: the field of each column, and the field by which a row finds its customer."""
    kept = _upload(upload_id)
    found = _look(kept)
    if request.method == "GET":
        return _mapping_page(kept, found, _chosen_before(kept, found), None)
    choices = Choices.of_form(request.form, found.heading)
    try:
        if kept.fmt in TABLES:
            fields_of(found.heading, choices.fields(found.heading))
    except ValidationError as exc:
        return _mapping_page(kept, found, choices, _sentence(exc)), 400
    job_id = _start(kept, "import-plan", choices, _options(choices, dry_run=True))
    return redirect(f"/ui/import/{kept.id}/plan/{job_id}", 303)


def _chosen_before(kept: Upload, found: Look) -> Choices:
    """The choices of the plan that the user comes back from, else those that the heading suggests."""
    job = web().jobs.find(request.args.get("plan", ""))
    if job is None or job.get("upload") != kept.id or len(job["choices"]["columns"]) != len(found.heading):
        return Choices.guessed(found.heading, found.sample)
    return Choices(**job["choices"])


def _options(choices: Choices, *, dry_run: bool, mails: bool = False) -> Options:
    """The options of the import. It skips wrong rows: the page has shown them and asked."""
    return Options(
        on=choices.on,
        restore=choices.restore,
        skip_errors=True,
        dry_run=dry_run,
        meaning=choices.meaning(),
        mails=mails,
    )


def _mapping_page(kept: Upload, found: Look, choices: Choices, error: str | None) -> str:
    return render_template(
        "import/mapping.html",
        upload=kept,
        columns=[
            (
                column.strip() or f"Column {place + 1}, without a heading",
                chosen,
                key_of(column, place),
                _samples(found.sample, place),
            )
            for place, (column, chosen) in enumerate(zip(found.heading, choices.columns, strict=True))
        ],
        format=FORMAT_NAMES[kept.fmt],
        encoding=label(kept.encoding),
        encodings=ENCODINGS,
        delimiters=DELIMITERS,
        choices=choices,
        fields=[(name, _COLUMN_NAMES[name]) for name in COLUMNS],
        error=error,
    )


def _samples(rows: Sequence[Sequence[str]], place: int) -> list[str]:
    """The first different values of a column."""
    cells = (row[place].strip()[:_SAMPLE_SHOWN] for row in rows if place < len(row))
    return list(dict.fromkeys(filter(None, cells)))[:_SAMPLES]


@needs("write")
def plan(upload_id: str, job_id: str) -> Any:
    """The third step: show the plan."""
    return _job_page("import/plan.html", upload_id, job_id, WORDS)


@needs("write")
def apply(upload_id: str, job_id: str) -> Any:
    """Apply exactly the plan that was shown."""
    kept, shown = _upload(upload_id), _job(job_id, upload_id)
    report = shown.get("result")
    if report is None or not report["dry_run"]:
        raise NotFound("there is no such plan")
    back = f"/ui/import/{kept.id}/plan/{job_id}"
    if report["counts"]["error"] and "skip" not in request.form:
        toast.put("Say first that the rows that are wrong may be left out.", kind="bad")
        return redirect(back, 303)
    if time.time() - shown["begun"] > _PLAN_KEPT:
        toast.put("The plan is of yesterday. Look at it again first.", kind="bad")
        return redirect(f"/ui/import/{kept.id}?plan={job_id}", 303)
    done_id, is_new = web().jobs.claim(job_id)
    if is_new:
        choices = Choices(**shown["choices"])
        options = replace(
            _options(choices, dry_run=False, mails="mails" in request.form), plan=report["plan"]
        )
        keyed, total = _keyed(job_id, report["plan"]), sum(report["counts"].values())
        _start(kept, "import", choices, options, job_id=done_id, keyed=keyed, total=total, of_plan=job_id)
    return redirect(f"/ui/import/{kept.id}/result/{done_id}", 303)


def _keyed(plan_id: str, plan: str) -> Keyed:
    """The key under which each chunk of a plan is applied only once, however often the button is pressed."""
    return Keyed("pages", f"plan-{plan_id}", hashlib.sha256(plan.encode()).digest())


@needs("write")
def result(upload_id: str, job_id: str) -> Any:
    """The last step: show the result of each row."""
    return _job_page("import/result.html", upload_id, job_id, DONE)


@needs("write")
def wrong(upload_id: str, job_id: str) -> Response:
    """The rows that are not imported, as a file to correct and to import again."""
    kept, job = _upload(upload_id), _job(job_id, upload_id)
    if "result" not in job or kept.fmt not in FORMATS:
        raise NotFound("there is no such file")
    store, content = services().store, _uploads().content(kept)
    choices = Choices(**job["choices"])
    columns = choices.fields(_look(kept).heading) if kept.fmt in TABLES else None

    def parts(_: Any) -> Iterator[bytes]:
        # Planned again, as the report holds only some of them. What the import has done is no error now.
        found = {each["row"]: _said(each["errors"]) for each in job["result"]["rows"] if each["errors"]}

        def note(row: Planned) -> None:
            if row.errors:
                found.setdefault(row.number, _said([error.as_dict() for error in row.errors]))

        load(
            store.customers,
            lambda: read(io.BytesIO(content), kept.shape, columns),
            _options(choices, dry_run=True),
            Caller(""),
            seen=note,
        )
        yield from wrong_rows(io.BytesIO(content), kept.shape, columns, found)

    return Response(
        services().streams.carried(parts, *still_may("write")),
        content_type=TYPES[FORMATS[kept.fmt]],
        headers={"Content-Disposition": f'attachment; filename="to-correct.{FORMATS[kept.fmt]}"'},
    )


def _said(errors: Sequence[Mapping[str, Any]]) -> str:
    """What is wrong with a row, in words."""
    return "; ".join(
        f"{FIELDS.get(each['field'], each['field'])} {each['message']}".strip() for each in errors
    )


def _job_page(template: str, upload_id: str, job_id: str, words: dict[str, str]) -> str:
    return render_template(
        template,
        upload=_upload(upload_id),
        job=_job(job_id, upload_id),
        actions=ACTIONS,
        words=words,
        kinds=_KINDS,
        fields=FIELDS,
        wrong_formats=FORMATS,
    )


def _start(
    kept: Upload,
    kind: str,
    choices: Choices,
    options: Options,
    *,
    job_id: str | None = None,
    keyed: Keyed | None = None,
    total: int | None = None,
    **more: Any,
) -> str:
    store, settings, who = services().store, services().settings, replace(caller(), keyed=keyed)
    content, duplicates = _uploads().content(kept), services().duplicates
    columns = choices.fields(_look(kept).heading) if kept.fmt in TABLES else None

    def work(progress: Progress) -> dict[str, Any]:
        done = 0

        def seen(_: Planned) -> None:
            nonlocal done
            done += 1
            progress(done, total)

        def source() -> Reading:
            return read(io.BytesIO(content), kept.shape, columns)

        report = load(
            store.customers,
            source,
            options,
            who,
            store.answers,
            seen=seen,
            forecast=Forecast.of(settings),
            imports=Imports(store.shelf),
            likely=Likely(duplicates),
        )
        return report.as_dict()

    about = {"upload": kept.id, "choices": asdict(choices), **more}
    return web().jobs.start(kind, g.principal.name, work, job_id=job_id, **about)


def _uploads() -> Uploads:
    return Uploads(services().store.shelf)


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
