"""Operations on files of customers: export, import and undoing it; and what they answer."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from ...http.messages import JSON
from ...transfer.headings import OTHERS
from ...transfer.likely import LOOKED_AT
from ...transfer.shape import FORMATS
from .operation import Answer, Operation, Parameter
from .parameters import FILTERS, KEY, SHOWN, SORT, text, yes_or_no
from .values import Closed, Id

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
_ANY: Final = {
    "type": "string",
    "format": "binary",
    "description": "A file whose format is recognised by its content.",
}


class ImportRowError(Closed):
    """What is wrong with a row of a file."""

    field: Annotated[str, Field(description="Empty where the whole row is meant.")]
    code: str
    message: str
    value: str | None


class ImportRow(Closed):
    """What a row of a file does."""

    row: Annotated[int, Field(ge=1, description="The line at which it begins.")]
    action: Literal["create", "update", "same", "restore", "trashed", "error", "conflict"]
    id: Id | None
    name: str | None
    changed: list[str]
    errors: list[ImportRowError]
    warnings: Annotated[
        list[ImportRowError], Field(description="Cells that a spreadsheet has spoilt: skipped, or doubtful.")
    ] = []  # noqa: RUF012 - pydantic copies it
    duplicates: Annotated[
        list[Id],
        Field(description="In a dry run: the customers, at most five, that a new one likely is already."),
    ] = []  # noqa: RUF012 - pydantic copies it


class ImportCounts(Closed):
    """The number of rows by action. `trashed`: rows of deleted customers, skipped without `restore`.

    `delete`: customers that a bulk change of the pages deleted; a file deletes none.
    """

    create: int
    update: int
    same: int
    restore: int
    trashed: int
    error: int
    conflict: int
    delete: int = 0


class ImportLines(Closed):
    """The lines of the file by kind: `all` is the sum of the others."""

    all: int
    heading: int
    empty: int
    rows: Annotated[int, Field(description="More than there are rows where cells hold line breaks.")]


class ImportColumn(Closed):
    """A column of the file and its field, null if it was skipped."""

    column: str
    field: str | None


class ImportFile(Closed):
    """How the file was read."""

    format: Literal["csv", "ndjson", "json", "xlsx", "vcard"]
    encoding: str
    delimiter: str | None
    columns: list[ImportColumn]
    unwrapped: Annotated[int, Field(description='Cells like ="0044", which were read as the text within.')]


class ImportDuplicates(Closed):
    """How many of the rows that would add a customer are likely stored customers."""

    rows: int
    looked_at: Annotated[
        int,
        Field(description=f"How many rows were compared: the first {LOOKED_AT:,} that would add somebody."),
    ]


class PastImport(Closed):
    """An import of the last week."""

    id: str
    by: str
    at: Annotated[str, Field(description="When it began.")]
    counts: ImportCounts
    undone: bool
    what: Annotated[
        Literal["import", "edit", "delete", "restore"],
        Field(description="A file, or a bulk change of the pages: of one field, or of which are deleted."),
    ] = "import"


class PastImports(Closed):
    """The imports of the last week, the newest first."""

    results: list[PastImport]


class UndoCounts(Closed):
    """How many customers were deleted, got their fields back, went back to the trash, or were left alone.

    `restore`: they had been deleted, and are back.
    """

    delete: int
    revert: int
    trash: int
    restore: int = 0
    left: int


class LeftAlone(Closed):
    """A customer that was changed after the import."""

    id: Id
    version: int


class UndoReport(Closed):
    """What undoing an import did, or would do."""

    import_: Annotated[str, Field(alias="import")]
    dry_run: bool
    counts: UndoCounts
    left: Annotated[list[LeftAlone], Field(description="At most a thousand of those that were left alone.")]


class ImportReport(Closed):
    """The plan of an import, or its result."""

    dry_run: bool
    import_: Annotated[
        str | None, Field(alias="import", description="The id by which the import can be undone for a week.")
    ] = None
    plan: Annotated[str, Field(description="The plan's name: sent back, it is this plan or none.")]
    counts: ImportCounts
    lines: ImportLines
    file: ImportFile
    warnings: Annotated[int, Field(description="How many cells were skipped, or may be wrong.")]
    mails: Annotated[bool, Field(description="Whether rules see the changes, and so send mails.")]
    mails_by_rules: Annotated[
        int | None,
        Field(
            description="How many mails and other notifications the rules send for them, if they see them."
        ),
    ]
    duplicates: Annotated[ImportDuplicates | None, Field(description="Null of an import that was done.")] = (
        None
    )
    resumed: Annotated[int, Field(description="Rows that an earlier try of the same request had done.")]
    rows: Annotated[list[ImportRow], Field(description="The first thousand that do something; errors first.")]
    rows_left_out: int


FILES: Final[dict[tuple[str, str], Operation]] = {
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
        answers={200: Answer("What was done, or would be.", {JSON: ImportReport})},
        problems=(409, 413, 415, 422),
        role="write",
    ),
    ("/api/customers/imports", "get"): Operation(
        id="listImports",
        tag="customers",
        summary="The imports of the last week",
        description="Each of them can be undone.",
        answers={200: Answer("The imports.", {JSON: PastImports})},
    ),
    ("/api/customers/imports/{import_id}/undo", "post"): Operation(
        id="undoImport",
        tag="customers",
        summary="Undo an import",
        description="Deletes the customers that the import created, gives those that it changed their fields "
        "back, and deletes again those that it restored; each by a change with its own event. Customers that "
        "were changed since are left alone and listed.",
        parameters=(yes_or_no("dry_run", "Only report what would be done."),),
        answers={200: Answer("What was done, or would be.", {JSON: UndoReport})},
        problems=(404, 409),
        role="write",
    ),
}
