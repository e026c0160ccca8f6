"""Operations on files of customers: export and import."""

from __future__ import annotations

from typing import Final

from ...http.messages import JSON
from ...transfer.headings import OTHERS
from ...transfer.shape import FORMATS
from . import models
from .operation import Answer, Operation, Parameter
from .parameters import FILTERS, KEY, SHOWN, SORT, text, yes_or_no

_NDJSON: Final = "application/x-ndjson"
_CSV: Final = "text/csv"
XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
VCARD: Final = "text/vcard"
_LINES: Final = {"type": "string", "description": "One customer on each line, as JSON."}
_SHEET: Final = {
    "type": "string",
    "description": "A heading and one customer on each line (RFC 4180). A cell that a spreadsheet would take "
    "for a formula, or a part of one that it would split off, has an apostrophe in front.",
}

_ARRAY: Final = {"type": "array", "items": {"type": "object"}}
_ANY: Final = {"type": "string", "format": "binary", "description": "A file whose content tells its format."}


BULK: Final[dict[tuple[str, str], Operation]] = {
    ("/api/customers/export", "get"): Operation(
        id="exportCustomers",
        tag="customers",
        summary="All customers of a filter, as a file",
        description="Streamed, whatever its size, as CSV, NDJSON or a JSON array.",
        parameters=(
            Parameter(
                "format",
                "csv, ndjson, json or vcard; without it, Accept decides.",
                {"type": "string", "enum": ["csv", "ndjson", "json", "vcard"]},
            ),
            yes_or_no("bom", "CSV with a byte order mark, by which Excel knows that it is UTF-8."),
            text("delimiter", "The sign between the cells of CSV, or tab.", 9, default=","),
            *FILTERS,
            SORT,
            SHOWN,
        ),
        answers={
            200: Answer(
                "The file.",
                {
                    JSON: {"type": "array", "items": {"type": "object"}},
                    _NDJSON: _LINES,
                    _CSV: _SHEET,
                    VCARD: _ANY,
                },
            )
        },
    ),
    ("/api/customers/import", "post"): Operation(
        id="importCustomers",
        tag="customers",
        summary="Create and change many customers from a file",
        description="The whole file is planned first; if any row is wrong, nothing is done (unless "
        "`skip_errors`). Then that plan is applied: a row whose customer was changed meanwhile, or is at "
        "another `version` than the row names, is reported as a conflict and skipped. A field that a row "
        "does not have stays as it is. An error of the file itself (an unclosed quote, an end in the "
        "middle of a line) is refused even with `skip_errors`. With an Idempotency-Key, a request that "
        "was cut off can be sent again and goes on where it stopped.",
        parameters=(
            Parameter(
                "on",
                "The field by which a row finds its customer; a row without it is a new customer.",
                {"type": "string", "enum": ["id", "email"], "default": "id"},
            ),
            yes_or_no("dry_run", "Only show the plan."),
            yes_or_no("restore", "Restore deleted customers that are in the file."),
            yes_or_no("skip_errors", "Import the valid rows, skip the others."),
            Parameter(
                "mails",
                "Whether rules see the changes, and so send mails for them. Without it the events are marked "
                "`bulk`, and only rules with `bulk = true` see them.",
                {"type": "string", "enum": ["yes", "no", "true", "false"], "default": "no"},
            ),
            Parameter(
                "empty",
                "What an empty cell does, or null or an empty text in NDJSON: clear the field, or keep it.",
                {"type": "string", "enum": ["clear", "keep"], "default": "clear"},
            ),
            Parameter(
                "metadata",
                "What a row's `metadata` object does: replace that of the customer, or merge into it as "
                "PATCH does. A column `metadata.KEY` sets that key alone either way.",
                {"type": "string", "enum": ["replace", "merge"], "default": "replace"},
            ),
            Parameter(
                "format",
                "The format of the file. Default: by the Content-Type, or for application/octet-stream by "
                "the content.",
                {"type": "string", "enum": list(FORMATS)},
            ),
            text(
                "encoding",
                "The encoding of the file, such as windows-1252. Default: the charset of the Content-Type, "
                "or by the content.",
                40,
            ),
            text("delimiter", "The sign between the cells of CSV, or tab. Default: by the content.", 9),
            text("sheet", "The sheet of a workbook. Default: the first that is not empty.", 100),
            Parameter(
                "map",
                "The field of a column, by its heading or place: `Phone Number=phone`, `#3=metadata.city`; "
                "`#4=` skips it. Headings of many programs are known without it.",
                {"type": "array", "items": {"type": "string"}},
            ),
            Parameter(
                "others",
                "What to do with unknown columns: refuse the file, put them into the metadata under their "
                "heading, or skip them.",
                {"type": "string", "enum": list(OTHERS), "default": "refuse"},
            ),
            text("plan", "The name of a plan that was shown: another plan is not applied (409).", 64),
            KEY,
        ),
        body={
            _NDJSON: _LINES,
            _CSV: _SHEET,
            JSON: _ARRAY,
            XLSX: _ANY,
            VCARD: _ANY,
            "application/octet-stream": _ANY,
        },
        answers={200: Answer("What was done, or would be.", {JSON: models.ImportReport})},
        problems=(409, 413, 415, 422),
        role="write",
    ),
    ("/api/customers/imports", "get"): Operation(
        id="listImports",
        tag="customers",
        summary="The imports of the last week",
        description="Each of them can be undone.",
        answers={200: Answer("The imports.", {JSON: models.PastImports})},
    ),
    ("/api/customers/imports/{import_id}/undo", "post"): Operation(
        id="undoImport",
        tag="customers",
        summary="Undo an import",
        description="Deletes the customers that the import created, gives those that it changed their fields "
        "back, and deletes again those that it restored; each by a change with its own event. Customers that "
        "were changed since are left alone and listed.",
        parameters=(yes_or_no("dry_run", "Only report what would be done."),),
        answers={200: Answer("What was done, or would be.", {JSON: models.UndoReport})},
        problems=(404, 409),
        role="write",
    ),
}
