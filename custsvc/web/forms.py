"""The form of a customer: from a customer to what is shown, and from what was sent to a customer's body."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from werkzeug.datastructures import MultiDict

from ..customer import Fields, Scalar
from ..errors import FieldError

KINDS: Final = {"text": "Text", "number": "Number", "bool": "Yes or no", "null": "Empty"}
_YES: Final = frozenset(("yes", "true", "1", "on"))
_NO: Final = frozenset(("no", "false", "0", "off"))


@dataclass(slots=True)
class Pair:
    """One metadata entry as it stands in the form."""

    key: str = ""
    value: str = ""
    kind: str = "text"
    wrong: str = ""


@dataclass(slots=True)
class CustomerForm:
    """What the form shows: the values as typed, and by field what is wrong with them."""

    name: str = ""
    email: str = ""
    phone: str = ""
    pairs: list[Pair] = field(default_factory=list)
    errors: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of_customer(cls, fields: Fields) -> CustomerForm:
        pairs = [Pair(key, *_as_text(value)) for key, value in fields.metadata.items()]
        return cls(fields.name, fields.email or "", fields.phone or "", pairs)

    @classmethod
    def of_request(cls, form: MultiDict[str, str]) -> CustomerForm:
        columns = (form.getlist("meta_key"), form.getlist("meta_value"), form.getlist("meta_kind"))
        pairs = [Pair(*row) for row in zip(*columns, strict=False)]
        used = [pair for pair in pairs if pair.key.strip() or pair.value.strip()]
        return cls(form.get("name", ""), form.get("email", ""), form.get("phone", ""), used)

    def body(self) -> dict[str, Any] | None:
        """The body to check and store; None where an entry is not of its own kind, which `errors` tells."""
        metadata: dict[str, Scalar] = {}
        for pair in self.pairs:
            key = pair.key.strip()
            try:
                if key in metadata:
                    raise ValueError("is there twice")
                metadata[key] = _scalar(pair)
            except ValueError as exc:
                pair.wrong = str(exc)
        if any(pair.wrong for pair in self.pairs):
            self.errors["metadata"] = ["Correct the entries that are marked."]
            return None
        return {"name": self.name, "email": self.email, "phone": self.phone, "metadata": metadata}

    def refuse(self, errors: Sequence[FieldError]) -> None:
        """Take up what a check found."""
        by_key = {pair.key.strip(): pair for pair in self.pairs}
        for error in errors:
            name, _, key = error.field.partition(".")
            if name == "metadata" and key in by_key:
                by_key[key].wrong = error.message
                self.errors.setdefault("metadata", ["Correct the entries that are marked."])
            else:
                self.errors.setdefault(name or "form", []).append(error.message)

    @property
    def count(self) -> int:
        """How many things are wrong."""
        other = sum(len(found) for name, found in self.errors.items() if name != "metadata")
        marked = sum(bool(pair.wrong) for pair in self.pairs)
        return other + (marked or len(self.errors.get("metadata", ())))


def _as_text(value: Scalar) -> tuple[str, str]:
    if value is None:
        return "", "null"
    if isinstance(value, bool):
        return ("yes" if value else "no"), "bool"
    if isinstance(value, int | float):
        return json.dumps(value), "number"
    return value, "text"


def _scalar(pair: Pair) -> Scalar:
    """The value that an entry means. Raises ValueError with what would be right."""
    text = pair.value.strip()
    if pair.kind == "null":
        return None
    if pair.kind == "bool":
        if text.lower() not in _YES | _NO:
            raise ValueError("must be yes or no")
        return text.lower() in _YES
    if pair.kind == "number":
        try:
            value = json.loads(text.replace(",", ".") if text.count(",") == 1 else text)
        except ValueError:
            value = None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("must be a number, as 12 or 3.5")
        return value
    return pair.value.replace("\r\n", "\n")
