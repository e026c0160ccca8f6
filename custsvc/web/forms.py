"""The form of a customer: shows a customer's fields, and reads a sent form as a customer's body."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Final, TypeVar

from flask import request
from werkzeug.datastructures import MultiDict

from ..domain.customers import Fields, Scalar
from ..domain.strict_json import is_kept
from ..errors import FieldError
from ..http.problems import bad_parameter

KINDS: Final = {"text": "Text", "number": "Number", "bool": "Yes or no", "null": "Empty"}
_YES: Final = frozenset(("yes", "true", "1", "on"))
_NO: Final = frozenset(("no", "false", "0", "off"))
# Numbers as JSON writes them, since a comma may mean thousands or decimals.
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,400})(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,4})?")

Word = TypeVar("Word", bound=str)


@dataclass(slots=True)
class Pair:
    """One metadata entry of the form. `was` is the key of the stored entry, "" for a new one."""

    key: str = ""
    value: str = ""
    kind: str = "text"
    wrong: str = ""
    was: str = ""

    @property
    def name(self) -> str:
        """The key without spaces around it, unless the stored key has them."""
        return self.key if self.key == self.was else self.key.strip()

    @property
    def lines(self) -> int:
        """The number of lines of the value."""
        return len(one_line_end(self.value).split("\n"))

    def is_blank(self) -> bool:
        return not self.name and not self.value.strip()

    def meant(self, stored: Mapping[str, Scalar]) -> Scalar:
        """The value that the entry means. A stored value that the user did not touch keeps its bytes.

        Raises ValueError, which says what is allowed.
        """
        if self.was not in stored:
            return _scalar(self)
        before = stored[self.was]
        text, kind = _as_text(before)
        if kind == self.kind and one_line_end(text) == one_line_end(self.value):
            return before
        value = _scalar(self)
        # Browsers send one kind of line end; keep the kind of the stored text.
        return value.replace("\n", "\r\n") if isinstance(value, str) and _is_crlf(text) else value


@dataclass(slots=True)
class CustomerForm:
    """The values as typed, and the errors by field."""

    name: str = ""
    email: str = ""
    phone: str = ""
    pairs: list[Pair] = field(default_factory=list)
    errors: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of_customer(cls, fields: Fields) -> CustomerForm:
        pairs = [Pair(key, *_as_text(value), was=key) for key, value in fields.metadata.items()]
        return cls(fields.name, fields.email or "", fields.phone or "", pairs)

    @classmethod
    def of_request(cls, form: MultiDict[str, str], before: Fields | None = None) -> CustomerForm:
        stored = before.metadata if before else {}
        columns = [form.getlist(f"meta_{name}") for name in ("key", "value", "kind", "was")]
        rows = zip_longest(*columns, fillvalue="")
        pairs = [
            Pair(key, value, kind or "text", was=next((each for each in (was, key) if each in stored), ""))
            for key, value, kind, was in rows
        ]
        used = [pair for pair in pairs if not pair.is_blank()]
        return cls(form.get("name", ""), form.get("email", ""), form.get("phone", ""), used)

    def body(self, before: Fields | None = None) -> dict[str, Any] | None:
        """The fields that the form changes in `before`, or all fields of a new customer, not yet checked.

        None if the value of an entry is not of its kind; `errors` then has the reason.
        """
        stored = before.metadata if before else {}
        metadata: dict[str, Scalar] = {}
        for pair in self.pairs:
            try:
                if pair.name in metadata:
                    raise ValueError("is there twice")
                metadata[pair.name] = pair.meant(stored)
            except ValueError as exc:
                pair.wrong = str(exc)
        if any(pair.wrong for pair in self.pairs):
            self.errors["metadata"] = ["Correct the entries that are marked."]
            return None
        body: dict[str, Any] = {"name": self.name, "email": self.email, "phone": self.phone}
        if before is not None:
            body = {name: text for name, text in body.items() if text != (getattr(before, name) or "")}
        return {**body, "metadata": metadata}

    def refuse(self, errors: Sequence[FieldError]) -> None:
        """Show the errors of a check at their fields."""
        by_key = {pair.name: pair for pair in self.pairs}
        for error in errors:
            name, _, key = error.field.partition(".")
            if name == "metadata" and key in by_key:
                by_key[key].wrong = error.message
                self.errors.setdefault("metadata", ["Correct the entries that are marked."])
            else:
                self.errors.setdefault(name or "form", []).append(error.message)

    @property
    def count(self) -> int:
        """The number of errors."""
        other = sum(len(found) for name, found in self.errors.items() if name != "metadata")
        marked = sum(bool(pair.wrong) for pair in self.pairs)
        return other + (marked or len(self.errors.get("metadata", ())))


def action_of(known: Sequence[Word]) -> Word:
    """The action of the button that sent the form. Raises Problem for another: none is done on a guess."""
    asked = request.form.get("action")
    for word in known:
        if word == asked:
            return word
    raise bad_parameter("action", f"must be {', '.join(known[:-1])} or {known[-1]}")


def kind_of(value: Scalar) -> str:
    """The label of a metadata value's kind."""
    return KINDS[_as_text(value)[1]]


def one_line_end(text: str) -> str:
    """The text with all line ends as LF, as browsers do in forms."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_crlf(text: str) -> bool:
    """Whether all lines of a text end in CR LF."""
    return "\r\n" in text and text.count("\r\n") == text.count("\n") == text.count("\r")


def _as_text(value: Scalar) -> tuple[str, str]:
    if value is None:
        return "", "null"
    if isinstance(value, bool):
        return ("yes" if value else "no"), "bool"
    if isinstance(value, int | float):
        return json.dumps(value), "number"
    return value, "text"


def _scalar(pair: Pair) -> Scalar:
    """The value that an entry means. Raises ValueError, which says what is allowed."""
    text = pair.value.strip()
    if pair.kind == "null":
        if text:
            raise ValueError("has a value: choose Text, or clear it")
        return None
    if pair.kind == "bool":
        if text.lower() not in _YES | _NO:
            raise ValueError("must be yes or no")
        return text.lower() in _YES
    return _number(text) if pair.kind == "number" else one_line_end(pair.value)


def _number(text: str) -> int | float:
    if not _NUMBER.fullmatch(text):
        raise ValueError("must be a number, as 12 or 3.5, with a point and without separators")
    value: int | float = json.loads(text)
    if isinstance(value, float) and not is_kept(text, value):
        raise ValueError("must be a number of up to 15 digits; to keep more of them choose Text")
    return value
