"""Import: plan the whole file, check the plan, then apply exactly that plan.

The file is read twice, so memory stays flat. If a customer changed between the two reads so that the plan of
its row differs, the row is reported as a conflict and not applied; every write names the version it was
planned for. Rows are applied in chunks, each in one transaction with its events.

With an idempotency key, each chunk stores its answer in the same transaction. The same request sent again,
after a crash or a lost connection, skips the chunks that are done and applies the rest.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import orjson

from ..domain.customers import Customer, Fields, Stored, utc_now
from ..domain.events import Change, new_change
from ..errors import Conflict, CustsvcError, ExitCode, KeyMismatch, KeyTaken, VersionConflict
from ..ports.answers import Answer, Answers
from ..ports.customers import ANALYZE_FROM, CustomerStore
from ..service.customers import Caller
from ..service.idempotency import Keyed
from .imported import Imports, Recorder, What
from .likely import Likely
from .meaning import Meaning
from .plan import ACTIONS, Key, Planned, Planner
from .row import Row, RowError, Tally
from .rows import Reading

# The most rows in a report; rows with errors take precedence.
SHOWN: Final = 1000
_ROUNDS: Final = 20
_WRONG: Final = ("error", "conflict")
# The event of each action that makes one.
_OP: Final = {"create": "created", "update": "updated", "restore": "restored", "delete": "deleted"}
_CHANGED_MEANWHILE: Final = RowError(
    "", "changed_meanwhile", "the customer was changed after the plan was made; the row was not applied"
)

Source = Callable[[], Reading]


@dataclass(frozen=True, slots=True)
class Options:
    """How to import a file. `plan`: import only if the plan has this name, reported by a dry run.

    `mails`: the rules see the changes; else their events are marked as made in bulk. `remove`: each row
    deletes its customer. `what` goes into the import's record.
    """

    on: Key = "id"
    restore: bool = False
    skip_errors: bool = False
    dry_run: bool = False
    plan: str | None = None
    meaning: Meaning = Meaning()
    mails: bool = False
    remove: bool = False
    what: What = "import"


@dataclass(slots=True)
class Report:
    """What an import does or did: the number of rows of each action, the plan's name, and some rows.

    Each row is in one of the counts, each line of the file in one of `lines`. `file` says how it was read,
    `warnings` is the number of cells that were skipped or may be wrong. `resumed` is the number of rows that
    an earlier try of the same request applied. `mails_by_rules` is what a `Forecast` said of the planned
    changes, None without one; `duplicates` is what `Likely` said of a dry run, None of an import.
    """

    dry_run: bool
    import_id: str | None = None
    counts: Counter[str] = field(default_factory=Counter)
    plan: str = ""
    resumed: int = 0
    lines: Tally = field(default_factory=Tally)
    file: dict[str, Any] = field(default_factory=dict)
    warnings: int = 0
    mails: bool = False
    mails_by_rules: int | None = None
    duplicates: dict[str, Any] | None = None
    _shown: int = 0
    _wrong: list[dict[str, Any]] = field(default_factory=list)
    _right: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: Planned) -> None:
        self.counts[row.action] += 1
        self.warnings += len(row.warnings)
        if row.action == "same" and not row.warnings:
            return
        self._shown += 1
        comes_first = row.action in _WRONG or row.warnings or row.duplicates
        shown = self._wrong if comes_first else self._right
        if len(shown) < SHOWN:
            shown.append(row.as_dict())

    def rows(self) -> list[dict[str, Any]]:
        shown = self._wrong + self._right[: max(0, SHOWN - len(self._wrong))]
        return sorted(shown, key=lambda row: row["row"])

    @property
    def wrong(self) -> int:
        return sum(self.counts[action] for action in _WRONG)

    def as_dict(self) -> dict[str, Any]:
        rows = self.rows()
        return {
            "dry_run": self.dry_run,
            "import": self.import_id,
            "plan": self.plan,
            "counts": {action: self.counts[action] for action in ACTIONS},
            "lines": self.lines.as_dict(),
            "file": self.file,
            "warnings": self.warnings,
            "resumed": self.resumed,
            "mails": self.mails,
            "mails_by_rules": self.mails_by_rules,
            "duplicates": self.duplicates,
            "rows": rows,
            "rows_left_out": max(0, self._shown - len(rows)),
        }


class Forecast(Protocol):
    """Counts the notifications that the rules would send for changes."""

    def add(self, op: str, before: Stored | None, fields: Fields) -> None:
        """Count those of one change, which was not made yet."""

    @property
    def total(self) -> int: ...


class ImportRefused(CustsvcError):
    """Some rows are wrong, so nothing was imported."""

    exit_code = ExitCode.CHECK_FAILED

    def __init__(self, report: Report) -> None:
        super().__init__(
            f"{report.counts['error']:,} rows are wrong, so nothing was imported",
            fix="correct them, or import the others with skip_errors (--skip-errors)",
        )
        self.report = report


class PlanChanged(Conflict):
    """The plan differs from the one that was shown; nothing was imported."""


def load(
    store: CustomerStore,
    source: Source,
    options: Options,
    caller: Caller,
    answers: Answers | None = None,
    *,
    imports: Imports | None = None,
    clock: Callable[[], dt.datetime] = utc_now,
    seen: Callable[[Planned], None] = lambda _: None,
    forecast: Forecast | None = None,
    likely: Likely | None = None,
    decide: Callable[[Report], bool] | None = None,
) -> Report:
    """Import the rows of `source`, which is called twice. `seen` gets each row once, with its result.

    `decide` gets the plan before anything is imported, and says whether the rules see the changes, instead of
    the options.
    `imports` records what the import does, so that it can be undone. In a dry run `likely` marks the rows
    that would add somebody who is likely there already.

    Raises ImportRefused, PlanChanged, KeyMismatch, and ValidationError for a file that cannot be read; in all
    these cases nothing was imported.
    """
    work = _Load(store, options, caller, answers, clock, forecast, likely if options.dry_run else None)
    report = work.plan(source, seen if options.dry_run else lambda _: None)
    if options.dry_run:
        return report
    if report.counts["error"] and not options.skip_errors:
        raise ImportRefused(report)
    if options.plan and options.plan != report.plan:
        raise PlanChanged("customers or the file changed since the plan was shown; nothing was imported")
    if decide is not None:
        work.mails = decide(report)
    if imports is not None:
        work.record(imports.begin(caller.actor, caller.keyed, options.what))
    return work.apply(source, seen)


class _Load:
    def __init__(
        self,
        store: CustomerStore,
        options: Options,
        caller: Caller,
        answers: Answers | None,
        clock: Callable[[], dt.datetime],
        forecast: Forecast | None,
        likely: Likely | None,
    ) -> None:
        self._store = store
        self._options = options
        self._caller = caller
        self._answers = answers
        self._clock = clock
        self._keyed: Keyed | None = caller.keyed if answers is not None and not options.dry_run else None
        # The rows' signatures by chunk; None for a chunk that an earlier try applied.
        self._signatures: list[bytes | None] = []
        self._plan = ""
        self._forecast = forecast
        self._likely = likely
        self.mails = options.mails
        self._recorder: Recorder | None = None

    def record(self, recorder: Recorder) -> None:
        """Record what `apply` will do. The events name the import if there is no request to name."""
        self._recorder = recorder
        if self._caller.request_id is None:
            self._caller = replace(self._caller, request_id=f"import-{recorder.id}")

    def plan(self, source: Source, seen: Callable[[Planned], None]) -> Report:
        report = Report(self._options.dry_run)
        name = hashlib.sha256()
        for number, (_, chunk) in enumerate(self._chunks(source)):
            if (done := self._done(number)) is not None:
                self._signatures.append(None)
                name.update(bytes.fromhex(done["plan"]))
                self._add_done(report, done)
                continue
            signatures = b"".join(row.signature() for row in chunk)
            self._signatures.append(signatures)
            name.update(_name(signatures))
            for row in self._likely.marked(chunk) if self._likely else chunk:
                report.add(row)
                self._foresee(row)
                seen(row)
        self._plan = report.plan = name.hexdigest()[:32]
        self._conclude(report)
        return report

    def apply(self, source: Source, seen: Callable[[Planned], None]) -> Report:
        report = Report(dry_run=False, plan=self._plan)
        report.import_id = self._recorder.id if self._recorder else None
        for number, (rows, chunk) in enumerate(self._chunks(source)):
            signatures = self._signatures[number]
            done = self._done(number)
            if done is None and signatures is not None:
                ended, done = self._apply(number, rows, chunk, signatures)
                for row in ended:
                    report.add(row)
                    seen(row)
            if done is not None:
                self._add_done(report, done)
        self._conclude(report)
        if self._recorder is not None:
            self._recorder.end(dict(report.counts))
        if report.counts["create"] >= ANALYZE_FROM:
            self._store.analyze()
        return report

    def _foresee(self, row: Planned) -> None:
        if self._forecast is not None and row.fields is not None and row.action in _OP:
            self._forecast.add(_OP[row.action], row.before, row.fields)

    def _conclude(self, report: Report) -> None:
        """What is known at the end of the file."""
        report.lines, report.file = self._look.tally, self._look.as_dict()
        report.mails = self.mails
        report.mails_by_rules = None if self._forecast is None else self._forecast.total
        report.duplicates = None if self._likely is None else self._likely.as_dict()

    def _chunks(self, source: Source) -> Iterator[tuple[Sequence[Row], list[Planned]]]:
        options, rows = self._options, source()
        self._look = rows.look
        self._planner = Planner(
            self._store,
            options.on,
            restore=options.restore,
            remove=options.remove,
            meaning=options.meaning,
        )
        return self._planner.chunks(rows)

    def _apply(
        self, number: int, rows: Sequence[Row], chunk: list[Planned], signatures: bytes
    ) -> tuple[list[Planned], dict[str, Any] | None]:
        """The rows with their results; or no rows, and the answer of another process that applied them."""
        for _ in range(_ROUNDS):
            ended = [_as_planned(row, signatures, at) for at, row in enumerate(chunk)]
            ended, changes = self._changes(ended)
            counts = Counter(row.action for row in ended)
            answer = self._answer(number, {"counts": counts, "plan": _name(signatures).hex()})
            try:
                if changes:
                    self._note(number, changes)
                    self._store.save_many(changes, answer)
                elif answer is not None and self._answers is not None:
                    self._answers.add(answer)
                return ended, None
            except KeyTaken:
                return [], self._done(number)
            except VersionConflict:
                chunk = self._planner.again(rows)
        raise Conflict("others keep changing the same customers; the rows before are imported, try again")

    def _note(self, number: int, changes: Sequence[Change]) -> None:
        """Record the changes before they are stored, so that no stored one can be missing."""
        if self._recorder is not None and self._caller.request_id is not None:
            rows = [(change.after.id, change.after.version) for change in changes]
            self._recorder.add(number, self._caller.request_id, rows)

    def _changes(self, rows: list[Planned]) -> tuple[list[Planned], list[Change]]:
        new = sum(row.action == "create" for row in rows)
        ids = iter(self._store.new_ids(new) if new else ())
        ended, changes = [], []
        for row in rows:
            if row.fields is not None and row.action in _OP:
                change = self._change(row, row.fields, ids)
                changes.append(change)
                row = replace(row, id=change.after.id)
            ended.append(row)
        return ended, changes

    def _change(self, row: Planned, fields: Fields, ids: Iterator[int]) -> Change:
        now, who = self._clock(), self._caller
        about: dict[str, Any] = {
            "actor": who.actor,
            "request_id": who.request_id,
            "traceparent": who.traceparent,
            "bulk": not self.mails,
        }
        if row.before is None:
            after = Customer(next(ids), fields, False, 1, now, who.actor, now, who.actor)
            return new_change(_OP["create"], None, after, **about)
        after = row.before.customer().changed_to(
            fields=fields, deleted=row.action == "delete", now=now, by=who.actor
        )
        return new_change(_OP[row.action], row.before, after, **about)

    # -- chunks that are done ------------------------------------------------------------------------------

    def _answer(self, number: int, body: dict[str, Any]) -> Answer | None:
        if self._keyed is None:
            return None
        key = _chunk_key(self._keyed, number)
        return Answer(self._keyed.principal, key, self._keyed.request, orjson.dumps(body), self._clock())

    def _done(self, number: int) -> dict[str, Any] | None:
        if self._keyed is None or self._answers is None:
            return None
        kept = self._answers.find(self._keyed.principal, _chunk_key(self._keyed, number), self._clock())
        if kept is None:
            return None
        if kept.request != self._keyed.request:
            raise KeyMismatch
        body: dict[str, Any] = orjson.loads(kept.body)
        return body

    def _add_done(self, report: Report, done: dict[str, Any]) -> None:
        report.counts.update(done["counts"])
        report.resumed += sum(done["counts"].values()) - done["counts"].get("same", 0)


def _chunk_key(keyed: Keyed, number: int) -> str:
    # A client's key has no spaces, so no other request can have this key.
    return f"{keyed.key} import {number}"


def _name(signatures: bytes) -> bytes:
    return hashlib.sha256(signatures).digest()


def _as_planned(row: Planned, signatures: bytes, at: int) -> Planned:
    """The row if its plan is unchanged, else a conflict."""
    size = len(signatures) and len(row.signature())
    if signatures[at * size : (at + 1) * size] == row.signature():
        return row
    return Planned(row.number, "conflict", row.before, errors=(_CHANGED_MEANWHILE,))
