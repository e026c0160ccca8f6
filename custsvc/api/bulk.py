"""Customers in bulk over HTTP: an export of any size as a stream, an import of a whole file as a plan."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Mapping
from typing import IO, Any, Final, cast

from werkzeug.exceptions import RequestEntityTooLarge

from ..config import Settings
from ..domain.customers import format_time
from ..errors import FieldError, ValidationError
from ..http.answer import Answer
from ..http.lists import FILTERS, METADATA, fields_of, filter_of, sort_of
from ..http.messages import (
    JSON,
    asked_hash,
    idempotency_key,
    json_answer,
    parameters,
    unsupported_type,
    word_of,
)
from ..http.problems import Problem, bad_parameter
from ..http.request import Request
from ..http.resource import ApiResource
from ..notify.rules.forecast import Forecast
from ..service.customers import Caller
from ..service.idempotency import Keyed
from ..transfer import export, headings, load, meaning, plan, rows, shape, sheet, undo
from ..transfer.encodings import known
from ..transfer.imported import Imports
from ..transfer.likely import Likely

NDJSON: Final = "application/x-ndjson"
CSV: Final = "text/csv"
_MEDIA: Final[dict[str, export.Format]] = {
    JSON: "json",  # first: the default if the caller accepts anything
    NDJSON: "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    CSV: "csv",
    "text/vcard": "vcard",
}
_TYPE_OF: Final[dict[export.Format, str]] = {
    "csv": f"{CSV}; charset=utf-8",
    "ndjson": NDJSON,
    "json": JSON,
    "vcard": "text/vcard; charset=utf-8",
}
XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
VCARD: Final = "text/vcard"
# None for a body whose format is recognised by its content.
_SUFFIX: Final = {"vcard": "vcf"}
_IMPORTED: Final[dict[str, shape.Format | None]] = {
    NDJSON: "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    CSV: "csv",
    JSON: "json",
    XLSX: "xlsx",
    VCARD: "vcard",
    "text/x-vcard": "vcard",
    "application/octet-stream": None,
}
_PIECE: Final = 65536
# A body up to this size stays in memory, a longer one is written to an unnamed file.
_IN_MEMORY: Final = 1024 * 1024
_BOOLEAN: Final = ("true", "false")
_OPTIONS: Final = ("on", "dry_run", "restore", "skip_errors", "plan", "empty", "metadata", "mails")
_MAILS: Final = ("yes", "no", *_BOOLEAN)
# How the file is to be read.
_READING: Final = ("format", "encoding", "delimiter", "sheet", "others")


class CustomerExport(ApiResource):
    """`/api/customers/export`"""

    def get(self, request: Request) -> Answer:
        given = parameters(request, *FILTERS, "sort", "fields", "format", "bom", "delimiter", prefix=METADATA)
        where = filter_of(given)
        sort, descending = sort_of(given.get("sort", "id"))
        fmt = _format(request, given)
        fields = _fields(given, fmt)
        dialect = _dialect(given)
        store = self.services.reads.pages()
        parts = self.services.streams.carried(
            lambda _: export.export(
                store, fmt, where, sort=sort, descending=descending, fields=fields, dialect=dialect
            ),
            *self.still_may(request),
        )
        headers = [
            ("Cache-Control", "private, no-store"),
            ("Content-Disposition", f'attachment; filename="customers.{_SUFFIX.get(fmt, fmt)}"'),
            ("X-Accel-Buffering", "no"),
            ("Vary", "Accept"),
        ]
        return Answer(parts, 200, headers, _TYPE_OF[fmt])


def _fields(given: Mapping[str, str], fmt: export.Format) -> tuple[str, ...] | None:
    """The requested fields in canonical order; of CSV also `metadata.KEY`, which come last."""
    if "fields" not in given:
        return None
    names = [name.strip() for name in given["fields"].split(",")]
    entries = [name for name in names if fmt == "csv" and name.startswith(METADATA) and name != METADATA]
    plain = ",".join(name for name in names if name not in entries)
    return (*(fields_of(plain) if plain or not entries else ()), *dict.fromkeys(entries))


def _dialect(given: Mapping[str, str]) -> sheet.Dialect:
    try:
        sign = shape.Asked.of(delimiter=given.get("delimiter")).delimiter
    except ValidationError as exc:
        raise bad_parameter("delimiter", exc.errors[0].message) from exc
    return sheet.Dialect(sign or ",", _flag(given, "bom"))


def _format(request: Request, given: Mapping[str, str]) -> export.Format:
    if "format" in given:
        return cast(export.Format, word_of(given, "format", export.FORMATS, "json"))
    return _MEDIA[request.preferred(tuple(_MEDIA), JSON)]


class CustomerImport(ApiResource):
    """`/api/customers/import`"""

    @staticmethod
    def body_max(settings: Settings) -> int:  # type: ignore[override]
        """The limit from the settings."""
        return settings.import_max_mb * 1024 * 1024

    def post(self, request: Request) -> Answer:
        given = parameters(request, *_OPTIONS, *_READING, many="map")
        options = load.Options(
            on=cast(plan.Key, word_of(given, "on", plan.KEYS, "id")),
            restore=_flag(given, "restore"),
            skip_errors=_flag(given, "skip_errors"),
            dry_run=_flag(given, "dry_run"),
            plan=given.get("plan"),
            meaning=_meaning(given),
            mails=word_of(given, "mails", _MAILS, "no") in ("yes", "true"),
        )
        asked, columns = _asked(request, given)
        key = idempotency_key(request)
        services = self.services
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
            digest = self._receive(request, file)
            keyed = Keyed(request.principal.id, key, digest) if key else None
            caller = Caller(request.principal.name, request.id, request.traceparent, keyed)

            found = shape.shape_of(cast(IO[bytes], file), asked)

            def source() -> rows.Reading:
                file.seek(0)
                return rows.read(cast(IO[bytes], file), found, columns)

            try:
                report = load.load(
                    services.store.customers,
                    source,
                    options,
                    caller,
                    services.store.answers,
                    forecast=Forecast.of(services.settings),
                    imports=Imports(services.store.shelf),
                    likely=Likely(services.duplicates),
                )
            except load.ImportRefused as exc:
                raise _refused(exc) from exc
            except load.PlanChanged as exc:
                raise Problem(409, "plan-changed", str(exc)) from exc
        answer = json_answer(report.as_dict())
        if report.resumed:
            answer.headers.append(("Idempotency-Replayed", "true"))
        return answer

    def _receive(self, request: Request, file: Any) -> bytes:
        """Put the body into a file, piece by piece; returns the hash of the request."""
        most = self.longest_body()
        too_large = Problem(
            413, "too-large", f"an import takes up to {most // 1024**2} MB; split the file into several"
        )
        if (request.content_length or 0) > most:
            raise too_large
        digest = asked_hash(request)
        charset = known(request.charset or "utf-8")
        if charset != "utf-8":  # which is what a file is in that says nothing
            digest.update(f"charset {charset}\n".encode())
        try:
            while piece := request.stream.read(_PIECE):
                digest.update(piece)
                file.write(piece)
        except RequestEntityTooLarge as exc:
            raise too_large from exc
        return bytes(digest.digest())


class ImportList(ApiResource):
    """`/api/customers/imports`"""

    def get(self, request: Request) -> Answer:
        parameters(request)
        found = [
            {
                "id": each.id,
                "by": each.by,
                "at": format_time(dt.datetime.fromtimestamp(each.at, dt.UTC)),
                "counts": {action: each.counts.get(action, 0) for action in plan.ACTIONS},
                "undone": each.undone is not None,
                "what": each.what,
            }
            for each in Imports(self.services.store.shelf).all()
        ]
        return json_answer({"results": found})


class ImportUndo(ApiResource):
    """`/api/customers/imports/{import_id}/undo`"""

    def post(self, request: Request, import_id: str) -> Answer:
        given = parameters(request, "dry_run")
        store = self.services.store
        caller = Caller(request.principal.name, request.id, request.traceparent)
        report = undo.undo(
            store.customers,
            store.answers,
            Imports(store.shelf),
            import_id,
            caller,
            dry_run=_flag(given, "dry_run"),
        )
        return json_answer(report.as_dict())


def _asked(request: Request, given: Mapping[str, str]) -> tuple[shape.Asked, headings.Columns]:
    """What the request says of its file. Raises Problem."""
    if request.media_type not in _IMPORTED and "format" not in given:
        raise unsupported_type(request, NDJSON, CSV, *(each for each in _IMPORTED if each != JSON))
    pairs = [value for name, value in request.query if name == "map"]
    fmt = given.get("format", _IMPORTED.get(request.media_type))
    encoding = given.get("encoding", request.charset)
    try:
        asked = shape.Asked.of(fmt, encoding, given.get("delimiter"), given.get("sheet"))
        return asked, headings.Columns.of(pairs, given.get("others", "refuse"))
    except ValidationError as exc:
        wrong = exc.errors[0]
        raise bad_parameter(wrong.field, wrong.message) from exc


def _meaning(given: Mapping[str, str]) -> meaning.Meaning:
    return meaning.Meaning(
        empty=cast(meaning.Empty, word_of(given, "empty", meaning.EMPTY, "clear")),
        metadata=cast(meaning.Metadata, word_of(given, "metadata", meaning.METADATA_RULES, "replace")),
    )


def _flag(given: Mapping[str, str], name: str) -> bool:
    return word_of(given, name, _BOOLEAN, "false") == "true"


def _refused(exc: load.ImportRefused) -> Problem:
    """The problem if nothing was imported, with the same report as a dry run."""
    wrong = [row for row in exc.report.rows() if row["errors"]]
    errors = [
        FieldError(f"rows[{row['row']}].{each['field']}".rstrip("."), each["code"], each["message"])
        for row in wrong
        for each in row["errors"]
    ]
    return Problem(400, "import-refused", str(exc), errors=errors, members={"report": exc.report.as_dict()})
