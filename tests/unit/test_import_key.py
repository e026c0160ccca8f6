"""The hash that `custsvc import --key` compares: of the file, and of all that says what its rows are."""

from __future__ import annotations

from dataclasses import fields
from hashlib import sha256
from io import BytesIO
from typing import Any

from custsvc.cli.importing import _digest
from custsvc.transfer.headings import Columns
from custsvc.transfer.load import Options
from custsvc.transfer.meaning import Meaning
from custsvc.transfer.shape import Asked

FILE = b"name\nAnn\n"
# One other value of each; `remove` and `what` are not for imports, `plan` and `dry_run` make no other rows.
OTHER: dict[type, dict[str, Any]] = {
    Asked: {"fmt": "csv", "encoding": "utf-16", "delimiter": ";", "sheet": "2025"},
    Columns: {"fields": {"Telefon": "phone"}, "others": "metadata"},
    Options: {"on": "email", "restore": True, "skip_errors": True, "mails": True},
    Meaning: {"empty": "keep", "metadata": "merge"},
}
_SAME = {"meaning", "plan", "dry_run", "remove", "what"}


def digest(kind: type | None = None, **values: Any) -> bytes:
    given: dict[type, Any] = {each: each(**(values if each is kind else {})) for each in OTHER}
    options = Options(meaning=given[Meaning]) if kind is Meaning else given[Options]
    return _digest(BytesIO(FILE), given[Asked], given[Columns], options)


def test_each_option_that_changes_what_rows_are_makes_another_import() -> None:
    each = [digest(kind, **{name: value}) for kind, values in OTHER.items() for name, value in values.items()]

    assert len({digest(), *each}) == 1 + len(each)
    for kind, values in OTHER.items():
        assert {field.name for field in fields(kind)} - _SAME == set(values)


def test_a_key_of_an_older_release_goes_on() -> None:
    before = sha256(b"import id False False clear replace\n" + FILE).digest()

    assert digest() == before
