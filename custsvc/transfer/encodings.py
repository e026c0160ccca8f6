"""The encoding of a text file, guessed from the letters of the names in it.

A list of customers has few letters beyond ASCII, nearly all of them in names. Detectors made for running text
are wrong about many such files, so this one compares how plausible the letters are in names; docs/design.md
has the figures.
"""

from __future__ import annotations

import codecs
import re
from itertools import pairwise
from typing import IO, Final

from .row import bad_file

UTF_8: Final = "utf-8"
# The most bytes of words that are compared.
_SAMPLE_MAX: Final = 20_000
_BLOCK: Final = 1 << 16
_MARKS: Final = (
    (codecs.BOM_UTF8, UTF_8),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# The encodings to compare; of equally plausible ones the first is taken.
CANDIDATES: Final = (
    *("cp1252", "cp932", "cp949", "gb18030", "big5", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1250"),
    *("iso8859_2", "cp1255", "cp1256", "cp850", "mac_roman"),
)
_WORD: Final = re.compile(rb"(?<![^\s,;|\t\"])[^\s,;|\t\"\x80-\xff]*+[\x80-\xff][^,;|\t\"\r\n]*")
_BAD: Final = "custsvc.undecodable"
# The letters of Western names beyond ASCII.
_WESTERN: Final = frozenset("äöüßÄÖÜéèêëàâîïôùûçÉÈÀÂÊÎÔÇñáíóúÑÁÍÓÚåæøÅÆØãõÃÕòìœŒðýþÐÝÞ")
_CENTRAL: Final = frozenset("ąćęłńóśźżĄĆĘŁŃÓŚŹŻáčďéěíňřšťúůýžÁČĎÉĚÍŇŘŠŤÚŮÝŽöőüűÖŐÜŰăâîșțşţäôľĺŕđĐß")
_TURKISH: Final = frozenset("ğışĞİŞçöüÇÖÜâîû")
# Letters that Turkish and Icelandic encode alike, and letters that only Icelandic has.
_TURKISH_OR_ICELANDIC: Final = (frozenset("ðýþÐÝÞ"), frozenset("áéíóúæÁÉÍÓÚÆ"))


def of_mark(head: bytes) -> str | None:
    """The encoding by a file's byte order mark, or by the zero bytes of UTF-16; else None."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    sample = head[:200]
    if sample[1:2] == b"\0" and sample[1::2].count(0) > len(sample) // 3:
        return "utf-16-le"
    if sample[:1] == b"\0" and sample[::2].count(0) > len(sample) // 3:
        return "utf-16-be"
    return None


def encoding_of(source: IO[bytes]) -> str:
    """The encoding of a text, which is read to its end. UTF-8 if possible.

    A file with more valid than invalid UTF-8 beyond ASCII is UTF-8 with some broken rows.
    """
    head = source.read(_BLOCK)
    if (found := of_mark(head)) is not None:
        return found
    words: dict[bytes, None] = {}
    size = valid = invalid = 0
    block = head
    while block:
        if not block.isascii():
            line = block + source.readline()
            good, bad = _sequences(line)
            valid, invalid = valid + good, invalid + bad
            for word in _WORD.findall(line) if bad and size < _SAMPLE_MAX else ():
                size += 0 if word in words else len(word)
                words[word] = None
        block = source.read(_BLOCK)
    return UTF_8 if valid >= invalid else _likely(b"\n".join(words)[: 2 * _SAMPLE_MAX])


def _sequences(text: bytes) -> tuple[int, int]:
    """The number of valid UTF-8 characters beyond ASCII, and of invalid bytes."""
    decoded = text.decode("utf-8", "surrogateescape")
    beyond = [char for char in decoded if char > "\x7f"]
    bad = sum("\udc80" <= char <= "\udcff" for char in beyond)
    return len(beyond) - bad, bad


def _likely(words: bytes) -> str:
    """The encoding in which these words are the most plausible names."""
    found: list[tuple[float, int, str]] = []
    for place, name in enumerate(CANDIDATES):
        try:
            text = words.decode(name)
        except UnicodeDecodeError as exc:
            if exc.start < len(words) - 3:  # a character may be cut off at the end
                continue
            text = words[: exc.start].decode(name)
        found.append((_oddness(text, name), place, name))
    return min(found)[2] if found else "latin-1"


def _oddness(text: str, encoding: str) -> float:
    """How implausible a text is as a list of names, per letter beyond ASCII."""
    beyond = [char for char in text if char > "\x7f"]
    odd = sum(_odd(char, encoding) for char in beyond)
    for left, right in pairwise(text):
        if left > "\x7f" or right > "\x7f":
            breaks = left.islower() and right.isupper()
            mixes = left.isalpha() and right.isalpha() and _script(left) != _script(right)
            # Latin names seldom have two letters beyond ASCII in a row.
            crowds = left > "\x7f" < right and _script(left) == _script(right) == "latin"
            odd += 2 * (breaks or mixes) + 0.5 * crowds
    if encoding == "cp1252" and not _TURKISH_OR_ICELANDIC[0].isdisjoint(text):
        odd += 0.0 if not _TURKISH_OR_ICELANDIC[1].isdisjoint(text) else len(beyond)
    return odd / (len(beyond) or 1)


def _odd(char: str, encoding: str) -> float:
    script = _script(char)
    if encoding in _RARE:
        return _rare(char, script, encoding)
    if encoding in _OF_ONE_SCRIPT:
        expected, frequent = _OF_ONE_SCRIPT[encoding]
        return 3.0 if script != expected else 0.0 if char.lower() in frequent else 0.2
    if script != "latin":
        return 3.0
    usual = {"cp1250": _CENTRAL, "iso8859_2": _CENTRAL, "cp1254": _TURKISH}.get(encoding, _WESTERN)
    return 0.05 if char in usual and usual is not _WESTERN else 0.0 if char in usual else 0.6


# The script of each encoding, with its most frequent letters.
_OF_ONE_SCRIPT: Final = {
    "cp1251": ("cyrillic", "аоеинврстлк"),
    "koi8_r": ("cyrillic", "аоеинврстлк"),
    "cp1253": ("greek", "αοιεσςνρτλκηά"),
    "cp1255": ("hebrew", ""),
    "cp1256": ("arabic", ""),
}
# The national standard within each encoding, its first byte of rare characters, and the scripts.
_RARE: Final = {
    "cp932": ("shift_jis", 0x98, ("kana", "han")),
    "cp949": ("euc_kr", 0xC9, ("hangul",)),
    "gb18030": ("gb2312", 0xD8, ("han",)),
    "big5": ("big5", 0xC9, ("han",)),
}


def _rare(char: str, script: str, encoding: str) -> float:
    plain, rare, scripts = _RARE[encoding]
    if script not in scripts:
        return 3.0
    try:
        encoded = char.encode(plain)
    except UnicodeEncodeError:
        return 2.0
    return 0.1 if encoded[0] < rare and len(encoded) == 2 else 1.0


def _script(char: str) -> str:
    code = ord(char)
    if code < 0x80 or 0xC0 <= code < 0x250:
        return "latin" if char.isalpha() else "sign"
    return next((name for first, last, name in _SCRIPTS if first <= code < last), "sign")


_SCRIPTS: Final = (
    (0x370, 0x400, "greek"),
    (0x400, 0x530, "cyrillic"),
    (0x590, 0x600, "hebrew"),
    (0x600, 0x700, "arabic"),
    (0x3040, 0x3100, "kana"),
    (0x4E00, 0xA000, "han"),
    (0xAC00, 0xD7A4, "hangul"),
)


# -- reading it as UTF-8 -----------------------------------------------------------------------------------


def known(name: str) -> str | None:
    """Python's name of a text encoding; None if it is unknown."""
    try:
        found = codecs.lookup(name)
        "a".encode(found.name)
        codecs.getincrementaldecoder(found.name)
    except (LookupError, ValueError, UnicodeError):
        return None
    return found.name if found.name != "utf-8-sig" else UTF_8


def label(name: str) -> str:
    """The common name of an encoding: windows-1252 for Python's cp1252."""
    name = name.replace("_", "-")
    return _LABELS.get(name) or (f"windows-{name[2:]}" if name.startswith("cp125") else name)


_LABELS: Final = {
    "mac-roman": "macintosh",
    "cp932": "shift-jis",
    "cp949": "euc-kr",
    "iso8859-2": "iso-8859-2",
}


class AsUtf8:
    """A file in another encoding, read as UTF-8. Undecodable bytes become bytes that are not UTF-8."""

    def __init__(self, source: IO[bytes], encoding: str) -> None:
        self._source = source
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)(errors=_BAD)

    def read(self, size: int = _BLOCK) -> bytes:
        """Some bytes; b"" at the end of the file."""
        while block := self._source.read(size):
            if text := self._decoded(block):
                return text
        return self._decoded(b"", final=True)

    def _decoded(self, block: bytes, *, final: bool = False) -> bytes:
        try:
            return self._decoder.decode(block, final=final).encode("utf-8", "surrogateescape")
        except UnicodeError as exc:  # such as UTF-16 without its mark
            raise bad_file("bad_encoding", f"is not {label(self._encoding)} ({exc})") from exc


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)  # noqa: S101 - it is registered for decoders
    return "\udcff", error.end


codecs.register_error(_BAD, _escaped)
