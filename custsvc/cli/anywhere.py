"""Options that stand anywhere on the command line, for every command: -q, -v, --no-color, --debug and -o."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

_WORDS: Final = {
    "-q": "quiet",
    "--quiet": "quiet",
    "-v": "verbose",
    "--verbose": "verbose",
    "--no-color": "no_color",
    "--debug": "debug",
}
_OUTPUT: Final = ("-o", "--output")
FORMATS: Final = ("table", "json", "ndjson")


class Given(NamedTuple):
    """What was given: the words among these options, the format of -o, and the arguments that are left.

    A command with a -o of its own keeps it.
    """

    words: frozenset[str]
    fmt: str
    arguments: list[str]


def read(given: Sequence[str], root: Any) -> Given:
    """The options of a command line. Words after `--` belong to the command."""
    end = given.index("--") if "--" in given else len(given)
    words = frozenset(_WORDS[word] for word in given[:end] if word in _WORDS)
    arguments = [word for word in given[:end] if word not in _WORDS]
    fmt, rest = _format(arguments)
    is_ours = fmt is not None and not _has_its_own(root, rest) and fmt in FORMATS
    return Given(words, fmt or "table", [*(rest if is_ours else arguments), *given[end:]])


def _format(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The value of -o, as -o json, -ojson or --output=json; and the arguments without it."""
    for number, word in enumerate(arguments):
        if word in _OUTPUT and number + 1 < len(arguments):
            return arguments[number + 1], [*arguments[:number], *arguments[number + 2 :]]
        if word.startswith("--output="):
            return word.removeprefix("--output="), [*arguments[:number], *arguments[number + 1 :]]
        if word.startswith("-o") and not word.startswith("--") and len(word) > len("-o"):
            return word.removeprefix("-o"), [*arguments[:number], *arguments[number + 1 :]]
    return None, list(arguments)


def _has_its_own(root: Any, arguments: Sequence[str]) -> bool:
    command = root
    for word in arguments:
        command = getattr(command, "commands", {}).get(word, command)
    return any("--output" in param.opts for param in command.params)
