"""Export: all customers of a filter, page after page, in constant memory.

Each page is a separate read: a slow reader holds no cursor open, and a broken connection costs one page, not
the export. If the database stays away or hangs, the export raises; the caller must mark the file as
incomplete. Documents are written as their stored bytes; only CSV parses them. Each customer appears once, as
it is when its page is read; sorted by anything but `id`, a customer that changes meanwhile may move and
appear twice or not at all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, get_args

import orjson

from ..errors import TemporaryError
from ..ports.customers import LIVE, CustomerFilter, CustomerQuery, CustomerStore, Page, SortField
from . import cards, sheet

logger = logging.getLogger(__name__)

Format = Literal["csv", "ndjson", "json", "vcard"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
_PAGE: Final = 200
# A short outage of the database does not end an export of an hour.
_TRIES: Final = 5
_PATIENCE: Final = 60.0

# Commas join the documents of a page. Quotes within texts are always escaped, and documents hold no array, so
# these bytes occur only between two documents.
_SEAM: Final = b'},{"id":'
_LINE: Final = b'}\n{"id":'


def export(
    store: CustomerStore,
    fmt: Format,
    where: CustomerFilter = LIVE,
    *,
    sort: SortField = "id",
    descending: bool = False,
    fields: Sequence[str] | None = None,
    dialect: sheet.Dialect = sheet.PLAIN,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[bytes]:
    """The parts of a file with these customers: CSV, NDJSON, a JSON array, or vCards.

    `fields` of CSV may name entries of the metadata, as `metadata.KEY`; `dialect` is for CSV.

    Raises TemporaryError if the database does not answer; the file is then incomplete.
    """
    query = CustomerQuery(_PAGE, where, sort, descending)
    if fmt == "csv":
        yield sheet.heading(fields or sheet.COLUMNS, dialect)
    elif fmt == "json":
        yield b"["
    first = True
    while True:
        page = _page(store, query)
        if page.count:
            if fmt == "json":
                yield (b"" if first else b",") + _only(page.docs, fields)
            elif fmt == "ndjson":
                yield _lines(page.docs, fields)
            elif fmt == "vcard":
                yield b"".join(map(cards.card, orjson.loads(b"[" + page.docs + b"]")))
            else:
                yield sheet.lines(orjson.loads(b"[" + page.docs + b"]"), fields or sheet.COLUMNS, dialect)
            first = False
            progress(page.count)
        if not page.has_more:
            break
        query = CustomerQuery(_PAGE, where, sort, descending, page.last)
    if fmt == "json":
        yield b"]\n"


def _page(store: CustomerStore, query: CustomerQuery) -> Page:
    deadline = time.monotonic() + _PATIENCE
    for attempt in range(1, _TRIES):
        try:
            return store.find(query)
        except TemporaryError as exc:
            if time.monotonic() > deadline:
                raise
            logger.warning("An export waits: %s", exc, extra={"action": "wait", "attempt": attempt})
            time.sleep(attempt)
    return store.find(query)


def _lines(docs: bytes, fields: Sequence[str] | None) -> bytes:
    if fields is None:
        return docs.replace(_SEAM, _LINE) + b"\n"
    return b"".join(
        orjson.dumps({name: each[name] for name in fields}, option=orjson.OPT_APPEND_NEWLINE)
        for each in orjson.loads(b"[" + docs + b"]")
    )


def _only(docs: bytes, fields: Sequence[str] | None) -> bytes:
    if fields is None:
        return docs
    return orjson.dumps([{n: each[n] for n in fields} for each in orjson.loads(b"[" + docs + b"]")])[1:-1]
