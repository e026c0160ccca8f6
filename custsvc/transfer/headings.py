"""The field of each column of a table: as the user says, or as its heading suggests.

Headings of other programs are known by a table of words: what HubSpot, Salesforce, Mailchimp, Google and
Outlook write, in English, German, French and Spanish. Case, accents and signs do not count. A heading that
is the name of a field is always that field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from ..domain.customers import EDITABLE, METADATA_KEY_MAX, SERVER_OWNED
from ..domain.marks import normalized
from ..errors import ERRORS_MAX, FieldError, ValidationError
from .row import METADATA, BadFile, bad_file

Others = Literal["refuse", "metadata", "skip"]
OTHERS: Final[tuple[Others, ...]] = get_args(Others)
WRONG: Final = "What is wrong (left out by an import)"
"""The heading of the column in which a file of wrong rows says what to correct."""
# The parts of a name, in order: joined they are the name of a row that has no name.
NAME_PARTS: Final = ("first_name", "middle_name", "last_name")
# The fields that a user may choose for a column.
TARGETS: Final = ("id", "version", *EDITABLE, *NAME_PARTS)
_SPELT: Final = ", ".join((*TARGETS, "metadata.KEY"))

# The likeliest first: of two columns that are filled alike it is taken.
_WORDS: Final[dict[str, str]] = {
    "name": "name fullname customername contactname displayname customer client contact kunde kundenname "
    "vollstandigername anzeigename nom nomcomplet nomclient nombre nombrecompleto cliente nombredelcliente",
    "first_name": "firstname givenname forename first vorname prenom nombredepila primernombre",
    "middle_name": "middlename additionalname middle weiterervorname weiterevornamen deuxiemeprenom "
    "segundonombre",
    "last_name": "lastname familyname surname last nachname familienname zuname nomdefamille apellidos "
    "apellido primerapellido",
    "email": "email emailaddress mail mailaddress emailadresse mailadresse adresseemail adressemail "
    "adressedemessagerie courriel correo correoelectronico direcciondecorreo "
    "direcciondecorreoelectronico primaryemail email1value email1address email1 workemail contactemail "
    "emailgeschaftlich emailprivat personalemail",
    "phone": "phone phonenumber telephone telephonenumber tel telnr telefon telefonnummer telefonnr "
    "rufnummer telefono numerodetelefono numerodetelephone primaryphone haupttelefon phone1value phone1 "
    "mobile mobilephone mobilephonenumber mobilenumber cell cellphone handy handynummer mobil mobiltelefon "
    "mobilnummer movil telefonomovil portable telephoneportable telmobile telmovil businessphone "
    "workphone telefongeschaftlich telephonebureau telephoneprofessionnel telefonodeltrabajo homephone "
    "telefonprivat telephonedomicile telephonepersonnel telefonoparticular contactphone",
}
_FIELD_OF: Final = {
    word: (name, rank) for name, words in _WORDS.items() for rank, word in enumerate(words.split())
}
# Headings that mean the whole name, but beside the second heading mean this part of it.
_BESIDE: Final = (
    ("name", "vorname", "last_name"),
    ("nom", "prenom", "last_name"),
    ("nombre", "apellidos", "first_name"),
    ("nombre", "apellido", "first_name"),
    ("nombre", "primerapellido", "first_name"),
)


@dataclass(frozen=True, slots=True)
class Columns:
    """The user's choices: `fields` of some columns, by heading or by place as `#3`; "" skips a column.

    `others` is for unknown columns: refuse the file, put them into the metadata under their heading, or skip
    them.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    others: Others = "refuse"

    @classmethod
    def of(cls, pairs: Sequence[str], others: str = "refuse") -> Columns:
        """Parse pairs like `Phone Number=phone` or `#3=`. Raises ValidationError."""
        found: dict[str, str] = {}
        errors = []
        if others not in OTHERS:
            errors.append(FieldError("others", "bad_value", f"must be one of {', '.join(OTHERS)}"))
        for pair in pairs:
            column, sign, target = (part.strip() for part in pair.rpartition("="))
            if not sign or not column:
                message = f"{pair[:80]!r} is not like 'Phone Number=phone' or '#3=phone'"
                errors.append(FieldError("map", "bad_value", message))
            elif column in found:
                errors.append(FieldError("map", "bad_value", f"{column[:80]!r} is there twice"))
            elif target and not is_target(target):
                message = f"{target[:80]!r} is not a field of a customer ({_SPELT})"
                errors.append(FieldError("map", "bad_value", message))
            found[column] = target
        if errors:
            raise ValidationError(errors[:ERRORS_MAX])
        return cls(found, "refuse" if others == "refuse" else "metadata" if others == "metadata" else "skip")

    def of_keys(self) -> dict[str, str]:
        """The fields by the keys of JSON objects, which have no places: those raise ValidationError."""
        if any(re.fullmatch(r"#[0-9]+", name) for name in self.fields):
            raise bad_file("no_columns", "has no columns whose place counts; map its keys by their names")
        return dict(self.fields)


def field_of(column: str) -> str | None:
    """The field that a column is named after; None if no field matches."""
    name = column.strip()
    if name.startswith(METADATA) and len(name) > len(METADATA):
        return name
    name = name.lower()
    return name if name in EDITABLE or name in SERVER_OWNED or name in NAME_PARTS else None


def is_target(name: str) -> bool:
    """Whether a user may choose this field for a column."""
    return name in TARGETS or (name.startswith(METADATA) and len(name) > len(METADATA))


def is_remark(column: str) -> bool:
    """Whether a column only says what is wrong with its row: the first one of a file of `wrong_rows`."""
    return column.strip() == WRONG


def key_of(column: str, place: int) -> str:
    """The key under which a column's cells go into the metadata."""
    name = column.strip().removeprefix(METADATA) or f"column {place + 1}"
    return name.replace(".", "_").lstrip("$")[:METADATA_KEY_MAX] or f"column {place + 1}"


def fold(heading: str) -> str:
    """A heading as the table of words has it: small letters and digits, without accents."""
    plain = normalized("NFKD", heading.replace("ß", "ss")).casefold()
    return "".join(char for char in plain if char.isalnum())


def guessed(heading: Sequence[str], sample: Sequence[Sequence[str]] = ()) -> list[str | None]:
    """The field that each heading suggests; None for an unknown one.

    Of several columns for one field, the one with the most non-empty cells in `sample` is taken.
    """
    ours = [field_of(column) for column in heading]
    taken = {name for name in ours if name is not None}
    folded = [fold(column) for column in heading]
    found: list[str | None] = list(ours)
    for place, part in _parts(folded):
        found[place] = part
        taken = (taken - {ours[place] or ""}) | {part}
    candidates: dict[str, tuple[int, int, int]] = {}
    for place, word in enumerate(folded):
        name, rank = _FIELD_OF.get(word, ("", 0))
        if not name or found[place] is not None or name in taken:
            continue
        filled = sum(1 for row in sample if place < len(row) and row[place].strip())
        candidates[name] = min(candidates.get(name, (1, 0, 0)), (-filled, rank, place))
    for name, (_, _, place) in candidates.items():
        found[place] = name
    return found


def _parts(folded: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The columns named name that hold a part of it, as Name beside Vorname."""
    for word, beside, part in _BESIDE:
        has_its_own = any(_FIELD_OF.get(each, ("", 0))[0] == part for each in folded)
        if folded.count(word) == 1 and beside in folded and not has_its_own:
            yield folded.index(word), part


# -- the columns of a file ---------------------------------------------------------------------------------


def fields_of(
    heading: Sequence[str],
    chosen: Sequence[str] | Columns | None = None,
    sample: Sequence[Sequence[str]] = (),
) -> list[str]:
    """The field of each column in order, "" for a skipped one: the chosen one, else the guessed one.

    A sequence names the field of every column, `Columns` those of some. Raises ValidationError for unknown
    columns, and for two columns of one field.
    """
    if chosen is None or isinstance(chosen, Columns):
        fields = _chosen(heading, chosen or Columns(), sample)
    elif len(chosen) != len(heading):
        raise bad_file("other_columns", f"the file has {len(heading)} columns, {len(chosen)} were chosen")
    else:
        fields = list(chosen)
    errors: list[FieldError] = []
    first: dict[str, int] = {}
    for place, (column, name) in enumerate(zip(heading, fields, strict=True)):
        title = column.strip() or f"column {place + 1}"
        if name is None or (name and field_of(name) is None):
            errors.append(
                FieldError(title, "unknown_column", f"is not a field of a customer ({_KNOWN}){_FIX}")
            )
        elif name and first.setdefault(name, place) != place:
            message = (
                f"is the second column for {name}: columns {first[name] + 1} and {place + 1}; remove one"
            )
            errors.append(FieldError(title, "duplicate_column", message))
    if errors:
        raise BadFile(_with_fix(errors[:ERRORS_MAX]))
    return [name or "" for name in fields]


_KNOWN: Final = ", ".join((*EDITABLE, "id", "metadata.KEY"))
_FIX: Final = (
    "; name its field with map (--map), or say with others (--others) what to do with unknown columns"
)


def _with_fix(errors: list[FieldError]) -> list[FieldError]:
    """The errors; the last one of an unknown column gets the fix of them all."""
    at = max((n for n, each in enumerate(errors) if each.code == "unknown_column"), default=None)
    if at is not None:
        errors[at].message += _FIX
    return errors


def _chosen(heading: Sequence[str], columns: Columns, sample: Sequence[Sequence[str]]) -> list[str | None]:
    said = _said(heading, columns.fields)
    # A chosen field is not guessed for another column.
    rest = ["" if place in said else column for place, column in enumerate(heading)]
    taken = set(said.values())
    fields: list[str | None] = []
    for place, (column, guess) in enumerate(zip(heading, guessed(rest, sample), strict=True)):
        is_known = guess is not None and (guess not in taken or field_of(column) == guess)
        if place in said:
            fields.append(said[place])
        elif is_known:
            fields.append(guess)
        elif is_remark(column):
            fields.append("")
        elif columns.others == "metadata":
            fields.append(METADATA + key_of(column, place))
        else:
            fields.append("" if columns.others != "refuse" else None)
    return fields


def _said(heading: Sequence[str], fields: Mapping[str, str]) -> dict[int, str]:
    """The fields of the mapped columns by place. Raises ValidationError for missing columns."""
    said: dict[int, str] = {}
    for column, name in fields.items():
        place = _place(heading, column, name)
        if place in said:
            raise BadFile(
                [FieldError(column, "duplicate_column", f"is column {place + 1}, which is mapped twice")]
            )
        said[place] = name
    return said


def _place(heading: Sequence[str], column: str, name: str) -> int:
    if found := re.fullmatch(r"#([0-9]{1,5})", column):
        places = [int(found[1]) - 1] if 0 < int(found[1]) <= len(heading) else []
    else:
        places = [place for place, each in enumerate(heading) if each.strip() == column]
        places = places or [place for place, each in enumerate(heading) if fold(each) == fold(column)]
    if len(places) == 1:
        return places[0]
    problem = f"is no column of the file, which has {', '.join(heading)[:300]}"
    if places:
        problem = f"is the heading of {len(places)} columns; map one by its place, as #{places[0] + 1}={name}"
    raise BadFile([FieldError(column, "unknown_column", problem)])
