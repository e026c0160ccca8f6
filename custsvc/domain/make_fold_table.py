"""Writes `fold_table.py` from Unicode's collation table: `python -m custsvc.domain.make_fold_table FILE`.

FILE is `allkeys.txt` of the DUCET (https://www.unicode.org/Public/UCA/). Letters with equal primary weights
differ only by an accent, and marks without a primary weight are accents. A mark with a primary weight is a
letter of its script, such as the vowels of Indian scripts. A new table changes stored data: raise
`fold.VERSION`.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

_LINE: Final = re.compile(r"^([0-9A-F]+) *; *((?:\[[.*][0-9A-F.]+\])+)", re.MULTILINE)
_WEIGHTS: Final = re.compile(r"\[[.*]([0-9A-F]+)\.([0-9A-F]+)\.([0-9A-F]+)")
_COMMON: Final = (0x20, 0x02)  # the secondary and tertiary weight of a plain letter
# Marks of these combining classes are parts of letters, even without a weight: none, kana voicing, viramas.
_PARTS_OF_LETTERS: Final = (0, 8, 9)
# Letters with their own weight that people replace by others on keyboards that lack them; and the forms in
# which Persian keyboards write two Arabic letters.
_TYPED_AS: Final = {
    "ı": "i",
    "ȷ": "j",
    "ð": "d",
    "þ": "th",
    "ŋ": "n",
    "ɨ": "i",
    "ƶ": "z",
    "ŧ": "t",
    "ƀ": "b",
} | {"ى": "ي", "ی": "ي", "ک": "ك", "ة": "ه", "ہ": "ه", "ھ": "ه", "ۀ": "ه", "ے": "ي", "ٱ": "ا"}
_APOSTROPHES: Final = "'`´‘’‚‛ʹʻʼʽʾʿˈʹʼ′‵＇՚׳ꞌꞋ"
_HYPHENS: Final = "-‐‑‒–—―⁃−﹘﹣－゠⸗֊־᐀᠆·‧・･"
# Characters that are invisible, or only join and separate letters.
_UNSEEN: Final = (*range(0xFE00, 0xFE10), *range(0x180B, 0x180F), 0x034F, *range(0xE0100, 0xE01F0))


class Weights(NamedTuple):
    primary: int
    secondary: int
    tertiary: int


def main() -> None:
    """Write the table beside this file."""
    source = Path(sys.argv[1]).read_text(encoding="utf-8")
    weights = dict(_read(source))
    version = re.search(r"allkeys-([\d.]+)\.txt", source)
    everything = [chr(code) for code in range(sys.maxunicode + 1)]
    dropped = dict.fromkeys(c for c in everything if _is_dropped(c, weights))
    kept = [c for c in everything if unicodedata.category(c)[0] == "M" and c not in dropped]
    zeros = [c for c in range(128, sys.maxunicode + 1) if unicodedata.decimal(chr(c), -1) == 0]
    letters = {**_letters(weights), **_TYPED_AS}
    lines = [
        '"""Made by make_fold_table.py out of Unicode\'s collation table; not to be edited."""',
        "",
        "from __future__ import annotations",
        "",
        f'UNICODE = "{version[1] if version else "unknown"}, {unicodedata.unidata_version}"',
        *_wrapped("APOSTROPHES", _codes(_APOSTROPHES)),
        *_wrapped("HYPHENS", _codes(_HYPHENS)),
        "# First and last code point of the marks that are left out.",
        *_wrapped("DROPPED", [f"{a:x}-{b:x}" for a, b in _ranges(map(ord, dropped))]),
        "# The other marks, which are parts of letters.",
        *_wrapped("KEPT", [f"{a:x}-{b:x}" for a, b in _ranges(map(ord, kept))]),
        "# The zeros of all digits.",
        *_wrapped("ZEROS", [f"{zero:x}" for zero in zeros]),
        "# A letter, and what is stored for it.",
        *_wrapped("LETTERS", [f"{ord(k):x}={v}" for k, v in sorted(letters.items())]),
    ]
    target = Path(__file__).with_name("fold_table.py")
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _read(source: str) -> Iterator[tuple[str, list[Weights]]]:
    for code, elements in _LINE.findall(source):
        found = [Weights(*(int(each, 16) for each in element)) for element in _WEIGHTS.findall(elements)]
        yield chr(int(code, 16)), found


def _primaries(weights: list[Weights]) -> list[int]:
    return [each.primary for each in weights if each.primary]


def _is_dropped(char: str, weights: dict[str, list[Weights]]) -> bool:
    if ord(char) in _UNSEEN:
        return True
    category = unicodedata.category(char)
    if category == "Me":
        return True
    if category not in ("Mn", "Mc") or unicodedata.combining(char) in _PARTS_OF_LETTERS:
        is_itself = unicodedata.normalize("NFKD", char) == char and char not in _APOSTROPHES
        return category == "Lm" and is_itself and char in weights and not _primaries(weights[char])
    return not _primaries(weights.get(char, []))


def _letters(weights: dict[str, list[Weights]]) -> dict[str, str]:
    plain: dict[int, str] = {}
    for char, found in sorted(weights.items()):
        if len(found) == 1 and found[0][1:] == _COMMON and unicodedata.category(char)[0] in "LN":
            plain.setdefault(found[0].primary, char)
    letters = {}
    for char, found in weights.items():
        whole = unicodedata.normalize("NFKD", char.casefold())
        if unicodedata.category(char)[0] != "L" or whole != char or not _primaries(found):
            continue
        spelled = "".join(plain.get(primary, "") for primary in _primaries(found))
        if len(spelled) >= len(_primaries(found)) and spelled != char:
            letters[char] = spelled
    return letters


def _codes(chars: str) -> list[str]:
    return [f"{ord(char):x}" for char in sorted(set(chars))]


def _ranges(codes: Iterator[int]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1] = (ranges[-1][0], code)
        else:
            ranges.append((code, code))
    return ranges


def _wrapped(name: str, words: list[str]) -> Iterator[str]:
    yield f"{name} = ("
    line = ""
    for word in words:
        if len(ascii(line + word)) > 98:
            yield f"    {_quoted(line)}"
            line = ""
        line += word + " "
    yield f"    {_quoted(line.rstrip())}"
    yield ")"


def _quoted(text: str) -> str:
    return '"' + ascii(text)[1:-1].replace('"', '\\"').replace("\\'", "'") + '"'


if __name__ == "__main__":
    main()
