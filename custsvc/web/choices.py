"""The choices of the second step of an import: the field of each column, and how rows are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, get_args

from werkzeug.datastructures import MultiDict

from ..transfer.headings import NAME_PARTS, TARGETS, guessed, is_remark, key_of
from ..transfer.meaning import EMPTY, METADATA_RULES, Empty, Meaning, Metadata
from ..transfer.plan import Key
from ..transfer.row import METADATA

# A column that becomes an entry of the metadata, under its heading.
ENTRY: Final = "metadata.*"
# The fields that a column may be, besides an entry of the metadata.
COLUMNS: Final = TARGETS

Word = TypeVar("Word", bound=str)


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices of the form. `columns` names the field of each column in order, "" for a skipped one."""

    columns: list[str]
    on: Key = "email"
    restore: bool = False
    empty: Empty = "clear"
    metadata: Metadata = "replace"

    @classmethod
    def guessed(cls, heading: Sequence[str], sample: Sequence[Sequence[str]] = ()) -> Choices:
        """The choices that the heading of a table and its first rows suggest."""
        return cls(_guesses(heading, sample))

    @classmethod
    def of_form(cls, form: MultiDict[str, str], heading: Sequence[str]) -> Choices:
        """The choices of a sent form; for columns missing in it, those that the heading suggests."""
        guesses = _guesses(heading, ())
        return cls(
            [form.get(f"column-{place}", guess) for place, guess in enumerate(guesses)],
            _word(form, "on", get_args(Key), "id"),
            "restore" in form,
            _word(form, "empty", EMPTY, "clear"),
            _word(form, "metadata", METADATA_RULES, "replace"),
        )

    def fields(self, heading: Sequence[str]) -> list[str]:
        """The field of each column of the file, in order."""
        return [
            METADATA + key_of(column, place) if chosen == ENTRY else chosen
            for place, (column, chosen) in enumerate(zip(heading, self.columns, strict=True))
        ]

    @property
    def makes_names(self) -> bool:
        """Whether some column is the name, or a part of it."""
        return not {"name", *NAME_PARTS}.isdisjoint(self.columns)

    def meaning(self) -> Meaning:
        return Meaning(self.empty, self.metadata)


def _guesses(heading: Sequence[str], sample: Sequence[Sequence[str]]) -> list[str]:
    return [_choice(column, field) for column, field in zip(heading, guessed(heading, sample), strict=True)]


def _choice(column: str, field: str | None) -> str:
    if field is None:
        return ENTRY if column.strip() and not is_remark(column) else ""
    if field.startswith(METADATA):
        return ENTRY
    return field if field in COLUMNS else ""


def _word(form: MultiDict[str, str], name: str, words: Sequence[Word], default: Word) -> Word:
    found = form.get(name)
    return next((word for word in words if word == found), default)
